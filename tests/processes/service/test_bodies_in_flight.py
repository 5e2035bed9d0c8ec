"""One knowledge owner sends large bodies on many connections and stops before each end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from assistant.service.streams import BODIES_SHARE, CALLERS_SHARE, DOCUMENT_LIMIT_BYTES
from assistant.stores.uploads import PART_BYTES
from tests.fakes.processes import process
from tests.fakes.running_service import (
    NO_TENANTS,
    RunningService,
    Scene,
    eventually,
    published_keys,
    service_settings,
)
from tests.fakes.sagemaker_socket import sagemaker_socket
from tests.fakes.tokens import EC_KEY

MIB = 1024 * 1024
MEMORY_MIB = 1024
AT_ONCE = MEMORY_MIB * MIB // BODIES_SHARE // CALLERS_SHARE
PIECE = b"x" * MIB
SOCKET_BYTES = 512 * 1024
"""What the server may hold of each connection besides: a read of the socket, and what waits to be parsed."""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """A service in a process of its own, and its process id as an attribute."""
    async with published_keys([EC_KEY]) as jwks_url, sagemaker_socket() as sagemaker:
        made = service_settings(tmp_path, Scene(), sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        changed = {"port": 0, "operations_port": 0, "memory_mib": MEMORY_MIB}
        settings = made.model_copy(update=changed)
        async with (
            process("service", settings.environment()) as started,
            httpx.AsyncClient(base_url=started.url, timeout=60, trust_env=False) as client,
        ):
            running = RunningService(started.url, sagemaker, NO_TENANTS, settings.state_dir, client, settings)
            await running.know("wait", "The wait is two days.")
            yield running


def resident_bytes(service: RunningService) -> int:
    place = ("127.0.0.1", httpx.URL(service.url).port)
    listening = (one for one in psutil.net_connections("tcp4") if one.status == psutil.CONN_LISTEN)
    (pid,) = {one.pid for one in listening if tuple(one.laddr) == place}
    return psutil.Process(pid).memory_info().rss


def send_all_but_one(url: httpx.URL, head: bytes, size_bytes: int) -> socket.socket:
    connection = socket.create_connection((url.host, url.port or 80), timeout=60)
    connection.sendall(head)
    for sent in range(0, size_bytes - 1, MIB):
        connection.sendall(memoryview(PIECE)[: min(MIB, size_bytes - 1 - sent)])
    return connection


@pytest.mark.parametrize(
    ("route", "connections", "announced", "sent"),
    [
        ("/v1/documents", 40, DOCUMENT_LIMIT_BYTES, DOCUMENT_LIMIT_BYTES),
        ("/v1/documents", 110, DOCUMENT_LIMIT_BYTES, DOCUMENT_LIMIT_BYTES),
        ("/v1/uploads?path=many.jsonl", 110, 20 * PART_BYTES, PART_BYTES),
    ],
)
async def test_bodies_that_never_end_hold_no_more_than_their_sender_may(
    service: RunningService, route: str, connections: int, announced: int, sent: int
) -> None:
    who = service.headers("olga", roles=["knowledge_owner"])
    lines = [f"POST {route} HTTP/1.1", "host: 127.0.0.1", f"content-length: {announced}"]
    head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in who.items()), "", ""]).encode()
    await service.answered(agent="bob")
    before = resident_bytes(service)

    with ExitStack() as stack, ThreadPoolExecutor(connections) as threads:
        sending = [
            asyncio.get_running_loop().run_in_executor(
                threads, send_all_but_one, httpx.URL(service.url), head, sent
            )
            for _ in range(connections)
        ]
        held = [stack.enter_context(one) for one in await asyncio.gather(*sending)]
        refused = await service.client.post(route, content=b"x" * AT_ONCE, headers=who)
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert refused.headers["retry-after"] == "2"
        await service.answered(agent="bob")
        grown = resident_bytes(service) - before
        assert len(held) == connections
    assert grown < 2 * AT_ONCE + connections * SOCKET_BYTES

    async def is_given_back() -> bool:
        response = await service.client.post("/v1/documents", content=b"x" * AT_ONCE, headers=who)
        return response.status_code == 400  # read, and no JSON

    await eventually(is_given_back)
