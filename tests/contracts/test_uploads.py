"""What every store of uploads does."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from assistant.domain.errors import ConflictError
from assistant.domain.uploads import UploadResult
from assistant.knowledge.uploads import PART_BYTES, Upload
from tests.contracts.twins import Twin

CONTENT = bytes(range(256)) * (PART_BYTES // 256) + b"the rest"


def upload(upload_id: str = "a" * 32, *, agent: str = "olga", size_bytes: int = len(CONTENT)) -> Upload:
    return Upload(
        upload_id=upload_id,
        agent=agent,
        labels=("hr",),
        source="wiki",
        path="guides/refunds.md",
        size_bytes=size_bytes,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
    )


async def test_a_file_of_several_parts_comes_back_whole(twin: Twin, tmp_path: Path) -> None:
    await twin.uploads.create(begun := upload())
    assert await twin.uploads.get(begun.key) == begun
    assert await twin.uploads.offset(begun) == 0
    await twin.uploads.append(begun, CONTENT[:PART_BYTES], offset=0)
    assert await twin.uploads.offset(begun) == PART_BYTES
    assert await twin.uploads.open_uploads("olga") == 1
    await twin.uploads.append(begun, CONTENT[PART_BYTES:], offset=PART_BYTES)
    assert await twin.uploads.offset(begun) == len(CONTENT)
    assert await twin.uploads.open_uploads("olga") == 0
    assert await twin.uploads.fetch(begun, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_a_part_that_is_sent_again_is_stored_once(twin: Twin, tmp_path: Path) -> None:
    await twin.uploads.create(begun := upload())
    for _ in range(2):
        await twin.uploads.append(begun, CONTENT[:PART_BYTES], offset=0)
    assert await twin.uploads.offset(begun) == PART_BYTES
    await twin.uploads.append(begun, CONTENT[PART_BYTES:], offset=PART_BYTES)
    assert await twin.uploads.fetch(begun, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_a_part_behind_a_hole_is_refused(twin: Twin) -> None:
    await twin.uploads.create(begun := upload())
    with pytest.raises(ConflictError):
        await twin.uploads.append(begun, CONTENT[PART_BYTES:], offset=PART_BYTES)
    assert await twin.uploads.open_uploads("olga") == 1


async def test_a_result_takes_the_place_of_the_bytes(twin: Twin, tmp_path: Path) -> None:
    await twin.uploads.create(begun := upload(size_bytes=4))
    await twin.uploads.append(begun, b"text", offset=0)
    assert await twin.uploads.result(begun.key) is None
    await twin.uploads.put_result(begun, UploadResult(added=1, document_ids=("wiki:refunds",)))
    assert await twin.uploads.result(begun.key) == UploadResult(added=1, document_ids=("wiki:refunds",))
    assert await twin.uploads.offset(begun) == 4
    assert not await twin.uploads.fetch(begun, tmp_path / "file")


async def test_uploads_of_others_are_not_counted(twin: Twin) -> None:
    await twin.uploads.create(upload(agent="noor"))
    assert await twin.uploads.open_uploads("olga") == 0
    assert await twin.uploads.get(upload().key) is None


async def test_files_of_a_first_load_are_counted_until_they_are_read(twin: Twin) -> None:
    first = upload(size_bytes=4).model_copy(update={"first_load": True})
    later = upload("b" * 32, size_bytes=4)
    for begun in (first, later):
        await twin.uploads.create(begun)
    assert await twin.uploads.unread_first() == {"wiki": 1}
    assert await twin.uploads.open_uploads("olga") == 2
    for begun in (first, later):
        await twin.uploads.append(begun, b"text", offset=0)
    assert await twin.uploads.unread_first() == {"wiki": 1}
    assert await twin.uploads.open_uploads("olga") == 0
    await twin.uploads.put_result(first, UploadResult(added=1))
    assert await twin.uploads.unread_first() == {}
