"""The ports of answering and of ingestion. Each adapter is bound to one tenant when it is made.

Answering uses LiveDocuments, LiveDesk, TextEmbedder, PassageSearch, AnswerGenerator, TokenCounter,
DocumentLinks, DocumentTexts, SentValues and AccessRecords; ingestion IngestionQueue, WriteTurn, PassageIndex,
IndexVersions and Index.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from assistant.domain.answers import Usage
from assistant.domain.audit import AccessEntry
from assistant.domain.clock import Deadline
from assistant.domain.desk import DeskItem, DeskKind
from assistant.domain.documents import (
    DocumentState,
    DocumentStatus,
    HeldContent,
    IndexedDocument,
    IndexInfo,
    IndexModel,
    KnownWords,
    ParsedDocument,
    PassageQuery,
    Retrieved,
    SourceIds,
    SourceLoads,
    Span,
    StoredDocument,
)
from assistant.domain.identity import Identity


class LiveDocuments(Protocol):
    """The read side of the document states. All methods raise DependencyError.

    ``count_by_state`` leaves out states without documents; ``get_many`` leaves out unknown ids.
    """

    async def count_by_state(self) -> Mapping[DocumentState, int]: ...

    async def get_many(self, document_ids: Sequence[str]) -> Mapping[str, DocumentStatus]: ...

    async def list(
        self, *, states: Sequence[DocumentState] = (), after: str | None = None, limit: int = 100
    ) -> list[DocumentStatus]:
        """Return a page in order of document_id: documents in one of ``states`` (empty: in any), after the id
        ``after``. For the next page give the last id as ``after``."""
        ...


LoadsOfSources = Callable[[], Awaitable[SourceLoads]]
"""Returns how far the tenant's sources have loaded. Raises DependencyError."""


class LiveDesk(Protocol):
    """What serving reads of the review desk. All methods raise RecordsUnavailableError."""

    async def version(self) -> int:
        """Return a number that grows with each change of what serving reads."""
        ...

    async def list(self, kind: DeskKind, *, limit: int = 5_000) -> list[DeskItem]:
        """Return the newest revision of every item of a kind, the latest changed first."""
        ...

    async def history(self, kind: DeskKind, item_id: str) -> list[DeskItem]:
        """Return all revisions of an item, oldest first."""
        ...


class TextEmbedder(Protocol):
    """The embedding endpoint."""

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        """Return one unit-length vector a text, shape (len(texts), dimensions).

        Raises EmbeddingUnavailableError, OverloadedError, PassageTooLongError, DeadlineExceededError.
        """
        ...


class PassageSearch(Protocol):
    """The reading side of the passage index."""

    async def search(self, query: PassageQuery, *, deadline: Deadline) -> Retrieved:
        """Return the best ``query.size`` passages of both legs under one filter, fused by RRF, and the raw
        scores of all passages and documents that any leg found.

        Raises SearchUnavailableError, DeadlineExceededError.
        """
        ...

    async def read_documents(
        self, document_ids: Sequence[str], *, labels: frozenset[str], deadline: Deadline
    ) -> Mapping[str, StoredDocument]:
        """Return the documents (at most 20) with all their passages and units, in the order asked for.

        A document that is gone, or that ``labels`` exclude, is left out. Raises
        SearchUnavailableError, DeadlineExceededError.
        """
        ...

    async def known_words(self, *, items_of: Sequence[SourceIds] = ()) -> KnownWords:
        """Return the abbreviations that documents of the live index define, and the items that documents of
        these sources describe. Only documents without labels count. It may take seconds for a large index.

        Raises SearchUnavailableError.
        """
        ...

    async def info(self) -> IndexInfo:
        """Return what the live index was built with. Raises SearchUnavailableError."""
        ...


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What the model gets. ``seed``: for a repeatable text; None leaves it to the endpoint. ``schema``: JSON
    Schema of the object that it is to write, which servers that can hold it to; None: free text."""

    messages: tuple[ChatMessage, ...]
    max_tokens: int
    temperature: float
    seed: int | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(slots=True)
class GenerationDelta:
    """One piece of the stream. ``finish_reason`` and ``usage`` come with the last."""

    text: str
    finish_reason: Literal["stop", "length", "content_filter"] | None = None
    usage: Usage | None = None


class GenerationStream(Protocol):
    """The stream of one generation. Iterate it once."""

    inference_id: str | None
    """The endpoint's id of the call; None where it gives none."""
    variant: str | None
    """Production variant of the endpoint that answers; None where the model has none."""

    def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        """Yield deltas as they arrive, until a finish reason came.

        Raises GenerationUnavailableError before the first text, GenerationInterruptedError after it
        (a stream that ends without a finish reason is interrupted too), OverloadedError,
        DeadlineExceededError.
        """
        ...


class AnswerGenerator(Protocol):
    """The LLM endpoint. Leaving the context closes the endpoint's connection at once."""

    def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AbstractAsyncContextManager[GenerationStream]:
        """Open one streamed generation: ``async with generator.stream(…) as stream: async for delta in
        stream``. Raises GenerationUnavailableError, OverloadedError."""
        ...


class TokenCounter(Protocol):
    """The served model's own tokenizer."""

    def count(self, text: str) -> int:
        """Return the number of tokens of ``text``, without special tokens."""
        ...


