"""How an answer ended, the record of it, and the task that writes the record while its store fails."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Literal

import structlog

from assistant.answering.answer_text import AnswerText
from assistant.answering.events import Done, Problem
from assistant.answering.interruption import Cause
from assistant.answering.ports import AnswerRecords
from assistant.answering.prepare import AnswerRequest, PreparedAnswer
from assistant.answering.services import TenantServices
from assistant.domain.answers import (
    AnswerRecord,
    CandidateDocument,
    Certainty,
    FinishReason,
    Mode,
    Outcome,
    PassageUse,
    Usage,
)
from assistant.domain.errors import AnswerInterruptedError, AssistantError, ConflictError
from assistant.domain.identity import Identity

_OUTCOMES = {Cause.CANCELLED: Outcome.CANCELLED, Cause.DISCONNECTED: Outcome.DISCONNECTED}
KEPT_CANDIDATES = 20
"""Documents whose features the record keeps."""
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
    mode: Mode | None = None
    certainty: Certainty | None = None
    fallback: str | None = None
    """Why quotes took the place of written text."""

    @classmethod
    def done(
        cls,
        finish_reason: FinishReason,
        *,
        reason: str | None = None,
        mode: Mode | None = None,
        certainty: Certainty | None = None,
        fallback: str | None = None,
    ) -> Ending:
        return cls(
            Outcome.DONE,
            finish_reason=finish_reason,
            reason=reason,
            error_code=fallback,
            mode=mode,
            certainty=certainty,
            fallback=fallback,
        )

    @classmethod
    def sources_only(cls, code: str) -> Ending:
        """Nothing was written and nothing can be quoted: the agent still has the ranked passages."""
        return cls(Outcome.DONE, finish_reason=FinishReason.SOURCES_ONLY, reason=code, error_code=code)

    @classmethod
    def interrupted(cls, cause: Literal[Cause.CANCELLED, Cause.DISCONNECTED]) -> Ending:
        """Somebody ended it."""
        problem = _CANCELLED if cause is Cause.CANCELLED else None
        return cls(_OUTCOMES[cause], error_code=cause.value, problem=problem)

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
    ending: Ending, prepared: PreparedAnswer, text: AnswerText, *, usage: Usage, recorded: bool
) -> Done | Problem | None:
    """Return the event that ends the stream; none when nobody is there to read it."""
    if ending.finish_reason is None:
        return ending.problem
    return Done(
        finish_reason=ending.finish_reason,
        citations=text.citations,
        usage=usage,
        timings_ms=prepared.steps.timings_ms,
        reason=ending.reason,
        mode=ending.mode,
        certainty=ending.certainty,
        also=prepared.quoted.also if ending.mode else (),
        clarify=prepared.clarify if ending.mode else None,
        reply_draft=_reply_draft(ending, prepared),
        escalation=_escalation(ending, prepared),
        corrections=prepared.corrections,
        fallback=ending.fallback,
        recorded=recorded,
    )


def answer_record(
    ending: Ending,
    prepared: PreparedAnswer,
    text: AnswerText,
    *,
    services: TenantServices,
    settings_hash: str,
    weights: dict[str, str],
    usage: Usage,
    inference_id: str | None,
) -> AnswerRecord:
    """Return the record, from the same state that was streamed."""
    tenant, prompt, first = services.tenant, prepared.prompt, prepared.evidence[0]
    excerpts = prepared.excerpts
    kept = excerpts.keep(text.text)
    also = excerpts.keep_also(prepared.quoted.also if ending.mode else ())
    draft = _reply_draft(ending, prepared)
    kept_draft = excerpts.keep(draft) if draft is not None else None
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
        text=kept,
        sentences=tuple(text.sentences),
        removed_markers=text.removed_markers,
        passages=_passages(prepared),
        dropped_passages=prompt.dropped_passages if prompt else 0,
        gate=first.gate,
        prompt_id=services.model.prompt,
        prompt_hash=prompt.prompt_hash if prompt else None,
        model_id=services.model.model_id,
        model_digest=services.model.digest,
        parameters={
            "max_tokens": prepared.max_tokens,
            "temperature": tenant.generation.temperature,
            "history_turns": prompt.history_turns if prompt else 0,
        },
        settings_hash=settings_hash,
        index_version=first.retrieved.index_version,
        usage=usage,
        timings_ms=prepared.steps.timings_ms,
        inference_id=inference_id,
        trace_id=prepared.steps.trace_id,
        mode=ending.mode,
        certainty=ending.certainty,
        fallback=ending.fallback,
        also=also,
        clarify=prepared.clarify if ending.mode else None,
        reply_draft=kept_draft,
        escalation=_escalation(ending, prepared),
        corrections=prepared.corrections,
        quoted=tuple(text.quoted),
        excerpts=excerpts.used_in(kept, kept_draft, *(one.text for one in also)),
        candidates=tuple(
            CandidateDocument(
                document_id=one.document_id,
                score=round(one.score, 4),
                features={name: round(value, 4) for name, value in one.features.items()},
            )
            for one in first.ranked[:KEPT_CANDIDATES]
        ),
        weights=weights,
    )


def _reply_draft(ending: Ending, prepared: PreparedAnswer) -> str | None:
    """Return the draft, unless the model refused to answer from the same sources."""
    return prepared.quoted.reply_draft if ending.mode and ending.certainty is prepared.certainty else None


def _escalation(ending: Ending, prepared: PreparedAnswer) -> str | None:
    is_sure = ending.certainty is Certainty.ANSWERED
    return None if is_sure or ending.finish_reason is None else prepared.escalation


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
    now = services.clock.now()
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
        prompt_id=services.model.prompt,
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
        for n, ranked in enumerate(prepared.shown, start=1)
        for passage in [ranked.passage]
    )


# Writing the records of answers so that neither a leaving reader nor a failing store does harm.


_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 15.0
MAX_WAITING = 1_000
"""Records that wait for their store: some 20 MiB. Over it the newest is given up, and the log says so."""
_log = structlog.get_logger(__name__)


class RecordWriting:
    """Writes each record in a task of its own, which outlives the task that asked for it.

    While the store fails, a record is tried again with growing pauses, until the process ends.
    """

    def __init__(self, records: AnswerRecords, *, timeout_s: float) -> None:
        self._records = records
        self._timeout_s = timeout_s
        self._tasks: set[asyncio.Task[bool]] = set()
        self._retries: set[asyncio.Task[None]] = set()

    async def write(self, record: AnswerRecord) -> bool:
        """Write one record, at most for the time-out, and say whether it is written. A store that fails is
        logged, never raised: the agent has the answer, and the record follows. Cancelling this wait does not
        cancel the writing."""
        task = asyncio.create_task(self._write(record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def settle(self, *, within_s: float) -> int:
        """Wait for the writing in progress; return how many records are still not written."""
        waiting: set[asyncio.Task[bool] | asyncio.Task[None]] = {*self._tasks, *self._retries}
        if not waiting:
            return 0
        _, pending = await asyncio.wait(waiting, timeout=within_s)
        for task in self._retries & pending:
            task.cancel()
        if pending:
            _log.error("answer_records_lost", records=len(pending))
        return len(pending)

    async def _write(self, record: AnswerRecord) -> bool:
        if await self._put(record):
            return True
        if len(self._retries) >= MAX_WAITING:
            _log.error("answer_record_lost", answer_id=record.answer_id)
            return False
        task = asyncio.create_task(self._retry(record))
        self._retries.add(task)
        task.add_done_callback(self._retries.discard)
        return False

    async def _retry(self, record: AnswerRecord) -> None:
        pause_s = _FIRST_RETRY_S
        while True:
            await asyncio.sleep(pause_s)
            if await self._put(record):
                _log.info("answer_record_followed", answer_id=record.answer_id)
                return
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)

    async def _put(self, record: AnswerRecord) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._records.put_answer(record)
        except ConflictError:
            return True  # an attempt whose answer was lost had written it
        except AssistantError as error:
            _log.warning("answer_record_waits", answer_id=record.answer_id, code=error.code)
            return False
        except Exception as error:  # noqa: BLE001 - an edge: no defect of a store may cost the agent the answer
            # The message may quote the record, so only the kind of error is logged.
            _log.warning("answer_record_waits", answer_id=record.answer_id, error=type(error).__name__)
            return False
        return True
