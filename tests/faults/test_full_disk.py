"""Embedded stores on a disk that is full."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.faults.conftest import (
    DOCUMENT,
    TENANT,
    WRITTEN,
    FaultScene,
    ServiceProcess,
    asked,
    asking,
    called,
    headers,
    idle,
)
from tests.faults.table import THE_SERVICE, tell
from tests.stage.running_service import NO_TENANTS, RunningService, eventually
from tests.stage.sagemaker_runtime import SageMakerSocket
from tests.stage.tenant_stores import stored_bodies

pytestmark = pytest.mark.night  # services that start for each test

_SIZE = "24m"
_OWN_DISK = 'mount -t tmpfs -o size="$1" tmpfs "$2" && cp -a "$3/." "$2" && shift 3 && exec "$@"'

_LOG_BY_ANOTHER = 'exec "$@" 2> >(exec cat >&2)'
"""A process whose files cannot grow could not write its log either."""


@dataclass
class SmallDisk:
    """The state folder of a process on a disk of its own; where the machine allows no mounts, files of the
    process that cannot grow."""

    service: ServiceProcess
    state_dir: Path
    """As this process sees it."""
    is_mounted: bool

    async def fill(self) -> None:
        if not self.is_mounted:
            resource.prlimit(self.service.child.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        await asyncio.to_thread(_fill, self.state_dir / "filler")

    async def free(self) -> None:
        if not self.is_mounted:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(self.service.child.pid, resource.RLIMIT_FSIZE, unlimited)
            return
        (self.state_dir / "filler").unlink()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1024 * 1024, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


@pytest_asyncio.fixture(loop_scope="session")
async def small_disk(scene: FaultScene) -> AsyncIterator[SmallDisk]:
    settings = scene.settings()
    embedded = settings.model_copy(
        update={"stores": "embedded", "search": "embedded", "power_parameter": None}
    )
    await _know(embedded.state_dir)
    mounts = await _own_mounts()
    prepared = embedded.state_dir.with_name("prepared")
    shutil.move(embedded.state_dir, prepared)
    embedded.state_dir.mkdir()
    if mounts is None:
        shutil.copytree(prepared, embedded.state_dir, dirs_exist_ok=True)
    prefix = (
        (*mounts, "sh", "-c", _OWN_DISK, "sh", _SIZE, str(embedded.state_dir), str(prepared))
        if mounts
        else ("bash", "-c", _LOG_BY_ANOTHER, "bash")
    )
    async with scene.service(embedded, prefix=prefix) as service:
        seen_from_here = Path(f"/proc/{service.child.pid}/root") / str(embedded.state_dir).lstrip("/")
        yield SmallDisk(service, seen_from_here if mounts else embedded.state_dir, mounts is not None)


async def _own_mounts() -> tuple[str, ...] | None:
    """Return the command that starts another with mounts of its own, if this machine allows it."""
    as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    command = ("unshare", *as_root, "--mount")
    if shutil.which("unshare") is None:
        return None
    child = await asyncio.create_subprocess_exec(
        *command, "mount", "-t", "tmpfs", "tmpfs", "/mnt", stderr=asyncio.subprocess.DEVNULL
    )
    return command if await child.wait() == 0 else None


async def _know(state_dir: Path) -> None:

    async with httpx.AsyncClient() as unused:
        await RunningService("", SageMakerSocket(), NO_TENANTS, state_dir, unused).know("wait", DOCUMENT)


async def test_an_answer_on_a_full_disk_goes_on_and_its_record_follows(
    scene: FaultScene, small_disk: SmallDisk, tmp_path: Path
) -> None:
    service = small_disk.service
    before = await asked(service)
    assert before.told() == "`done` `stop`"
    go_on = scene.sagemaker.hold_after(2)
    async with asking(service, resume_window_s=15) as stream:
        await stream.until("token")
        await small_disk.fill()
        go_on.set()
        answer = await stream.rest()
    scene.sagemaker.hold = None
    assert answer.written == WRITTEN
    assert answer.told() == "`done` `stop`, `recorded` false"
    document = {
        "document_id": "d",
        "title": "T",
        "content": "Text." * 5000,
        "source": "s",
        "media_type": "text/plain",
    }
    brought = await called(service, "POST", "/v1/documents", json=document)
    assert brought.told() == "503 `dependency_unavailable`, retryable", brought.body
    keyed = await asked(service, key="on-a-full-disk")
    assert keyed.told() == "503 `records_unavailable`, retryable"
    logged = {str(line.get("event")) for line in service.logged()}
    assert {"answer_record_waits", "dependency_failed"} <= logged
    await small_disk.free()

    async def is_recorded() -> bool:
        path = f"/v1/answers/{answer.answer_id}"
        return (await service.client.get(path, headers=headers())).status_code == 200

    await eventually(is_recorded)
    after = await asked(service)
    assert after.told() == "`done` `stop`"
    assert (await called(service, "POST", "/v1/documents", json=document)).status == 202
    await idle(service)
    kept = tmp_path / "kept"
    shutil.copytree(
        small_disk.state_dir / "tenants" / TENANT, kept
    )  # SQLite opens nothing in another's mounts
    assert _damaged(kept) == []
    assert _recorded(kept) == {before.answer_id, answer.answer_id, after.answer_id}
    tell(
        THE_SERVICE,
        "disk full (embedded stores)",
        made_by="no room left for its files after the first sentence",
        sees=f"{answer.told()}; with an Idempotency-Key: {keyed.told()}; "
        f"bringing a document: {brought.told()}",
        recorded="once, when there is room again; every file is sound",
        log="`answer_record_waits`, then `answer_record_followed`",
    )


def _damaged(folder: Path) -> list[str]:
    found: list[str] = []
    for path in sorted(folder.rglob("*.sqlite")):
        file = sqlite3.connect(path)
        if file.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            found.append(path.name)
        file.close()
    return found


def _recorded(folder: Path) -> set[str]:
    records = stored_bodies(folder / "records.sqlite", partition="answer#*", sort="answer")
    ids = [record["answer_id"] for record in records]
    assert len(ids) == len(set(ids))
    return set(ids)
