"""Answers in progress: those that this process writes, and those that a reader comes back to.

The events of a written answer are numbered, logged, counted and put into each reader's outbox. A reader who
resumes gets them from here, or from the event log when another task writes, wrote or left the answer.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from functools import partial
from typing import Literal

import orjson
import structlog

from assistant.answering import ports
from assistant.answering.events import AnswerEvent, Cause, Done, Problem, Sources, Token
from assistant.answering.excerpts import Excerpts, fill, read_excerpts
from assistant.answering.live_elements import use_of
from assistant.answering.prepare import PreparedAnswer
from assistant.answering.stream import FAILED_CHECKS
from assistant.api.delivery import (
    EncodedEvent,
    EventEncoder,
    Numbered,
    Outbox,
    Reading,
    StreamLimits,
    decode_event,
    written_part,
)
from assistant.api.errors import INTERNAL_PROBLEM, NOT_FOUND, problem_of
from assistant.api.health import ServiceMetrics
from assistant.domain import errors
from assistant.domain.answers import AnswerEnding, AnswerRecord, Mode, Outcome, PassageUse, Source
from assistant.domain.clock import Clock, set_within
from assistant.domain.errors import AssistantError
from assistant.domain.identity import Identity
from assistant.settings.deployed_names import (
    ANSWER_ENDED,
    ANSWER_SECONDS,
    COMPLETION_TOKENS,
    FINISH_REASON,
    FIRST_TOKEN_MS,
    MODEL_FAILED,
    PROMPT_TOKENS,
    QUOTED_ANSWERS,
    WRITTEN_ANSWERS,
)
from assistant.settings.tenant import LimitsSection
from assistant.wiring.services import ServedTenant

BATCH_INTERVAL_S = 0.9
"""With the poll interval of a follower (0.4 s) and two store calls, a follower is at most 1.5 s behind."""
_FIRST_TEXT_WAIT_S = 0.1
"""Longest wait of the first text for its batch: a slower store delays the agent by no more than this."""
_END_WAIT_S = 1.0
"""Longest wait of a ``done`` without a record for its place in the log."""
_APPEND_TIMEOUT_S = 3.0
_RETRY_S = 0.3
_LAST_BATCH_S = 10.0
"""How long the last batch is retried. After that, followers detect the end by the lease."""
_SIGNALS_INTERVAL_S = 1.0
_SIGNALS_TIMEOUT_S = 3.0
_SIGNALS_AT_ONCE = 100
_NOBODY_READ = errors.AnswerInterruptedError("No reader resumed the answer in time, so it ended. Ask again.")
_log = structlog.get_logger(__name__)


class LoggedAnswer:
    """Writes one answer's events to its log: the first event and the first text at once, then a batch about
    every second. The log gets excerpts in place of documents' texts.

    When the answer ends with a retryable error, its key is freed before the last batch, so that the same
    request starts a new answer.

    A batch that was not acknowledged is retried unchanged: one number always has one content. Events wait
    here while the store fails; the answer's own text bounds them.
    """

    def __init__(self, log: ports.AnswerLog, opening: ports.LogOpening, *, excerpts: Excerpts) -> None:
        self.events: list[AnswerEvent] = []
        """All events so far; the one at index n has the sequence n + 1."""
        self._log = log
        self._opening = opening
        self._excerpts = excerpts
        self._answer_id = opening.answer_id
        self._encoder = EventEncoder(opening.answer_id)
        self._batched = 0
        self._number = 0
        self._ended = asyncio.Event()
        self._due = asyncio.Event()
        self._has_text = False
        self._text_kept = asyncio.Event()
        self.task = asyncio.create_task(self._write())

    def put(self, event: AnswerEvent) -> bool:
        """Add the next event. Return True for the first text: await ``first_text_kept`` before a reader gets
        it."""
        self.events.append(event)
        is_first_text = not self._has_text and isinstance(event, Token)
        if is_first_text or len(self.events) == 1:
            self._has_text = is_first_text
            self._due.set()
        return is_first_text

    async def first_text_kept(self) -> None:
        """Return when the first text is in the log, or after 0.1 s. Text that an agent has read then survives
        this process."""
        await set_within(self._text_kept, _FIRST_TEXT_WAIT_S)

    def end(self) -> None:
        """Write the last batch at once. No event is added after it."""
        self._ended.set()
        self._due.set()

    async def all_kept(self) -> None:
        """End, and return when the log has all events, or after 1 s."""
        self.end()
        await asyncio.wait((self.task,), timeout=_END_WAIT_S)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            # All answers of the process write at the same instants, so that their batches share store calls.
            # The next instant counts from the beginning of a write: when a slow write passes it, the next
            # batch follows at once.
            due_s += BATCH_INTERVAL_S - due_s % BATCH_INTERVAL_S
            await set_within(self._due, due_s - loop.time())
            due_s = loop.time()
            batch, has_text = self._next_batch(), self._has_text
            if not await self._append(batch) or batch.ended:
                return
            if has_text:
                self._text_kept.set()

    async def _append(self, batch: ports.LogBatch) -> bool:
        """Write the batch, with retries. Return False when the last batch was given up."""
        is_logged = False
        give_up_s: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(_APPEND_TIMEOUT_S):
                    if batch.ended and self._frees_key():
                        await self._log.free_key(self._opening)
                    await self._log.append(self._answer_id, batch)
                return True
            except (AssistantError, TimeoutError) as error:
                if not is_logged:
                    is_logged = True
                    code = error.code if isinstance(error, AssistantError) else "timeout"
                    _log.warning("events_not_logged", answer_id=self._answer_id, code=code)
            if self._ended.is_set():
                give_up_s = give_up_s or loop.time() + _LAST_BATCH_S
                if loop.time() >= give_up_s:
                    return False
            await asyncio.sleep(_RETRY_S)

    def _next_batch(self) -> ports.LogBatch:
        first, ended = self._batched + 1, self._ended.is_set()
        # A batch before the first text must not wait for others: the first text would wait behind it.
        urgent = self._due.is_set() or not self._has_text
        self._due.clear()
        events = [self._excerpts.keep_event(event) for event in self.events[self._batched :]]
        frames = tuple(self._encoder.encode(first + index, event) for index, event in enumerate(events))
        self._batched = len(self.events)
        self._number += 1
        return ports.LogBatch(
            number=self._number,
            first_sequence=first,
            frames=frames,
            ended=ended,
            excerpts=self._excerpts.used_in(*(frame.decode() for frame in frames)),
            urgent=urgent,
        )

    def _frees_key(self) -> bool:
        last = self.events[-1] if self.events else None
        return self._opening.key is not None and isinstance(last, Problem) and last.retryable


async def watch_signals(logs: Mapping[str, ports.AnswerLog], running: RunningAnswers) -> None:
    """Read every second which running answers other tasks cancel or follow, until cancelled."""
    while True:
        await asyncio.sleep(_SIGNALS_INTERVAL_S)
        for tenant, log in logs.items():
            answers = running.logged(tenant)
            ids = list(answers)
            for start in range(0, len(ids), _SIGNALS_AT_ONCE):
                await _read_signals(log, {id_: answers[id_] for id_ in ids[start : start + _SIGNALS_AT_ONCE]})


async def _read_signals(log: ports.AnswerLog, answers: Mapping[str, RunningAnswer]) -> None:
    try:
        async with asyncio.timeout(_SIGNALS_TIMEOUT_S):
            found = await log.signals(list(answers))
    except (AssistantError, TimeoutError) as error:
        _log.warning("signals_not_read", error=type(error).__name__)
        return
    for answer_id, signals in found.items():
        answers[answer_id].note_remote_readers(signals.readers)
        if signals.cancelled:
            answers[answer_id].cancel(Cause.CANCELLED)


@dataclass(slots=True)
class AnswerObserver:
    """Counts the events of one answer."""

    metrics: ServiceMetrics
    tenant: str
    started_s: float
    clock: Clock
    finish_reason: str | None = None
    first_token_s: float | None = None
    """From the request to the first token; None before it."""
    fallback: str | None = None
    """Why a quote replaced written text."""

    @property
    def model_failed(self) -> bool:
        """Whether the model was unavailable, late or interrupted; a failed check of its text is not that."""
        return self.fallback is not None and self.fallback not in FAILED_CHECKS

    def see(self, event: AnswerEvent) -> None:
        if isinstance(event, Token):
            if self.first_token_s is None:
                self.first_token_s = self.elapsed_s()
                self.metrics.first_token.labels(self.tenant).observe(self.first_token_s)
        elif isinstance(event, Done):
            self._count(event.finish_reason.value)
            self.fallback = event.fallback
            if event.fallback is not None:
                self.metrics.fallbacks.labels(self.tenant, event.fallback).inc()
            self.metrics.live.count_sources(self.tenant, event.asked)
            self.metrics.live.use(self.tenant, _used(event, seconds=self.elapsed_s()))
            for step, milliseconds in event.timings_ms.items():
                self.metrics.step.labels(self.tenant, step).observe(milliseconds / 1000)
        elif isinstance(event, Problem):
            self._count(event.code)
            if event.code == AssistantError.code:
                self.metrics.count_internal_error()

    def end(self) -> None:
        """Count the answer as disconnected unless it has ended by an event."""
        if self.finish_reason is None:
            self._count("disconnected")

    def elapsed_s(self) -> float:
        return self.clock.monotonic_s() - self.started_s

    def _count(self, finish_reason: str) -> None:
        self.finish_reason = finish_reason
        self.metrics.answers.labels(self.tenant, finish_reason).inc()


def _used(done: Done, *, seconds: float) -> dict[str, float]:
    return {
        WRITTEN_ANSWERS if done.mode is Mode.WRITTEN else QUOTED_ANSWERS: 1,
        PROMPT_TOKENS: done.usage.prompt_tokens,
        COMPLETION_TOKENS: done.usage.completion_tokens,
        ANSWER_SECONDS: seconds,
    }


_GRACE_S = 5.0
"""Added to the answer's deadline, for its last event."""
_REMOTE_READER_S = 4.0
"""A follower on another task signals every 2 s: one of its signals may be lost."""


