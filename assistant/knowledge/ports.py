"""What ingestion needs from outside. Each adapter is bound to one tenant when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from assistant.domain.answers import AccessEntry
from assistant.domain.clock import Deadline
from assistant.domain.documents import (
    Document,
    DocumentState,
    DocumentStatus,
    IndexedDocument,
    IndexInfo,
    ParsedDocument,
)


class PassageEmbedder(Protocol):
    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        """Return one unit-length vector a text, shape (len(texts), dimensions).

        Raises EmbeddingUnavailableError, OverloadedError, PassageTooLongError, DeadlineExceededError.
        """
        ...


class DocumentStore(Protocol):
    """Canonical documents and their parsed text, by id; the newest content and the one that answers."""

    async def put(self, document: Document) -> None:
        """Write the canonical document; the newest content wins."""
        ...

    async def get(self, document_id: str) -> Document | None: ...

    async def put_parsed(self, document_id: str, content_hash: str, parsed: ParsedDocument) -> None: ...

    async def get_parsed(self, document_id: str, content_hash: str) -> ParsedDocument | None: ...

    async def delete(self, document_id: str) -> None:
        """Remove every stored content and parsed text of the document. Nothing there is no error."""
        ...


class DocumentStates(Protocol):
    """The status of each document: one row a document, rows of withdrawn ones stay."""

    async def get(self, document_id: str) -> DocumentStatus | None: ...

    async def get_many(self, document_ids: Sequence[str]) -> Mapping[str, DocumentStatus]: ...

    async def put_many(self, statuses: Sequence[DocumentStatus]) -> None: ...

    async def advance_many(self, statuses: Sequence[DocumentStatus]) -> frozenset[str]:
        """Write each status unless its document was withdrawn or received anew meanwhile.

        That is: the stored row has the same ``content_hash`` and ``received_at``, and a withdrawn one
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
        """Return a page in order of document_id (by code points), those after ``after``, up to ``until``."""
        ...

    async def count_by_state(
        self, *, after: str | None = None, until: str | None = None
    ) -> Mapping[DocumentState, int]:
        """Return how many documents after ``after``, up to ``until``, are in each state."""
        ...


class AccessRecords(Protocol):
    """Where reads of documents are recorded, and refused attempts to widen their labels."""

    async def record_access(self, entry: AccessEntry) -> None:
        """Raises RecordsUnavailableError."""
        ...


MAX_ATTEMPTS = 40
"""Deliveries of a message before it is a dead letter. No document that stops its worker gets there: of a
batch of 10 that all do, each is given up after 2 deliveries together, 3 for each of them, and a last one."""


@dataclass(frozen=True, slots=True)
class QueuedDocument:
    """A message of the ingestion queue."""

    receipt: str
    document_id: str
    attempt: int
    """1 for the first delivery."""


class IngestionQueue(Protocol):
    """At-least-once queue of document ids. After MAX_ATTEMPTS deliveries a message is a dead letter."""

    async def send_many(self, document_ids: Sequence[str]) -> None: ...

    async def receive(
        self, *, limit: int, wait_s: float, visibility_timeout_s: float
    ) -> list[QueuedDocument]:
        """Return at most ``limit`` messages, waiting at most ``wait_s`` for the first."""
        ...

    async def delete_many(self, receipts: Sequence[str]) -> None: ...

    async def extend_many(self, receipts: Sequence[str], *, visibility_timeout_s: float) -> None:
        """Keep messages hidden for so long from now, while the work on them goes on. A receipt that is no
        longer valid is no error: its message was delivered anew."""
        ...

    async def depth(self) -> int:
        """Return the messages waiting or in flight, dead letters not counted."""
        ...


WriteTurn = AbstractAsyncContextManager[None, bool | None]
"""The turn to write a tenant's index and the states that say so: one holder at a time, over all processes
that write it; ``asyncio.Lock`` is one for a single process. To enter raises DependencyError when no turn
comes, to leave when it took too long."""


class PassageIndex(Protocol):
    """The writing side of the passage index. The worker is its only writer."""

    async def replace_documents(self, documents: Sequence[IndexedDocument]) -> None:
        """Replace all that the index has of each document by what is given, visible to readers on return."""
        ...

    async def delete_documents(self, document_ids: Sequence[str]) -> None:
        """Remove all that is kept of the documents, from every structure of the index and from disk."""
        ...

    async def held(self, document_ids: Sequence[str]) -> frozenset[str]:
        """Return those of the documents that the index holds, with their passages."""
        ...

    async def optimize(self) -> None:
        """Merge what many small writes left behind."""
        ...

    async def info(self) -> IndexInfo: ...


# The knowledge stores of one tenant, as the use cases receive them.


@dataclass(frozen=True, slots=True)
class KnowledgeStores:
    documents: DocumentStore
    states: DocumentStates
    queue: IngestionQueue
    """Ids of documents to bring into the index."""
    withdrawals: IngestionQueue
    """Ids to take out of it: a queue of its own, so that no backlog of documents delays a withdrawal."""
