"""The twin under test, and other processes on the same tenant."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from tests.contracts.matrix import CONTRACT
from tests.contracts.suites import NODE, suites_of_run
from tests.contracts.twins import TWINS, Twin
from tests.fakes.forked import start_forked

OtherProcess = Callable[[str], Awaitable[object]]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the modules that have no twin in this run."""
    module = collection_path.stem
    return True if module.startswith("test_") and module not in _suites(config) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of a module over every twin that its suite has in this run."""
    if "twin_name" in metafunc.fixturenames:
        metafunc.parametrize("twin_name", _suites(metafunc.config)[metafunc.definition.path.stem])


def _suites(config: pytest.Config) -> Mapping[str, tuple[str, ...]]:
    return suites_of_run(node=bool(config.getoption("--node")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say in each report of the suite which case it is of, and which twin, for the matrix."""
    for item in items:
        if isinstance(item, pytest.Function) and "twin_name" in item.fixturenames:
            name = item.callspec.params["twin_name"]
            parameters = [part for part in item.callspec.id.split("-") if part != name]
            case = "-".join([item.originalname, *parameters])
            item.user_properties.append((CONTRACT, (item.path.stem, case, name)))


@pytest.fixture
def _servers(twin_name: str, request: pytest.FixtureRequest) -> None:
    """Start what the twin talks to, and no more: a node takes 15 s."""
    if twin_name == NODE:
        request.getfixturevalue("opensearch_url")
    elif twin_name != "embedded":
        request.getfixturevalue("aws_server_url")


@pytest.fixture
async def twin(twin_name: str, tmp_path: Path, _servers: None) -> AsyncIterator[Twin]:
    async with TWINS[twin_name](tmp_path) as opened:
        yield opened


@pytest.fixture
async def stranger(twin_name: str, tmp_path: Path, _servers: None) -> AsyncIterator[Twin]:
    """Another tenant of the same kind."""
    async with TWINS[twin_name](tmp_path / "stranger") as opened:
        yield opened


@pytest.fixture
def elsewhere(twin_name: str, tmp_path: Path) -> OtherProcess:
    """Run an action of ``other_process`` on the twin's tenant and return its result."""

    async def run(action: str) -> object:
        arguments = (twin_name, str(tmp_path), action)
        process = await start_forked("tests.contracts.other_process", *arguments, environment=os.environ)
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        return json.loads(output.splitlines()[-1])

    return run
