"""The secret of document links as a data key of KMS in a parameter."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.errors import ConfigurationError, DependencyError
from assistant.process.aws import ClientLimits, create_link_secret, kms_link_secret, open_client
from tests.contracts.aws_twins import tenant_name
from tests.fakes.aws_server import REGION, create_key, put_parameter
from tests.fakes.scripted_http import Exchange, scripted_http


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


async def test_a_secret_is_the_same_each_time_it_is_read(account: Account) -> None:
    name = await account.make()
    secret = await account.secret(name)
    assert len(secret) == 32
    assert await account.secret(name) == secret


async def test_the_parameter_does_not_hold_the_secret(account: Account) -> None:
    name = await account.make()
    value = (await account.ssm.get_parameter(Name=name))["Parameter"]["Value"]
    assert await account.secret(name) not in base64.b64decode(value)


async def test_another_tenant_s_secret_is_refused(account: Account) -> None:
    theirs = await account.make("pharmacy")
    assert await account.secret(theirs, tenant="pharmacy")
    with pytest.raises(ConfigurationError, match=r"InvalidCiphertext.*tenant clinic.*create it again"):
        await account.secret(theirs, tenant="clinic")


async def test_a_key_that_this_process_may_not_use_is_named(account: Account) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(400, b'{"__type":"AccessDeniedException"}')

    name = await account.make()
    async with (
        scripted_http(refuse) as server,
        open_client("kms", region=REGION, endpoint_url=server.url) as kms,
    ):
        with pytest.raises(ConfigurationError, match=r"AccessDeniedException.*a key that is enabled"):
            await kms_link_secret(ssm=account.ssm, kms=kms, name=name, tenant="clinic")


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
