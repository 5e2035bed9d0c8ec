"""The twin under test, and other processes on the same tenant. A test runs over every twin of its module."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from pathlib import Path

import pytest

from tests.contracts.twins import TWINS, Twin
from tests.stage.processes import start_forked

NODE = "opensearch"
"""The twin of a real OpenSearch node. ``make test-node`` runs it alone, ``make test`` all others."""
SUITES: Mapping[str, tuple[str, ...]] = {
    "test_blobs": ("embedded", "s3"),
    "test_index_damage": ("embedded", NODE),
    "test_ingestion_queue": ("embedded", "sqs"),
    "test_passage_index": ("embedded", NODE),
    "test_table": ("embedded", "dynamodb"),
    "test_words": ("embedded", "ssm"),
}
OtherProcess = Callable[[str], Awaitable[object]]


def _twins(module: Path, config: pytest.Config) -> list[str]:
    """Return the module's twins in this run."""
    node = bool(config.getoption("--node"))
    return [twin for twin in SUITES[module.stem] if (twin == NODE) is node]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the modules that have no twin in this run."""
    return True if collection_path.stem in SUITES and not _twins(collection_path, config) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test without the twin is an error of its collection."""
    metafunc.parametrize("twin_name", _twins(metafunc.definition.path, metafunc.config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """No contract is skipped, or expected to fail, on one of its twins."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
    return report


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
    """Run an action of ``twins`` on the twin's tenant and return its result."""

    async def run(action: str) -> object:
        arguments = (twin_name, str(tmp_path), action)
        process = await start_forked("tests.contracts.twins", *arguments, environment=os.environ)
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        return json.loads(output.splitlines()[-1])

    return run
