"""Under hipaa, what becomes readable to more agents waits for a second person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assistant.domain.documents import Document, DocumentState
from assistant.knowledge.add_documents import AddDocuments, AddSummary, ReleaseDocuments, ReleaseSummary
from assistant.knowledge.files import SourceDocument, SourceFailure
from assistant.knowledge.sources import KnowledgeSource, Writer
from assistant.knowledge.withdrawal import Withheld, WithholdDocuments
from tests.unit.knowledge.knowledge import HANDBOOK, Knowledge, document
from tests.unit.knowledge.restrictions import PUBLIC
from tests.unit.knowledge.test_restrictions import DECLARED, Accesses, load, seen

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
    done = await releasing(source, by=by, only=only)
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
    withhold = WithholdDocuments(knowledge.knowledge_stores, clock=knowledge.clock)
    await withhold([Withheld(await knowledge.status("pay"), "withheld", "doubt")])
    await bring(knowledge, opened, source=source)
    await knowledge.withdraw("pay")
    await knowledge.work()
    await bring(knowledge, opened, source=source)
    assert await seen(knowledge, "hr") == {"other"}

    assert await release(knowledge, Writer("nora"), source=source) == ReleaseSummary(("pay",), ())
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
