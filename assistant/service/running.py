"""Answers in progress in this process (``RunningAnswer``), readers who come back to an answer
(``ComingBack``), and limits of both (``Admission``, ``AgentRates``).

A *task* is a container of the service: several serve the same tenants. The events of an answer are numbered
and kept in the memory of the task that writes it; each reader has a place in them. So a reader who reaches
another task waits for the record, and gets the whole answer from it: ``started`` again, then the rest,
without ids. For an answer that did not come to its end it gets a single ``error``.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal

import structlog

from assistant.answer import events
from assistant.answer.call import AnswerCall
from assistant.answer.end import CANCELLED_PROBLEM
from assistant.answer.events import AnswerEvent, Problem
from assistant.answer.text_end import CANCELLED, DISCONNECTED, TextEnd
from assistant.domain import errors
from assistant.domain.answers import (
    AnswerEnding,
    AnswerRecord,
    FinishReason,
    Outcome,
    RedFlag,
    StoredAnswer,
    StoredCheck,
)
from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import AssistantError
from assistant.domain.identity import Identity
from assistant.service.errors import INTERNAL_PROBLEM, NOT_FOUND, log_failure, problem_of
from assistant.service.health import AnswerObserver
from assistant.service.opened import ServedTenant
from assistant.service.stored import ReadAnswers
from assistant.service.streams import Cursor, Numbered, Reading
from assistant.stores import ports
from assistant.tenant import deployed_names
from assistant.tenant.tenant import LimitsSection

_log = structlog.get_logger(__name__)

GRACE_S = 5.0
"""Added to the answer's deadline, for its last event."""


