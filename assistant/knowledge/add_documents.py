"""Takes documents in: what is new or changed is stored, marked received and enqueued for the worker.

What restricts goes first and waits for no body: withdrawals, narrower labels, and files that were refused.
Labels are widened only by who holds those that the document has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import structlog
from opentelemetry import trace

from assistant.domain.answers import AccessEntry
from assistant.domain.clock import Clock
from assistant.domain.documents import Document, DocumentState, DocumentStatus
from assistant.domain.errors import ConflictError, DocumentInvalidError, LabelsWidenedError
from assistant.knowledge.items import SourceDocument, SourceFailure, SourceItem, SourceWithdrawal, file_of
from assistant.knowledge.ports import AccessRecords, KnowledgeStores
from assistant.knowledge.sources import KnowledgeSource, Writer, widens
from assistant.knowledge.withdrawal import LABELS_NARROWED, WithdrawDocuments, Withheld, WithholdDocuments

BATCH = 500
PARALLEL_WRITES = 8
PAGE = 1000

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


class AddDocuments:
    """The use case behind ``POST /v1/documents`` and ``assistant knowledge add``.

    ``accesses`` is told of refused attempts to widen labels; without it only the log is.
    """

    def __init__(
        self, stores: KnowledgeStores, *, clock: Clock, accesses: AccessRecords | None = None
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._accesses = accesses
        self._withhold = WithholdDocuments(stores, clock=clock)
        self._withdraw = WithdrawDocuments(stores, clock=clock)

    async def __call__(
        self,
        items: Iterable[SourceItem],
        *,
        source: KnowledgeSource,
        writer: Writer,
        progress: Callable[[AddSummary], None] | None = None,
    ) -> AddSummary:
        """Take in all items as the source's; ``progress`` is called after each batch.

        A failing item stops nothing. Documents whose content is live already cost one comparison.
        """
        load = Load(source, writer)
        remaining = iter(items)
        with _tracer.start_as_current_span("knowledge.add") as span:
            while batch := await asyncio.to_thread(_next_batch, remaining):
                await self._take(load, load.sort_out(batch))
                if progress is not None:
                    progress(load.summary)
            await self._withhold_by_file(load)
            span.set_attribute("knowledge.lines", load.summary.lines)
            span.set_attribute("knowledge.enqueued", len(load.summary.enqueued_ids))
        return load.summary

    async def _take(self, load: Load, batch: Batch) -> None:
        known = await self._stores.states.get_many(
            [*batch.documents, *batch.withdrawn, *(document_id for document_id, _ in batch.refused)]
        )
        if batch.withdrawn:
            await self._withdraw(batch.withdrawn)
            load.summary.withdrawn_ids += batch.withdrawn
        await self._withhold_refused(load, batch, known)
        before = {
            name: await self._labels_of(known[name], one)
            for name, one in batch.documents.items()
            if name in known
        }
        known = {**known, **_with_labels(known, before)}
        arrived = await self._not_widened(load, batch.documents, before)
        narrowed = {
            name
            for name, one in arrived.items()
            if name in known
            and known[name].state is not DocumentState.WITHDRAWN
            and widens(before[name], of=one.document.labels)
        }
        if narrowed:
            reason = "Its labels were narrowed; it answers again when its new content is live."
            await self._withhold(Withheld(known[name], LABELS_NARROWED, reason) for name in narrowed)
        await self._bring_in(load.summary, arrived, known, narrowed)

    async def _bring_in(
        self,
        summary: AddSummary,
        arrived: Mapping[str, Arrived],
        known: Mapping[str, DocumentStatus],
        narrowed: set[str],
    ) -> None:
        to_store: list[Document] = []
        received: list[DocumentStatus] = []
        told: list[DocumentStatus] = []
        for document_id, one in arrived.items():
            before = known.get(document_id)
            if before is not None and before.state == DocumentState.WITHDRAWN:
                before = None
            _count(summary, before, one.content_hash)
            if (
                before is None
                or before.content_hash != one.content_hash
                or before.state != DocumentState.LIVE
            ):
                to_store.append(one.document)
                is_out = document_id in narrowed or (
                    before is not None and before.state is DocumentState.WITHHELD
                )
                received.append(self._received(one, before, is_out=is_out))
            elif before.labels is None or before.origin != file_of(one.origin):
                told.append(_with_what_is_told(before, one))
        if told:
            await self._stores.states.advance_many(told)
        await self._store(to_store)
        if received:
            # In this order a crash leaves a document received but not enqueued: adding it again resumes
            # it. The other way round the worker could finish before the state is written over its own.
            ids = [status.document_id for status in received]
            await self._stores.states.put_many(received)
            await self._stores.queue.send_many(ids)
            summary.enqueued_ids.extend(ids)

    async def _labels_of(self, status: DocumentStatus, one: Arrived) -> tuple[str, ...]:
        """Return the labels that count until now. Of what an older release withdrew nobody knows any."""
        if status.content_hash == one.content_hash:
            return one.document.labels
        if status.labels is not None:
            return status.labels
        try:
            document = await self._stores.documents.get(status.document_id)
        except DocumentInvalidError:  # damaged, and brought anew
            return ()
        return document.labels if document is not None else ()

    async def _not_widened(
        self, load: Load, documents: Mapping[str, Arrived], before: Mapping[str, tuple[str, ...]]
    ) -> dict[str, Arrived]:
        """Return the documents without those whose labels the writer may not widen: they stay."""
        allowed: dict[str, Arrived] = {}
        for document_id, one in documents.items():
            held = before.get(document_id, ())
            missing = sorted(set(held) - load.writer.labels)
            if missing and widens(one.document.labels, of=held):
                await self._refuse_widening(load, one, missing=missing)
            else:
                allowed[document_id] = one
        return allowed

    async def _refuse_widening(self, load: Load, one: Arrived, *, missing: Sequence[str]) -> None:
        document_id, writer = one.document.document_id, load.writer.name
        _log.warning("labels_not_widened", document_id=document_id, writer=writer, source=load.source.name)
        if self._accesses is not None:
            entry = AccessEntry(at=self._clock.now(), agent=writer, kind="widening", subject_id=document_id)
            await self._accesses.record_access(entry)
        reason = (
            f"{document_id} would become readable to more, which only somebody may do who holds all of its "
            f"labels; {', '.join(missing)} is missing. The document stays as it is."
        )
        load.summary.failures.append(SourceFailure(one.origin, LabelsWidenedError.code, reason))

    async def _withhold_refused(self, load: Load, batch: Batch, known: Mapping[str, DocumentStatus]) -> None:
        """Withhold the documents that refused files name; what none names is looked for at the end."""
        found: list[Withheld] = []
        for document_id, failure in batch.refused:
            status = known.get(document_id)
            if failure.is_named_by_file:
                if status is None or status.origin != file_of(failure.origin):
                    load.to_find(failure)
                if document_id in load.seen:  # another file of this load is that document
                    continue
            if status is not None:
                found.append(_withheld(status, failure))
        load.summary.withheld += await self._withhold(found)

    async def _withhold_by_file(self, load: Load) -> None:
        """Withhold the documents of refused files and lines that nothing names: those that the file brought
        before and this load did not."""
        if not load.unnamed:
            return
        for ids in load.source.id_ranges:
            after: str | None = ids.after or None
            while page := await self._stores.states.list(after=after, until=ids.until, limit=PAGE):
                after = page[-1].document_id
                load.summary.withheld += await self._withhold(
                    _withheld(status, load.unnamed[status.origin])
                    for status in page
                    if status.origin in load.unnamed and status.document_id not in load.seen
                )

    async def _store(self, documents: Sequence[Document]) -> None:
        free = asyncio.Semaphore(PARALLEL_WRITES)

        async def put(document: Document) -> None:
            async with free:
                await self._stores.documents.put(document)

        await asyncio.gather(*map(put, documents))

    def _received(self, one: Arrived, before: DocumentStatus | None, *, is_out: bool) -> DocumentStatus:
        document, now = one.document, self._clock.now()
        live = None if is_out else before
        return DocumentStatus(
            document_id=document.document_id,
            title=document.title,
            state=DocumentState.RECEIVED,
            content_hash=one.content_hash,
            live_content_hash=live.live_content_hash if live else None,
            source=document.source,
            type=document.type,
            url=document.url,
            owner=document.owner,
            effective_date=document.effective_date,
            received_at=now,
            updated_at=now,
            passage_count=live.passage_count if live else 0,
            token_count=live.token_count if live else 0,
            origin=file_of(one.origin),
            labels=document.labels,
            live_labels=live.live_labels if live else None,
        )


def _with_labels(
    known: Mapping[str, DocumentStatus], labels: Mapping[str, tuple[str, ...]]
) -> dict[str, DocumentStatus]:
    """Return the states of older releases, which did not keep the labels of what answers, with them."""
    return {
        name: known[name].model_copy(update={"live_labels": found})
        for name, found in labels.items()
        if known[name].live_labels is None and known[name].live_content_hash is not None
    }


def _withheld(status: DocumentStatus, failure: SourceFailure) -> Withheld:
    place = f"{failure.origin}: " if failure.origin else ""
    return Withheld(status, failure.code, f"{place}{failure.reason}")


def _with_what_is_told(status: DocumentStatus, one: Arrived) -> DocumentStatus:
    """Return the status of an unchanged live document with what its release did not keep, or the file that
    brings it now."""
    labels = one.document.labels
    return status.model_copy(update={"origin": file_of(one.origin), "labels": labels, "live_labels": labels})


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


# One load into a source, sorted out before anything is stored: what is taken in, withdrawn, and refused.


@dataclass(slots=True)
class AddSummary:
    """What became of each line: ``lines`` = ``documents`` + ``duplicates`` + ``withdrawn`` + failures."""

    lines: int = 0
    """Lines of JSONL that are not blank, and files of one document."""
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    resumed: int = 0
    """Of the unchanged: enqueued again, for they had not become live."""
    duplicates: int = 0
    """The same id with the same content, seen before in this load."""
    withdrawn: int = 0
    """Files and lines that say ``withdrawn: true``."""
    failures: list[SourceFailure] = field(default_factory=list[SourceFailure])
    withheld: list[DocumentStatus] = field(default_factory=list[DocumentStatus])
    """Documents that no longer answer, because a file of this load was refused that may be theirs."""
    enqueued_ids: list[str] = field(default_factory=list[str])
    """Documents that the worker has to bring in: added, changed and resumed."""

    withdrawn_ids: list[str] = field(default_factory=list[str])
    """Documents that the worker has to take out, with the withheld ones."""

    def include(self, other: AddSummary) -> None:
        """Add up another load."""
        self.lines += other.lines
        self.added += other.added
        self.changed += other.changed
        self.unchanged += other.unchanged
        self.resumed += other.resumed
        self.duplicates += other.duplicates
        self.withdrawn += other.withdrawn
        self.failures += other.failures
        self.withheld += other.withheld
        self.enqueued_ids += other.enqueued_ids
        self.withdrawn_ids += other.withdrawn_ids

    @property
    def documents(self) -> int:
        return self.added + self.changed + self.unchanged


@dataclass(frozen=True, slots=True)
class Arrived:
    """One document of a load, under its tenant-wide id."""

    document: Document
    origin: str
    content_hash: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What is done together."""

    documents: dict[str, Arrived] = field(default_factory=dict[str, Arrived])
    withdrawn: list[str] = field(default_factory=list[str])
    refused: list[tuple[str, SourceFailure]] = field(default_factory=list[tuple[str, SourceFailure]])
    """With the id of the document that each may be."""


