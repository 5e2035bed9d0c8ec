"""Our own processes as the supervisor starts them, by their settings. Those that start often are forked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from assistant.process.settings import inherited_environment
from tests.fakes.forked import FORKED, ForkedProcess, start_forked

_READY_WITHIN_S = 90
"""A busy machine needs long for what takes a second alone; a test has its own limit."""
_END_LIMIT_S = 60


@dataclass
class RunningProcess:
    child: asyncio.subprocess.Process | ForkedProcess
    ready: dict[str, Any]

    @property
    def url(self) -> str:
        scheme = self.ready.get("scheme", "http")
        return f"{scheme}://{self.ready['host']}:{self.ready['port']}"

    @property
    def operations_url(self) -> str:
        """Of the operators' listener, where one was asked for."""
        scheme = self.ready.get("scheme", "http")
        return f"{scheme}://{self.ready['operations_host']}:{self.ready['operations_port']}"

    async def ended(self) -> tuple[int, str]:
        """Return status and what it said on stderr, once it has ended by itself."""
        _, said = await asyncio.wait_for(self.child.communicate(), _END_LIMIT_S)
        return self.child.returncode or 0, said.decode()


async def start(room: str, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Start a room of ``assistant`` by ``python -m``."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"assistant.{room}",
        env=inherited_environment() | dict(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def process(room: str, environment: Mapping[str, str]) -> AsyncGenerator[RunningProcess]:
    """Start a process, wait for its ready line, and stop it in the end."""
    if f"assistant.{room}" in FORKED:
        whole = inherited_environment() | dict(environment)
        child = await start_forked(f"assistant.{room}", environment=whole)
    else:
        child = await start(room, environment)
    assert child.stdout is not None
    try:
        line = await asyncio.wait_for(child.stdout.readline(), _READY_WITHIN_S)
        assert line, (await child.communicate())[1].decode()
        yield RunningProcess(child, orjson.loads(line))
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()
