"""What the store of documents does over blobs."""

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
from tests.fakes.tenant_stores import TenantStores

PARSED = ParsedDocument(
    text="Exceptions\n\nWait until day 24 — unless “lost”.",
    sections=(Section(headings=("Refill", "Exceptions"), span=Span(12, 46)),),
    tables=(Table(header=("Day", "Note"), rows=((Span(21, 23), Span(23, 23)),)),),
    pages=((2, 0),),
    original=OriginalFile(name="fees.pdf", sha256="a" * 64, size_bytes=3),
)


def original_of(content: bytes) -> OriginalFile:
    return OriginalFile(name="fees.pdf", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


async def test_parsed_text_is_kept_by_content(stores: TenantStores) -> None:
    newer = ParsedDocument(text="Newer.", sections=())
    await stores.documents.put_parsed("refill", "hash-1", PARSED)
    await stores.documents.put_parsed("refill", "hash-2", newer)
    assert await stores.documents.get_parsed("refill", "hash-1") == PARSED
    assert await stores.documents.get_parsed("refill", "hash-2") == newer
    assert await stores.documents.get_parsed("refill", "hash-3") is None


async def test_originals_are_kept_by_their_bytes_and_read_in_parts(stores: TenantStores) -> None:
    long, other = b"%PDF" * (ORIGINAL_PART_BYTES // 4) + b"end", b"newer"
    for content in (long, other):
        await stores.documents.put_original("refill", original_of(content), content)
    first = await stores.documents.read_original("refill", original_of(long), start=0)
    assert first == long[:ORIGINAL_PART_BYTES]
    rest = await stores.documents.read_original("refill", original_of(long), start=ORIGINAL_PART_BYTES)
    assert rest == b"end"
    assert await stores.documents.read_original("refill", original_of(other), start=0) == other
    assert await stores.documents.read_original("refill", original_of(b"unknown"), start=0) is None
    assert await stores.documents.read_original("refill-1", original_of(other), start=0) is None


async def test_holdings_count_all_that_a_deletion_removes(stores: TenantStores) -> None:
    assert await stores.documents.holdings("refill") == 0
    await stores.documents.put(samples.document())
    await stores.documents.put_parsed("refill", "hash-1", PARSED)
    await stores.documents.put_parsed("refill", "hash-2", PARSED)
    assert await stores.documents.holdings("refill") == 3
    assert await stores.documents.holdings("refil") == 0
    await stores.documents.delete("refill")
    assert await stores.documents.holdings("refill") == 0


async def test_a_deletion_touches_no_other_document(stores: TenantStores) -> None:
    await stores.documents.put(samples.document("refill-1"))
    await stores.documents.put(samples.document("refill"))
    await stores.documents.put_parsed("refill-1", "hash-1", PARSED)
    await stores.documents.delete("refill")
    assert await stores.documents.get("refill-1") is not None
    assert await stores.documents.get_parsed("refill-1", "hash-1") is not None


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
async def test_ids_that_look_alike_are_kept_apart(stores: TenantStores, alike: tuple[str, str]) -> None:
    for document_id in alike:
        await stores.documents.put(samples.document(document_id, content=f"This is {document_id}."))
    await stores.documents.delete(alike[1])
    found = await stores.documents.get(alike[0])
    assert found is not None
    assert found.content == f"This is {alike[0]}."
    assert await stores.documents.get(alike[1]) is None


async def test_contents_before_are_kept_up_to_a_bound_and_deleted_with_it(stores: TenantStores) -> None:
    for n in range(MOST_CONTENTS + 2):
        await stores.documents.put(samples.document(content=f"Content {n}."))
    kept = [one.document.content for one in await stores.documents.contents("refill")]
    assert kept == [f"Content {n}." for n in range(MOST_CONTENTS + 1, 1, -1)]
    await stores.documents.delete("refill")
    assert await stores.documents.contents("refill") == []
