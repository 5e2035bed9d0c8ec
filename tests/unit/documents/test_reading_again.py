"""Documents that older readers read are read again from what is kept of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from assistant.documents.files import SourceDocument
from assistant.documents.receive import AddDocuments
from assistant.documents.sources import KnowledgeSources, Writer
from assistant.documents.uploads import BeginReadingAgain, ReceiveUpload
from assistant.domain.clock import SystemClock
from assistant.domain.documents import Document, DocumentState, ParsedDocument, UploadResult
from assistant.domain.errors import ConflictError
from assistant.stores.uploads import PART_BYTES, Upload
from assistant.tenant.tenant import SourceEntry, TenantConfig
from tests.stage.knowledge import converted_before, older_readers
from tests.stage.tenant_stores import TenantStores

TENANT = TenantConfig(
    schema_version=1,
    name="shop",
    display_name="Shop",
    labels=("hr", "staff"),
    sources=(SourceEntry(name="wiki", access="folder", folders={"": (), "pay": ("hr",)}, namespace="wiki"),),
)
SOURCES = KnowledgeSources.of(TENANT)
WIKI = SOURCES.all[0]
OLGA = Writer("olga", frozenset({"hr"}))
RAW = b"Take 5, 10 mg.\n"


@dataclass
class Shelf:
    """Documents in real stores, without a worker."""

    stores: TenantStores

    @property
    def add(self) -> AddDocuments:
        return AddDocuments(self.stores.knowledge, clock=SystemClock())

    async def know(self, item: SourceDocument, raw: bytes | None = RAW) -> str:
        """Store a document of older readers as live; return its id."""
        document_id = WIKI.document_id(item.document.document_id)
        if raw is not None and item.document.original is not None:
            await self.stores.documents.put_original(document_id, item.document.original, raw)
        with older_readers():
            await self.add([item], source=WIKI, writer=OLGA)
        status = await self.stores.states.get(document_id)
        assert status is not None
        live = {"state": DocumentState.LIVE, "live_content_hash": status.content_hash}
        await self.stores.states.put_many([status.model_copy(update=live)])
        parsed = ParsedDocument(item.document.content, ())
        await self.stores.documents.put_parsed(document_id, status.content_hash, parsed)
        await self.queued()
        return document_id

    async def queued(self) -> Sequence[str]:
        """Take what the worker has to index."""
        held = await self.stores.queue.receive(limit=9, wait_s=0.0, visibility_timeout_s=60)
        await self.stores.queue.delete_many([one.receipt for one in held])
        return [one.document_id for one in held]

    async def begin(self, document_id: str, *labels: str) -> Upload | None:
        status = await self.stores.states.get(document_id)
        assert status is not None
        begin = BeginReadingAgain(self.stores.knowledge, self.stores.uploads, SystemClock())
        return await begin(status, source=WIKI, by="olga", labels=labels)

    async def read(self, upload: Upload | None) -> UploadResult:
        assert upload is not None
        result = await ReceiveUpload(self.stores.uploads, sources=SOURCES, add=self.add)(upload.key)
        assert result is not None
        return result

    async def document(self, document_id: str) -> tuple[Document, DocumentState, bool]:
        """Return the document, its state, and whether a content of it answers."""
        document = await self.stores.documents.get(document_id)
        status = await self.stores.states.get(document_id)
        assert document is not None
        assert status is not None
        return document, status.state, status.live_content_hash is not None


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    stores = TenantStores(tmp_path, embedding_model="tiny", dimensions=4)
    yield Shelf(stores)
    await stores.close()


def text(name: str, content: str, *labels: str) -> SourceDocument:
    fields = {"document_id": name, "title": name, "content": content, "media_type": "text/markdown"}
    return SourceDocument(
        Document.model_validate(fields | ({"labels": labels} if labels else {})), f"{name}.md"
    )


async def test_a_converted_document_is_read_from_its_file(shelf: Shelf) -> None:
    document_id = await shelf.know(converted_before("dose.txt", "Take 510 mg.", RAW))
    result = await shelf.read(await shelf.begin(document_id))
    assert (result.changed, result.words, result.words_changed) == (1, 4, 3)
    document, state, answers = await shelf.document(document_id)
    assert (document.media_type, state, answers) == (
        "application/vnd.page+json",
        DocumentState.RECEIVED,
        True,
    )
    assert "Take 5, 10 mg." in document.content
    assert await shelf.queued() == [document_id]


async def test_a_text_is_read_again_with_its_labels_and_losses(shelf: Shelf) -> None:
    content = "# Pay\n\nA clerk earns ~~61~~ 70 thousand.\n"
    document_id = await shelf.know(text("pay", content, "hr"))
    result = await shelf.read(await shelf.begin(document_id, "hr"))
    assert (result.changed, result.refused, result.notes) == (1, 0, ("1 struck word was left out.",))
    document, state, answers = await shelf.document(document_id)
    assert (document.content, document.labels, state, answers) == (
        content,
        ("hr",),
        DocumentState.RECEIVED,
        True,
    )


async def test_what_these_readers_read_is_skipped(shelf: Shelf) -> None:
    await shelf.add([text("wait", "Two days.")], source=WIKI, writer=OLGA)
    assert await shelf.begin("wiki:wait") is None
    document_id = await shelf.know(text("turn", "Day 24."))
    await shelf.read(await shelf.begin(document_id))
    assert await shelf.begin(document_id) is None


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_document_without_its_file_is_told_and_stays(shelf: Shelf, is_lost: bool) -> None:
    item = converted_before("dose.txt", "Take 510 mg.", RAW)
    if not is_lost:  # a release that kept no files
        item = SourceDocument(item.document.model_copy(update={"original": None}), "dose.txt")
    document_id = await shelf.know(item, None)
    with pytest.raises(ConflictError, match="is not kept"):
        await shelf.begin(document_id)
    assert (await shelf.document(document_id))[1:] == (DocumentState.LIVE, True)


@pytest.mark.parametrize("name", ["dose.docx", "dose.eml"])
async def test_a_file_that_is_refused_now_leaves_its_document_as_it_is(shelf: Shelf, name: str) -> None:
    document_id = await shelf.know(converted_before(name, "Take 510 mg.", b"\0\0"), b"\0\0")
    result = await shelf.read(await shelf.begin(document_id))
    assert result.refused == 1
    assert (await shelf.document(document_id))[1:] == (DocumentState.LIVE, True)
    assert await shelf.queued() == []


async def test_a_document_that_changed_meanwhile_is_not_overwritten(shelf: Shelf) -> None:
    document_id = await shelf.know(text("turn", "Day 24."))
    upload = await shelf.begin(document_id)
    await shelf.add([text("turn", "Day 30.")], source=WIKI, writer=OLGA)
    assert (await shelf.read(upload)).changed == 0
    assert (await shelf.document(document_id))[0].content == "Day 30."


async def test_a_document_that_was_withdrawn_meanwhile_stays_withdrawn(shelf: Shelf) -> None:
    document_id = await shelf.know(text("turn", "Day 24."))
    upload = await shelf.begin(document_id)
    status = await shelf.stores.states.get(document_id)
    assert status is not None
    await shelf.stores.states.put_many([status.model_copy(update={"state": DocumentState.WITHDRAWN})])
    assert (await shelf.read(upload)).changed == 0
    assert (await shelf.document(document_id))[1] is DocumentState.WITHDRAWN


async def test_a_reading_that_was_killed_before_it_was_queued_is_queued(shelf: Shelf) -> None:
    document_id = await shelf.know(text("turn", "Day 24."))
    first, second = await shelf.begin(document_id), await shelf.begin(document_id)
    await shelf.read(first)
    assert await shelf.queued() == [document_id]
    await shelf.read(second)
    assert await shelf.queued() == [document_id]


async def test_a_file_of_several_parts_is_read_whole(shelf: Shelf) -> None:
    raw = b"".join(b"Line %d says 5, 10 mg.\n\n" % number for number in range(3))
    raw += b" " * (PART_BYTES + 3_000_000 - len(raw))
    document_id = await shelf.know(converted_before("long.txt", "Take 510 mg.", raw), raw)
    upload = await shelf.begin(document_id)
    assert upload is not None
    into = shelf.stores.folder / "uploads" / upload.key / "content"
    assert into.read_bytes() == raw


def test_contents_of_older_readers_are_known(shelf: Shelf) -> None:
    document = text("turn", "Day 24.").document
    now, *_, before = document.content_hashes()
    assert now == document.content_hash()
    with older_readers():
        assert document.content_hash() == before != now
