"""Parameters: the secret of document links as a data key of KMS, the issuer's keys, the power switch."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey

from assistant.domain.errors import ConfigurationError, DependencyError
from assistant.process.aws import (
    ClientLimits,
    ParameterKeySource,
    ParameterWords,
    create_link_secret,
    kms_link_secret,
    open_client,
)
from assistant.service.identity import CachedKeySet
from assistant.stores.words import Power
from tests.contracts.twins import tenant_name
from tests.stage.aws_server import REGION, create_key, put_parameter
from tests.stage.faulty_proxy import Fault, FaultyProxy, Kind, faulty_proxy, json_answer
from tests.stage.servers import Exchange, scripted_http
from tests.stage.tenant_stores import SteppedClock


@dataclass
class Account:
    ssm: Any
    kms: Any
    key_id: str
    prefix: str

    async def make(self, tenant: str = "clinic") -> str:
        name = f"/{self.prefix}/{tenant}/document-links"
        await create_link_secret(ssm=self.ssm, kms=self.kms, name=name, tenant=tenant, key_id=self.key_id)
        return name

    async def secret(self, name: str, *, tenant: str = "clinic") -> bytes:
        return await kms_link_secret(ssm=self.ssm, kms=self.kms, name=name, tenant=tenant)


@pytest.fixture
async def account(aws_server_url: str, tmp_path: Path) -> AsyncIterator[Account]:
    async with (
        open_client("ssm", region=REGION, endpoint_url=aws_server_url) as ssm,
        open_client("kms", region=REGION, endpoint_url=aws_server_url) as kms,
    ):
        prefix = tenant_name(tmp_path)
        yield Account(ssm, kms, await create_key(kms, alias=prefix), prefix)


async def test_the_parameter_does_not_hold_the_secret(account: Account) -> None:
    name = await account.make()
    value = (await account.ssm.get_parameter(Name=name))["Parameter"]["Value"]
    assert await account.secret(name) not in base64.b64decode(value)


async def test_a_parameter_that_is_not_there_is_named(account: Account) -> None:
    with pytest.raises(ConfigurationError, match=r"/nothing/here cannot be read .ParameterNotFound"):
        await account.secret("/nothing/here")


@pytest.mark.parametrize("value", ["not base64!", base64.b64encode(b"no ciphertext").decode()])
async def test_a_parameter_without_ciphertext_is_an_error(account: Account, value: str) -> None:
    name = f"/{account.prefix}/other"
    await put_parameter(account.ssm, name=name, value=value)
    with pytest.raises(ConfigurationError, match="create it again"):
        await account.secret(name)


async def test_kms_that_does_not_answer_is_no_mistake_of_the_configuration(account: Account) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.respond(500, b"{}")

    name = await account.make()
    limits = ClientLimits(read_timeout_s=1.0, pool_connections=2, attempts=1)
    async with (
        scripted_http(fail) as server,
        open_client("kms", region=REGION, endpoint_url=server.url, limits=limits) as kms,
    ):
        with pytest.raises(DependencyError):
            await kms_link_secret(ssm=account.ssm, kms=kms, name=name, tenant="clinic")


IMPATIENT = ClientLimits(read_timeout_s=3.0, pool_connections=4, attempts=1)
OLD = ECKey.generate_key("P-256", {"kid": "old"})
NEW = ECKey.generate_key("P-256", {"kid": "new"})


@dataclass
class Parameter:
    """A parameter, and the keys that a service reads from it by a way that can break."""

    client: Any
    read_by: Any
    name: str
    way: FaultyProxy
    clock: SteppedClock
    keys: CachedKeySet

    async def publish(self, *keys: ECKey) -> None:
        value = orjson.dumps({"keys": [key.as_dict(private=False) for key in keys]}).decode()
        await put_parameter(self.client, name=self.name, value=value)


@pytest.fixture
async def parameter(aws_server_url: str, tmp_path: Path) -> AsyncIterator[Parameter]:
    name, clock = f"/{tenant_name(tmp_path)}/value", SteppedClock()
    async with (
        faulty_proxy(aws_server_url) as way,
        open_client("ssm", region=REGION, endpoint_url=aws_server_url) as client,
        open_client("ssm", region=REGION, endpoint_url=way.url, limits=IMPATIENT) as read_by,
    ):
        keys = CachedKeySet(ParameterKeySource(read_by, name=name), clock=clock)
        yield Parameter(client, read_by, name, way, clock, keys)
        await keys.close()


async def test_a_parameter_that_went_back_is_not_used(parameter: Parameter) -> None:
    await parameter.publish(OLD)
    await parameter.publish(OLD, NEW)
    assert await parameter.keys.key("new") is not None
    await parameter.client.delete_parameter(Name=parameter.name)
    await parameter.publish(OLD)
    parameter.clock.step(301)
    await parameter.keys.check()
    assert await parameter.keys.key("new") is not None
    parameter.clock.step(3600)
    with pytest.raises(DependencyError):
        await parameter.keys.key("new")


FAULTS = {
    "stalled": Fault(Kind.STALL),
    "other json": Fault(Kind.ANSWER, answer=json_answer(b'{"weather":"fine"}')),
    "no key set": Fault(Kind.ANSWER, answer=json_answer(b'{"Parameter":{"Version":99,"Value":"on"}}')),
    "gone": Fault(
        Kind.ANSWER, answer=json_answer(b'{"__type":"ParameterNotFound"}', status="400 Bad Request")
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_while_it_cannot_be_read_the_last_good_keys_serve_for_an_hour(
    parameter: Parameter, fault: str
) -> None:
    await parameter.publish(OLD)
    await parameter.keys.key("old")
    await parameter.way.break_by(FAULTS[fault])
    parameter.clock.step(3599)
    await parameter.keys.check()
    assert await parameter.keys.key("old") is not None
    parameter.clock.step(2)
    with pytest.raises(DependencyError):
        await parameter.keys.key("old")


async def test_a_switch_that_stalls_keeps_the_first_question_a_little_and_the_next_not_at_all(
    parameter: Parameter,
) -> None:
    await parameter.way.break_by(Fault(Kind.STALL))
    power = Power(ParameterWords(parameter.read_by, place=parameter.name), clock=parameter.clock)
    async with asyncio.timeout(60):
        assert not await power.is_paused()
    parameter.clock.step(2.0)
    asked = power.is_paused()
    with pytest.raises(StopIteration) as ended:
        asked.send(None)  # ends at its first step: it waits for nothing
    assert ended.value.value is False
    await power.close()
