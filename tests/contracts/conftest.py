"""The twin under test, and other processes on the same tenant."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.contracts.twins import TWINS, Twin

OtherProcess = Callable[[str], Awaitable[object]]


@pytest.fixture(params=sorted(TWINS))
def twin_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def twin(twin_name: str, tmp_path: Path) -> AsyncIterator[Twin]:
    made = TWINS[twin_name](tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def stranger(twin_name: str, tmp_path: Path) -> AsyncIterator[Twin]:
    """Another tenant of the same kind."""
    made = TWINS[twin_name](tmp_path / "stranger")
    yield made
    await made.close()


@pytest.fixture
def elsewhere(twin_name: str, tmp_path: Path) -> OtherProcess:
    """Run an action of ``other_process`` on the twin's tenant and return its result."""

    async def run(action: str) -> object:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.contracts.other_process", twin_name, str(tmp_path), action),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        return json.loads(output.splitlines()[-1])

    return run
