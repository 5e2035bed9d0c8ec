"""The twin under test, and other processes on the same tenant."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.contracts.twins import NOT_YET, TWINS, Twin

OtherProcess = Callable[[str], Awaitable[object]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of the suite over every twin."""
    if "twin_name" in metafunc.fixturenames:
        module = metafunc.definition.path.stem
        names = [name for name in TWINS if module not in NOT_YET.get(name, ())]
        metafunc.parametrize("twin_name", names)


@pytest.fixture
async def twin(twin_name: str, tmp_path: Path, aws_server_url: str) -> AsyncIterator[Twin]:
    async with TWINS[twin_name](tmp_path) as opened:
        yield opened


@pytest.fixture
async def stranger(twin_name: str, tmp_path: Path, aws_server_url: str) -> AsyncIterator[Twin]:
    """Another tenant of the same kind."""
    async with TWINS[twin_name](tmp_path / "stranger") as opened:
        yield opened


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
