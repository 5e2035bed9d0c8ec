"""Readers who come back to an answer: to one that this process writes, or to one on another task.

The task that writes an answer has its events in memory, and nobody else has. So a reader elsewhere waits for
the record, and gets the whole answer from it: ``started`` again, then the rest, without ids. Of an answer
that did not come to its end there is one ``error``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from assistant.answer.end import CANCELLED_PROBLEM
from assistant.answer.events import (
    AnswerEvent,
    Done,
    ElementChanged,
    Problem,
    SentenceEnded,
    Sources,
    Started,
    Token,
)
from assistant.answer.stored import ReadAnswers
from assistant.domain import errors
from assistant.domain.answers import AnswerEnding, AnswerRecord, FinishReason, Outcome, RedFlag, StoredAnswer
from assistant.domain.clock import Clock
from assistant.domain.errors import AssistantError
from assistant.domain.identity import Identity
from assistant.service.errors import INTERNAL_PROBLEM, NOT_FOUND, problem_of
from assistant.service.opened import ServedTenant
from assistant.service.running import GRACE_S, Admission, RunningAnswers
from assistant.service.streams import Numbered, Reading
from assistant.stores import ports

POLL_S = 0.5
"""Between two looks for the record of an answer that another task writes."""
_TIMEOUT_S = 3.0
_STORE_DOWN = errors.RecordsUnavailableError("Cannot read the rest of the answer now. Come back shortly.")
_INTERRUPTED = errors.AnswerInterruptedError("The answer ended before it was complete. Ask again.")
_log = structlog.get_logger(__name__)


def is_interrupted(record: AnswerRecord) -> bool:
    """Return whether the task that wrote the answer ended before it, or nobody waited for it."""
    return record.outcome is Outcome.DISCONNECTED or record.error_code == errors.AnswerInterruptedError.code


def events_of(stored: StoredAnswer, tenant: ServedTenant) -> list[AnswerEvent]:
    """Return the events of a recorded answer; of one that did not come to its end, the error alone."""
    record, services = stored.record, tenant.answering
    if problem := _problem_of(record):
        return [problem]
    flags = {flag.name: flag for flag in services.tenant.red_flags}
    return [
        Started(
            answer_id=record.answer_id,
            conversation_id=record.conversation_id,
            model=record.model_id,
            index_version=record.index_version,
            trace_id=record.trace_id,
            resumable=True,
            red_flags=tuple(
                RedFlag(name=name, text=flags[name].text, call=flags[name].call)
                for name in record.red_flags
                if name in flags
            ),
            unchecked_language=record.unchecked_language,
            recorded_model=services.writer.model.recorded,
        ),
        Sources(sources=stored.sources),
        *([Token(record.text)] if record.text else []),
        *(SentenceEnded(**vars(sentence)) for sentence in record.sentences),
        *(ElementChanged(**vars(element)) for element in stored.elements),
        _done(record),
    ]


def _problem_of(record: AnswerRecord) -> Problem | None:
    if record.outcome is Outcome.DONE:
        return None
    if is_interrupted(record):
        return problem_of(_INTERRUPTED)
    return CANCELLED_PROBLEM if record.outcome is Outcome.CANCELLED else INTERNAL_PROBLEM


def _done(record: AnswerRecord) -> Done:
    reason = record.error_code if record.finish_reason is FinishReason.SOURCES_ONLY else None
    if record.finish_reason is FinishReason.NO_EVIDENCE and record.gate is not None:
        reason = ", ".join(record.gate.missing_terms)
    return Done(
        finish_reason=record.finish_reason or FinishReason.STOP,
        citations=tuple(sorted({n for sentence in record.sentences for n in sentence.citations})),
        usage=record.usage,
        timings_ms=record.timings_ms,
        reason=reason,
        **{name: getattr(record, name) for name in AnswerEnding.model_fields},
    )


def _withdrawn() -> errors.WithdrawnError:
    return errors.WithdrawnError(
        "A document that this answer shows was withdrawn, or you may no longer read it. The answer is not"
        " sent again. Ask again."
    )


async def refuse_withdrawn(
    document_ids: Collection[str], texts: ports.DocumentTexts, *, labels: frozenset[str]
) -> None:
    """Raises WithdrawnError when one of the documents may no longer be read; DependencyError."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            readable = await asyncio.gather(
                *(texts.is_readable(document_id, labels=labels) for document_id in document_ids)
            )
    except TimeoutError:
        raise errors.DependencyError(
            f"The document store did not say within {_TIMEOUT_S:.0f} s what may be read. Retry."
        ) from None
    if not all(readable):
        raise _withdrawn()