class RunningAnswer:
    """One answer while it is written. Its own task reads the events, so no reader can slow it down.

    When its last reader leaves, an answer with a log goes on for ``resume_window_s``; one without a log ends
    at once.
    """

    def __init__(
        self,
        prepared: PreparedAnswer,
        events: AsyncGenerator[AnswerEvent, None],
        *,
        observer: AnswerObserver,
        limits: StreamLimits,
        log: LoggedAnswer | None = None,
    ) -> None:
        self.prepared = prepared
        self.log = log
        self._events = events
        self._observer = observer
        self._limits = limits
        self._window_s = prepared.request.resume_window_s if log else 0
        self._readers: list[Outbox] = []
        self._remote_readers = 0
        self._sequence = 0
        """Sequence of the last event that readers got; the log may be one ahead."""
        self._leaving: asyncio.TimerHandle | None = None
        self.task = asyncio.create_task(self._write())

    @contextmanager
    def reading(self, gone: asyncio.Task[None], *, after: int = 0) -> Generator[Reading]:
        """Give one reader the events after a sequence. It counts as having left when ``gone`` ends."""
        outbox = self._attach(after=after)

        def leave(task: asyncio.Task[None]) -> None:
            if task.cancelled():
                return
            self._detach(outbox)
            if not self._readers:
                self._end_after(self._window_s)

        gone.add_done_callback(leave)
        try:
            prepared = self.prepared
            yield Reading(prepared.answer_id, outbox, self.remaining_s())
        finally:
            self._detach(outbox)

    def note_remote_readers(self, count: int) -> None:
        """Take the count of signals from readers on other tasks: a higher one restarts the resume window."""
        if count > self._remote_readers:
            self._remote_readers = count
            if self._leaving is not None:
                self._stay()
                self._end_after(max(self._window_s, _REMOTE_READER_S))

    def cancel(self, cause: Literal[Cause.CANCELLED, Cause.DISCONNECTED] = Cause.CANCELLED) -> None:
        self.prepared.cancel(cause)

    def remaining_s(self) -> float:
        """Return the most seconds that the answer may still take."""
        return self.prepared.scope.deadline.remaining_s() + _GRACE_S

    def _attach(self, *, after: int) -> Outbox:
        """Return the outbox of a new reader. Only a logged answer still has events of before."""
        outbox = Outbox(limit_bytes=self._limits.outbox_bytes)
        if self.log is not None:
            handed_out = self.log.events[after : self._sequence]
            for sequence, event in enumerate(handed_out, start=after + 1):
                outbox.put(sequence, event)
        if self.task.done():
            outbox.close()
        self._readers.append(outbox)
        self._stay()
        return outbox

    def _detach(self, outbox: Outbox) -> None:
        if outbox in self._readers:
            self._readers.remove(outbox)
        outbox.close()

    def _end_after(self, seconds: float) -> None:
        if seconds <= 0:
            self.cancel(Cause.DISCONNECTED)
        elif self._leaving is None:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(seconds, self.cancel, Cause.DISCONNECTED)

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    async def _write(self) -> None:
        last: AnswerEvent | None = None
        try:
            async with asyncio.timeout(self.remaining_s()), aclosing(self._events) as events:
                async for event in events:
                    last = event
                    if self.log is not None and self.log.put(event):
                        await self.log.first_text_kept()
                    if self.log is not None and isinstance(event, Done) and not event.recorded:
                        await self.log.all_kept()  # if this task dies, another makes the record from it
                    self._hand_out(event)
        except Exception:  # noqa: BLE001 - an edge: the reader gets an error event, the log the exception
            _log.exception("answer_failed", answer_id=self.prepared.answer_id)
            last = INTERNAL_PROBLEM
            self._end_with(last)
        finally:
            self._finish(last)

    def _hand_out(self, event: AnswerEvent) -> None:
        self._sequence += 1
        self._observer.see(event)
        for outbox in self._readers:
            outbox.put(self._sequence, event)

    def _end_with(self, problem: Problem) -> None:
        if self.log is not None:
            for event in self.log.events[self._sequence :]:  # in the log, not sent: its wait was cancelled
                self._hand_out(event)
            self.log.put(problem)
        self._hand_out(problem)

    def _finish(self, last: AnswerEvent | None) -> None:
        self._stay()
        self._observer.end()
        if self.log is not None:
            if not isinstance(last, Done | Problem):  # tells a resuming reader why the answer ended
                self.log.put(problem_of(_NOBODY_READ))
            self.log.end()
        for outbox in self._readers:
            outbox.close()
        first_token_s = self._observer.first_token_s
        _log.info(
            ANSWER_ENDED,
            answer_id=self.prepared.answer_id,
            tenant=self.prepared.identity.tenant,
            took_ms=round(self._observer.elapsed_s() * 1000),
            fallback=self._observer.fallback,
            **{
                FINISH_REASON: self._observer.finish_reason,
                MODEL_FAILED: self._observer.model_failed,
                FIRST_TOKEN_MS: None if first_token_s is None else round(first_token_s * 1000),
            },
        )


