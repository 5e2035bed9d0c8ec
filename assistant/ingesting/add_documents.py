"""Takes documents in: what is new or changed is stored, marked received and enqueued for the worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from opentelemetry import trace

from assistant.domain.clock import Clock
from assistant.domain.documents import Document, DocumentState, DocumentStatus
from assistant.domain.errors import ConflictError
from assistant.ingesting.sources.items import SourceDocument, SourceFailure, SourceItem
from assistant.ingesting.stores import Intake

BATCH = 500
PARALLEL_WRITES = 8

_tracer = trace.get_tracer(__name__)


@dataclass(slots=True)
class AddSummary:
    """What became of each line: ``lines`` = ``documents`` + ``duplicates`` + failures."""

    lines: int = 0
    """Lines of JSONL that are not blank, and files of one document."""
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    resumed: int = 0
    """Of the unchanged: enqueued again, for they had not become live."""
    duplicates: int = 0
    """The same id with the same content, seen before in this load."""
    failures: list[SourceFailure] = field(default_factory=list[SourceFailure])
    enqueued_ids: list[str] = field(default_factory=list[str])
    """Documents that the worker has to bring in: added, changed and resumed."""

    @property
    def documents(self) -> int:
        return self.added + self.changed + self.unchanged


class AddDocuments:
    """The use case behind ``POST /v1/documents`` and ``assistant knowledge add``."""

    def __init__(self, stores: Intake, *, clock: Clock) -> None:
        self._stores = stores
        self._clock = clock

    async def __call__(
        self, items: Iterable[SourceItem], *, progress: Callable[[AddSummary], None] | None = None
    ) -> AddSummary:
        """Take in all items; ``progress`` is called after each batch.

        A failing item stops nothing. Documents whose content is live already cost one comparison.
        """
        load = _Load()
        remaining = iter(items)
        with _tracer.start_as_current_span("knowledge.add") as span:
            while batch := await asyncio.to_thread(_next_batch, remaining):
                await self._take(load.sort_out(batch), load.summary)
                if progress is not None:
                    progress(load.summary)
            span.set_attribute("knowledge.lines", load.summary.lines)
            span.set_attribute("knowledge.enqueued", len(load.summary.enqueued_ids))
        return load.summary

    async def _take(self, documents: Mapping[str, tuple[Document, str]], summary: AddSummary) -> None:
        known = await self._stores.states.get_many(list(documents))
        to_store: list[Document] = []
        received: list[DocumentStatus] = []
        for document_id, (document, content_hash) in documents.items():
            before = known.get(document_id)
            if before is not None and before.state == DocumentState.WITHDRAWN:
                before = None
            _count(summary, before, content_hash)
            if before is None or before.content_hash != content_hash or before.state != DocumentState.LIVE:
                to_store.append(document)
                received.append(self._received(document, content_hash, before))
        await self._store(to_store)
        if received:
            # In this order a crash leaves a document received but not enqueued: adding it again resumes
            # it. The other way round the worker could finish before the state is written over its own.
            ids = [status.document_id for status in received]
            await self._stores.states.put_many(received)
            await self._stores.queue.send_many(ids)
            summary.enqueued_ids.extend(ids)

    async def _store(self, documents: Sequence[Document]) -> None:
        free = asyncio.Semaphore(PARALLEL_WRITES)

        async def put(document: Document) -> None:
            async with free:
                await self._stores.documents.put(document)

        await asyncio.gather(*map(put, documents))

    def _received(
        self, document: Document, content_hash: str, before: DocumentStatus | None
    ) -> DocumentStatus:
        now = self._clock.now()
        return DocumentStatus(
            document_id=document.document_id,
            title=document.title,
            state=DocumentState.RECEIVED,
            content_hash=content_hash,
            live_content_hash=before.live_content_hash if before else None,
            source=document.source,
            type=document.type,
            url=document.url,
            owner=document.owner,
            effective_date=document.effective_date,
            received_at=now,
            updated_at=now,
            passage_count=before.passage_count if before else 0,
            token_count=before.token_count if before else 0,
        )


class _Load:
    """One load: its summary, and which ids it has seen."""

    def __init__(self) -> None:
        self.summary = AddSummary()
        self._seen: dict[str, str] = {}

    def sort_out(self, items: Iterable[SourceItem]) -> dict[str, tuple[Document, str]]:
        """Return the documents (with content hash) by id that are the first of their id."""
        documents: dict[str, tuple[Document, str]] = {}
        for item in items:
            self.summary.lines += 1
            if isinstance(item, SourceFailure):
                self.summary.failures.append(item)
                continue
            document_id, content_hash = item.document.document_id, item.document.content_hash()
            first = self._seen.get(document_id)
            if first is None:
                self._seen[document_id] = content_hash
                documents[document_id] = (item.document, content_hash)
            elif first == content_hash:
                self.summary.duplicates += 1
            else:
                self.summary.failures.append(_other_content(item))
        return documents


def _other_content(item: SourceDocument) -> SourceFailure:
    return SourceFailure(
        item.origin,
        ConflictError.code,
        f"the id {item.document.document_id} came before with other content; the first is kept",
    )


def _count(summary: AddSummary, before: DocumentStatus | None, content_hash: str) -> None:
    if before is None:
        summary.added += 1
    elif before.content_hash != content_hash:
        summary.changed += 1
    else:
        summary.unchanged += 1
        summary.resumed += before.state != DocumentState.LIVE


def _next_batch(items: Iterator[SourceItem]) -> list[SourceItem]:
    return list(islice(items, BATCH))
