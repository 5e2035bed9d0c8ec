"""Small values for the contract tests."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from assistant.domain.answers import AnswerRecord, Excerpt, Outcome, PassageUse, ShownAs
from assistant.domain.audit import AccessEntry
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import (
    Document,
    DocumentCard,
    DocumentState,
    DocumentStatus,
    IndexedDocument,
    Passage,
    PassageQuery,
    SearchFilters,
    SourceIds,
    Span,
    Unit,
)
from assistant.stores.events import Claim
from assistant.stores.uploads import Upload

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
EAST = (1.0, 0.0, 0.0, 0.0)
NORTH = (0.0, 1.0, 0.0, 0.0)
UP = (0.0, 0.0, 1.0, 0.0)


def soon() -> Deadline:
    return Deadline.after(30.0, clock=SystemClock())


def between(first: Sequence[float], second: Sequence[float], *, share: float) -> tuple[float, ...]:
    """Return a unit vector ``share`` of the way from the first to the second."""
    mixed = [(1 - share) * a + share * b for a, b in zip(first, second, strict=True)]
    length = math.sqrt(sum(value * value for value in mixed))
    return tuple(value / length for value in mixed)


def document(document_id: str = "refill", *, content: str = "Wait until day 24.") -> Document:
    return Document(
        document_id=document_id,
        title="Refill too soon",
        content=content,
        media_type="text/markdown",
        source="procedures",
        type="claims",
        url="https://example.org/refill",
        owner="claims team",
        effective_date=NOON.date(),
        labels=("claims",),
    )


def status(
    document_id: str = "refill",
    *,
    state: DocumentState = DocumentState.RECEIVED,
    content_hash: str = "hash-1",
    received_at: datetime = NOON,
) -> DocumentStatus:
    return DocumentStatus(
        document_id=document_id,
        title="Refill too soon",
        state=state,
        content_hash=content_hash,
        received_at=received_at,
        updated_at=received_at,
    )


def passage(
    document_id: str,
    ordinal: int = 0,
    *,
    text: str = "Wait until day 24.",
    title: str = "Procedure",
    heading: str = "",
    source: str = "procedures",
    type: str = "claims",
    labels: tuple[str, ...] = (),
    updated_at: datetime = NOON,
    units: tuple[Unit, ...] = (),
) -> Passage:
    return Passage(
        passage_id=f"{document_id}#{ordinal}",
        document_id=document_id,
        content_hash=f"hash of {document_id}",
        ordinal=ordinal,
        title=title,
        heading=heading,
        text=text,
        span=Span(3, 3 + len(text)),
        token_count=11,
        source=source,
        type=type,
        url=f"https://example.org/{document_id}",
        updated_at=updated_at,
        labels=labels,
        units=units,
    )


def card_of(passage: Passage, *, questions: Sequence[str] = (), **facts: Any) -> DocumentCard:
    """Return the card of the document that the passage is of."""
    facts |= {name: tuple(facts[name]) for name in ("words", "abbreviations") if name in facts}
    return DocumentCard(
        document_id=passage.document_id,
        content_hash=passage.content_hash,
        title=passage.title,
        questions=tuple(questions),
        source=passage.source,
        type=passage.type,
        url=passage.url,
        owner="claims team",
        effective_date=NOON.date(),
        updated_at=passage.updated_at,
        labels=passage.labels,
        **facts,
    )


def indexed(
    *passages: tuple[Passage, Sequence[float]],
    title_vector: Sequence[float] | None = None,
    questions: Mapping[str, Sequence[float]] | None = None,
    **facts: Any,
) -> IndexedDocument:
    """Return one document; its title has the vector of its first passage unless another is given."""
    questions = questions or {}
    first, vector = passages[0]
    return IndexedDocument(
        card=card_of(first, questions=list(questions), **facts),
        title_vectors=[title_vector or vector, *questions.values()],
        passages=passages,
    )


def documents_of(*passages: tuple[Passage, Sequence[float]]) -> list[IndexedDocument]:
    """Return the documents of these passages."""
    documents: dict[str, list[tuple[Passage, Sequence[float]]]] = {}
    for entry in passages:
        documents.setdefault(entry[0].document_id, []).append(entry)
    return [indexed(*entries) for entries in documents.values()]


def query(
    text: str = "when to refill",
    vector: Sequence[float] = EAST,
    *,
    filters: SearchFilters | None = None,
    labels: Sequence[str] = (),
    leg_size: int = 100,
    size: int = 10,
    ids: SourceIds | None = None,
) -> PassageQuery:
    return PassageQuery(
        text=text,
        vector=vector,
        filters=filters or SearchFilters(),
        labels=frozenset(labels),
        leg_size=leg_size,
        size=size,
        ids=ids,
    )


def answer(answer_id: str = "a1", *, conversation_id: str = "c1", minute: int = 0) -> AnswerRecord:
    asked_at = NOON + timedelta(minutes=minute)
    return AnswerRecord(
        answer_id=answer_id,
        conversation_id=conversation_id,
        agent="ana",
        asked_at=asked_at,
        finished_at=asked_at,
        question="When may it be refilled?",
        retrieval_question="When may it be refilled?",
        filters=SearchFilters(),
        labels=(),
        outcome=Outcome.DONE,
        finish_reason=None,
        text="On day 24.",
        variant="Canary",
        sentences=(),
        passages=(),
        gate=None,
        prompt_id="answer/1",
        prompt_hash=None,
        model_id="model",
        model_digest=None,
        parameters={},
        settings_hash="hash",
        index_version="v1",
        usage={},  # pyright: ignore[reportArgumentType]
        timings_ms={},
    )


def use(document_id: str, *, n: int = 1) -> PassageUse:
    """Return a document's first passage as an answer's record keeps it."""
    return PassageUse(
        passage_id=f"{document_id}#0",
        document_id=document_id,
        content_hash="hash",
        text_hash="hash",
        n=n,
        rank=n,
        fused_score=1.0,
        lexical_rank=None,
        lexical_score=None,
        vector_rank=None,
        cosine=None,
        in_prompt=False,
        title=document_id,
        span=(0, 5),
        url=None,
        source="procedures",
    )


def claim(
    answer_id: str = "a1",
    *,
    agent: str = "ana",
    key: str = "k1",
    request_hash: str = "hash-1",
    at: datetime | None = None,
) -> Claim:
    return Claim(answer_id, agent, key, request_hash, at or datetime.now(UTC))


def excerpt(mark: int = 0, *, document_id: str = "refill") -> Excerpt:
    return Excerpt(
        mark=mark,
        document_id=document_id,
        content_hash="hash",
        spans=((3, 9), (12, 20)),
        shown_as=ShownAs.REPLY,
        letters=12,
        url="https://example.org/1",
        text_hash="0123456789abcdef",
    )


def read(agent: str, *, minute: int = 0) -> AccessEntry:
    """Return the access entry of an agent who read a document."""
    return AccessEntry(at=NOON + timedelta(minutes=minute), agent=agent, kind="document", subject_id="refill")


def upload(upload_id: str = "a" * 32, *, size_bytes: int = 4, first_load: bool = False) -> Upload:
    return Upload(
        upload_id=upload_id,
        agent="olga",
        labels=("hr",),
        source="wiki",
        path="guides/refunds.md",
        size_bytes=size_bytes,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        first_load=first_load,
    )


async def parts_of(*parts: bytes, breaks: bool = False) -> AsyncIterator[bytes]:
    """Yield the parts of an upload, which may break off."""
    for part in parts:
        yield part
    if breaks:
        raise ConnectionResetError
