"""A damaged file of one tenant leaves the others serving; log and readiness name file and command."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from assistant.documents.worker import IngestionWorker
from assistant.laptop.worker import prepare_each
from assistant.process.settings import ServiceSettings, WorkerSettings
from assistant.service.opened import open_ingestion, open_loops
from assistant.stores import sqlite_file
from tests.stage.running_service import RunningService, Scene, published_keys, service_on, service_settings
from tests.stage.sagemaker_runtime import SageMakerSocket, sagemaker_socket
from tests.stage.tenant_stores import declared_files
from tests.stage.tokens import EC_KEY

GARBAGE = bytes(range(1, 256)) * 16 + b"\x01" * 16
"""4 KiB, as on a disk that lost a block."""


def damage(path: Path) -> None:
    """Write garbage over the head of a SQLite file that no process has open."""
    for suffix in ("-wal", "-shm"):
        assert not path.with_name(f"{path.name}{suffix}").exists(), "the file is open"
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(GARBAGE)


@dataclass
class Site:
    """Stores of two tenants that answered a question each, and no process that has them open."""

    settings: ServiceSettings
    sagemaker: SageMakerSocket

    @property
    def worker(self) -> WorkerSettings:
        return WorkerSettings.model_validate(
            self.settings.model_dump(include=set(WorkerSettings.model_fields))
        )

    def started(self) -> AbstractAsyncContextManager[RunningService]:
        return service_on(self.settings, Scene(), self.sagemaker)


@asynccontextmanager
async def open_site(folder: Path) -> AsyncGenerator[Site]:
    async with sagemaker_socket() as sagemaker, published_keys([EC_KEY]) as keys:
        yield Site(service_settings(folder, Scene(), sagemaker_url=sagemaker.url, jwks_url=keys), sagemaker)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a site that was used, for each test to copy."""

    async def make() -> Path:
        async with open_site(tmp_path_factory.mktemp("answered")) as site:
            async with site.started() as service:
                for tenant in ("clinic", "pharmacy"):
                    await service.know("wait", "The wait is two days.", tenant=tenant)
                    await service.answered(tenant=tenant)
            return site.settings.state_dir

    return asyncio.run(make())


@pytest.fixture
async def site(answered: Path, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        shutil.copytree(answered, site.settings.state_dir)
        yield site


def execute(file: Path, script: str) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.executescript(script)


WRECKS: dict[str, Callable[[Path], object]] = {
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a link to nowhere": lambda file: (file.unlink(), file.symlink_to("/nowhere/records")),
    "a link to itself": lambda file: (file.unlink(), file.symlink_to(file)),
    "half of it": lambda file: os.truncate(file, file.stat().st_size // 2),
    "its first bytes": lambda file: os.truncate(file, 60),
    "no stamp in it": lambda file: execute(file, "DELETE FROM store_format"),
    "a stamp of words": lambda file: execute(file, "UPDATE store_format SET readable_from = 'all'"),
    "a stamp of others": lambda file: execute(file, "ALTER TABLE store_format RENAME COLUMN number TO n"),
    "a garbled log": lambda file: file.with_name(f"{file.name}-wal").mkdir(),
}
DAMAGED = [*((name, "") for name in declared_files()), *(("records.sqlite", wreck) for wreck in WRECKS)]


@pytest.mark.parametrize(("name", "wreck"), DAMAGED)
async def test_a_damaged_file_of_one_tenant_leaves_the_others_serving(
    site: Site, name: str, wreck: str
) -> None:
    file = site.settings.state_dir / "tenants" / "clinic" / name
    WRECKS.get(wreck, damage)(file)
    with capture_logs() as logged:
        async with site.started() as service:
            assert (await service.answered(tenant="pharmacy"))["finish_reason"] == "stop"
            refused = await service.ask(tenant="clinic")
            assert (refused.status_code, refused.json()["code"]) == (503, "tenant_not_served")
            if not wreck:
                await _names_the_command(service, file)
        if not wreck:
            async with open_ingestion(site.worker) as tenants:
                assert [tenant.tenant for tenant in tenants] == ["pharmacy"]
                await IngestionWorker(tenants[0]).prepare()
            async with open_loops(site.worker) as loops:
                assert loops
    reasons = {line["reason"] for line in logged if line["event"] == "tenant_not_served"}
    assert [reason for reason in reasons if str(file) in reason], reasons
    assert wreck or len(reasons) == 1


async def test_a_locked_file_of_one_tenant_leaves_the_others_serving(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.05)
    folder = site.settings.state_dir / "tenants" / "clinic"
    for name in ("records", "events", "queue", "desk"):
        file = folder / f"{name}.sqlite"
        with closing(sqlite3.connect(file)) as other, capture_logs() as logged:
            other.executescript("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;")
            async with open_loops(site.worker):
                pass
            if name == "records":
                async with site.started() as service:
                    assert (await service.answered(tenant="pharmacy"))["finish_reason"] == "stop"
        reasons = {line["reason"] for line in logged if line["event"] == "tenant_not_served"}
        assert [reason for reason in reasons if f"{file} cannot be opened (database is locked)" in reason]


@pytest.mark.parametrize(
    "pattern", ["v2-*/passages.sqlite", "v2-*/lexical*/passages/meta.json", "versions.json"]
)
async def test_a_damaged_index_of_one_tenant_leaves_the_worker_of_the_others(
    site: Site, pattern: str
) -> None:
    folder = site.settings.state_dir / "tenants" / "clinic" / "index"
    damage(next(iter(folder.glob(pattern)), folder / pattern))
    with capture_logs() as logged:
        async with open_ingestion(site.worker) as tenants:
            prepared = await prepare_each([IngestionWorker(tenant) for tenant in tenants], site.worker)
    assert [worker.tenant for worker in prepared] == ["pharmacy"]
    (line,) = [line for line in logged if line["event"] == "tenant_not_served"]
    assert line["tenant"] == "clinic"
    assert str(folder) in line["reason"]


async def _names_the_command(service: RunningService, file: Path) -> None:
    ready = await service.operated("/readyz")
    (check,) = [check for check in ready.json()["checks"] if not check["ok"]]
    assert (ready.status_code, check["name"], check["tenant"]) == (503, "served", "clinic")
    assert f"{file} is damaged" in check["detail"]
    assert f"mv {file} {file}.damaged" in check["detail"]
