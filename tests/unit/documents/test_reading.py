"""Which documents a reader may see: by the newest labels, which the document's status has."""

from __future__ import annotations

from typing import cast

import pytest

from assistant.documents.readable import ReadableDocuments
from assistant.documents.sources import Writer
from assistant.domain.documents import Document, DocumentState, ParsedDocument
from assistant.domain.errors import DocumentInvalidError
from assistant.stores.documents import StoredDocuments
from tests.unit.documents.scene import Knowledge, document

HR, NOBODY = frozenset({"hr"}), frozenset[str]()


class Texts:
    """The store without its documents: only parsed texts are read from it."""

    def __init__(self, store: StoredDocuments) -> None:
        self._store = store

    async def get(self, document_id: str) -> Document | None:
        raise DocumentInvalidError(f"{document_id} was read.")

    async def get_parsed(self, document_id: str, content_hash: str) -> ParsedDocument | None:
        return await self._store.get_parsed(document_id, content_hash)


async def live(knowledge: Knowledge, *labels: str) -> str:
    """Add a document, wait until it answers, and return its hash."""
    added = document("pay", labels=labels)
    await knowledge.know(added)
    return added.content_hash()


def readable(knowledge: Knowledge, documents: StoredDocuments | None = None) -> ReadableDocuments:
    stores = knowledge.knowledge_stores
    return ReadableDocuments(documents or stores.documents, states=stores.states)


async def test_a_text_is_read_without_its_document(knowledge: Knowledge) -> None:
    content = await live(knowledge, "hr")
    reading = readable(knowledge, cast(StoredDocuments, Texts(knowledge.knowledge_stores.documents)))
    assert await reading.is_readable("pay", labels=HR)
    assert not await reading.is_readable("pay", labels=NOBODY)
    assert await reading.read("pay", content, labels=HR) is not None
    assert await reading.read("pay", content, labels=NOBODY) is None


async def test_a_row_of_an_older_release_is_read_by_its_documents_labels(knowledge: Knowledge) -> None:
    content = await live(knowledge, "hr")
    states = knowledge.knowledge_stores.states
    row = await states.get("pay")
    assert row is not None
    await states.put_many([row.model_copy(update={"labels": None, "live_labels": None})])
    reading = readable(knowledge)
    assert await reading.read("pay", content, labels=HR) is not None
    assert await reading.read("pay", content, labels=NOBODY) is None
    damaged = readable(knowledge, cast(StoredDocuments, Texts(knowledge.knowledge_stores.documents)))
    assert await damaged.read("pay", content, labels=HR) is None


async def test_a_narrowing_that_stopped_after_the_state_is_in_force(knowledge: Knowledge) -> None:
    """The process ended between the state and the document, which still has no label."""
    content = await live(knowledge)
    states = knowledge.knowledge_stores.states
    row = await states.get("pay")
    assert row is not None
    for state in (DocumentState.WITHHELD, DocumentState.RECEIVED):
        await states.put_many([row.model_copy(update={"labels": ("hr",), "state": state})])
        assert not await readable(knowledge).is_readable("pay", labels=NOBODY)
        assert await readable(knowledge).read("pay", content, labels=NOBODY) is None
        assert await readable(knowledge).document("pay", labels=NOBODY) is None


async def test_a_widening_that_stopped_after_the_document_is_not_in_force(knowledge: Knowledge) -> None:
    """The process ended between the document, which has no label any more, and the state."""
    content = await live(knowledge, "hr")
    await knowledge.knowledge_stores.documents.put(document("pay", content="Wait until day 30."))
    for labels, is_open in ((NOBODY, False), (HR, True)):
        assert await readable(knowledge).is_readable("pay", labels=labels) is is_open
        assert (await readable(knowledge).read("pay", content, labels=labels) is not None) is is_open
        assert (await readable(knowledge).document("pay", labels=labels) is not None) is is_open


@pytest.mark.parametrize("live_labels", [("hr",), ("hr", "staff")])
async def test_the_live_contents_own_labels_apply_as_well(
    knowledge: Knowledge, live_labels: tuple[str, ...]
) -> None:
    content = await live(knowledge)
    states = knowledge.knowledge_stores.states
    row = await states.get("pay")
    assert row is not None
    await states.put_many([row.model_copy(update={"live_labels": live_labels})])
    assert await readable(knowledge).read("pay", content, labels=NOBODY) is None
    assert await readable(knowledge).read("pay", content, labels=HR) is not None


async def test_older_content_keeps_its_own_labels(knowledge: Knowledge) -> None:
    restricted = await live(knowledge, "hr")
    opened = document("pay", content="Wait until day 30.")
    await knowledge.know(opened, writer=Writer("hanna", HR))
    reading = readable(knowledge)
    found = await reading.document("pay", labels=NOBODY)
    assert found is not None
    for content, labels, is_open in (
        (opened.content_hash(), NOBODY, True),
        (restricted, NOBODY, False),
        (restricted, HR, True),
    ):
        assert (await reading.read("pay", content, labels=labels) is not None) is is_open
        assert (await reading.text_of(found, content, labels=labels) is not None) is is_open
