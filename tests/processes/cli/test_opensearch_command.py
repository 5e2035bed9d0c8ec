"""``python -m tools.opensearch``: a real node, started, kept and ended."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from assistant.process.settings import inherited_environment
from tests.fakes.opensearch_node import SHARED, node_settings
from tools.opensearch import free_port

Command = Callable[..., Awaitable[tuple[int, str, str]]]
GIVEN = bool(os.environ.get("OPENSEARCH_URL"))
"""Then no test has started the shared node, and nobody has proved the command."""
FULL = GIVEN or os.environ.get("EXAMPLES") == "new"
"""With a node of its own, which takes 30 s of CPU: ``make check-full``."""


def command_on(state: Path, *, free: int) -> Command:
    async def run(action: str, *, port: int = free) -> tuple[int, str, str]:
        """Return status, stdout and stderr."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tools.opensearch", action),
            env=inherited_environment() | node_settings(state, heap_mib=384, port=port),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, errors = await asyncio.wait_for(process.communicate(), 240)
        return process.returncode or 0, said.decode().strip(), errors.decode().strip()

    return run


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "opensearch"


@pytest.fixture
async def command(state: Path) -> AsyncIterator[Command]:
    run = command_on(state, free=free_port())
    yield run
    await run("down")


def node_pid(state: Path) -> int:
    return orjson.loads((state / "node.json").read_bytes())["pid"]


async def runs_as_it_should(command: Command, state: Path, *, url: str) -> None:
    pid = node_pid(state)
    async with httpx.AsyncClient(timeout=60) as client:
        plugins = (await client.get(f"{url}/_cat/plugins?h=component")).text.split()
    assert {"opensearch-knn", "opensearch-neural-search"} <= set(plugins)
    assert psutil.Process(pid).uids().effective != 0  # also when root asked for it
    assert (await command("up"))[1] == f"OpenSearch answers at {url}"
    assert node_pid(state) == pid


@pytest.mark.skipif(GIVEN, reason="OPENSEARCH_URL names a node that this command did not start")
async def test_a_node_that_runs_is_kept_and_told(opensearch_url: str) -> None:
    await runs_as_it_should(command_on(SHARED, free=0), SHARED, url=opensearch_url)


async def test_without_a_node_there_is_nothing_to_end(command: Command) -> None:
    assert (await command("down"))[1] == "nothing ran"


@pytest.mark.skipif(not FULL, reason="starts a node of its own: make check-full")
async def test_a_node_is_started_once_kept_and_ended(command: Command, state: Path) -> None:
    status, said, errors = await command("up")
    assert status == 0, errors
    pid = node_pid(state)
    await runs_as_it_should(command, state, url=said.removeprefix("OpenSearch answers at "))

    assert (await command("down"))[1] == "stopped"
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert (await command("down"))[1] == "nothing ran"
    assert "started" in (state / "opensearch.log").read_text()


async def test_a_port_that_another_program_has_is_said(command: Command) -> None:
    async def nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(nobody, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        status, _, errors = await command("up", port=port)
    finally:
        server.close()
    assert status == 1
    assert str(port) in errors
