"""The issuer's keys change while the service serves: from its address, and from a parameter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey

from assistant.aws.clients import open_client
from assistant.aws.local_resources import put_parameter
from tests.contracts.aws_twins import tenant_name
from tests.fakes.aws_server import REGION
from tests.fakes.running_service import RunningService, Scene, service_on, service_settings
from tests.fakes.sagemaker_socket import sagemaker_socket
from tests.fakes.socket_server import socket_server
from tests.fakes.tokens import EC_KEY, claims, token

ACCEPTED, REFUSED = 404, 401
"""What a question for an answer that is not there gets with a good token, and with another."""
NEW = ECKey.generate_key("P-256", {"kid": "new"})


@dataclass
class Rotating:
    service: RunningService
    publish: Callable[..., Awaitable[None]]

    async def status(self, key: ECKey, kid: str) -> int:
        signed = token(claims(datetime.now(UTC)), key=key, kid=kid)
        headers = {"authorization": f"Bearer {signed}"}
        return (await self.service.client.get("/v1/answers/nothing", headers=headers)).status_code


def key_set(*keys: ECKey) -> bytes:
    return orjson.dumps({"keys": [key.as_dict(private=False) for key in keys]})


@asynccontextmanager
async def by_address() -> AsyncIterator[tuple[dict[str, Any], Callable[..., Awaitable[None]]]]:
    published = [key_set(EC_KEY)]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(published[0])}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + published[0])
        await writer.drain()

    async def publish(*keys: ECKey) -> None:
        published[0] = key_set(*keys)

    async with socket_server(answer) as url:
        yield {"jwks_url": f"{url}/jwks.json"}, publish


@asynccontextmanager
async def by_parameter(
    url: str, name: str
) -> AsyncIterator[tuple[dict[str, Any], Callable[..., Awaitable[None]]]]:
    async with open_client("ssm", region=REGION, endpoint_url=url) as ssm:

        async def publish(*keys: ECKey) -> None:
            await put_parameter(ssm, name=name, value=key_set(*keys).decode())

        await publish(EC_KEY)
        yield {"jwks_url": None, "jwks_parameter": name, "aws_endpoint_url": url}, publish


@pytest.fixture(params=["address", "parameter"])
async def rotating(
    request: pytest.FixtureRequest, tmp_path: Path, aws_server_url: str
) -> AsyncIterator[Rotating]:
    parameter = by_parameter(aws_server_url, f"/{tenant_name(tmp_path)}/keys")
    source = parameter if request.param == "parameter" else by_address()
    async with source as (changes, publish), sagemaker_socket() as sagemaker:
        settings = service_settings(
            tmp_path, Scene(), sagemaker_url=sagemaker.url, jwks_url="http://127.0.0.1:1"
        )
        async with service_on(settings.model_copy(update=changes), Scene(), sagemaker) as service:
            yield Rotating(service, publish)


async def test_a_token_of_a_new_key_is_accepted_without_a_restart(rotating: Rotating) -> None:
    assert await rotating.status(EC_KEY, "ec") == ACCEPTED
    await rotating.publish(EC_KEY, NEW)
    assert await rotating.status(NEW, "new") == ACCEPTED
    assert await rotating.status(EC_KEY, "ec") == ACCEPTED


async def test_a_token_of_a_key_that_nobody_published_is_refused(rotating: Rotating) -> None:
    assert await rotating.status(NEW, "new") == REFUSED
    assert await rotating.status(NEW, "ec") == REFUSED
    assert await rotating.status(EC_KEY, "ec") == ACCEPTED


async def test_many_unknown_keys_stop_nobody_s_work(rotating: Rotating) -> None:
    unknown = [rotating.status(NEW, f"made up {number}") for number in range(20)]
    assert await asyncio.gather(rotating.status(EC_KEY, "ec"), *unknown) == [ACCEPTED] + [REFUSED] * 20