_ROUNDING_S = 1e-6
_RETRY_AFTER_S = 2.0
"""For an agent who asks too much at once."""


class Admission:
    """Limits one tenant's answers in progress in this process, in total and per agent."""

    def __init__(self, limits: LimitsSection) -> None:
        self._limits = limits
        self._active: Counter[str] = Counter()

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
            self._active -= Counter([agent])  # keeps the agents that have a place

        return leave


RateKind = Literal["questions", "writes", "reads"]
_MINUTE_S = 60.0
_MOST_COUNTED = 20_000
"""Agents and kinds of requests: about 6 MB."""


class AgentRates:
    """Limits how often each agent calls this process: a minute's requests at once, then one after another.

    The memory is bounded: above ``most_counted`` agents and kinds, those that called longest ago are
    forgotten, and may call a minute's worth again.
    """

    def __init__(self, *, clock: Clock, most_counted: int = _MOST_COUNTED) -> None:
        self._clock = clock
        self._most_counted = most_counted
        self._paid_until_s: OrderedDict[tuple[str, str, RateKind], float] = OrderedDict()
        """When all requests so far would have come, one after another; the latest caller is last."""

    def count(self, identity: Identity, kind: RateKind, limits: LimitsSection) -> None:
        """Count one request. Raises OverloadedError for one over the rate, which is not counted."""
        now_s = self._clock.monotonic_s()
        caller: tuple[str, str, RateKind] = (identity.tenant, identity.agent, kind)
        per_minute: int = getattr(limits, f"{kind}_per_minute")
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


