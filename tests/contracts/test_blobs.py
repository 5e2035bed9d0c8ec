"""What every Blobs does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from assistant.stores.uploads import PART_BYTES
from tests.contracts.conftest import OtherProcess
from tests.contracts.samples import parts_of
from tests.contracts.twins import Twin

KEY = "events/dt=2026-11-20/x.json"
LONG = bytes(range(256)) * (PART_BYTES // 256)


async def keys_in(twin: Twin, prefix: str) -> list[str]:
    return sorted([found.key async for found in twin.blobs.list(prefix)])


async def test_the_newest_content_is_read(twin: Twin) -> None:
    assert await twin.blobs.get(KEY) is None
    await twin.blobs.put(KEY, b"old")
    await twin.blobs.put(KEY, b"new")
    assert await twin.blobs.get(KEY) == b"new"


async def test_a_blob_that_is_added_is_never_written_over(twin: Twin) -> None:
    await twin.blobs.add(KEY, b"first")
    await twin.blobs.add(KEY, b"second")
    assert await twin.blobs.get(KEY) == b"first"


async def test_the_store_tells_the_time_by_which_it_dates(twin: Twin) -> None:
    before = await twin.blobs.now("events/")
    await twin.blobs.put(KEY, b"x")
    after = await twin.blobs.now("events/")
    (found,) = [found async for found in twin.blobs.versions(KEY)]
    second = timedelta(seconds=1)  # S3 tells whole ones
    assert before - second <= found.written_at <= after + second
    assert [found.key async for found in twin.blobs.begun("")] == []


async def test_writers_at_the_same_time_leave_one_whole_blob(twin: Twin) -> None:
    await asyncio.gather(*(twin.blobs.add(KEY, b"same" * 10_000) for _ in range(8)))
    assert await twin.blobs.get(KEY) == b"same" * 10_000
    assert await keys_in(twin, "events/") == [KEY]


async def test_replaced_contents_are_read_by_their_version(twin: Twin) -> None:
    for n in range(3):
        await twin.blobs.put(KEY, f"Content {n}.".encode(), most=3)
    versions = [found async for found in twin.blobs.versions(KEY)]
    assert sorted(versions, key=lambda found: found.written_at, reverse=True) == versions
    contents = [await twin.blobs.get(KEY, version=found.version) for found in versions]
    assert contents == [b"Content 2.", b"Content 1.", b"Content 0."]


async def test_blobs_are_listed_by_folder(twin: Twin) -> None:
    other = "texts/00/a"
    for key in (KEY, other):
        await twin.blobs.put(key, b"x")
    assert await keys_in(twin, "events/dt=2026-11-20/") == await keys_in(twin, "events/") == [KEY]
    assert await keys_in(twin, "") == [KEY, other]
    assert await keys_in(twin, "events/dt=2026-11-21/") == []


async def test_a_purge_leaves_nothing_of_what_begins_so(twin: Twin) -> None:
    for key in ("a/1/x.json", "a/1/y/z.json", "a/10/x.json"):
        for content in (b"old", b"new"):
            await twin.blobs.put(key, content)
    await twin.blobs.purge("a/1/")
    assert [found.key async for found in twin.blobs.versions("a/1/")] == []
    assert await twin.blobs.held("a/1/") == 0
    assert await twin.blobs.get("a/10/x.json") == b"new"


async def test_one_key_is_purged_alone(twin: Twin) -> None:
    for key in ("a.jsonl", "a.jsonl.1"):
        await twin.blobs.put(key, b"x")
    await twin.blobs.purge("a.jsonl", of_key=True)
    await twin.blobs.purge("unknown", of_key=True)
    assert await keys_in(twin, "") == ["a.jsonl.1"]


async def test_a_removed_blob_is_gone_and_removing_nothing_is_no_error(twin: Twin, tmp_path: Path) -> None:
    await twin.blobs.put(KEY, b"x")
    for _ in range(2):
        await twin.blobs.remove(KEY)
    assert await twin.blobs.get(KEY) is None
    assert not await twin.blobs.fetch(KEY, tmp_path / "file")
    assert await keys_in(twin, "") == []


async def test_a_blob_in_parts_comes_back_whole_and_in_part(twin: Twin, tmp_path: Path) -> None:
    await twin.blobs.store(KEY, parts_of(LONG, b"the rest"))
    assert await twin.blobs.fetch(KEY, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == LONG + b"the rest"
    assert await twin.blobs.read(KEY, start=len(LONG) - 2, most_bytes=4) == b"\xfe\xffth"
    assert await twin.blobs.read(KEY, start=len(LONG) + 4, most_bytes=99) == b"rest"
    assert await twin.blobs.read("unknown", start=0, most_bytes=1) is None


async def test_a_blob_whose_parts_break_off_is_not_stored(twin: Twin) -> None:
    with pytest.raises(ConnectionResetError):
        await twin.blobs.store(KEY, parts_of(LONG, breaks=True))
    assert await twin.blobs.get(KEY) is None
    assert [found async for found in twin.blobs.begun("")] == []


async def test_what_is_being_stored_is_begun_and_not_listed(twin: Twin) -> None:
    seen = list[tuple[list[str], list[str]]]()

    async def looking() -> AsyncIterator[bytes]:
        seen.append(([found.key async for found in twin.blobs.begun("events/")], await keys_in(twin, "")))
        yield b"x"

    await twin.blobs.store(KEY, looking())
    assert seen == [([KEY], [])]
    assert [found async for found in twin.blobs.begun("")] == []
    assert await keys_in(twin, "") == [KEY]


async def test_another_tenant_s_blobs_are_unknown(twin: Twin, stranger: Twin) -> None:
    await twin.blobs.put(KEY, b"x")
    assert await stranger.blobs.get(KEY) is None
    assert await keys_in(stranger, "") == []


async def test_another_process_s_blob_is_read(twin: Twin, elsewhere: OtherProcess) -> None:
    await twin.blobs.put("a/b.json", b"old")
    await elsewhere("put_blob")
    assert await twin.blobs.get("a/b.json") == b"Written elsewhere."
