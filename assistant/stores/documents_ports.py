"""The ports of ingestion. Each adapter is bound to one tenant when it is created."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from pydantic import AwareDatetime

from assistant.domain.answers import AccessEntry
from assistant.domain.clock import Deadline
from assistant.domain.documents import (
    DocumentState,
    DocumentStatus,
    HeldContent,
    IndexedDocument,
    IndexInfo,
    IndexModel,
    StoredDocument,
)
from assistant.domain.public import PublicModel
from assistant.stores.ports import PassageSearch


class PassageEmbedder(Protocol):
    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        """Return one unit-length vector per text, shape (len(texts), dimensions).

        Raises EmbeddingUnavailableError, OverloadedError, PassageTooLongError, DeadlineExceededError.
        """
        ...


class DocumentStates(Protocol):
    """The status of each document, one row per document. Rows of withdrawn documents are kept."""

    async def get(self, document_id: str) -> DocumentStatus | None: ...

    async def get_many(self, document_ids: Sequence[str]) -> Mapping[str, DocumentStatus]: ...

    async def put_many(self, statuses: Sequence[DocumentStatus]) -> None: ...

    async def advance_many(self, statuses: Sequence[DocumentStatus]) -> frozenset[str]:
        """Write each status unless its document was withdrawn or received again meanwhile.

        The stored row must have the same ``content_hash`` and ``received_at``, and a withdrawn document
        stays withdrawn. Return the ids that were written.
        """
        ...

    async def list(
        self,
        *,
        states: Sequence[DocumentState] = (),
        after: str | None = None,
        until: str | None = None,
        limit: int = 100,
    ) -> list[DocumentStatus]:
        """Return a page in order of document_id (by code points), after ``after`` and up to ``until``."""
        ...

    async def count_by_state(
        self, *, after: str | None = None, until: str | None = None
    ) -> Mapping[DocumentState, int]:
        """Return the number of documents per state, after ``after`` and up to ``until``."""
        ...


class AccessRecords(Protocol):
    """Records reads of documents, and refused attempts to widen their labels."""

    async def record_access(self, entry: AccessEntry) -> None:
        """Raises RecordsUnavailableError."""
        ...


MAX_ATTEMPTS = 40
"""Deliveries of a message before it becomes a dead letter. A document that stops its worker is given up
before: in a batch of 10 such documents each takes 2 deliveries together, 3 for each of them, and a last
one."""


@dataclass(frozen=True, slots=True)
class QueuedDocument:
    """A message of an ingestion queue."""

    receipt: str
    document_id: str
    attempt: int
    """1 for the first delivery."""


class ErasableKeys(Protocol):
    """Keys of what was kept about documents: the sealed texts of feedback."""

    async def destroy(self, subject: str) -> bool:
        """Destroy a key for good; return whether there was one. Raises DependencyError."""
        ...


class IngestionQueue(Protocol):
    """At-least-once queue of document ids. After MAX_ATTEMPTS deliveries a message becomes a dead letter."""

    async def send_many(self, document_ids: Sequence[str]) -> None: ...

    async def receive(
        self, *, limit: int, wait_s: float, visibility_timeout_s: float
    ) -> list[QueuedDocument]:
        """Return at most ``limit`` messages, waiting at most ``wait_s`` for the first."""
        ...

    async def delete_many(self, receipts: Sequence[str]) -> None: ...

    async def extend_many(self, receipts: Sequence[str], *, visibility_timeout_s: float) -> None:
        """Hide messages for this time from now. A receipt that is no longer valid is no error: its message
        was delivered again."""
        ...

    async def depth(self) -> int:
        """Return the number of messages that wait or are in flight, without dead letters."""
        ...


WriteTurn = AbstractAsyncContextManager[None, bool | None]
"""The lock for writing a tenant's index and the states that record it: one holder in all processes.
``asyncio.Lock`` is such a lock for a single process. Entering raises DependencyError when the lock is not
free in time, leaving raises it when the lock expired."""


class PassageIndex(Protocol):
    """One version of the passage index as its writer uses it: the worker, or a reindex beside it."""

    async def replace_documents(self, documents: Sequence[IndexedDocument]) -> None:
        """Replace everything that the index holds of each document. Readers see the result on return."""
        ...

    async def delete_documents(self, document_ids: Sequence[str]) -> None:
        """Remove the documents from every structure of every version of the index, and from disk."""
        ...

    async def discard(self, document_ids: Sequence[str]) -> None:
        """Remove the documents from this version alone."""
        ...

    async def share(self) -> None:
        """Let other processes write this version in their turn, while several versions are kept."""
        ...

    async def held(self, document_ids: Sequence[str]) -> frozenset[str]:
        """Return the ids, out of these, that the index holds with their passages."""
        ...

    async def optimize(self) -> None:
        """Merge segments, and purge deleted passages from disk."""
        ...

    async def info(self) -> IndexInfo: ...

    async def document_ids(self) -> Sequence[str]:
        """Return the ids of all documents of which this version has a row. Takes no lock."""
        ...

    async def contents(self, document_ids: Sequence[str]) -> Mapping[str, HeldContent]:
        """Return what this version holds of each of the documents that it holds. Takes no lock."""
        ...

    async def read(self, document_ids: Sequence[str]) -> Sequence[StoredDocument]:
        """Return those of the documents that this version holds, with all passages. Takes no lock."""
        ...


class IndexVersions(Protocol):
    """The versions of one tenant's index. Each holds vectors of one embedding model; one is live, which means
    searched. A version's name contains model, dimensions and a hash with the digest of the weights.

    All methods raise SearchUnavailableError.
    """

    def name_of(self, model: IndexModel) -> str:
        """Return the name of the version that holds this model's vectors."""
        ...

    async def live(self) -> str: ...

    async def kept(self) -> Sequence[str]:
        """Return the names of all versions, the live one first."""
        ...

    async def rows_of(self, document_id: str) -> Mapping[str, int]:
        """Return by version, the live one first, how many rows it holds of the document: passages, titles and
        the card, each with its vector."""
        ...

    async def create(self, model: IndexModel) -> None:
        """Create an empty version, unless it exists. It is not live, and is kept until it is dropped."""
        ...

    async def switch(self, to: str, *, live: str) -> None:
        """Make ``to`` live in one step. Raises ConflictError when ``live`` is not the live version."""
        ...

    async def drop(self, name: str) -> None:
        """Delete a version with all its text. Raises ConflictError for the live one."""
        ...