class RunningAnswers:
    """The answers that this process writes, by tenant and id."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], RunningAnswer] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[RunningAnswer]:
        return iter(tuple(self._answers.values()))

    def add(self, answer: RunningAnswer) -> None:
        self._answers[answer.prepared.identity.tenant, answer.prepared.answer_id] = answer

    def remove(self, answer: RunningAnswer) -> None:
        del self._answers[answer.prepared.identity.tenant, answer.prepared.answer_id]

    def find(self, answer_id: str, *, identity: Identity) -> RunningAnswer | None:
        """Return the answer if this process writes it and it is the caller's own."""
        answer = self._answers.get((identity.tenant, answer_id))
        return answer if answer and answer.prepared.identity.agent == identity.agent else None

    def logged(self, tenant: str) -> dict[str, RunningAnswer]:
        """Return the tenant's answers that other tasks can follow or cancel through their log, by id."""
        return {
            answer_id: answer
            for (name, answer_id), answer in self._answers.items()
            if name == tenant and answer.log is not None
        }


_NOT_KEPT = "The events of this answer were not kept, or have expired; read the answer itself."
_FOLLOW_GRACE_S = 30.0
"""Added to the answer's deadline: an owner that is gone is detected within its lease."""
LEASE_S = 5.0
"""The task that writes an answer is gone when it wrote no batch for this long, by the follower's clock. It
writes a batch about every second; a batch that is late by a timeout of the store (3 s) is in time."""
_OPENING_LEASE_S = 15.0
"""The same before the first batch: preparing an answer has its own limits, 13 s by default."""
_POLL_S = 0.4
_SIGNAL_INTERVAL_S = 2.0
_LOOK_EVERY_S = 10.0
"""Between two looks at answers without a record: one that was left is on record within half a minute."""
_TIMEOUT_S = 3.0
_STORE_DOWN = errors.RecordsUnavailableError("Cannot read the rest of the answer now. Resume it shortly.")


