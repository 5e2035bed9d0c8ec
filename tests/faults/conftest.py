from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.scene import FaultScene, ServiceProcess, Watch, fault_scene, warmed_up, watched
from tests.faults.table import TOLD, noted


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for all: proxies and service are shared, for a start takes seconds."""
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(autouse=True)
def _noted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Report what the test told of."""
    noted.clear()
    yield
    for cell in noted:
        record_property(TOLD, (cell.dependency, cell.fault))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def scene(
    aws_server_url: str, opensearch_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FaultScene]:
    folder = tmp_path_factory.mktemp("faults")
    async with fault_scene(folder, aws_url=aws_server_url, opensearch_url=opensearch_url) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_service(scene: FaultScene) -> AsyncIterator[ServiceProcess]:
    """One process for every fault that can be switched while it runs."""
    async with scene.service() as made:
        await warmed_up(made)
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def other(scene: FaultScene) -> AsyncIterator[ServiceProcess]:
    """A second task on the same stores."""
    async with scene.service() as made:
        await warmed_up(made)
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def watch(scene: FaultScene, shared_service: ServiceProcess) -> AsyncIterator[Watch]:
    """Watches the service over one fault. In the end everything is up again, and the next question is
    answered and recorded, once."""
    async with watched(scene, shared_service) as made:
        yield made
