"""What the store of uploads does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assistant.domain.documents import UploadResult
from assistant.domain.errors import ConflictError
from assistant.stores.uploads import KEPT_FOR, PART_BYTES, StoredUploads, Upload
from tests.contracts.samples import parts_of, upload
from tests.stage.tenant_stores import SteppedClock, SteppedFolder, TenantStores

CONTENT = bytes(range(256)) * (PART_BYTES // 256) + b"the rest"


async def test_a_file_of_several_parts_comes_back_whole(stores: TenantStores, tmp_path: Path) -> None:
    sent = upload(size_bytes=len(CONTENT))
    await stores.uploads.store(sent, parts_of(CONTENT[:PART_BYTES], CONTENT[PART_BYTES:]))
    assert await stores.uploads.get(sent.key) == sent
    assert await stores.uploads.fetch(sent, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_of_an_upload_that_breaks_off_nothing_is_read(stores: TenantStores, tmp_path: Path) -> None:
    broken, short = (
        upload(size_bytes=len(CONTENT), first_load=True),
        upload("b" * 32, size_bytes=len(CONTENT), first_load=True),
    )
    with pytest.raises(ConnectionResetError):
        await stores.uploads.store(broken, parts_of(CONTENT[:PART_BYTES], breaks=True))
    with pytest.raises(ConflictError, match=r"5,242,880 bytes of 5,242,888 came"):
        await stores.uploads.store(short, parts_of(CONTENT[:PART_BYTES]))
    for sent in (broken, short):
        assert not await stores.uploads.fetch(sent, tmp_path / "file")
    assert await stores.uploads.unread_first() == {}


async def test_a_result_takes_the_place_of_the_bytes(stores: TenantStores, tmp_path: Path) -> None:
    sent = upload(size_bytes=4)
    await stores.uploads.store(sent, parts_of(b"text"))
    assert await stores.uploads.result(sent.key) is None
    await stores.uploads.put_result(sent, UploadResult(added=1, document_ids=("wiki:refunds",)))
    assert await stores.uploads.result(sent.key) == UploadResult(added=1, document_ids=("wiki:refunds",))
    assert not await stores.uploads.fetch(sent, tmp_path / "file")


async def test_files_of_a_first_load_are_counted_until_they_are_read(stores: TenantStores) -> None:
    first, later = upload(size_bytes=4, first_load=True), upload("b" * 32, size_bytes=4)
    counted = list[dict[str, int]]()

    async def counting() -> AsyncIterator[bytes]:
        counted.append(dict(await stores.uploads.unread_first()))
        yield b"text"

    for sent in (first, later):
        await stores.uploads.store(sent, counting())
    assert counted == [{"wiki": 1}, {"wiki": 1}]
    assert await stores.uploads.unread_first() == {"wiki": 1}
    await stores.uploads.put_result(first, UploadResult(added=1))
    assert await stores.uploads.unread_first() == {}


# --- by the clock of its disk -----------------------------------------------------------------------------
async def four_bytes() -> AsyncIterator[bytes]:
    yield b"text"


def old_upload(upload_id: str) -> Upload:
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
    uploads, old = StoredUploads(SteppedFolder(tmp_path, clock=clock)), old_upload("a")
    await uploads.store(old, four_bytes())
    await uploads.put_result(old, UploadResult(added=1))
    clock.step(age.total_seconds())
    await uploads.store(old_upload("b"), four_bytes())
    assert (await uploads.get(old.key) is not None) is is_kept
