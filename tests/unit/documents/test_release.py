"""Under hipaa, what becomes readable to more agents waits for a second person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assistant.documents.files import SourceDocument, SourceFailure
from assistant.documents.readable import ReadableDocuments
from assistant.documents.receive import AddDocuments, AddSummary
from assistant.documents.sources import KnowledgeSource, Writer
from assistant.documents.withdraw import (
    ReleaseDocuments,
    ReleaseSummary,
    WithdrawDocuments,
    Withheld,
    withhold,
)
from assistant.domain.documents import Document, DocumentState
from assistant.domain.errors import ContentsChangedError, NotFoundError
from tests.unit.documents.scene import DECLARED, HANDBOOK, PUBLIC, Accesses, Knowledge, document, load, seen

HIPAA = replace(HANDBOOK, two_people=True)
OTTO = Writer("otto", frozenset({"hr"}))
HANNA = Writer("hanna", frozenset({"hr"}))


async def bring(
    knowledge: Knowledge, *documents: Document, source: KnowledgeSource = HIPAA, writer: Writer = OTTO
) -> AddSummary:
    add = AddDocuments(knowledge.knowledge_stores, clock=knowledge.clock)
    summary = await add([SourceDocument(one, "") for one in documents], source=source, writer=writer)
    await knowledge.work()
    return summary


async def waiting(knowledge: Knowledge, by: Writer, *only: str) -> dict[str, str]:
    """Return what a person sees waiting: id = content hash."""
    stores = knowledge.knowledge_stores
    readable = ReadableDocuments(stores.documents, states=stores.states)
    seen = [
        one
        for one in await stores.states.list(states=(DocumentState.WITHHELD,))
        if one.failure_code == "release_needed" and await readable.is_open(one, labels=by.labels)
    ]
    return {one.document_id: one.content_hash for one in seen if not only or one.document_id in only}


async def release(
    knowledge: Knowledge,
    by: Writer,
    *only: str,
    source: KnowledgeSource = HIPAA,
    accesses: Accesses | None = None,
) -> ReleaseSummary:
    releasing = ReleaseDocuments(
        knowledge.knowledge_stores, clock=knowledge.clock, accesses=accesses or Accesses()
    )
    done = await releasing(source, by=by, contents=await waiting(knowledge, by, *only))
    await knowledge.work()
    return done


async def test_a_source_of_everyone_answers_nothing_before_a_second_person_released_it(
    knowledge: Knowledge,
) -> None:
    await bring(knowledge, document("pay"), document("secret", labels=("hr",)))
    assert await seen(knowledge, "hr") == set()
    waiting = await knowledge.status("pay")
    assert (waiting.state, waiting.failure_code) == (DocumentState.WITHHELD, "release_needed")
    await bring(knowledge, document("pay"), writer=HANNA)  # to bring it again releases nothing
    assert await seen(knowledge, "hr") == set()

    assert await release(knowledge, HANNA) == ReleaseSummary(("secret",), ("pay",))
    assert await seen(knowledge, "hr") == {"secret"}
    accesses = Accesses()
    assert await release(knowledge, OTTO, accesses=accesses) == ReleaseSummary(("pay",), ())
    assert await seen(knowledge) == {"pay"}
    assert [(entry.agent, entry.kind, entry.subject_id, entry.documents) for entry in accesses.entries] == [
        ("otto", "release", "handbook", ("pay",))
    ]
    assert (await knowledge.status("pay")).brought_by is None

    await bring(knowledge, document("later"))  # the source is released
    assert await seen(knowledge) == {"pay", "later"}


async def test_a_document_whose_labels_widen_waits_and_no_way_around_it_shows_it(
    knowledge: Knowledge,
) -> None:
    source = replace(DECLARED, two_people=True)
    await bring(knowledge, document("pay", labels=("hr",)), document("other", labels=()), source=source)
    assert await seen(knowledge, "hr") == {"pay", "other"}

    opened = document("pay", labels=())
    for _ in range(2):
        await bring(knowledge, opened, source=source)
        assert await seen(knowledge, "hr") == {"other"}
    withheld = Withheld(await knowledge.status("pay"), "withheld", "doubt")
    await withhold([withheld], stores=knowledge.knowledge_stores, clock=knowledge.clock)
    await bring(knowledge, opened, source=source)
    await knowledge.forget("pay")
    await bring(knowledge, opened, source=source)
    assert await seen(knowledge, "hr") == {"other"}

    assert await release(knowledge, HANNA, source=source) == ReleaseSummary(("pay",), ())
    assert await seen(knowledge) == {"pay", "other"}


async def test_a_refused_body_takes_a_waiting_document_out_of_a_release(knowledge: Knowledge) -> None:
    await bring(knowledge, document("pay"))
    add = AddDocuments(knowledge.knowledge_stores, clock=knowledge.clock)
    await add([SourceFailure("", "document_invalid", "no JSON", "pay")], source=HIPAA, writer=OTTO)
    assert await release(knowledge, HANNA) == ReleaseSummary((), ())
    await bring(knowledge, document("pay"))
    assert await release(knowledge, HANNA) == ReleaseSummary(("pay",), ())


@pytest.mark.parametrize(("labels", "released"), [((), ("a",)), (("hr",), ("a", "b"))])
async def test_a_person_releases_only_what_they_may_read_and_what_they_name(
    knowledge: Knowledge, labels: tuple[str, ...], released: tuple[str, ...]
) -> None:
    await bring(knowledge, document("a"), document("b", labels=("hr",)), document("c"))
    done = await release(knowledge, Writer("nora", frozenset(labels)), "a", "b")
    assert (done.released, await seen(knowledge, "hr")) == (released, set(released))


async def test_on_ones_own_machine_nothing_waits(knowledge: Knowledge, tmp_path: Path) -> None:
    (tmp_path / "pay.md").write_bytes(PUBLIC["pay.md"])
    await load(knowledge, tmp_path, source=HIPAA, writer=Writer("cli", releases=True))
    await knowledge.work()
    assert await seen(knowledge) == {"pay"}


async def test_a_release_is_of_the_contents_that_were_looked_at(knowledge: Knowledge) -> None:
    await bring(knowledge, document("pay", "Good."), document("hall"))
    looked_at = await waiting(knowledge, HANNA)
    await bring(knowledge, document("pay", "Evil."))
    releasing = ReleaseDocuments(knowledge.knowledge_stores, clock=knowledge.clock, accesses=Accesses())
    with pytest.raises(ContentsChangedError, match="pay has another content now"):
        await releasing(HIPAA, by=HANNA, contents=looked_at)
    await knowledge.work()
    assert await seen(knowledge) == set()
    accesses = Accesses()
    now = await waiting(knowledge, HANNA, "pay")
    assert (await release(knowledge, HANNA, "pay", accesses=accesses)).released == ("pay",)
    assert accesses.entries[0].contents == tuple(now.values())
    with pytest.raises(ContentsChangedError, match="waits no more"):
        await releasing(HIPAA, by=HANNA, contents=now)


@pytest.mark.parametrize("document_id", ["secret", "never"])
async def test_what_a_person_may_not_know_of_is_unknown_to_a_release(
    knowledge: Knowledge, document_id: str
) -> None:
    await bring(knowledge, document("secret", labels=("hr",)))
    releasing = ReleaseDocuments(knowledge.knowledge_stores, clock=knowledge.clock, accesses=Accesses())
    with pytest.raises(NotFoundError, match=f"There is no document {document_id}"):
        await releasing(HIPAA, by=Writer("nora"), contents={document_id: "0" * 64})


async def test_what_waits_is_shown_beside_the_content_that_answered(knowledge: Knowledge) -> None:
    source = replace(DECLARED, two_people=True)
    await bring(knowledge, document("pay", "Old.", labels=("hr",)), source=source)
    for content in ("Draft.", "New."):
        await bring(knowledge, document("pay", content, labels=()), source=source)
    stores = knowledge.knowledge_stores
    readable = ReadableDocuments(stores.documents, states=stores.states)
    both = await readable.waiting(await knowledge.status("pay"), labels=frozenset({"hr"}))
    assert both is not None
    assert [one and one.content for one in both] == ["New.", "Old."], "the draft never answered"


async def test_who_lacks_the_label_of_what_answered_neither_reads_nor_decides_what_would_replace_it(
    knowledge: Knowledge,
) -> None:
    source = replace(DECLARED, two_people=True)
    await bring(knowledge, document("pay", "Old.", labels=("hr",)), source=source)
    for content in ("Draft.", "New."):
        await bring(knowledge, document("pay", content, labels=()), source=source)
    stores, looked_at = knowledge.knowledge_stores, await waiting(knowledge, HANNA)
    readable, withdraw = (
        ReadableDocuments(stores.documents, states=stores.states),
        WithdrawDocuments(stores, clock=knowledge.clock),
    )
    nora = Writer("nora", sees_all=False)
    assert await readable.waiting(await knowledge.status("pay"), labels=nora.labels) is None
    assert await withdraw.contents_of(source, labels=nora.labels) == {}
    assert (await bring(knowledge, document("pay", "Mine."), source=source, writer=nora)).failures
    releasing = ReleaseDocuments(stores, clock=knowledge.clock, accesses=Accesses())
    with pytest.raises(NotFoundError):
        await releasing(source, by=nora, contents=looked_at)
    assert (await releasing(source, by=HANNA, contents=looked_at)).released == ("pay",)
