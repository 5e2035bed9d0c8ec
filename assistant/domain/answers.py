"""Answers, the agent's verdicts on them and what was sent: the records that are kept."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from assistant.domain.public import PublicModel
from assistant.domain.retrieval import SearchFilters

RecordId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    NO_EVIDENCE = "no_evidence"
    REFUSED = "refused"
    SOURCES_ONLY = "sources_only"


class Outcome(StrEnum):
    """How the record ended: a finish reason is known only for ``DONE``."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DISCONNECTED = "disconnected"


class Support(StrEnum):
    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"


class Source(PublicModel):
    """One numbered source as the client sees it."""

    n: int
    document_id: str
    title: str
    url: str | None
    """The original at its publisher; may be absent."""
    source: str
    score: float
    """Fused score, for display only."""
    snippet: str
    span: tuple[int, int]
    """[start, end) in the stored text."""
    document_url: str
    """Path on this service of the stored text at the passage, with a token of minutes."""


class Sentence(PublicModel):
    """One finished sentence of the answer."""

    index: int
    start: int
    end: int
    """[start, end) in the answer's text."""
    citations: tuple[int, ...]
    support: Support
    reasons: tuple[str, ...] = ()
    """Why it is unsupported: ``no_passage``, ``number_not_in_passage``."""


class Usage(PublicModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class PassageUse(PublicModel):
    """What the record keeps of one retrieved passage: its text only by hash."""

    passage_id: str
    document_id: str
    content_hash: str
    text_hash: str
    n: int
    rank: int
    fused_score: float
    lexical_rank: int | None
    lexical_score: float | None
    vector_rank: int | None
    cosine: float | None
    in_prompt: bool
    title: str
    span: tuple[int, int]
    url: str | None
    source: str


class GateDecision(PublicModel):
    """Why there was, or was not, enough evidence."""

    passed: bool
    best_cosine: float
    coverage: float
    min_cosine: float
    min_coverage: float
    missing_terms: tuple[str, ...] = ()


class AnswerRecord(PublicModel):
    """The record of one answer, written once at its end. Readers accept every older schema_version."""

    schema_version: Literal[1] = 1
    answer_id: RecordId
    conversation_id: RecordId
    agent: str
    asked_at: datetime
    finished_at: datetime
    question: str
    retrieval_question: str
    """The question as retrieved: a follow-up has the previous question joined on."""
    filters: SearchFilters
    labels: tuple[str, ...]
    outcome: Outcome
    finish_reason: FinishReason | None
    error_code: str | None = None
    text: str
    sentences: tuple[Sentence, ...]
    removed_markers: tuple[str, ...] = ()
    """``[n]`` markers of the model that name no source and were taken out."""
    passages: tuple[PassageUse, ...]
    dropped_passages: int = 0
    """Whole passages left out of the prompt for want of room."""
    gate: GateDecision | None
    prompt_id: str
    prompt_hash: str | None
    model_id: str
    model_digest: str | None
    parameters: dict[str, Any]
    settings_hash: str
    index_version: str
    usage: Usage
    timings_ms: dict[str, float]
    inference_id: str | None = None
    trace_id: str | None = None


class VerdictLabel(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Verdict(PublicModel):
    """An agent's mark on an answer. Append-only: the same id twice is one record."""

    verdict_id: RecordId
    label: VerdictLabel
    reasons: tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...] = Field(
        default=(), max_length=20
    )
    better_text: str | None = Field(default=None, max_length=20_000)
    wrong_citations: tuple[int, ...] = Field(default=(), max_length=100)


class Sent(PublicModel):
    """What the agent sent to the patient after editing. Append-only."""

    send_id: RecordId
    text: str = Field(min_length=1, max_length=20_000)


class StoredVerdict(PublicModel):
    answer_id: RecordId
    agent: str
    at: datetime
    verdict: Verdict


class StoredSent(PublicModel):
    answer_id: RecordId
    agent: str
    at: datetime
    sent: Sent


class AccessEntry(PublicModel):
    """One recorded read: an auditor's of an answer, anybody's of a document."""

    at: datetime
    agent: str
    kind: Literal["answer", "conversation", "document", "verdicts"]
    subject_id: str
