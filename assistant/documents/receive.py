"""Adds documents: stores new and changed ones, marks them as received and enqueues their ids for the worker.

A load goes through ``AddDocuments`` in batches. Each step makes a value of its own: ``Sorting`` a ``Batch``
of arrivals, ``_compare`` a ``Change``, which is an arrival beside the status until now, ``_received`` the new
status.

Restrictions come first, before any body is stored: withdrawals, narrower labels, and files that were refused.
Only a writer who has all of a document's labels may widen them. A document is "brought" by its writer; where
two people are needed, another person releases it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

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
from assistant.documents.sources import FirstLoads, KnowledgeSource, Writer, check_new_id, widens
from assistant.documents.withdraw import (
    LABELS_NARROWED,
    RELEASE_NEEDED,
    WithdrawDocuments,
    Withheld,
    withhold,
)
from assistant.domain.audit import AccessEntry
from assistant.domain.clock import Clock
from assistant.domain.documents import HELD_STATES, Document, DocumentState, DocumentStatus
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
_HIDDEN_STATES = (DocumentState.WITHHELD, DocumentState.WITHDRAWN)
"""States of documents that answer nothing: a release, or new content, must come first."""
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


@dataclass(frozen=True, slots=True)
class Arrival:
    """One document of a load, under its tenant-wide id."""

    document: Document
    origin: str
    content_hash: str
    file: Path | None
    """Where ``document.original`` lies; None without one."""


@dataclass(frozen=True, slots=True)
class Change:
    """An arrival beside what the stores have of its document."""

    new: Arrival
    before: DocumentStatus | None
    """The status before this load; None for a new document."""
    labels_before: tuple[str, ...]
    """() for a new document."""

    @property
    def is_settled(self) -> bool:
        """Whether this content answers already."""
        known = self.before and (self.before.state, self.before.content_hash)
        return known == (DocumentState.LIVE, self.new.content_hash)

    @property
    def is_added(self) -> bool:
        """Whether the document is new, or was withdrawn."""
        return self.before is None or self.before.state is DocumentState.WITHDRAWN

    @property
    def is_narrowed(self) -> bool:
        """Whether fewer readers may see the document than before."""
        return not self.is_added and widens(self.labels_before, of=self.new.document.labels)

    @property
    def is_widened(self) -> bool:
        """Whether more readers may see the document than before. A new one is not widened."""
        return widens(self.new.document.labels, of=self.labels_before)

    @property
    def needs_release(self) -> bool:
        """Whether the document must wait for a second person, where two are needed: because it waits already,
        or because more agents could read it."""
        return self.is_widened or (self.before is not None and self.before.brought_by is not None)


@dataclass(frozen=True, slots=True)
class Batch:
    """The items of a load that are stored together. All ids are tenant-wide."""

    documents: Mapping[str, Arrival]
    """By their ids."""
    withdrawn: Sequence[str]
    refused: Sequence[tuple[str, SourceFailure]]
    """Refused items, each with the id of the document that it may be: that document is withheld."""

    def without(self, ids: Collection[str]) -> Batch:
        """Return the batch without what concerns the documents of these ids."""
        return Batch(
            {name: arrival for name, arrival in self.documents.items() if name not in ids},
            [name for name in self.withdrawn if name not in ids],
            [(name, failure) for name, failure in self.refused if name not in ids],
        )


class FirstItem(NamedTuple):
    """The first document of an id in a load, without its text, which would fill the memory."""

    content_hash: str
    labels: tuple[str, ...]


class Load:
    """One load into a source: what its batches have in common, and the summary that every step adds to."""

    def __init__(self, source: KnowledgeSource, writer: Writer, *, is_first: bool | None) -> None:
        self.source = source
        self.writer = writer
        self.is_first = is_first
        """Whether its source loads for the first time; None until ``AddDocuments._enqueue`` looks it up."""
        self.summary = AddSummary()
        self.seen: dict[str, FirstItem | SourceWithdrawal] = {}
        """By tenant-wide id, of all batches until now. A withdrawal replaces the first document."""
        self.unnamed: dict[str, SourceFailure] = {}
        """Failures that name no known document, by the canonical path of their file: the end of the load
        searches for the documents of these files."""

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

    def refusal_of(self, status: DocumentStatus) -> SourceFailure | None:
        """Return the remembered failure of the file that a document came from, unless this load brought the
        document."""
        if not status.origin or status.document_id in self.seen:
            return None
        return self.unnamed.get(canonical_path(status.origin))


class Sorting:
    """Sorts the items of one batch of a load.

    Of two items with one id in a load, in the same batch or not:

    | the second item | the first one | the second one |
    | --- | --- | --- |
    | has the same content | is kept | is counted as a duplicate |
    | has other content | is kept | is a failure |
    | and its labels are narrower: it may be the one that was meant | is a failure | refused |
    | is a withdrawal | is a failure | is applied |
    | is a document, the first one a withdrawal | is applied | is a failure |

    A first item that an earlier batch stored cannot fail any more: it is withheld or withdrawn instead.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._documents: dict[str, Arrival] = {}
        self._withdrawn: list[str] = []
        self._refused: list[tuple[str, SourceFailure]] = []

    def sort(self, items: Iterable[SourceItem]) -> Batch:
        """Return the first document of each id, the withdrawals, and the refused items."""
        for item in items:
            self._load.summary.lines += 1
            try:
                if isinstance(item, SourceFailure):
                    self._refuse(item)
                elif isinstance(item, SourceWithdrawal):
                    self._withdraw(item)
                else:
                    self._take(item)
            except DocumentInvalidError as error:
                own_id = item.document.document_id if isinstance(item, SourceDocument) else None
                self._refuse(SourceFailure(item.origin, error.code, error.message, own_id))
        return Batch(self._documents, self._withdrawn, self._refused)

    def _take(self, item: SourceDocument) -> None:
        """Add a document to the batch, or report why not. Raises DocumentInvalidError."""
        load = self._load
        document = load.source.as_tenant_document(item)
        document_id, content_hash = document.document_id, document.content_hash()
        first, the_id = load.seen.get(document_id), f"the id {document_id}"
        if first is None:
            load.seen[document_id] = FirstItem(content_hash, document.labels)
            self._documents[document_id] = Arrival(document, item.origin, content_hash, item.file)
        elif isinstance(first, SourceWithdrawal):
            load.fail(item.origin, ConflictError(f"{the_id} is withdrawn by another file"))
        elif first.content_hash == content_hash:
            load.summary.duplicates += 1
        elif widens(first.labels, of=document.labels):
            # It is unknown which of the two is meant: neither may be read until the conflict is solved.
            reason = f"{the_id} came before with other labels; neither is kept"
            self._refused.append((document_id, load.fail(item.origin, ConflictError(reason))))
            self._drop(document_id, reason)
        else:
            reason = f"{the_id} came before with other content; the first is kept"
            load.fail(item.origin, ConflictError(reason))

    def _withdraw(self, item: SourceWithdrawal) -> None:
        """Add a withdrawal to the batch; documents of the same id in this load are failures."""
        document_id = self._load.source.document_id(item.own_id)
        self._load.summary.withdrawn += 1
        self._withdrawn.append(document_id)
        self._drop(document_id, f"the id {document_id} is withdrawn by another file")
        self._load.seen[document_id] = item

    def _drop(self, document_id: str, reason: str) -> None:
        """Remove a document of the same batch, as a failure."""
        dropped = self._documents.pop(document_id, None)
        if dropped is not None:
            self._load.fail(dropped.origin, ConflictError(reason))

    def _refuse(self, failure: SourceFailure) -> None:
        """Add a refused item to the failures, and to the batch if it names a document."""
        self._load.summary.failures.append(failure)
        if failure.own_id is None:
            self._load.add_unnamed(failure)
            return
        try:
            self._refused.append((self._load.source.document_id(failure.own_id), failure))
        except DocumentInvalidError:  # no document can have that id
            self._load.add_unnamed(failure)


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
        load = Load(source, writer, is_first=is_first or None)
        remaining = iter(items)
        with _tracer.start_as_current_span("knowledge.add") as span:
            while batch := await asyncio.to_thread(lambda: list(islice(remaining, BATCH))):
                await self._add(load, Sorting(load).sort(batch))
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
        if not isinstance(item, SourceDocument):
            return AddSummary(lines=1, failures=[item] if isinstance(item, SourceFailure) else [])
        read_fields = {name: getattr(item.document, name) for name in _READER_FIELDS}
        document = stored.model_copy(update={"document_id": own_id, **read_fields})
        reread = replace(item, document=document, origin=status.origin or "", file=None)
        try:
            source.as_tenant_document(reread)
        except DocumentInvalidError as error:
            return AddSummary(lines=1, failures=[SourceFailure(reread.origin, error.code, error.message)])
        live_hash = status.live_content_hash or content_hash
        text_before = await self._stores.documents.get_parsed(document_id, live_hash)
        summary = await self([reread], source=source, writer=writer)
        old, new = [] if text_before is None else text_before.text.split(), item.text.split()
        counts = Counter(new)
        counts.subtract(old)  # how often each word was added, or removed (below zero)
        words_changed = sum(map(abs, counts.values()))
        summary.words = len(new)
        summary.words_changed = 0 if old == new else max(words_changed, 1)
        return summary

    async def _add(self, load: Load, batch: Batch) -> None:
        """Apply one batch without what concerns documents that do not exist for the writer; each of these is
        a failure."""
        known = await self._stores.states.get_many(
            [*batch.documents, *batch.withdrawn, *(document_id for document_id, _ in batch.refused)]
        )
        hidden = [name for name, status in known.items() if await self._is_hidden(load, status)]
        for document_id in hidden:
            arrival = batch.documents.get(document_id)
            reason = f"{document_id} is not yours: it has labels, and you have none of them."
            load.fail(document_id if arrival is None else arrival.origin, NotFoundError(reason))
        await self._apply(load, batch.without(frozenset(hidden)), known)

    async def _apply(self, load: Load, batch: Batch, known: Mapping[str, DocumentStatus]) -> None:
        """Apply a batch: restrictions first, then new content. ``known``: the statuses before, by id."""
        if batch.withdrawn:
            await self._withdraw(batch.withdrawn)
            load.summary.withdrawn_ids += batch.withdrawn
        if batch.refused:
            await self._withhold_refused(load, batch, known)
        compared = [await self._compare(new, known.get(name)) for name, new in batch.documents.items()]
        changes = [change for change in compared if await self._may_write(load, change)]
        reason = "Its labels were narrowed; it answers again when its new content is live."
        await self._withhold(
            Withheld(change.before, LABELS_NARROWED, reason)
            for change in changes
            if change.before is not None and change.is_narrowed
        )
        settled = [change for change in changes if change.is_settled]
        unsettled = await self._with_originals(load, [change for change in changes if not change.is_settled])
        for change in (*settled, *unsettled):
            load.summary.count(None if change.is_added else change.before, change.new.content_hash)
        await self._complete(settled)
        waiting, received = await self._by_release(load, unsettled)
        await self._hold(load, waiting)
        if received:
            await self._enqueue(load, received)

    async def _is_hidden(self, load: Load, status: DocumentStatus) -> bool:
        """Return whether the document does not exist for the writer (``Writer.sees_all``)."""
        writer = load.writer
        return not writer.sees_all and not await self._readable.may_decide_on(status, labels=writer.labels)

    async def _compare(self, new: Arrival, before: DocumentStatus | None) -> Change:
        """Return the arrival beside the stored status and the labels until now.

        The same content has the same labels, which its hash includes. A status of an older release has no
        labels: then those of the stored document count, and () without one. They are also taken for the
        labels of the live content where the status lacks these.
        """
        if before is None:
            return Change(new, None, ())
        labels = before.labels
        if before.content_hash == new.content_hash:
            labels = new.document.labels
        elif labels is None:
            try:
                document = await self._stores.documents.get(before.document_id)
            except DocumentInvalidError:  # the stored document is damaged, and replaced now
                document = None
            labels = document.labels if document is not None else ()
        if before.live_labels is None and before.live_content_hash is not None:
            before = before.model_copy(update={"live_labels": labels})
        return Change(new, before, labels)

    async def _may_write(self, load: Load, change: Change) -> bool:
        """Return whether a new id is clear (``check_new_id``), and the writer may set these labels. If not,
        report the failure; refused wider labels go into the access records too."""
        document_id, origin, writer = change.new.document.document_id, change.new.origin, load.writer.name
        if change.before is None:
            try:
                check_new_id(document_id)
            except DocumentInvalidError as error:
                load.fail(origin, error)
                return False
        missing = sorted(set(change.labels_before) - load.writer.labels)
        if not missing or not change.is_widened:
            return True
        _log.warning("labels_not_widened", document_id=document_id, writer=writer, source=load.source.name)
        if self._accesses is not None:
            entry = AccessEntry(at=self._clock.now(), agent=writer, kind="widening", subject_id=document_id)
            await self._accesses.record_access(entry)
        reason = (
            f"{document_id} would become readable to more agents. Only a writer with all of its labels may "
            f"do that; {', '.join(missing)} is missing. The document stays as it is."
        )
        load.fail(origin, LabelsWidenedError(reason))
        return False

    async def _by_release(
        self, load: Load, changes: Sequence[Change]
    ) -> tuple[Sequence[Change], Sequence[Change]]:
        """Return the changes that must wait for another person's release, and those that need none."""
        if not load.source.two_people or load.writer.releases:
            return [], changes
        if await self._is_unreleased(load.source):
            return changes, []
        waiting = [change for change in changes if change.needs_release]
        return waiting, [change for change in changes if not change.needs_release]

    async def _is_unreleased(self, source: KnowledgeSource) -> bool:
        """Return whether every agent may read the source, and none of its documents was released yet. A
        document in any state but withheld or withdrawn was released."""
        if source.entry.access != "everyone" or source.name in self._released:
            return False
        for ids in source.id_ranges:
            counts = await self._stores.states.count_by_state(after=ids.after or None, until=ids.until)
            if any(count and state not in _HIDDEN_STATES for state, count in counts.items()):
                self._released.add(source.name)
                return False
        return True

    async def _complete(self, settled: Sequence[Change]) -> None:
        """Write what the statuses of settled documents lack: the file, if it is another one, and the labels
        that an older release left out."""
        completed: list[DocumentStatus] = []
        for change in settled:
            before, file, labels = change.before, file_of(change.new.origin), change.new.document.labels
            if before is not None and (before.labels is None or before.origin != file):
                update = {"origin": file, "labels": labels, "live_labels": labels}
                completed.append(before.model_copy(update=update))
        if completed:
            await self._stores.states.advance_many(completed)

    async def _hold(self, load: Load, changes: Sequence[Change]) -> None:
        """Store documents that wait for a release and withhold them. They are in no other state in
        between."""
        writer = load.writer.name
        statuses = [self._received(change, brought_by=writer) for change in changes]
        await self._put(changes)
        load.summary.withheld += await self._withhold(
            Withheld(status, RELEASE_NEEDED, _WAITS.format(writer)) for status in statuses
        )

    async def _enqueue(self, load: Load, changes: Sequence[Change]) -> None:
        """Store documents that are new, changed or not live, and enqueue them for the worker."""
        if load.is_first is None:
            load.is_first = await FirstLoads(self._stores.states).is_first(load.source)
        statuses = [self._received(change, first_load=load.is_first) for change in changes]
        await self._put(changes)
        # In this order a crash leaves a document received but not enqueued, and adding it again resumes it.
        # In the other order the worker could finish before the state is written over its own.
        await self._stores.states.put_many(statuses)
        enqueued_ids = [status.document_id for status in statuses]
        await self._stores.queue.send_many(enqueued_ids)
        load.summary.enqueued_ids += enqueued_ids

    async def _with_originals(self, load: Load, changes: Sequence[Change]) -> Sequence[Change]:
        """Store the original files. Return the changes without those whose file changed since it was read:
        these are failures."""
        free = asyncio.Semaphore(_ORIGINALS_AT_ONCE)

        async def is_whole(new: Arrival) -> bool:
            original = new.document.original
            if original is None or new.file is None:
                return True
            async with free:
                content = await asyncio.to_thread(read_original, new.file, original)
                if content is not None:
                    await self._stores.documents.put_original(new.document.document_id, original, content)
            return content is not None

        are_whole = await asyncio.gather(*(is_whole(change.new) for change in changes))
        for change, stored in zip(changes, are_whole, strict=True):
            if not stored:
                load.fail(change.new.origin, ConflictError(_CHANGED))
        return [change for change, stored in zip(changes, are_whole, strict=True) if stored]

    async def _put(self, changes: Sequence[Change]) -> None:
        """Write the documents to the document store, PARALLEL_WRITES at once."""
        free = asyncio.Semaphore(PARALLEL_WRITES)

        async def put(document: Document) -> None:
            async with free:
                await self._stores.documents.put(document)

        await asyncio.gather(*(put(change.new.document) for change in changes))

    def _received(self, change: Change, **more: Any) -> DocumentStatus:
        """Return the status, with ``more`` fields, of a document whose new content waits for the worker. The
        content that is live goes on answering, unless the document was hidden or fewer readers may see it
        now. One that waits for a release keeps the labels of the content that it would replace."""
        new, before, now = change.new, change.before, self._clock.now()
        is_hidden = before is None or before.state in _HIDDEN_STATES or change.is_narrowed
        live = {} if before is None or is_hidden else before.model_dump(include=_LIVE_FIELDS)
        if "brought_by" in more:
            live["live_labels"] = (before and before.live_labels) or change.labels_before
        return DocumentStatus(
            **new.document.model_dump(include=_SHARED_FIELDS),
            **live,
            **more,
            state=DocumentState.RECEIVED,
            content_hash=new.content_hash,
            received_at=now,
            updated_at=now,
            origin=file_of(new.origin),
        )

    async def _withhold_refused(self, load: Load, batch: Batch, known: Mapping[str, DocumentStatus]) -> None:
        """Withhold the documents that refused items name.

        An id from the name of the file is only a guess: unless that document came from this file, the file's
        documents are searched at the end of the load too (``_withhold_by_file``).
        """
        withheld: list[Withheld] = []
        for document_id, failure in batch.refused:
            status = known.get(document_id)
            is_of_file = status is not None and status.origin == file_of(failure.origin)
            if failure.is_named_by_file and not is_of_file:
                load.add_unnamed(failure)
            # An id of a name that another file of this load has as well is that file's.
            is_brought = failure.is_named_by_file and document_id in load.seen
            if status is not None and not is_brought:
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
                        if (failure := load.refusal_of(status)) is not None
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


def _withheld(status: DocumentStatus, failure: SourceFailure) -> Withheld:
    """Return the order to withhold a document because of a refused file, with the reason for its owner."""
    place = f"{failure.origin}: " if failure.origin else ""
    return Withheld(status, failure.code, f"{place}{failure.reason}")