class RunningAnswer:
    """One answer while it is written. Its own task reads the events, so no reader can slow it down.

    It keeps its events, bounded by its own text, for readers who come back. When its last reader leaves, it
    goes on for ``resume_window_s``.
    """

    def __init__(
        self,
        answer_id: str,
        call: AnswerCall,
        stream: AsyncGenerator[AnswerEvent, None],
        *,
        identity: Identity,
        resume_window_s: int,
        observer: AnswerObserver,
        leave: Callable[[], None],
        is_resumable: bool = False,
    ) -> None:
        self.answer_id, self.identity, self._call = answer_id, identity, call
        self._leave = leave
        """Gives back the answer's place in the admission; safe to repeat."""
        self._resume_window_s = resume_window_s
        self.is_resumable = is_resumable
        """Whether it may go on to its end when the process stops."""
        self._stream = stream
        self._observer = observer
        self._events: list[AnswerEvent] = []
        """All events so far; the one at index n has the sequence n + 1."""
        self._readers: list[Cursor] = []
        self._leaving: asyncio.TimerHandle | None = None
        """Cancels the answer; set while it has no reader."""
        self.task = asyncio.create_task(self._write())

    @property
    def documents(self) -> frozenset[str]:
        """The documents that its readers were shown."""
        shown = (event for event in self._events if isinstance(event, events.Sources))
        return frozenset(source.document_id for event in shown for source in event.sources)

    @contextmanager
    def reading(self, gone: asyncio.Task[None], *, after: int = 0) -> Generator[Reading]:
        """Yield the reading of one reader: the events after a sequence.

        ``gone``: ends when the client disconnects; the request cancels it when its own block ends.

        | what ends first                         | the reading is ended by | the resume window         |
        | ``gone``: the client disconnected       | ``reader_left``         | begins with the last one  |
        | the block: all was sent, or it failed   | ``finally``             | does not begin            |

        A client may also disconnect after the answer has ended: then the window begins, and its end cancels
        a run that is over, which changes nothing.
        """
        cursor = Cursor(self._events, after=after)
        if self.task.done():
            cursor.close()
        self._readers.append(cursor)
        self._stay()

        def reader_left(task: asyncio.Task[None]) -> None:
            if task.cancelled():  # the block has ended, and with it this reading
                return
            self._detach(cursor)
            if not self._readers:
                self._end_after(self._resume_window_s)

        gone.add_done_callback(reader_left)
        try:
            yield Reading(self.answer_id, cursor, self.remaining_s())
        finally:
            self._detach(cursor)

    def cancel(self, end: TextEnd = CANCELLED) -> None:
        """Have the answer end soon, with its record. ``end``: CANCELLED or DISCONNECTED."""
        self._call.cancel(end)

    def remaining_s(self) -> float:
        """Return the most seconds that the answer may still take."""
        return self._call.deadline.remaining_s() + GRACE_S

    def _detach(self, cursor: Cursor) -> None:
        """End one reader's reading; safe to repeat."""
        if cursor in self._readers:
            self._readers.remove(cursor)
        cursor.close()

    def _end_after(self, seconds: float) -> None:
        """Cancel the answer after so many seconds without a reader."""
        if seconds <= 0:
            self.cancel(DISCONNECTED)
        elif self._leaving is None:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(seconds, self.cancel, DISCONNECTED)

    def _stay(self) -> None:
        """Stop the timer of ``_end_after``: a reader came back, or the answer has ended."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    async def _write(self) -> None:
        """Read all events of the stream, and hand each out; an error becomes the last event."""
        try:
            async with asyncio.timeout(self.remaining_s()), aclosing(self._stream) as stream:
                async for event in stream:
                    self._hand_out(event)
        except AssistantError as error:
            problem = problem_of(error)
            log_failure(problem)
            self._fail(problem)
        except Exception:  # noqa: BLE001 - an edge: the reader gets an error event, the log the exception
            _log.exception("answer_failed", answer_id=self.answer_id)
            self._fail(INTERNAL_PROBLEM)
        finally:
            self._finish()

    def _fail(self, problem: Problem) -> None:
        """End with a problem, unless the answer is whole and only its check failed."""
        if self._observer.took_s is None:
            self._hand_out(problem)

    def _hand_out(self, event: AnswerEvent) -> None:
        """Append an event, count it, and wake the readers."""
        self._events.append(event)
        self._observer.see(event)
        if isinstance(event, events.Done):
            self._leave()  # the agent may ask on while a check follows
        for cursor in self._readers:
            cursor.wake()

    def _finish(self) -> None:
        """End all readings, and log the end of the answer: a line that metric filters count."""
        self._stay()
        self._leave()
        self._observer.end()
        for cursor in self._readers:
            cursor.close()
        first_token_s = self._observer.first_token_s
        _log.info(
            deployed_names.ANSWER_ENDED,
            answer_id=self.answer_id,
            tenant=self.identity.tenant,
            took_ms=round((self._observer.took_s or 0.0) * 1000),
            fallback=self._observer.fallback,
            **{
                deployed_names.FINISH_REASON: self._observer.finish_reason,
                deployed_names.MODEL_FAILED: self._observer.model_failed,
                deployed_names.FIRST_TOKEN_MS: None if first_token_s is None else round(first_token_s * 1000),
            },
        )


class RunningAnswers:
    """The answers that this process writes, by tenant and id."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], RunningAnswer] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[RunningAnswer]:
        return iter(tuple(self._answers.values()))

    def add(self, answer: RunningAnswer) -> None:
        self._answers[answer.identity.tenant, answer.answer_id] = answer

    def remove(self, answer: RunningAnswer) -> None:
        del self._answers[answer.identity.tenant, answer.answer_id]

    def find(self, answer_id: str, *, identity: Identity) -> RunningAnswer | None:
        """Return the answer if this process writes it and it is the caller's own."""
        answer = self._answers.get((identity.tenant, answer_id))
        return answer if answer and answer.identity.agent == identity.agent else None

    def ids(self, tenant: str) -> list[str]:
        return [answer_id for name, answer_id in self._answers if name == tenant]

    def cancel(self, tenant: str, answer_id: str) -> None:
        """Cancel an answer if this process still writes it."""
        if answer := self._answers.get((tenant, answer_id)):
            answer.cancel()


_CANCELLED_EVERY_S = 1.0
_CANCELLED_TIMEOUT_S = 3.0
_CANCELLED_AT_ONCE = 100
"""Answers that one read asks for."""