class Load:
    """One load: its summary, and which ids it has seen."""

    def __init__(self, source: KnowledgeSource, writer: Writer) -> None:
        self.source = source
        self.writer = writer
        self.summary = AddSummary()
        self.seen: dict[str, Arrived | None] = {}
        """The first document of each id; None where a file withdraws it."""
        self.unnamed: dict[str | None, SourceFailure] = {}
        """By file, a failure that names no document that there is."""

    def sort_out(self, items: Iterable[SourceItem]) -> Batch:
        """Return the documents that are the first of their id, what is withdrawn, and what is refused."""
        batch = Batch()
        for item in items:
            self.summary.lines += 1
            try:
                if isinstance(item, SourceFailure):
                    self._refuse(batch, item)
                elif isinstance(item, SourceWithdrawal):
                    self._withdraw(batch, item)
                else:
                    self._take(batch, item)
            except DocumentInvalidError as error:
                own_id = item.document.document_id if isinstance(item, SourceDocument) else None
                self._refuse(batch, SourceFailure(item.origin, error.code, error.message, own_id))
        return batch

    def to_find(self, failure: SourceFailure) -> None:
        """Have the documents of a refused file looked for."""
        file = file_of(failure.origin)
        if file is not None:
            self.unnamed[file] = failure

    def _take(self, batch: Batch, item: SourceDocument) -> None:
        document = self.source.taken_in(item.document)
        document_id, arrived = document.document_id, Arrived(document, item.origin, document.content_hash())
        if document_id not in self.seen:
            self.seen[document_id] = batch.documents[document_id] = arrived
            return
        first = self.seen[document_id]
        if first is None:
            self.summary.failures.append(_conflict(item.origin, document_id, "is withdrawn by another file"))
        elif first.content_hash == arrived.content_hash:
            self.summary.duplicates += 1
        elif widens(first.document.labels, of=document.labels):
            # Which of the two is meant nobody knows: until somebody says so, neither may be read.
            failure = _conflict(item.origin, document_id, "came before with other labels; neither is kept")
            self.summary.failures.append(failure)
            batch.refused.append((document_id, failure))
            self._drop(batch, document_id, failure)
        else:
            failure = _conflict(item.origin, document_id, "came before with other content; the first is kept")
            self.summary.failures.append(failure)

    def _withdraw(self, batch: Batch, item: SourceWithdrawal) -> None:
        document_id = self.source.document_id(item.own_id)
        self.summary.withdrawn += 1
        batch.withdrawn.append(document_id)
        self._drop(batch, document_id, _conflict(item.origin, document_id, "is withdrawn by another file"))
        self.seen[document_id] = None

    def _drop(self, batch: Batch, document_id: str, why: SourceFailure) -> None:
        """Take a document of the same batch out of it."""
        dropped = batch.documents.pop(document_id, None)
        if dropped is not None:
            self.summary.failures.append(SourceFailure(dropped.origin, why.code, why.reason))

    def _refuse(self, batch: Batch, failure: SourceFailure) -> None:
        self.summary.failures.append(failure)
        if failure.own_id is None:
            self.to_find(failure)
            return
        try:
            batch.refused.append((self.source.document_id(failure.own_id), failure))
        except DocumentInvalidError:  # then no document has that id
            self.to_find(failure)


def _conflict(origin: str, document_id: str, what: str) -> SourceFailure:
    return SourceFailure(origin, ConflictError.code, f"the id {document_id} {what}")
