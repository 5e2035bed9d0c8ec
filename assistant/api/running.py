"""Answers that this process writes: their events are numbered, logged and put into each reader's outbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import aclosing, contextmanager

import structlog

from assistant.answering.events import AnswerEvent, Cause, Done, Problem, Token
from assistant.answering.excerpts import Excerpts
from assistant.answering.ports import AnswerLog, LogBatch, LogOpening
from assistant.answering.prepare import PreparedAnswer
from assistant.api.delivery import EventEncoder, Outbox, Reading
from assistant.api.errors import internal_problem, problem_of
from assistant.api.health import AnswerObserver
from assistant.api.limits import StreamLimits
from assistant.domain.errors import AnswerInterruptedError, AssistantError
from assistant.domain.identity import Identity
from assistant.settings.deployed_names import ANSWER_ENDED, FINISH_REASON, FIRST_TOKEN_MS, MODEL_FAILED

BATCH_INTERVAL_S = 0.9
"""With a follower's poll of 0.4 s and two calls to the store, a follower is at most 1.5 s behind."""
_FIRST_TEXT_WAIT_S = 0.1
"""What the first text waits for its batch. A store that is slower costs the agent no more than this."""
_APPEND_TIMEOUT_S = 3.0
_RETRY_S = 0.3
_LAST_BATCH_S = 10.0
"""How long the end of a log is tried before its followers are left to its lease."""
_SIGNALS_INTERVAL_S = 1.0
_SIGNALS_TIMEOUT_S = 3.0
_SIGNALS_AT_ONCE = 100
_log = structlog.get_logger(__name__)


class LoggedAnswer:
    """Writes one answer's events to its log: the first event and the first text at once, then a batch about
    every second.

    A key does not stand for an answer that ends with a retryable error: it is freed before the last batch, so
    that the same request begins anew.

    The log gets documents' texts as excerpts, readers what was made.

    A batch that was not acknowledged is written again as it was: under one number nothing else may stand.
    What the store does not take waits here; it is bounded by the answer's own text.
    """

    def __init__(self, log: AnswerLog, opening: LogOpening, *, excerpts: Excerpts) -> None:
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
        """Take the next event. True for the first text: ``first_text_kept`` is awaited before an agent reads
        it."""
        self.events.append(event)
        is_first_text = not self._has_text and isinstance(event, Token)
        if is_first_text or len(self.events) == 1:
            self._has_text = is_first_text
            self._due.set()
        return is_first_text

    async def first_text_kept(self) -> None:
        """Return when the first text is in the log, or after 0.1 s: what an agent has read then survives the
        process."""
        await _set_within(self._text_kept, _FIRST_TEXT_WAIT_S)

    def end(self) -> None:
        """Nothing more is put: the last batch goes out at once."""
        self._ended.set()
        self._due.set()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            # All answers of the process write at the same instants, so that their batches share store calls.
            # The next instant counts from the beginning of a write: when a slow write passes it, the next
            # batch follows at once.
            due_s += BATCH_INTERVAL_S - due_s % BATCH_INTERVAL_S
            await _set_within(self._due, due_s - loop.time())
            due_s = loop.time()
            batch, has_text = self._next_batch(), self._has_text
            if not await self._append(batch) or batch.ended:
                return
            if has_text:
                self._text_kept.set()

    async def _append(self, batch: LogBatch) -> bool:
        """Write the batch, again and again; say whether the store took it while that was still of use."""
        is_told = False
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
                if not is_told:
                    is_told = True
                    code = error.code if isinstance(error, AssistantError) else "timeout"
                    _log.warning("events_not_logged", answer_id=self._answer_id, code=code)
            if self._ended.is_set():
                give_up_s = give_up_s or loop.time() + _LAST_BATCH_S
                if loop.time() >= give_up_s:
                    return False
            await asyncio.sleep(_RETRY_S)

    def _next_batch(self) -> LogBatch:
        first, ended, urgent = self._batched + 1, self._ended.is_set(), self._due.is_set()
        self._due.clear()
        events = [self._excerpts.keep_event(event) for event in self.events[self._batched :]]
        frames = tuple(self._encoder.encode(first + index, event) for index, event in enumerate(events))
        self._batched = len(self.events)
        self._number += 1
        return LogBatch(
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


class SignalWatch:
    """Asks the logs once a second what other tasks tell of the answers that are written here."""

    def __init__(self, logs: Mapping[str, AnswerLog], running: RunningAnswers) -> None:
        self._logs = logs
        self._running = running

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_SIGNALS_INTERVAL_S)
            for tenant, log in self._logs.items():
                writings = self._running.logged(tenant)
                ids = list(writings)
                for start in range(0, len(ids), _SIGNALS_AT_ONCE):
                    await self._ask(log, {name: writings[name] for name in ids[start:][:_SIGNALS_AT_ONCE]})

    async def _ask(self, log: AnswerLog, writings: Mapping[str, RunningAnswer]) -> None:
        try:
            async with asyncio.timeout(_SIGNALS_TIMEOUT_S):
                found = await log.signals(list(writings))
        except (AssistantError, TimeoutError) as error:
            _log.warning("signals_not_read", error=type(error).__name__)
            return
        for answer_id, signals in found.items():
            writings[answer_id].reader_elsewhere(signals.readers)
            if signals.cancelled:
                writings[answer_id].cancel(Cause.CANCELLED)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