async def watch_cancellations(tenants: Mapping[str, ServedTenant], running: RunningAnswers) -> None:
    """Read every second which running answers were cancelled by requests to other tasks, and cancel them
    here. Runs until it is cancelled."""
    while True:
        await asyncio.sleep(_CANCELLED_EVERY_S)
        for name, tenant in tenants.items():
            ids = running.ids(name)
            for start in range(0, len(ids), _CANCELLED_AT_ONCE):
                try:
                    async with asyncio.timeout(_CANCELLED_TIMEOUT_S):
                        cancelled = await tenant.claims.cancelled(ids[start : start + _CANCELLED_AT_ONCE])
                except (AssistantError, TimeoutError) as error:
                    _log.warning("cancellations_not_read", error=type(error).__name__)
                    continue
                for answer_id in cancelled:
                    running.cancel(name, answer_id)


# Readers who come back


POLL_S = 0.5
"""Between two looks for the record of an answer that another task writes."""
_TIMEOUT_S = 3.0
"""Of one call of the stores."""
_STORE_DOWN = errors.RecordsUnavailableError("Cannot read the rest of the answer now. Come back shortly.")
_INTERRUPTED = errors.AnswerInterruptedError("The answer ended before it was complete. Ask again.")


def is_interrupted(record: AnswerRecord) -> bool:
    """Return whether the answer was cut: its task ended before it, or its last reader left."""
    return record.outcome is Outcome.DISCONNECTED or record.error_code == errors.AnswerInterruptedError.code