class DocumentLinks(Protocol):
    """Signs links to stored documents."""

    def link(
        self, document_id: str, *, span: Span, identity: Identity, content_hash: str | None = None
    ) -> str:
        """Return a path on this service that opens the stored text at the span in any browser, for minutes.

        Its fragment holds a token with the identity: a read through the link is recorded under that name.
        Browsers do not send the fragment, so the rest of the path alone opens nothing. ``content_hash``: of
        the content that the span was cut from, so that the page can say when it changed.
        """
        ...


class DocumentTexts(Protocol):
    """The current texts of documents, for readers with the labels. Both methods raise DependencyError."""

    async def is_readable(self, document_id: str, *, labels: frozenset[str]) -> bool:
        """Return whether the document exists, is not withdrawn, and is open to these labels."""
        ...

    async def read(
        self, document_id: str, content_hash: str, *, labels: frozenset[str]
    ) -> ParsedDocument | None:
        """Return the parsed text of one content of the document. None when the document is not readable, or
        that content is no longer stored."""
        ...


@dataclass(frozen=True, slots=True)
class ValuesOfSent:
    """Live values that one sent text had, in the order of its spans (``Sent.live``)."""

    answer_id: str
    send_id: str
    values: tuple[str, ...]
    expires_at: datetime


class SentValues(Protocol):
    """Live values of sent texts, apart from the append-only records. Each expires at an instant of its own.

    Expired values are not found, whether or not the store has deleted them yet. Both methods raise
    RecordsUnavailableError.
    """

    async def keep(self, values: ValuesOfSent) -> ValuesOfSent:
        """Keep the values of a text, and return what is kept: the first of a send_id of an answer stays."""
        ...

    async def of(self, answer_id: str) -> Mapping[str, ValuesOfSent]:
        """Return the values of an answer's sent texts, by send_id."""
        ...


class AccessRecords(Protocol):
    """Records reads of documents, and refused attempts to widen their labels."""

    async def record_access(self, entry: AccessEntry) -> None:
        """Return once the entry is durable: what is not recorded is not shown. Raises
        RecordsUnavailableError."""
        ...


MAX_ATTEMPTS = 40
"""Deliveries of a message before it becomes a dead letter. A document that stops its worker is given up
before: in a batch of 10 such documents each takes 2 deliveries together, 3 for each of them, and a last
one."""


@dataclass(frozen=True, slots=True)
class QueuedDocument:
    """A message of an ingestion queue."""

    receipt: str
    """Names this delivery, for ``delete_many`` and ``extend_many``; the next delivery has another one."""
    document_id: str
    attempt: int
    """1 for the first delivery."""


class IngestionQueue(Protocol):
    """At-least-once queue of document ids. After MAX_ATTEMPTS deliveries a message becomes a dead letter.

    The worker calls ``receive``, extends the messages while it works, and calls ``delete_many`` when it has
    done them. A message that is not deleted is delivered again after its visibility timeout. All methods
    raise DependencyError; ``send_many`` also raises OverloadedError where the queue is full.
    """

    async def send_many(self, document_ids: Sequence[str]) -> None: ...

    async def receive(
        self, *, limit: int, wait_s: float, visibility_timeout_s: float
    ) -> list[QueuedDocument]:
        """Return at most ``limit`` messages, waiting at most ``wait_s`` for the first; [] where none came.
        They are hidden from other receivers for ``visibility_timeout_s``."""
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
    """One version of the passage index as its writer uses it: the worker, or a reindex beside it. All methods
    raise SearchUnavailableError. Without other words a method is about this version alone."""

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
        """While several versions are kept, release this version, so that other processes can
        write it in their turn. Does nothing where the store takes writes of every process."""
        ...

    async def held(self, document_ids: Sequence[str]) -> frozenset[str]:
        """Return those of the ids that the index holds with a card and at least one passage."""
        ...

    async def optimize(self) -> None:
        """Merge segments, and purge deleted passages from disk."""
        ...

    async def info(self) -> IndexInfo: ...

    async def document_ids(self) -> Sequence[str]:
        """Return the ids of all documents of which this version has any row. Takes no lock."""
        ...

    async def contents(self, document_ids: Sequence[str]) -> Mapping[str, HeldContent]:
        """Return what this version holds of each of the documents that it holds. Takes no lock."""
        ...

    async def read(self, document_ids: Sequence[str]) -> Sequence[StoredDocument]:
        """Return those of the documents that this version holds, with all passages. Takes no lock."""
        ...


class IndexVersions(Protocol):
    """The versions of one tenant's index. Each holds vectors of one embedding model; ``live`` names the one
    that is searched. A version's name contains model, dimensions and a hash with the digest of the weights.

    A reindex calls ``create``, fills the version, then ``switch`` and ``drop`` of the former one.

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
        """Return the versions. ``own``: the model that the process's settings name."""
        ...

    def search(self, model: IndexModel, *, pinned: bool = False) -> PassageSearch:
        """Return the readers' side of the live version, which must be this model's. ``pinned``: of this
        model's version, whether it is live or not."""
        ...

    def beside(self, model: IndexModel) -> PassageIndex:
        """Return a model's version for a writer that takes turns with others."""
        ...

    async def alone(self, model: IndexModel, *, applies_schema: bool = False) -> PassageIndex:
        """Return the version of the tenant's own model for its one writer, the worker. ``applies_schema``:
        create what is missing of it."""
        ...