def record_of_log(reading: ports.LogReading, *, now: datetime) -> AnswerRecord:
    """Return the record in the log's opening, completed by the logged sources, text, sentences and end: of an
    answer without an end that of an interrupted one. Texts of documents stay excerpts."""
    frames = [frame for batch in reading.batches for frame in batch.frames]
    excerpts = {excerpt.mark: excerpt for batch in reading.batches for excerpt in batch.excerpts}
    events = [event for frame in frames if (event := decode_event(frame)) is not None]
    sources = [source for event in events if isinstance(event, Sources) for source in event.sources]
    written = written_part(events)
    done = next((event for event in events if isinstance(event, Done)), None)
    return AnswerRecord.model_validate_json(reading.opening.context).model_copy(
        update={
            **written,
            "finished_at": now,
            "passages": tuple(map(_use_of, sources)),
            "elements": tuple(map(use_of, written["elements"])),
            "excerpts": tuple(excerpts.values()),
            **({} if done is None else _ended_by(done)),
        }
    )


def _ended_by(done: Done) -> dict[str, object]:
    ending = {name: getattr(done, name) for name in AnswerEnding.model_fields}
    known = {"finish_reason": done.finish_reason, "usage": done.usage, "timings_ms": done.timings_ms}
    return {"outcome": Outcome.DONE, "error_code": None, **ending, **known}


def _use_of(source: Source) -> PassageUse:
    """Return a passage's use from a logged source. The log does not have the retrieval's scores."""
    return PassageUse(
        passage_id="",
        document_id=source.document_id,
        content_hash=source.content_hash,
        text_hash="",
        n=source.n,
        rank=source.n,
        fused_score=source.score,
        lexical_rank=None,
        lexical_score=None,
        vector_rank=None,
        cosine=None,
        in_prompt=False,
        title=source.title,
        span=source.span,
        url=source.url,
        source=source.source,
    )