class Index(Protocol):
    """Opens the versions of one tenant's index."""

    def versions(self, own: IndexModel) -> IndexVersions:
        """``own``: the model that the process's settings name."""
        ...

    def search(self, model: IndexModel, *, pinned: bool = False) -> PassageSearch:
        """Return the readers' side; ``pinned``: of this model's version, wherever the alias points."""
        ...

    def beside(self, model: IndexModel) -> PassageIndex:
        """Return a model's version for a writer that takes turns with others."""
        ...

    async def alone(self, model: IndexModel, *, applies_schema: bool = False) -> PassageIndex:
        """Return the version of the tenant's own model for its one writer, the worker. ``applies_schema``:
        create what is missing of it."""
        ...


class SourceRun(PublicModel):
    """One run of a source's connector, and where the next one goes on."""

    source: str
    into: str = ""
    """Address of the service that it brought documents to; empty: the stores that it is kept in."""
    started_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    """None while it runs, and for a run that was killed."""
    cursor: str | None = None
    """Everything before it was handed over."""
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0
    refused: int = 0
    errors: tuple[str, ...] = ()
    """Why it stopped early, or items were refused: the first ones, without their text."""
    succeeded_at: AwareDatetime | None = None
    """When a run last ended without stopping early."""

    @property
    def key(self) -> str:
        """Names the source and the place: a run into another place has a cursor of its own."""
        return f"{self.source} {self.into}".rstrip()
