"""Adds documents: stores new and changed ones, marks them as received and enqueues their ids for the worker.

A load goes through ``AddDocuments`` in batches: ``Load.sort`` makes a ``Batch`` of items, then ``_add``
withdraws, withholds, compares each ``Arrival`` with the status that it finds, and stores what is new.

Restrictions come first, before any body is stored: withdrawals, narrower labels, and files that were refused.
Only a writer who has all of a document's labels may widen them. A document is "brought" by its writer; where
two people are needed, another person releases it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path

import structlog
from opentelemetry import trace

from assistant.documents.files import (
    SourceDocument,
    SourceFailure,
    SourceItem,
    SourceWithdrawal,
    file_of,
    read_original,
)
from assistant.documents.readable import ReadableDocuments, pages_of
from assistant.documents.sources import (
    FirstLoads,
    KnowledgeSource,
    Writer,
    check_new_id,
    widens,
)
from assistant.documents.withdraw import (
    LABELS_NARROWED,
    RELEASE_NEEDED,
    WithdrawDocuments,
    Withheld,
    withhold,
)
from assistant.domain.audit import AccessEntry
from assistant.domain.clock import Clock
from assistant.domain.documents import (
    HELD_STATES,
    Document,
    DocumentState,
    DocumentStatus,
)
from assistant.domain.errors import (
    AssistantError,
    ConflictError,
    DocumentInvalidError,
    LabelsWidenedError,
    NotFoundError,
)
from assistant.domain.paths import canonical_path
from assistant.stores.documents import KnowledgeStores
from assistant.stores.ports import AccessRecords

BATCH = 500
"""Items that are stored together, and in memory at once."""
PARALLEL_WRITES = 8
"""Documents that are written to the document store at once."""
_ORIGINALS_AT_ONCE = 4
"""Original files that are in memory at once, of 50 MB each at most."""
_CHANGED = "The file changed while it was read. Add it again."
_SHARED_FIELDS = {*Document.model_fields} & {*DocumentStatus.model_fields}
"""Fields that a new status takes from its document: id, title, labels and others."""
_READER_FIELDS = ("title", "content", "media_type")
"""Fields of a document that are read from its file. Another reading changes these alone."""
_READ_AGAIN_STATES = (*HELD_STATES, DocumentState.FAILED)
_UNRELEASED_STATES = (DocumentState.WITHHELD, DocumentState.WITHDRAWN)
"""States of documents that nobody has released, whatever else happened to them."""
_WAITS = "It waits for its release, in the console, by another person than {}."
_LIVE_FIELDS = {"live_content_hash", "live_labels", "passage_count", "token_count"}
"""Fields of a status that describe the content that answers now; they stay while a new one is indexed."""
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


@dataclass(slots=True)
class AddSummary:
    """The result of a load: ``lines`` = ``documents`` + ``duplicates`` + ``withdrawn`` + failures."""

    lines: int = 0
    """Lines of JSONL that are not blank, and files of one document."""
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    resumed: int = 0
    """Unchanged documents that are enqueued again because they had not become live."""
    duplicates: int = 0
    """Documents with the id and content of an earlier one in this load."""
    withdrawn: int = 0
    """Files and lines that say ``withdrawn: true``."""
    failures: list[SourceFailure] = field(default_factory=list[SourceFailure])
    withheld: list[DocumentStatus] = field(default_factory=list[DocumentStatus])
    """Documents that stopped answering: a refused file of this load may be theirs, or they wait for a
    release."""
    enqueued_ids: list[str] = field(default_factory=list[str])
    """Documents that the worker has to index: added, changed and resumed."""
    withdrawn_ids: list[str] = field(default_factory=list[str])
    """Documents that the worker has to remove, beside the withheld ones."""
    words: int = 0
    """Words of documents that were read again."""
    words_changed: int = 0
    """Words that were removed or added; 1 if only their order changed."""

    def include(self, other: AddSummary) -> None:
        """Add the numbers and lists of another load."""
        for attribute in fields(self):
            setattr(self, attribute.name, getattr(self, attribute.name) + getattr(other, attribute.name))

    def count(self, before: DocumentStatus | None, content_hash: str) -> None:
        """Count a document. ``before``: its status before this load; None for a new or a withdrawn one."""
        if before is None:
            self.added += 1
        elif before.content_hash != content_hash:
            self.changed += 1
        else:
            self.unchanged += 1
            self.resumed += before.state != DocumentState.LIVE

    @property
    def documents(self) -> int:
        return self.added + self.changed + self.unchanged


@dataclass(slots=True)
class Arrival:
    """One document of a load, under its tenant-wide id, with its status until now."""

    document: Document
    origin: str
    content_hash: str
    before: DocumentStatus | None = None
    """Its status before this load, None for a new one; ``AddDocuments._set_before`` sets it and
    ``labels_before``."""
    labels_before: tuple[str, ...] = ()
    file: Path | None = None
    """Where ``document.original`` lies; None without one."""

    @property
    def is_settled(self) -> bool:
        """Whether this content answers already."""
        before = self.before
        if before is None or before.state is not DocumentState.LIVE:
            return False
        return before.content_hash == self.content_hash

    @property
    def is_narrowed(self) -> bool:
        """Whether fewer readers may see the document than before."""
        before = self.before
        is_known = before is not None and before.state is not DocumentState.WITHDRAWN
        return is_known and widens(self.labels_before, of=self.document.labels)


@dataclass(frozen=True, slots=True)
class Batch:
    """The items of a load that are stored together."""

    documents: dict[str, Arrival] = field(default_factory=dict[str, Arrival])
    """New arrivals by their tenant-wide ids; ids in ``withdrawn`` and ``refused`` are tenant-wide too."""
    withdrawn: list[str] = field(default_factory=list[str])
    refused: list[tuple[str, SourceFailure]] = field(default_factory=list[tuple[str, SourceFailure]])
    """Refused items, each with the id of the document that it may be: that document is withheld."""


class Load:
    """One load into a source: it sorts the items, and remembers the ids that it has seen.

    Of two items with one id in a load: the same content is a duplicate. Other content is a failure, and the
    first item is kept, but neither if the second one has narrower labels: it may be the one that was meant. A
    withdrawal wins.
    """

    def __init__(self, source: KnowledgeSource, writer: Writer) -> None:
        self.source = source
        self.writer = writer
        self.summary = AddSummary()
        self.seen: dict[str, tuple[str, tuple[str, ...]] | None] = {}
        """Content hash and labels of the first item of each id, without its text, which would fill the
        memory; None for an id that a file withdraws."""
        self.unnamed: dict[str, SourceFailure] = {}
        """Failures that name no known document, by the canonical path of their file, for
        ``_withhold_by_file``."""
        self.is_first: bool | None = None
        """Whether its source loads for the first time; None: not looked up yet
        (``AddDocuments._is_first``)."""

    def sort(self, items: Iterable[SourceItem]) -> Batch:
        """Return the first document of each id, the withdrawals, and the refused items."""
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

    def fail(self, origin: str, error: AssistantError) -> SourceFailure:
        """Report a file or line as a failure of the load."""
        failure = SourceFailure(origin, error.code, error.message)
        self.summary.failures.append(failure)
        return failure

    def add_unnamed(self, failure: SourceFailure) -> None:
        """Remember a refused file, to find its documents at the end of the load."""
        file = file_of(failure.origin)
        if file is not None:
            self.unnamed[canonical_path(file)] = failure

    def _take(self, batch: Batch, item: SourceDocument) -> None:
        """Add a document to the batch, or report why not. Raises DocumentInvalidError."""
        document = self.source.as_tenant_document(item)
        document_id = document.document_id
        arrival = Arrival(document, item.origin, document.content_hash(), file=item.file)
        if document_id not in self.seen:
            self.seen[document_id] = (arrival.content_hash, document.labels)
            batch.documents[document_id] = arrival
            return
        first, the_id = self.seen[document_id], f"the id {document_id}"
        if first is None:
            self.fail(item.origin, ConflictError(f"{the_id} is withdrawn by another file"))
        elif first[0] == arrival.content_hash:
            self.summary.duplicates += 1
        elif widens(first[1], of=document.labels):
            # It is unknown which of the two is meant: neither may be read until the conflict is solved.
            reason = f"{the_id} came before with other labels; neither is kept"
            failure = self.fail(item.origin, ConflictError(reason))
            batch.refused.append((document_id, failure))
            self._drop(batch, document_id, reason)
        else:
            reason = f"{the_id} came before with other content; the first is kept"
            self.fail(item.origin, ConflictError(reason))

    def _withdraw(self, batch: Batch, item: SourceWithdrawal) -> None:
        """Add a withdrawal to the batch; documents of the same id in this load are failures."""
        document_id = self.source.document_id(item.own_id)
        self.summary.withdrawn += 1
        batch.withdrawn.append(document_id)
        self._drop(batch, document_id, f"the id {document_id} is withdrawn by another file")
        self.seen[document_id] = None

    def _drop(self, batch: Batch, document_id: str, reason: str) -> None:
        """Remove a document of the same batch, as a failure."""
        dropped = batch.documents.pop(document_id, None)
        if dropped is not None:
            self.fail(dropped.origin, ConflictError(reason))

    def _refuse(self, batch: Batch, failure: SourceFailure) -> None:
        """Add a refused item to the failures, and to the batch if it names a document."""
        self.summary.failures.append(failure)
        if failure.own_id is None:
            self.add_unnamed(failure)
            return
        try:
            batch.refused.append((self.source.document_id(failure.own_id), failure))
        except DocumentInvalidError:  # no document can have that id
            self.add_unnamed(failure)


class AddDocuments:
    """The use case behind ``POST /v1/documents`` and ``assistant knowledge add``.

    ``accesses`` records refused attempts to widen labels; without it they are only logged.
    """

    def __init__(self, stores: KnowledgeStores, *, clock: Clock, accesses: AccessRecords | None = None):
        self._stores = stores
        self._clock = clock
        self._accesses = accesses
        self._released: set[str] = set()
        """Names of sources that are known to have a released document, which cannot change
        (``_is_unreleased``)."""
        self._withhold = partial(withhold, stores=stores, clock=clock)
        self._withdraw = WithdrawDocuments(stores, clock=clock)
        self._readable = ReadableDocuments(stores.documents, states=stores.states)

    async def __call__(
        self,
        items: Iterable[SourceItem],
        *,
        source: KnowledgeSource,
        writer: Writer,
        progress: Callable[[AddSummary], None] | None = None,
        is_first: bool = False,
    ) -> AddSummary:
        """Add all items to the source; call ``progress`` after each batch.

        A failing item does not stop the others. A document whose content is live already is only compared.
        ``is_first``: the load is known to belong to the source's first one; False: that is looked up.
        """
        load = Load(source, writer)
        load.is_first = is_first or None
        remaining = iter(items)
        with _tracer.start_as_current_span("knowledge.add") as span:
            while batch := await asyncio.to_thread(lambda: list(islice(remaining, BATCH))):
                await self._add(load, load.sort(batch))
                if progress is not None:
                    progress(load.summary)
            await self._withhold_by_file(load)
            span.set_attribute("knowledge.lines", load.summary.lines)
            span.set_attribute("knowledge.enqueued", len(load.summary.enqueued_ids))
        return load.summary

    async def again(
        self, item: SourceItem, *, source: KnowledgeSource, writer: Writer, own_id: str, content_hash: str
    ) -> AddSummary:
        """Store a document whose kept file was read again by newer readers. ``item`` is the result, with its
        text.

        ``Uploads`` calls it for each document that ``is_read_again``. A file that is refused now changes
        nothing: the document answers as before, and the summary has the failure. Nothing is stored if the
        document no longer has ``content_hash``, or is gone. The summary counts the words that changed.
        """
        document_id = source.document_id(own_id)
        status = await self._stores.states.get(document_id)
        stored = await self._stores.documents.get(document_id)
        if status is None or stored is None or not is_read_again(status, stored, content_hash=content_hash):
            if status is not None and status.state is DocumentState.RECEIVED:  # an earlier call was killed
                await self._stores.queue.send_many([document_id])
            return AddSummary(lines=1, unchanged=1)
        if isinstance(item, SourceDocument):
            read_fields = {name: getattr(item.document, name) for name in _READER_FIELDS}
            document = stored.model_copy(update={"document_id": own_id, **read_fields})
            item = replace(item, document=document, origin=status.origin or "", file=None)
            try:
                source.as_tenant_document(item)
            except DocumentInvalidError as error:
                item = SourceFailure(item.origin, error.code, error.message)
        if not isinstance(item, SourceDocument):
            return AddSummary(lines=1, failures=[item] if isinstance(item, SourceFailure) else [])
        live_hash = status.live_content_hash or content_hash
        text_before = await self._stores.documents.get_parsed(document_id, live_hash)
        summary = await self([item], source=source, writer=writer)
        old, new = [] if text_before is None else text_before.text.split(), item.text.split()
        counts = Counter(new)
        counts.subtract(old)
        summary.words = len(new)
        summary.words_changed = 0 if old == new else sum(map(abs, counts.values())) or 1
        return summary

    async def _add(self, load: Load, batch: Batch) -> None:
        """Apply one batch: restrictions first, then new content."""
        known = await self._stores.states.get_many(
            [*batch.documents, *batch.withdrawn, *(document_id for document_id, _ in batch.refused)]
        )
        await self._refuse_hidden(load, batch, known)
        if batch.withdrawn:
            await self._withdraw(batch.withdrawn)
            load.summary.withdrawn_ids += batch.withdrawn
        if batch.refused:
            await self._withhold_refused(load, batch, known)
        arrivals: list[Arrival] = []
        for document_id, arrival in batch.documents.items():
            if document_id in known:
                await self._set_before(arrival, known[document_id])
            if await self._may_write(load, arrival):
                arrivals.append(arrival)
        reason = "Its labels were narrowed; it answers again when its new content is live."
        await self._withhold(
            Withheld(arrival.before, LABELS_NARROWED, reason)
            for arrival in arrivals
            if arrival.before is not None and arrival.is_narrowed
        )
        await self._store(load, await self._with_originals(load, arrivals))

    async def _is_hidden(self, load: Load, status: DocumentStatus) -> bool:
        """Return whether the document does not exist for the writer (``Writer.sees_all``)."""
        writer = load.writer
        return not writer.sees_all and not await self._readable.is_open(status, labels=writer.labels)

    async def _refuse_hidden(self, load: Load, batch: Batch, known: Mapping[str, DocumentStatus]) -> None:
        """Remove from the batch what concerns documents that do not exist for the writer; each is a
        failure."""
        for document_id in [name for name, status in known.items() if await self._is_hidden(load, status)]:
            arrival = batch.documents.pop(document_id, None)
            batch.withdrawn[:] = [name for name in batch.withdrawn if name != document_id]
            batch.refused[:] = [refused for refused in batch.refused if refused[0] != document_id]
            reason = f"{document_id} is not yours: it has labels, and you have none of them."
            load.fail(document_id if arrival is None else arrival.origin, NotFoundError(reason))

    async def _set_before(self, arrival: Arrival, status: DocumentStatus) -> None:
        """Set ``before`` and ``labels_before`` of an arrival from the stored status.

        A status of an older release has no labels of the live content, one of a withdrawn document has none
        at all: then the labels of the stored document count.
        """
        labels = status.labels
        if status.content_hash == arrival.content_hash:
            labels = arrival.document.labels
        elif labels is None:
            try:
                document = await self._stores.documents.get(status.document_id)
            except DocumentInvalidError:  # the stored document is damaged, and replaced now
                document = None
            labels = document.labels if document is not None else ()
        arrival.labels_before = labels
        if status.live_labels is None and status.live_content_hash is not None:
            status = status.model_copy(update={"live_labels": labels})
        arrival.before = status

    async def _may_write(self, load: Load, arrival: Arrival) -> bool:
        """Return whether a new id is clear (``check_new_id``), and the writer may set these labels. If not,
        report the failure; refused wider labels go into the access records too."""
        if arrival.before is None:
            try:
                check_new_id(arrival.document.document_id)
            except DocumentInvalidError as error:
                load.fail(arrival.origin, error)
                return False
        missing = sorted(set(arrival.labels_before) - load.writer.labels)
        if not missing or not widens(arrival.document.labels, of=arrival.labels_before):
            return True
        document_id, writer = arrival.document.document_id, load.writer.name
        _log.warning("labels_not_widened", document_id=document_id, writer=writer, source=load.source.name)
        if self._accesses is not None:
            entry = AccessEntry(at=self._clock.now(), agent=writer, kind="widening", subject_id=document_id)
            await self._accesses.record_access(entry)
        reason = (
            f"{document_id} would become readable to more agents. Only a writer with all of its labels may "
            f"do that; {', '.join(missing)} is missing. The document stays as it is."
        )
        load.fail(arrival.origin, LabelsWidenedError(reason))
        return False

    async def _is_unreleased(self, load: Load) -> bool:
        """Return whether all that this writer brings must wait: two people are needed, every agent may read
        the source, and none of its documents was released yet. A document in any state but withheld or
        withdrawn was released."""
        source = load.source
        if not source.two_people or load.writer.releases or source.entry.access != "everyone":
            return False
        for ids in () if source.name in self._released else source.id_ranges:
            counts = await self._stores.states.count_by_state(after=ids.after or None, until=ids.until)
            if any(count and state not in _UNRELEASED_STATES for state, count in counts.items()):
                self._released.add(source.name)
        return source.name not in self._released

    async def _is_first(self, load: Load) -> bool:
        """Return whether the source loads for the first time; it is looked up once for each load."""
        if load.is_first is None:
            load.is_first = await FirstLoads(self._stores.states).is_first(load.source)
        return load.is_first

    async def _store(self, load: Load, arrivals: Sequence[Arrival]) -> None:
        """Store documents that are new, changed or not live, and enqueue them; those that wait for a release
        are withheld.

        A live document is not stored again: only its status gets the file, and the labels that an older
        release left out (``completed``).
        """
        summary, is_unreleased = load.summary, await self._is_unreleased(load)
        waiting: list[tuple[Document, DocumentStatus]] = []
        received: dict[str, tuple[Document, DocumentStatus]] = {}
        completed: list[DocumentStatus] = []
        for arrival in arrivals:
            before = arrival.before
            if before is not None and before.state == DocumentState.WITHDRAWN:
                before = None
            summary.count(before, arrival.content_hash)
            if before is None or not arrival.is_settled:
                document_and_status = (arrival.document, self._received(arrival, before))
                if is_unreleased or _needs_release(load, arrival):
                    waiting.append(document_and_status)
                else:
                    received[arrival.document.document_id] = document_and_status
            elif before.labels is None or before.origin != file_of(arrival.origin):
                labels = arrival.document.labels  # an older release kept none
                update = {"origin": file_of(arrival.origin), "labels": labels, "live_labels": labels}
                completed.append(before.model_copy(update=update))
        if completed:
            await self._stores.states.advance_many(completed)
        await self._hold(load, waiting)
        if received:
            first_mark = {"first_load": await self._is_first(load)}
            await self._put([document for document, _ in received.values()])
            # In this order a crash leaves a document received but not enqueued, and adding it again resumes
            # it. In the other order the worker could finish before the state is written over its own.
            await self._stores.states.put_many(
                [status.model_copy(update=first_mark) for _, status in received.values()]
            )
            await self._stores.queue.send_many(list(received))
            summary.enqueued_ids.extend(received)

    async def _hold(self, load: Load, waiting: Sequence[tuple[Document, DocumentStatus]]) -> None:
        """Store documents that wait for a release and withhold them. They are in no other state in
        between."""
        writer = load.writer.name
        await self._put([document for document, _ in waiting])
        load.summary.withheld += await self._withhold(
            Withheld(status.model_copy(update={"brought_by": writer}), RELEASE_NEEDED, _WAITS.format(writer))
            for _, status in waiting
        )

    async def _with_originals(self, load: Load, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """Store the original files of arrivals that will be stored. Return the arrivals without those whose
        file changed since it was read: these are failures."""
        free = asyncio.Semaphore(_ORIGINALS_AT_ONCE)

        async def is_kept(arrival: Arrival) -> bool:
            original, file = arrival.document.original, arrival.file
            if original is None or file is None or arrival.is_settled:
                return True
            async with free:
                content = await asyncio.to_thread(read_original, file, original)
                if content is not None:
                    document_id = arrival.document.document_id
                    await self._stores.documents.put_original(document_id, original, content)
            return content is not None

        kept: list[Arrival] = []
        for arrival, is_whole in zip(arrivals, await asyncio.gather(*map(is_kept, arrivals)), strict=True):
            if is_whole:
                kept.append(arrival)
            else:
                load.fail(arrival.origin, ConflictError(_CHANGED))
        return kept

    async def _put(self, documents: Sequence[Document]) -> None:
        """Write documents to the document store, PARALLEL_WRITES at once."""
        free = asyncio.Semaphore(PARALLEL_WRITES)

        async def put(document: Document) -> None:
            async with free:
                await self._stores.documents.put(document)

        await asyncio.gather(*map(put, documents))

    def _received(self, arrival: Arrival, before: DocumentStatus | None) -> DocumentStatus:
        """Return the status of a document whose new content waits for the worker. The content that is live
        goes on answering, unless the document was hidden or fewer readers may see it now."""
        now = self._clock.now()
        is_hidden = before is None or before.state is DocumentState.WITHHELD or arrival.is_narrowed
        return DocumentStatus(
            **arrival.document.model_dump(include=_SHARED_FIELDS),
            **({} if before is None or is_hidden else before.model_dump(include=_LIVE_FIELDS)),
            state=DocumentState.RECEIVED,
            content_hash=arrival.content_hash,
            received_at=now,
            updated_at=now,
            origin=file_of(arrival.origin),
        )

    async def _withhold_refused(self, load: Load, batch: Batch, known: Mapping[str, DocumentStatus]) -> None:
        """Withhold the documents that refused items name.

        An id from the name of the file is only a guess: unless that document came from this file, the file's
        documents are searched at the end of the load too (``_withhold_by_file``).
        """
        withheld: list[Withheld] = []
        for document_id, failure in batch.refused:
            status = known.get(document_id)
            if failure.is_named_by_file:
                if status is None or status.origin != file_of(failure.origin):
                    load.add_unnamed(failure)
                if document_id in load.seen:  # another file of this load is that document
                    continue
            if status is not None:
                withheld.append(_withheld(status, failure))
        load.summary.withheld += await self._withhold(withheld)

    async def _withhold_by_file(self, load: Load) -> None:
        """Withhold the documents of refused files that name none: those that an earlier load read from the
        same file, and that this load did not bring."""
        if not load.unnamed:
            return
        for ids in load.source.id_ranges:
            async for page in pages_of(self._stores.states, ids=ids):
                load.summary.withheld += await self._withhold(
                    [
                        _withheld(status, failure)
                        for status in page
                        if status.origin
                        and (failure := load.unnamed.get(canonical_path(status.origin)))
                        and status.document_id not in load.seen
                        and not await self._is_hidden(load, status)
                    ]
                )


def is_read_again(status: DocumentStatus, document: Document, *, content_hash: str | None = None) -> bool:
    """Return whether a document should be read again: file readers of another release read its newest
    content, or adding it was interrupted, which both show as another hash in the status; and it is live,
    stale or failed.

    ``content_hash``: the content that the status must still have; None: any.
    """
    is_outdated = status.content_hash != document.content_hash()
    return is_outdated and status.state in _READ_AGAIN_STATES and content_hash in (None, status.content_hash)


def _needs_release(load: Load, arrival: Arrival) -> bool:
    """Return whether a known document must wait for a second person: because it waits already, or because
    more agents could read it."""
    if not load.source.two_people or load.writer.releases or arrival.before is None:
        return False
    is_wider = widens(arrival.document.labels, of=arrival.labels_before)
    return is_wider or arrival.before.brought_by is not None


def _withheld(status: DocumentStatus, failure: SourceFailure) -> Withheld:
    """Return the order to withhold a document because of a refused file, with the reason for its owner."""
    place = f"{failure.origin}: " if failure.origin else ""
    return Withheld(status, failure.code, f"{place}{failure.reason}")
