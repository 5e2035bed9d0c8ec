"""The gateway on a real port in front of a scripted container, and the AWS clients that call it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config

from assistant.local.gateway import Gateway
from tests.fakes.asgi_server import asgi_server
from tests.fakes.scripted_http import Script, ScriptedServer, scripted_http


@dataclass(frozen=True)
class Served:
    url: str
    container: ScriptedServer
    _clients: list[Any] = field(default_factory=list[Any])

    def boto3_client(self) -> Any:
        client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="AKIDLOCAL",
            aws_secret_access_key="x",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=20, connect_timeout=5),
        )
        self._clients.append(client)
        return client

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()


Serve = Callable[[Script], AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve() -> Serve:
    @asynccontextmanager
    async def serving(script: Script) -> AsyncGenerator[Served]:
        async with scripted_http(script) as gone:
            pass
        async with (
            scripted_http(script) as container,
            Gateway({"llm": container.url, "gone": gone.url}, cut_seed=5) as gateway,
            asgi_server(gateway) as url,
        ):
            served = Served(url, container)
            yield served
            served.close_clients()

    return serving
