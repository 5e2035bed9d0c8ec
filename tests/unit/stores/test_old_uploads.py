"""Uploads of a machine are deleted by the clock of its disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assistant.domain.documents import UploadResult
from assistant.stores.uploads import KEPT_FOR, StoredUploads, Upload
from tests.fakes.clock import SteppedClock
from tests.fakes.stepped_folder import SteppedFolder


async def four_bytes() -> AsyncIterator[bytes]:
    yield b"text"


def upload(upload_id: str) -> Upload:
    return Upload(
        upload_id=upload_id * 32,
        agent="olga",
        labels=(),
        source="wiki",
        path="a.md",
        size_bytes=4,
        created_at=datetime(2020, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(("age", "is_kept"), [(timedelta(), True), (KEPT_FOR + timedelta(hours=1), False)])
async def test_a_read_upload_is_deleted_when_it_is_old(
    tmp_path: Path, age: timedelta, *, is_kept: bool
) -> None:
    clock = SteppedClock(datetime.now(UTC))
    uploads, old = StoredUploads(SteppedFolder(tmp_path, clock=clock)), upload("a")
    await uploads.store(old, four_bytes())
    await uploads.put_result(old, UploadResult(added=1))
    clock.step(age.total_seconds())
    await uploads.store(upload("b"), four_bytes())
    assert (await uploads.get(old.key) is not None) is is_kept