async def settle_lapsed(
    answer_id: str, *, log: ports.AnswerLog, records: ports.AnswerRecords, clock: Clock
) -> AssistantError:
    """Settle an answer whose writing task is gone, within 3 s; return the error for its readers.

    When the task had recorded a whole answer, only its last events are lost: the record and the key stay.
    Otherwise record what the log has, and free the key. An error of the store is logged: ``LeftAnswers``
    tries again.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            if await _is_whole_on_record(answer_id, log=log, records=records, clock=clock):
                return errors.NotResumableError(
                    "The answer is complete, but its last events were lost with the task that wrote it. Read"
                    f" it: GET /v1/answers/{answer_id}."
                )
    except (AssistantError, TimeoutError) as error:
        _log.warning("interrupted_answer_not_recorded", answer_id=answer_id, error=type(error).__name__)
    return errors.AnswerInterruptedError(
        "The task that wrote this answer ended before the answer did. No event follows. Ask again."
    )


async def _is_whole_on_record(
    answer_id: str, *, log: ports.AnswerLog, records: ports.AnswerRecords, clock: Clock
) -> bool:
    """Record what the log has of an answer without a whole record."""
    record = await records.get_answer(answer_id)
    if record is not None and record.outcome is Outcome.DONE:
        return True
    reading = await log.read(answer_id)
    return reading is not None and await _record(reading, log=log, records=records, clock=clock)


async def _record(
    reading: ports.LogReading, *, log: ports.AnswerLog, records: ports.AnswerRecords, clock: Clock
) -> bool:
    """Record what the log has, and return whether that is a whole answer; free the key of one that is not."""
    record = record_of_log(reading, now=clock.now())
    await records.put_interrupted(record)
    if record.outcome is not Outcome.DONE:
        await log.free_key(reading.opening)
    return record.outcome is Outcome.DONE


class LeftAnswers:
    """Puts on record the answers that a task left without a record: it ended before they did, or while their
    records waited for the store. No reader may come back to them, and their logs expire."""

    def __init__(self, tenants: Mapping[str, ServedTenant], running: RunningAnswers, *, clock: Clock) -> None:
        self._tenants, self._running, self._clock = tenants, running, clock
        self._seen: dict[str, dict[str, tuple[int, float]]] = {}
        """By tenant and answer without a record: the number of its last batch, and since when it is that."""

    async def run(self) -> None:
        """Look every 10 s, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            for name, tenant in self._tenants.items():
                try:
                    await self._look(name, tenant)
                except (AssistantError, TimeoutError) as error:  # the next look goes on
                    _log.warning("left_answers_not_looked_at", tenant=name, error=type(error).__name__)

    async def _look(self, name: str, tenant: ServedTenant) -> None:
        async with asyncio.timeout(_TIMEOUT_S):
            unsettled = await tenant.log.unsettled()
        before, here = self._seen.get(name, {}), self._running.logged(name)
        seen = self._seen[name] = {one: before[one] for one in unsettled if one in before}
        for answer_id in unsettled:
            if answer_id not in here:
                try:
                    async with asyncio.timeout(_TIMEOUT_S):
                        await self._look_at(answer_id, tenant, seen)
                except ValueError:  # of a newer release, whose own tasks can read it
                    _log.warning("left_answer_not_understood", answer_id=answer_id)

    async def _look_at(
        self, answer_id: str, tenant: ServedTenant, seen: dict[str, tuple[int, float]]
    ) -> None:
        log, records, now_s = tenant.log, tenant.answering.records, self._clock.monotonic_s()
        is_recorded = await records.get_answer(answer_id) is not None
        reading = None if is_recorded else await log.read(answer_id)
        if reading is not None:
            batch = reading.batches[-1].number if reading.batches else 0
            last, since_s = seen.get(answer_id, (batch, now_s))
            if last != batch or now_s - since_s < _OPENING_LEASE_S:
                seen[answer_id] = batch, since_s if last == batch else now_s
                return
            await _record(reading, log=log, records=records, clock=self._clock)
            _log.warning("left_answer_recorded", answer_id=answer_id)
        await log.settled(answer_id)


class KeptEvents:
    """Fills the excerpts in one log's batches with the documents' current texts, for one reader."""

    def __init__(self, texts: ports.DocumentTexts, *, labels: frozenset[str]) -> None:
        self._texts = texts
        self._labels = labels
        self._shown: set[str] = set()
        """Documents that the answer has shown so far, to this reader or an earlier one."""

    async def frames(self, batches: Sequence[ports.LogBatch]) -> list[Sequence[bytes]]:
        """Return each batch's frames, byte for byte as they were sent first.

        Raises WithdrawnError when the reader may no longer read a document that the answer has shown so far;
        DependencyError.
        """
        excerpts = {excerpt.mark: excerpt for batch in batches for excerpt in batch.excerpts}
        read = {excerpt.document_id for excerpt in excerpts.values()}
        if any(batch.frames for batch in batches):
            await refuse_withdrawn(self._shown - read, self._texts, labels=self._labels)
        self._shown |= read
        found = await read_excerpts(list(excerpts.values()), self._texts, labels=self._labels)
        texts = {mark: text for mark, text in found.items() if text is not None}
        if len(texts) < len(found):
            raise _withdrawn()
        return [_filled(batch, texts) for batch in batches]


def _filled(batch: ports.LogBatch, texts: Mapping[int, str]) -> Sequence[bytes]:
    if not batch.excerpts:
        return batch.frames
    return [
        fill(frame.decode(), texts, encode=lambda text: orjson.dumps(text)[1:-1].decode()).encode()
        for frame in batch.frames
    ]


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


def _withdrawn() -> errors.WithdrawnError:
    return errors.WithdrawnError(
        "A document that this answer shows was withdrawn, or you may no longer read it. The answer is not"
        " sent again. Ask again."
    )


