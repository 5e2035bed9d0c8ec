"""What every StoredDocuments does."""

from __future__ import annotations

import hashlib

import pytest

from assistant.domain.documents import (
    ORIGINAL_PART_BYTES,
    OriginalFile,
    ParsedDocument,
    Section,
    Span,
    Table,
)
from assistant.stores.documents import MOST_CONTENTS
from tests.contracts import samples
from tests.contracts.conftest import OtherProcess
from tests.contracts.twins import Twin

PARSED = ParsedDocument(
    text="Exceptions\n\nWait until day 24 — unless “lost”.",
    sections=(Section(headings=("Refill", "Exceptions"), span=Span(12, 46)),),
    tables=(Table(header=("Day", "Note"), rows=((Span(21, 23), Span(23, 23)),)),),
    pages=((2, 0),),
    original=OriginalFile(name="fees.pdf", sha256="a" * 64, size_bytes=3),
)


def original_of(content: bytes) -> OriginalFile:
    return OriginalFile(name="fees.pdf", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


async def test_a_document_comes_back_whole(twin: Twin) -> None:
    written = samples.document()
    await twin.documents.put(written)
    assert await twin.documents.get("refill") == written


async def test_an_unknown_document_is_none(twin: Twin) -> None:
    assert await twin.documents.get("nothing") is None


async def test_the_newest_content_wins(twin: Twin) -> None:
    await twin.documents.put(samples.document(content="Old."))
    await twin.documents.put(samples.document(content="New."))
    found = await twin.documents.get("refill")
    assert found is not None
    assert found.content == "New."


async def test_parsed_text_comes_back_with_its_sections(twin: Twin) -> None:
    await twin.documents.put_parsed("refill", "hash-1", PARSED)
    assert await twin.documents.get_parsed("refill", "hash-1") == PARSED


async def test_parsed_text_is_kept_by_content(twin: Twin) -> None:
    newer = ParsedDocument(text="Newer.", sections=())
    await twin.documents.put_parsed("refill", "hash-1", PARSED)
    await twin.documents.put_parsed("refill", "hash-2", newer)
    assert await twin.documents.get_parsed("refill", "hash-1") == PARSED
    assert await twin.documents.get_parsed("refill", "hash-2") == newer
    assert await twin.documents.get_parsed("refill", "hash-3") is None


async def test_originals_are_kept_by_their_bytes_and_read_in_parts(twin: Twin) -> None:
    long, other = b"%PDF" * (ORIGINAL_PART_BYTES // 4) + b"end", b"newer"
    for content in (long, other):
        await twin.documents.put_original("refill", original_of(content), content)
    first = await twin.documents.read_original("refill", original_of(long), start=0)
    assert first == long[:ORIGINAL_PART_BYTES]
    rest = await twin.documents.read_original("refill", original_of(long), start=ORIGINAL_PART_BYTES)
    assert rest == b"end"
    assert await twin.documents.read_original("refill", original_of(other), start=0) == other
    assert await twin.documents.read_original("refill", original_of(b"unknown"), start=0) is None
    assert await twin.documents.read_original("refill-1", original_of(other), start=0) is None


async def test_a_deletion_removes_every_content(twin: Twin) -> None:
    originals = [b"old", b"new"]
    for content in originals:
        await twin.documents.put_original("refill", original_of(content), content)
    await twin.documents.put(samples.document())
    await twin.documents.put_parsed("refill", "hash-1", PARSED)
    await twin.documents.put_parsed("refill", "hash-2", PARSED)
    await twin.documents.delete("refill")
    assert await twin.documents.get("refill") is None
    assert await twin.documents.get_parsed("refill", "hash-1") is None
    assert await twin.documents.get_parsed("refill", "hash-2") is None
    for content in originals:
        assert await twin.documents.read_original("refill", original_of(content), start=0) is None


async def test_holdings_count_all_that_a_deletion_removes(twin: Twin) -> None:
    assert await twin.documents.holdings("refill") == 0
    await twin.documents.put(samples.document())
    await twin.documents.put_parsed("refill", "hash-1", PARSED)
    await twin.documents.put_parsed("refill", "hash-2", PARSED)
    assert await twin.documents.holdings("refill") == 3
    assert await twin.documents.holdings("refil") == 0
    await twin.documents.delete("refill")
    assert await twin.documents.holdings("refill") == 0


async def test_a_deletion_touches_no_other_document(twin: Twin) -> None:
    await twin.documents.put(samples.document("refill-1"))
    await twin.documents.put(samples.document("refill"))
    await twin.documents.put_parsed("refill-1", "hash-1", PARSED)
    await twin.documents.delete("refill")
    assert await twin.documents.get("refill-1") is not None
    assert await twin.documents.get_parsed("refill-1", "hash-1") is not None


async def test_deleting_nothing_is_no_error(twin: Twin) -> None:
    await twin.documents.delete("nothing")


@pytest.mark.parametrize(
    "alike",
    [
        ("Refill", "refill"),
        ("a.b", "a-b"),
        ("..", "."),
        ("50%25", "50%"),
        ("é" * 256, "é" * 255 + "e"),
        ("a\\b", "a:b"),
        ("*", "[a-z]"),
    ],
)
async def test_ids_that_look_alike_are_kept_apart(twin: Twin, alike: tuple[str, str]) -> None:
    for document_id in alike:
        await twin.documents.put(samples.document(document_id, content=f"This is {document_id}."))
    await twin.documents.delete(alike[1])
    found = await twin.documents.get(alike[0])
    assert found is not None
    assert found.content == f"This is {alike[0]}."
    assert await twin.documents.get(alike[1]) is None


async def test_a_document_of_another_tenant_is_unknown(twin: Twin, stranger: Twin) -> None:
    await twin.documents.put(samples.document())
    assert await stranger.documents.get("refill") is None


async def test_another_process_s_write_is_read(twin: Twin, elsewhere: OtherProcess) -> None:
    await twin.documents.put(samples.document())
    await elsewhere("put_document")
    found = await twin.documents.get("refill")
    assert found is not None
    assert found.content == "Written elsewhere."


async def test_contents_before_are_kept_up_to_a_bound_and_deleted_with_it(twin: Twin) -> None:
    for n in range(MOST_CONTENTS + 2):
        await twin.documents.put(samples.document(content=f"Content {n}."))
    kept = [one.document.content for one in await twin.documents.contents("refill")]
    assert kept == [f"Content {n}." for n in range(MOST_CONTENTS + 1, 1, -1)]
    await twin.documents.delete("refill")
    assert await twin.documents.contents("refill") == []
