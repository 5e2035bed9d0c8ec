"""The issuer's keys and the power switch by parameters of SSM: rotation, broken ways, what is too old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey

from assistant.domain.errors import DependencyError
from assistant.process.aws import ClientLimits, ParameterKeySource, ParameterWords, open_client
from assistant.service.identity import CachedKeySet
from assistant.stores.words import Power
from tests.contracts.aws_twins import tenant_name
from tests.fakes.aws_server import REGION, put_parameter
from tests.fakes.clock import SteppedClock
from tests.fakes.faulty_proxy import Fault, FaultyProxy, Kind, faulty_proxy, json_answer

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


async def test_a_new_key_works_from_its_first_token_on(parameter: Parameter) -> None:
    await parameter.publish(OLD)
    assert await parameter.keys.key("old") is not None
    await parameter.publish(OLD, NEW)
    assert await parameter.keys.key("new") is not None


async def test_a_key_that_was_taken_out_is_refused_after_the_next_reading(parameter: Parameter) -> None:
    await parameter.publish(OLD, NEW)
    assert await parameter.keys.key("old") is not None
    await parameter.publish(NEW)
    parameter.clock.step(301)
    await parameter.keys.check()
    assert await parameter.keys.key("old") is None


async def test_made_up_keys_cause_few_readings(parameter: Parameter) -> None:
    await parameter.publish(OLD)
    await parameter.keys.key("old")
    for number in range(30):
        assert await parameter.keys.key(f"made up {number}") is None
    assert len(parameter.way.requests) == 3


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
    await parameter.way.heal()
    parameter.clock.step(15)
    if fault == "no key set":
        for _ in range(99):
            await parameter.publish(OLD)
    assert await parameter.keys.key("old") is not None


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