# One answer while it is written: its events are numbered, logged and handed to whoever reads.


_GRACE_S = 5.0
"""Beyond the answer's own deadline, for its last event."""
_READER_ELSEWHERE_S = 4.0
"""A reader on another task tells of itself every 2 s: two of its signals may be lost."""


class RunningAnswer:
    """Reads an answer's events in a task of its own, so that no reader can slow it down.

    With a log it goes on for ``resume_window_s`` after its last reader left; without one it ends at once.
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
        self._readers_elsewhere = 0
        self._sequence = 0
        """Of the last event that readers were given; the log may be one ahead."""
        self._leaving: asyncio.TimerHandle | None = None
        self.task = asyncio.create_task(self._write())

    def attach(self, *, after: int = 0) -> Outbox:
        """Return a new reader's box: the events after a sequence (only a logged answer keeps those that
        were), then all that follow."""
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

    @contextmanager
    def reading(self, gone: asyncio.Task[None], *, after: int = 0) -> Generator[Reading]:
        """Give one reader the events after a sequence. It counts as having left when ``gone`` ends."""
        outbox = self.attach(after=after)

        def leave(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                self.leave(outbox)

        gone.add_done_callback(leave)
        try:
            prepared = self.prepared
            yield Reading(prepared.answer_id, outbox, self.remaining_s(), certainty=prepared.certainty)
        finally:
            self.detach(outbox)

    def detach(self, outbox: Outbox) -> None:
        """The reader takes nothing more. The answer goes on."""
        if outbox in self._readers:
            self._readers.remove(outbox)
        outbox.close()

    def leave(self, outbox: Outbox) -> None:
        """The reader has left: without another one, and none coming back, the answer ends."""
        self.detach(outbox)
        if not self._readers:
            self._end_after(self._window_s)

    def reader_elsewhere(self, count: int) -> None:
        """Take note of how often readers on other tasks told of themselves: the window begins anew."""
        if count > self._readers_elsewhere:
            self._readers_elsewhere = count
            if self._leaving is not None:
                self._stay()
                self._end_after(max(self._window_s, _READER_ELSEWHERE_S))

    def cancel(self, cause: Cause = Cause.CANCELLED) -> None:
        self.prepared.interruption.interrupt(cause)

    def remaining_s(self) -> float:
        """Return how long at most the answer may still take."""
        return self.prepared.deadline.remaining_s() + _GRACE_S

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
                    self._hand_out(event)
        except Exception:  # noqa: BLE001 - an edge: the reader gets an end, the log the reason
            _log.exception("answer_failed", answer_id=self.prepared.answer_id)
            last = internal_problem()
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
            for event in self.log.events[self._sequence :]:  # put, and not handed out when its wait was cut
                self._hand_out(event)
            self.log.put(problem)
        self._hand_out(problem)

    def _finish(self, last: AnswerEvent | None) -> None:
        self._stay()
        self._observer.end()
        if self.log is not None:
            if not isinstance(last, Done | Problem):  # whoever comes back learns why nothing follows
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


_NOBODY_READ = AnswerInterruptedError("Nobody read the answer for its whole window, so it ended; ask again.")


# The answers that this process is writing, so that their owner can cancel them or come back to them.


class RunningAnswers:
    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], RunningAnswer] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[RunningAnswer]:
        return iter(tuple(self._answers.values()))

    def add(self, writing: RunningAnswer) -> None:
        self._answers[writing.prepared.identity.tenant, writing.prepared.answer_id] = writing

    def remove(self, writing: RunningAnswer) -> None:
        del self._answers[writing.prepared.identity.tenant, writing.prepared.answer_id]

    def find(self, answer_id: str, *, identity: Identity) -> RunningAnswer | None:
        """Return the answer if it is being written here and is the caller's own."""
        writing = self._answers.get((identity.tenant, answer_id))
        return writing if writing and writing.prepared.identity.agent == identity.agent else None

    def logged(self, tenant: str) -> dict[str, RunningAnswer]:
        """Return the tenant's answers that others may follow or cancel through their log, by id."""
        return {
            answer_id: writing
            for (name, answer_id), writing in self._answers.items()
            if name == tenant and writing.log is not None
        }
