"""How an answer ended, and the record of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from assistant.answering.asking import AnswerRequest, PreparedAnswer
from assistant.answering.events import Done, Problem
from assistant.answering.interruption import Cause
from assistant.answering.services import TenantServices
from assistant.answering.written_text import WrittenText
from assistant.domain.answers import AnswerRecord, FinishReason, Outcome, PassageUse, Usage
from assistant.domain.errors import AnswerInterruptedError, AssistantError, DeadlineExceededError
from assistant.domain.identity import Identity

_OUTCOMES = {Cause.CANCELLED: Outcome.CANCELLED, Cause.DISCONNECTED: Outcome.DISCONNECTED}
_CANCELLED = Problem(
    title="Cancelled",
    status=409,
    detail="The answer was cancelled by the agent who asked.",
    code="cancelled",
    retryable=False,
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended: what its last event says and what its record keeps."""

    outcome: Outcome
    finish_reason: FinishReason | None = None
    reason: str | None = None
    """For ``done``: what was missing or what failed."""
    error_code: str | None = None
    problem: Problem | None = None

    @classmethod
    def done(cls, finish_reason: FinishReason, *, reason: str | None = None) -> Ending:
        return cls(Outcome.DONE, finish_reason=finish_reason, reason=reason)

    @classmethod
    def sources_only(cls, code: str) -> Ending:
        """No text came: the agent still has the ranked passages."""
        return cls(Outcome.DONE, finish_reason=FinishReason.SOURCES_ONLY, reason=code, error_code=code)

    @classmethod
    def failed(cls, error: AssistantError) -> Ending:
        """It broke off in the middle of its text."""
        problem = Problem(
            title="The answer broke off",
            status=503,
            detail=error.message,
            code=error.code,
            retryable=error.retryable,
        )
        return cls(Outcome.FAILED, error_code=error.code, problem=problem)

    @classmethod
    def interrupted(cls, cause: Cause, *, begun: bool) -> Ending:
        """Somebody or a timer ended it."""
        if cause in _OUTCOMES:
            problem = _CANCELLED if cause is Cause.CANCELLED else None
            return cls(_OUTCOMES[cause], error_code=cause.value, problem=problem)
        late = DeadlineExceededError("The answer's deadline passed before its end; ask again.")
        if begun:
            return cls.failed(late)
        return cls.sources_only(late.code if cause is Cause.DEADLINE else cause.value)

    @classmethod
    def abandoned(cls, cause: Cause | None) -> Ending:
        """Its reader stopped reading: the task was cancelled or the stream closed."""
        outcome = _OUTCOMES.get(cause or Cause.DISCONNECTED, Outcome.DISCONNECTED)
        return cls(outcome, error_code=outcome.value)

    @classmethod
    def defect(cls) -> Ending:
        """Something nobody expected, which goes on to the edge."""
        return cls(Outcome.FAILED, error_code=AssistantError.code)


def last_event(
    ending: Ending, written: WrittenText, *, usage: Usage, timings_ms: dict[str, float], recorded: bool
) -> Done | Problem | None:
    """Return the event that ends the stream; none when nobody is there to read it."""
    if ending.finish_reason is None:
        return ending.problem
    return Done(
        finish_reason=ending.finish_reason,
        citations=written.citations,
        usage=usage,
        timings_ms=timings_ms,
        reason=ending.reason,
        recorded=recorded,
    )


def answer_record(
    ending: Ending,
    prepared: PreparedAnswer,
    written: WrittenText,
    *,
    services: TenantServices,
    settings_hash: str,
    usage: Usage,
    inference_id: str | None,
) -> AnswerRecord:
    """Return the record, from the same state that was streamed."""
    tenant, prompt = services.tenant, prepared.prompt
    return AnswerRecord(
        answer_id=prepared.answer_id,
        conversation_id=prepared.conversation_id,
        agent=prepared.identity.agent,
        asked_at=prepared.asked_at,
        finished_at=services.clock.now(),
        question=prepared.request.question,
        retrieval_question=prepared.retrieval_question,
        filters=prepared.request.filters,
        labels=tuple(sorted(prepared.identity.labels)),
        outcome=ending.outcome,
        finish_reason=ending.finish_reason,
        error_code=ending.error_code,
        text=written.text,
        sentences=tuple(written.sentences),
        removed_markers=written.removed_markers,
        passages=_passages(prepared),
        dropped_passages=prompt.dropped_passages if prompt else 0,
        gate=prepared.gate,
        prompt_id=tenant.prompt.answer,
        prompt_hash=prompt.prompt_hash if prompt else None,
        model_id=services.model.model_id,
        model_digest=services.model.digest,
        parameters={
            "max_tokens": prepared.max_tokens,
            "temperature": tenant.generation.temperature,
            "history_turns": prompt.history_turns if prompt else 0,
        },
        settings_hash=settings_hash,
        index_version=prepared.retrieved.index_version,
        usage=usage,
        timings_ms=prepared.steps.timings_ms,
        inference_id=inference_id,
        trace_id=prepared.steps.trace_id,
    )


def unfinished_record(
    asking: AnswerRequest,
    *,
    identity: Identity,
    answer_id: str,
    conversation_id: str,
    services: TenantServices,
    settings_hash: str,
) -> AnswerRecord:
    """Return the record of an answer that was begun and of whose end nothing is known."""
    tenant, now = services.tenant, services.clock.now()
    return AnswerRecord(
        answer_id=answer_id,
        conversation_id=conversation_id,
        agent=identity.agent,
        asked_at=now,
        finished_at=now,
        question=asking.question,
        retrieval_question=asking.question,
        filters=asking.filters,
        labels=tuple(sorted(identity.labels)),
        outcome=Outcome.FAILED,
        finish_reason=None,
        error_code=AnswerInterruptedError.code,
        text="",
        sentences=(),
        passages=(),
        gate=None,
        prompt_id=tenant.prompt.answer,
        prompt_hash=None,
        model_id=services.model.model_id,
        model_digest=services.model.digest,
        parameters={},
        settings_hash=settings_hash,
        index_version="",
        usage=Usage(),
        timings_ms={},
    )


def _passages(prepared: PreparedAnswer) -> tuple[PassageUse, ...]:
    read = prepared.prompt.numbers if prepared.prompt else ()
    return tuple(
        PassageUse(
            passage_id=passage.passage_id,
            document_id=passage.document_id,
            content_hash=passage.content_hash,
            text_hash=hashlib.sha256(passage.text.encode()).hexdigest(),
            n=n,
            rank=ranked.rank,
            fused_score=ranked.fused_score,
            lexical_rank=ranked.lexical_rank,
            lexical_score=ranked.lexical_score,
            vector_rank=ranked.vector_rank,
            cosine=ranked.cosine,
            in_prompt=n in read,
            title=passage.title,
            span=(passage.span.start, passage.span.end),
            url=passage.url,
            source=passage.source,
        )
        for n, ranked in enumerate(prepared.retrieved.passages, start=1)
        for passage in [ranked.passage]
    )
