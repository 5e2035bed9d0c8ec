"""What every DocumentStore does."""

from __future__ import annotations

import pytest

from assistant.domain.documents import ParsedDocument, Section, Span
from tests.contracts import samples
from tests.contracts.conftest import OtherProcess
from tests.contracts.twins import Twin

PARSED = ParsedDocument(
    text="Exceptions\n\nWait until day 24 — unless “lost”.",
    sections=(Section(headings=("Refill", "Exceptions"), span=Span(12, 46)),),
)


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


async def test_a_deletion_removes_every_content(twin: Twin) -> None:
    await twin.documents.put(samples.document())
    await twin.documents.put_parsed("refill", "hash-1", PARSED)
    await twin.documents.put_parsed("refill", "hash-2", PARSED)
    await twin.documents.delete("refill")
    assert await twin.documents.get("refill") is None
    assert await twin.documents.get_parsed("refill", "hash-1") is None
    assert await twin.documents.get_parsed("refill", "hash-2") is None


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
