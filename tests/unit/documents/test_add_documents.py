"""What adding documents stores, enqueues and reports."""

from __future__ import annotations

import pytest

from assistant.documents.files import SourceDocument, SourceFailure, SourceItem
from assistant.documents.receive import AddDocuments, AddSummary
from assistant.domain.documents import DocumentState
from assistant.domain.errors import DependencyError
from tests.unit.documents.scene import HANDBOOK, OLGA, Knowledge, document


async def add(knowledge: Knowledge, *items: SourceItem) -> AddSummary:
    return await AddDocuments(knowledge.knowledge_stores, clock=knowledge.clock)(
        items, source=HANDBOOK, writer=OLGA
    )


def line(number: int, document_id: str = "refill", content: str = "Wait.") -> SourceDocument:
    return SourceDocument(document(document_id, content), f"a.jsonl:{number}")


async def waiting(knowledge: Knowledge) -> list[str]:
    messages = await knowledge.stores.queue.receive(limit=100, wait_s=0, visibility_timeout_s=60)
    return [message.document_id for message in messages]


async def test_a_new_document_is_stored_received_and_enqueued(knowledge: Knowledge) -> None:
    summary = await add(knowledge, line(1))
    assert (summary.lines, summary.added, summary.enqueued_ids) == (1, 1, ["refill"])
    assert await knowledge.stores.documents.get("refill") == line(1).document
    assert await knowledge.state() == DocumentState.RECEIVED
    assert await waiting(knowledge) == ["refill"]


async def test_an_unchanged_live_document_is_not_enqueued(knowledge: Knowledge) -> None:
    await add(knowledge, line(1))
    await knowledge.work()
    before = await knowledge.status()
    embedded = len(knowledge.embedder.texts)
    summary = await add(knowledge, line(1))
    await knowledge.work()
    assert (summary.unchanged, summary.resumed, summary.enqueued_ids) == (1, 0, [])
    assert len(knowledge.embedder.texts) == embedded
    assert await knowledge.status() == before
    assert await waiting(knowledge) == []


async def test_a_document_that_did_not_become_live_is_enqueued_again(knowledge: Knowledge) -> None:
    await add(knowledge, line(1))
    await waiting(knowledge)  # the worker that took it was killed
    summary = await add(knowledge, line(1))
    assert (summary.unchanged, summary.resumed) == (1, 1)
    assert await waiting(knowledge) == ["refill"]


async def test_a_changed_document_goes_on_answering_with_the_old_content(knowledge: Knowledge) -> None:
    await add(knowledge, line(1))
    await knowledge.work()
    summary = await add(knowledge, line(1, content="Do not wait."))
    assert (summary.added, summary.changed) == (0, 1)
    status = await knowledge.status()
    assert (status.state, status.live_content_hash) == (
        DocumentState.RECEIVED,
        line(1).document.content_hash(),
    )


async def test_the_summary_adds_up(knowledge: Knowledge) -> None:
    await add(knowledge, line(1, "old"), line(2, "same"))
    await knowledge.work()
    summary = await add(
        knowledge,
        line(1, "old", "Changed."),
        line(2, "same"),
        line(3, "new"),
        line(4, "new"),
        SourceFailure("a.jsonl:5", "document_invalid", "not JSON"),
        line(6, "new", "Other content."),
        line(7, "same"),
    )
    assert (summary.added, summary.changed, summary.unchanged) == (1, 1, 1)
    assert (summary.documents, summary.duplicates, len(summary.failures)) == (3, 2, 2)
    assert summary.lines == summary.documents + summary.duplicates + len(summary.failures) == 7


async def test_an_id_that_comes_again_with_other_content_is_an_error_by_line(knowledge: Knowledge) -> None:
    summary = await add(knowledge, line(1), line(2, content="Other."), line(3, content="Third."))
    assert [(failed.origin, failed.code) for failed in summary.failures] == [
        ("a.jsonl:2", "conflict"),
        ("a.jsonl:3", "conflict"),
    ]
    stored = await knowledge.stores.documents.get("refill")
    assert stored is not None
    assert stored.content == "Wait."


async def test_progress_is_reported_and_repeats_are_seen_across_batches(knowledge: Knowledge) -> None:
    seen: list[int] = []
    use_case = AddDocuments(knowledge.knowledge_stores, clock=knowledge.clock)
    many = [line(number, f"d{number}") for number in range(1198)]
    repeats = line(1201, "d0"), line(1202, "d1", "Other.")  # of documents in the first batch
    summary = await use_case(
        [*many, *repeats], source=HANDBOOK, writer=OLGA, progress=lambda told: seen.append(told.lines)
    )
    assert seen == [500, 1000, 1200]
    assert (summary.added, summary.duplicates, len(summary.failures)) == (1198, 1, 1)


async def test_an_error_of_the_store_reaches_the_caller(knowledge: Knowledge) -> None:
    (knowledge.folder / "documents").write_text("a file in the way", encoding="utf-8")
    with pytest.raises(DependencyError):
        await add(knowledge, line(1))
    assert await knowledge.stores.states.get("refill") is None