@dataclass(eq=False)
class LogFollower:
    """An ``EventReader`` over an ``AnswerLog``: the events after a sequence, then all that follow.

    The owner is the task that writes the answer. When its lease lapses, the follower ends with an ``error``
    event for the error that ``on_lapse`` returns. The event has no id, because it is not in the log. A reader
    who may no longer read a document that the answer shows gets ``error`` ``withdrawn``, also without an id.
    ``stop`` ends the follower without a last event, so that its reader resumes on another task;
    ``judge_owner`` can go on after that.
    """

    log: ports.AnswerLog
    reading: InitVar[ports.LogReading]
    after: int
    clock: Clock
    on_lapse: Callable[[], Awaitable[AssistantError]]
    kept: KeptEvents
    is_judged: bool = False
    """Whether the owner wrote since this follower began, or is known to be gone."""
    _batch: int = 0
    _signalled_s: float = float("-inf")
    _unshown_since_s: float | None = None
    _ended: bool = False

    def __post_init__(self, reading: ports.LogReading) -> None:
        self._answer_id = reading.opening.answer_id
        self._unread = reading.batches
        self._renewed_s = self._read_s = self.clock.monotonic_s()

    def stop(self) -> None:
        self._ended = True

    async def take(self, *, beat_s: float) -> list[Numbered] | None:
        due_s = self.clock.monotonic_s() + beat_s
        while not self._ended:
            events = await self._show_unread()
            if not events and not self._ended:
                events = await self._check_lease()
            if events:
                return events
            if self._ended:
                break
            if self.clock.monotonic_s() >= due_s:
                return []
            await asyncio.sleep(_POLL_S)
            await self._poll()
        return None

    async def judge_owner(self) -> None:
        """Return when the owner wrote a batch, or its lease lapsed and ``on_lapse`` was called.

        Without this, a caller who always leaves before the lease lapses would never free its key.

        The end of a reader, or a store that is down, says nothing about the owner: go on polling."""
        self._take_unread()
        self._signalled_s = float("inf")  # send no more signals: the reader has left
        while not self.is_judged:
            await self._check_lease()
            if not self.is_judged:
                await asyncio.sleep(_POLL_S)
                await self._poll()

    async def _show_unread(self) -> list[Numbered]:
        """Return the events of the unread batches; a last event when a document that they show was withdrawn.
        While the documents cannot be read, the batches wait."""
        if not self._unread:
            return []
        try:
            framed = await self.kept.frames(self._unread)
        except errors.WithdrawnError as error:
            self._take_unread()
            self._ended = True
            return [(0, problem_of(error))]
        except AssistantError as error:
            _log.warning("texts_not_read", answer_id=self._answer_id, code=error.code)
            return self._without_texts()
        self._unshown_since_s = None
        events: list[Numbered] = [
            (sequence, EncodedEvent(frame))
            for batch, frames in zip(self._unread, framed, strict=True)
            for sequence, frame in enumerate(frames, start=batch.first_sequence)
            if sequence > self.after
        ]
        self._take_unread()
        return events

    def _without_texts(self) -> list[Numbered]:
        now_s = self.clock.monotonic_s()
        self._renewed_s = now_s  # the owner wrote; only its text cannot be shown
        self._unshown_since_s = now_s if self._unshown_since_s is None else self._unshown_since_s
        if now_s - self._unshown_since_s <= LEASE_S:
            return []
        self._ended = True
        return [(0, problem_of(_STORE_DOWN))]

    def _take_unread(self) -> None:
        for batch in self._unread:
            self._batch, self._renewed_s = batch.number, self.clock.monotonic_s()
            self._ended = self._ended or batch.ended
            self.is_judged = self.is_judged or batch.ended
        self._unread = ()

    async def _check_lease(self) -> list[Numbered]:
        """Return a last event when the log cannot be read or its owner is gone; the record exists then."""
        now_s = self.clock.monotonic_s()
        if now_s - self._read_s > LEASE_S:
            self._ended = True
            return [(0, problem_of(_STORE_DOWN))]
        if now_s - self._renewed_s > (LEASE_S if self._batch else _OPENING_LEASE_S):
            _log.warning("answer_interrupted", answer_id=self._answer_id)
            self.is_judged = True
            ended_by = await self.on_lapse()
            self._ended = True
            return [(0, problem_of(ended_by))]
        return []

    async def _poll(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._signal_owner()
                reading = await self.log.read(self._answer_id, after_batch=self._batch)
        except (AssistantError, TimeoutError) as error:
            _log.warning("log_not_read", answer_id=self._answer_id, error=type(error).__name__)
            return
        if reading is None:  # expired, or the answer failed before its first event
            self._renewed_s = float("-inf")
            return
        if self.clock.monotonic_s() - self._read_s > LEASE_S / 2:
            self._renewed_s = self.clock.monotonic_s()  # we could not poll: do not count the gap
        self._read_s = self.clock.monotonic_s()
        self._unread = reading.batches
        self.is_judged = self.is_judged or bool(reading.batches)

    async def _signal_owner(self) -> None:
        if self.clock.monotonic_s() - self._signalled_s >= _SIGNAL_INTERVAL_S:
            self._signalled_s = self.clock.monotonic_s()
            await self.log.signal_reader(self._answer_id)


@dataclass(frozen=True, slots=True)
class ResumedAnswers:
    """Opens readings of answers that a reader comes back to, written here or by another task."""

    tenants: Mapping[str, ServedTenant]
    running: RunningAnswers
    followers: set[LogFollower]
    admissions: Mapping[str, Admission]
    """Separate from those of new answers."""
    clock: Clock
    _judging: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])
    """By answer: waits for a sign of its owner after the reader left."""

    async def close(self) -> None:
        for task in self._judging.values():
            task.cancel()
        await asyncio.gather(*self._judging.values(), return_exceptions=True)

    @asynccontextmanager
    async def follow(
        self, answer_id: str, identity: Identity, gone: asyncio.Task[None], *, after: int
    ) -> AsyncGenerator[Reading]:
        """Give the events after a sequence of an answer of the caller's own.

        Raises NotFoundError, NotResumableError (its events were not kept, or have expired), OverloadedError,
        RecordsUnavailableError.
        """
        answer = self.running.find(answer_id, identity=identity)
        if answer is None:
            async with self._follow_log(answer_id, identity, gone, after=after) as reading:
                yield reading
            return
        if answer.log is None:
            raise errors.NotResumableError(_NOT_KEPT)
        shown = {ranked.passage.document_id for ranked in answer.prepared.found.sources.passages}
        texts = self.tenants[identity.tenant].answering.documents.texts
        try:
            await refuse_withdrawn(shown, texts, labels=identity.labels)
        except errors.WithdrawnError as error:
            last = Outbox()  # the answer is not sent again
            last.put(0, problem_of(error))
            last.close()
            yield Reading(answer_id, last, answer.remaining_s())
            return
        with answer.reading(gone, after=after) as reading:
            yield reading

    @asynccontextmanager
    async def _follow_log(
        self, answer_id: str, identity: Identity, gone: asyncio.Task[None], *, after: int
    ) -> AsyncGenerator[Reading]:
        tenant = self.tenants[identity.tenant]
        records = tenant.answering.records
        log_reading = await _own_log(tenant, answer_id, identity)
        leave = self.admissions[identity.tenant].enter(identity.agent)
        follower = LogFollower(
            tenant.log,
            log_reading,
            after=after,
            clock=self.clock,
            on_lapse=partial(settle_lapsed, answer_id, log=tenant.log, records=records, clock=self.clock),
            kept=KeptEvents(tenant.answering.documents.texts, labels=identity.labels),
        )
        gone.add_done_callback(lambda _: follower.stop())
        self.followers.add(follower)
        try:
            limit_s = tenant.answering.tenant.limits.answer_deadline_s + _FOLLOW_GRACE_S
            yield Reading(answer_id, follower, limit_s)
        finally:
            self.followers.discard(follower)
            leave()
            if not follower.is_judged and answer_id not in self._judging:
                task = self._judging[answer_id] = asyncio.create_task(follower.judge_owner())
                task.add_done_callback(lambda _: self._judging.pop(answer_id))


async def _own_log(tenant: ServedTenant, answer_id: str, identity: Identity) -> ports.LogReading:
    """Return the log of the caller's own answer. Raises NotResumableError, NotFoundError."""
    reading = await tenant.log.read(answer_id)
    if reading is not None and reading.opening.agent == identity.agent:
        return reading
    record = await tenant.answering.records.get_answer(answer_id)
    if reading is None and record is not None and record.agent == identity.agent:
        raise errors.NotResumableError(_NOT_KEPT)
    raise errors.NotFoundError(NOT_FOUND)