def events_of(stored: StoredAnswer, tenant: ServedTenant) -> list[AnswerEvent]:
    """Return the events of a recorded answer, as ``RunningAnswer`` would have had them but with the text as
    one token; for an answer that did not come to its end only the error."""
    record, services = stored.record, tenant.answering
    if problem := _stored_problem(record):
        return [problem]
    flags = {flag.name: flag for flag in services.tenant.red_flags}
    return [
        events.Started(
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
        events.Sources(sources=stored.sources),
        *([events.Token(record.text)] if record.text else []),
        # these events have the fields of ``Sentence`` and ``Element``, which they inherit, and no others
        *(events.SentenceEnded(**vars(sentence)) for sentence in record.sentences),
        *(events.ElementChanged(**vars(element)) for element in stored.elements),
        _done(record, check_follows=stored.checked is not None),
        *([_checked(stored.checked)] if stored.checked is not None else []),
    ]


def _stored_problem(record: AnswerRecord) -> Problem | None:
    """Return the error for a recorded answer that did not come to its end; None for one that did."""
    if record.outcome is Outcome.DONE:
        return None
    if is_interrupted(record):
        return problem_of(_INTERRUPTED)
    return CANCELLED_PROBLEM if record.outcome is Outcome.CANCELLED else INTERNAL_PROBLEM


def _checked(check: StoredCheck) -> events.Checked:
    return events.Checked(by=check.model_id, sentences=check.sentences)


def _done(record: AnswerRecord, *, check_follows: bool) -> events.Done:
    """Return the end of a recorded answer."""
    reason = record.error_code if record.finish_reason is FinishReason.SOURCES_ONLY else None
    asks = record.reading is None or record.reading.asks
    if record.finish_reason is FinishReason.NO_EVIDENCE and record.gate is not None and asks:
        reason = ", ".join(record.gate.missing_terms)
    return events.Done(
        finish_reason=record.finish_reason or FinishReason.STOP,
        citations=tuple(sorted({n for sentence in record.sentences for n in sentence.citations})),
        usage=record.usage,
        timings_ms=record.timings_ms,
        reason=reason,
        asks=asks,
        check_follows=check_follows,
        # ``Done`` and ``AnswerRecord`` both inherit these fields
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
    """Raise WithdrawnError when a reader with these labels may no longer read one of the documents,
    DependencyError when the store does not say so in time."""
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
    """An ``EventReader`` of an answer that another task writes: it polls for the record, then gives all
    events at once.

    ``stop`` ends it without an event: its reader has left, or comes back to another task.
    """

    answer_id: str
    identity: Identity
    tenant: ServedTenant
    clock: Clock
    until_s: float
    """End of the wait, on the monotonic clock: then the answer counts as interrupted."""
    _ended: bool = False
    """Whether all events were taken, or ``stop`` was called: the next ``take`` returns None."""

    def stop(self) -> None:
        self._ended = True

    async def take(self, *, beat_s: float) -> list[Numbered] | None:
        due_s = self.clock.monotonic_s() + beat_s
        while not self._ended:
            if all_events := await self._look():
                self._ended = True
                return [(0, event) for event in all_events]  # 0: without an id, as ``Numbered`` says
            if self.clock.monotonic_s() >= due_s:
                return []
            await asyncio.sleep(POLL_S)
        return None

    async def _look(self) -> list[AnswerEvent]:
        """Return the events, or the problem that ends the wait; empty while there is nothing yet."""
        try:
            return await self._read_events()
        except errors.WithdrawnError as error:
            return [problem_of(error)]
        except (AssistantError, TimeoutError) as error:
            _log.warning("answer_not_read", answer_id=self.answer_id, error=type(error).__name__)
            return [problem_of(_STORE_DOWN)] if self.clock.monotonic_s() > self.until_s else []

    async def _read_events(self) -> list[AnswerEvent]:
        """Return the answer's events from its record; none while the record may still come, which is until
        ``until_s`` at most."""
        services = self.tenant.answering
        async with asyncio.timeout(_TIMEOUT_S):
            answer = await services.records.find_answer(self.answer_id)
        # ``written_until`` is a time while another task may still write it; None once it has ended, or that
        # time is over: then the record is what was known when it began, which counts as interrupted
        if answer is None or answer.written_until is not None:
            return [problem_of(_INTERRUPTED)] if self.clock.monotonic_s() > self.until_s else []
        if problem := _stored_problem(answer.record):
            return [problem]
        labels, shown = self.identity.labels, answer.record.sight().quoted
        await refuse_withdrawn(shown, services.documents.texts, labels=labels)
        stored = await ReadAnswers(services).one(self.answer_id, identity=self.identity)
        if any(source.withdrawn for source in stored.sources):
            raise _withdrawn()
        return events_of(stored, self.tenant)


class _Refused:
    """An ``EventReader`` with a single event, the problem why an answer is not sent again."""

    def __init__(self, problem: Problem) -> None:
        self._left: list[Numbered] = [(0, problem)]
        """What ``take`` has not returned yet."""

    async def take(self, *, beat_s: float) -> list[Numbered] | None:  # noqa: ARG002 : nothing is waited for
        taken, self._left = self._left, []
        return taken or None


@dataclass(frozen=True, slots=True)
class ComingBack:
    """Opens readings of answers that a reader comes back to: written by this task, by another one, or on
    record."""

    tenants: Mapping[str, ServedTenant]
    running: RunningAnswers
    awaited: set[AwaitedAnswer]
    """Those that wait now; the shutdown stops them."""
    admissions: Mapping[str, Admission]
    """By tenant: limits of the readers who wait, apart from those of new answers."""
    clock: Clock

    @asynccontextmanager
    async def follow(
        self, answer_id: str, identity: Identity, gone: asyncio.Task[None], *, after: int
    ) -> AsyncGenerator[Reading]:
        """Yield the reading of the caller's own answer: the events after a sequence where this process writes
        it, else all.

        Raises NotFoundError, OverloadedError, RecordsUnavailableError, DependencyError (the document store
        did not say what may be read).
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
        """Yield the reading of an answer that this process does not write. Raises as ``follow``."""
        tenant = self.tenants[identity.tenant]
        answer = await tenant.answering.records.find_answer(answer_id)
        if answer is None or answer.record.agent != identity.agent:
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


# How many


_ROUNDING_S = 1e-6
"""Tolerance for sums of floats."""
_PREPARED_AT_ONCE = 2
"""Answers of a tenant, where several share the process: under one, a question that waits for its model would
hold the others up; with four, an agent of another tenant waited three times as long (docs/decisions/0167)."""
_RETRY_AFTER_S = 2.0
"""``Retry-After`` for an agent who asks too much at once."""


class Admission:
    """Limits one tenant's answers in progress in this process, in total and per agent."""

    def __init__(self, limits: LimitsSection, *, preparing: int = sys.maxsize) -> None:
        """``preparing``: how many answers of the tenant are prepared at a time."""
        self._limits = limits
        self._active: Counter[str] = Counter()
        self._preparing = asyncio.Semaphore(preparing)

    @asynccontextmanager
    async def turn(self, deadline: Deadline) -> AsyncGenerator[None]:
        """Wait for a turn to prepare an answer, and keep it for the block. Raises DeadlineExceededError."""
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                await self._preparing.acquire()
        except TimeoutError:
            raise errors.DeadlineExceededError("Too many questions came before it. Ask again.") from None
        try:
            yield
        finally:
            self._preparing.release()

    def enter(self, agent: str) -> Callable[[], None]:
        """Take a place; return a function that releases it, to be called once. Raises OverloadedError."""
        if self._active[agent] >= (most := self._limits.streams_per_agent):
            raise errors.OverloadedError(
                f"{most} of your answers are in progress. Wait for one of them to end.",
                retry_after_s=_RETRY_AFTER_S,
            )
        if self._active.total() >= self._limits.streams:
            raise errors.OverloadedError(
                "Too many answers are in progress. Retry.", retry_after_s=_RETRY_AFTER_S
            )
        self._active[agent] += 1

        def leave() -> None:
            self._active -= Counter([agent])  # drops an agent at 0, which ``[agent] -= 1`` would keep

        return leave


def admissions(tenants: Mapping[str, ServedTenant]) -> dict[str, Admission]:
    """Return each tenant's limits. Where several share the process, few answers of each are prepared at a
    time: preparing computes in the loop that all share, and would take the whole of it for the tenant that
    asks most."""
    preparing = _PREPARED_AT_ONCE if len(tenants) > 1 else sys.maxsize
    return {
        name: Admission(tenant.answering.tenant.limits, preparing=preparing)
        for name, tenant in tenants.items()
    }


RateKind = Literal["questions", "turns", "writes", "reads"]
"""``turns`` of a chat are read unasked: as many as questions, and counted apart."""
_MINUTE_S = 60.0
_MOST_COUNTED = 20_000
"""Agents and kinds of requests: about 6 MB."""


class AgentRates:
    """Limits how often each agent calls this process: a minute's requests may come at once, later ones one by
    one as the rate allows (a token bucket: 60 requests a minute are a burst of 60, then one a second).

    The memory is bounded: above ``most_counted`` agents and kinds, those that called longest ago are
    forgotten, and may call a minute's worth again.
    """

    def __init__(self, *, clock: Clock, most_counted: int = _MOST_COUNTED) -> None:
        self._clock = clock
        self._most_counted = most_counted
        self._paid_until_s: OrderedDict[tuple[str, str, RateKind], float] = OrderedDict()
        """By caller and kind: the time until which its requests have used up the rate, as if they had come
        evenly. At most a minute ahead of now. The caller of the latest request is last."""

    def count(self, identity: Identity, kind: RateKind, limits: LimitsSection) -> None:
        """Count one request. Raises OverloadedError for one over the rate, which is not counted."""
        now_s = self._clock.monotonic_s()
        caller: tuple[str, str, RateKind] = (identity.tenant, identity.agent, kind)
        counted = "questions" if kind == "turns" else kind
        per_minute: int = getattr(limits, f"{counted}_per_minute")
        until_s = max(self._paid_until_s.pop(caller, now_s), now_s)
        over_s = until_s + _MINUTE_S / per_minute - now_s - _MINUTE_S
        is_over = over_s > _ROUNDING_S
        self._paid_until_s[caller] = until_s if is_over else until_s + _MINUTE_S / per_minute
        if len(self._paid_until_s) > self._most_counted:
            self._paid_until_s.popitem(last=False)
        if is_over:
            raise errors.OverloadedError(
                f"You sent {per_minute} {kind} within a minute, the most of one agent. Retry in "
                f"{math.ceil(over_s)} s.",
                retry_after_s=over_s,
            )
