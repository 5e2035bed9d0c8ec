"""``python -m tools.opensearch``: a real node, started, kept and ended."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from assistant.local.processes import choose_free
from assistant.settings.process import inherited_environment
from tests.fakes.opensearch_node import BUILD

Command = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "opensearch"


@pytest.fixture
async def command(state: Path) -> AsyncIterator[Command]:
    free = choose_free()
    settings = {
        "ASSISTANT_OPENSEARCH_STATE_DIR": str(state),
        "ASSISTANT_OPENSEARCH_BUILD_DIR": str(BUILD),
        "ASSISTANT_OPENSEARCH_HEAP_MIB": "384",
        "ASSISTANT_OPENSEARCH_DOCKER": "false",
    }

    async def run(action: str, *, port: int = free) -> tuple[int, str, str]:
        """Return status, stdout and stderr."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tools.opensearch", action),
            env=inherited_environment() | settings | {"ASSISTANT_OPENSEARCH_PORT": str(port)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, errors = await asyncio.wait_for(process.communicate(), 240)
        return process.returncode or 0, said.decode().strip(), errors.decode().strip()

    yield run
    await run("down")


def node_pid(state: Path) -> int:
    return orjson.loads((state / "node.json").read_bytes())["identity"]["pid"]


@pytest.mark.timeout(400)
async def test_a_node_is_started_once_kept_and_ended(command: Command, state: Path) -> None:
    status, said, errors = await command("up")
    assert status == 0, errors
    url = said.removeprefix("OpenSearch answers at ")
    pid = node_pid(state)
    async with httpx.AsyncClient(timeout=20) as client:
        plugins = (await client.get(f"{url}/_cat/plugins?h=component")).text.split()
    assert {"opensearch-knn", "opensearch-neural-search"} <= set(plugins)
    assert psutil.Process(pid).uids().effective != 0  # also when root asked for it
    assert (await command("up"))[1] == said
    assert node_pid(state) == pid
    assert (await command("status"))[1] == url

    assert (await command("down"))[1] == "stopped"
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert (await command("down"))[1] == "nothing ran"
    assert (await command("status"))[1] == "not running"
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