@dataclass(eq=False)
class AwaitedAnswer:
    """An ``EventReader`` of an answer that another task writes: its events once it is on record.

    ``stop`` ends it without an event, so that its reader comes back to another task.
    """

    answer_id: str
    identity: Identity
    tenant: ServedTenant
    clock: Clock
    until_s: float
    """On the monotonic clock: later nothing is waited for."""
    _ended: bool = False

    def stop(self) -> None:
        self._ended = True

    async def take(self, *, beat_s: float) -> list[Numbered] | None:
        due_s = self.clock.monotonic_s() + beat_s
        while not self._ended:
            if events := await self._look():
                self._ended = True
                return [(0, event) for event in events]
            if self.clock.monotonic_s() >= due_s:
                return []
            await asyncio.sleep(POLL_S)
        return None

    async def _look(self) -> list[AnswerEvent]:
        try:
            return await self._events()
        except errors.WithdrawnError as error:
            return [problem_of(error)]
        except (AssistantError, TimeoutError) as error:
            _log.warning("answer_not_read", answer_id=self.answer_id, error=type(error).__name__)
            return [problem_of(_STORE_DOWN)] if self.clock.monotonic_s() > self.until_s else []

    async def _events(self) -> list[AnswerEvent]:
        """Return the answer's events; none while it is written."""
        services = self.tenant.answering
        async with asyncio.timeout(_TIMEOUT_S):
            found = await services.records.find_answer(self.answer_id)
        if found is None or found.written_until is not None:
            return [problem_of(_INTERRUPTED)] if self.clock.monotonic_s() > self.until_s else []
        if problem := _problem_of(found.record):
            return [problem]
        labels, shown = self.identity.labels, found.record.sight().quoted
        await refuse_withdrawn(shown, services.documents.texts, labels=labels)
        stored = await ReadAnswers(services).one(self.answer_id, identity=self.identity)
        if any(source.withdrawn for source in stored.sources):
            raise _withdrawn()
        return events_of(stored, self.tenant)


class _Refused:
    """An ``EventReader`` of an answer that is not sent again: of its problem alone."""

    def __init__(self, problem: Problem) -> None:
        self._events: list[Numbered] = [(0, problem)]

    async def take(self, *, beat_s: float) -> list[Numbered] | None:  # noqa: ARG002 : nothing is waited for
        taken, self._events = self._events, []
        return taken or None


@dataclass(frozen=True, slots=True)
class ComingBack:
    """Opens readings of answers that a reader comes back to, written here or on another task."""

    tenants: Mapping[str, ServedTenant]
    running: RunningAnswers
    awaited: set[AwaitedAnswer]
    admissions: Mapping[str, Admission]
    """Separate from those of new answers."""
    clock: Clock

    @asynccontextmanager
    async def follow(
        self, answer_id: str, identity: Identity, gone: asyncio.Task[None], *, after: int
    ) -> AsyncGenerator[Reading]:
        """Give the events of an answer of the caller's own: those after a sequence where this process writes
        it, else all.

        Raises NotFoundError, OverloadedError, RecordsUnavailableError.
        """
        answer = self.running.find(answer_id, identity=identity)
        if answer is None:
            async with self._awaited(answer_id, identity, gone) as reading:
                yield reading
            return
        texts = self.tenants[identity.tenant].answering.documents.texts
        try:
            await refuse_withdrawn(answer.documents, texts, labels=identity.labels)
        except errors.WithdrawnError as error:
            yield Reading(answer_id, _Refused(problem_of(error)), answer.remaining_s())
            return
        with answer.reading(gone, after=after) as reading:
            yield reading

    @asynccontextmanager
    async def _awaited(
        self, answer_id: str, identity: Identity, gone: asyncio.Task[None]
    ) -> AsyncGenerator[Reading]:
        tenant = self.tenants[identity.tenant]
        found = await tenant.answering.records.find_answer(answer_id)
        if found is None or found.record.agent != identity.agent:
            raise errors.NotFoundError(NOT_FOUND)
        leave = self.admissions[identity.tenant].enter(identity.agent)
        limit_s = tenant.answering.tenant.limits.answer_deadline_s + GRACE_S
        until_s = self.clock.monotonic_s() + limit_s
        awaited = AwaitedAnswer(answer_id, identity, tenant, self.clock, until_s)
        gone.add_done_callback(lambda _: awaited.stop())
        self.awaited.add(awaited)
        try:
            yield Reading(answer_id, awaited, limit_s + 2 * _TIMEOUT_S)
        finally:
            self.awaited.discard(awaited)
            leave()
