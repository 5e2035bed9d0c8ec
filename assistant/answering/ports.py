"""What answering needs from outside. Each adapter is bound to one tenant when it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from assistant.domain.answers import (
    AccessEntry,
    AnswerRecord,
    Sent,
    StoredSent,
    StoredVerdict,
    Usage,
    Verdict,
)
from assistant.domain.clock import Deadline
from assistant.domain.documents import Span
from assistant.domain.identity import Identity
from assistant.domain.retrieval import IndexInfo, PassageQuery, Retrieved


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
        """Return the best ``query.size`` passages of both legs under one filter, fused by RRF.

        Raises SearchUnavailableError, DeadlineExceededError.
        """
        ...

    async def info(self) -> IndexInfo:
        """Return what the live index was built with. Raises SearchUnavailableError."""
        ...


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    messages: tuple[ChatMessage, ...]
    max_tokens: int
    temperature: float
    seed: int | None = None


@dataclass(slots=True)
class GenerationDelta:
    """One piece of the stream. ``finish_reason`` and ``usage`` come with the last."""

    text: str
    finish_reason: Literal["stop", "length"] | None = None
    usage: Usage | None = None


class GenerationStream(Protocol):
    inference_id: str | None

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
        """Open one streamed generation. Raises GenerationUnavailableError, OverloadedError."""
        ...


class TokenCounter(Protocol):
    """The served model's own tokenizer."""

    def count(self, text: str) -> int:
        """Return the tokens of ``text``, special tokens not added."""
        ...


class DocumentLinks(Protocol):
    """Signs links to stored documents."""

    def link(
        self, document_id: str, *, span: Span, identity: Identity, content_hash: str | None = None
    ) -> str:
        """Return the path on this service, with a token of minutes, of the stored text at the span.

        The token carries who it was made for: reading by the link is recorded in their name.
        ``content_hash`` names the content that the span was cut from: a reader is told when it changed.
        """
        ...


class AnswerRecords(Protocol):
    """The append-only store of answers, verdicts, sends and reads. Nothing in it is changed or deleted.

    All methods raise RecordsUnavailableError.
    """

    async def put_answer(self, record: AnswerRecord) -> None:
        """Keep a finished answer; a second record under the same id raises ConflictError."""
        ...

    async def get_answer(self, answer_id: str) -> AnswerRecord | None: ...

    async def list_conversation(self, conversation_id: str, *, limit: int = 50) -> list[AnswerRecord]:
        """Return the conversation's newest ``limit`` answers, oldest first; empty if there is none."""
        ...

    async def append_verdict(self, answer_id: str, verdict: Verdict, *, agent: str) -> StoredVerdict:
        """Keep a verdict. The same verdict_id with the same content is the one record; with other
        content it raises ConflictError."""
        ...

    async def append_sent(self, answer_id: str, sent: Sent, *, agent: str) -> StoredSent:
        """Keep what was sent; ids as in append_verdict."""
        ...

    async def list_verdicts(self, answer_id: str | None = None, *, limit: int = 1000) -> list[StoredVerdict]:
        """Return verdicts oldest first, of one answer or of all."""
        ...

    async def list_sent(self, answer_id: str) -> list[StoredSent]: ...

    async def record_access(self, entry: AccessEntry) -> None:
        """Keep that somebody read something."""
        ...
