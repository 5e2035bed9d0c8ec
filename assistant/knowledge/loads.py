"""One load into a source, sorted out before anything is stored: what is taken in, withdrawn, and refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from assistant.domain.documents import Document, DocumentStatus
from assistant.domain.errors import ConflictError, DocumentInvalidError
from assistant.knowledge.knowledge_sources import KnowledgeSource, Writer, widens
from assistant.knowledge.sources.items import (
    SourceDocument,
    SourceFailure,
    SourceItem,
    SourceWithdrawal,
    file_of,
)


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
