"""The owner's side of an answer's event log: batches that keep its lease, and signals from other tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from assistant.answering.events import AnswerEvent, Problem, Token
from assistant.answering.excerpts import Excerpts
from assistant.answering.interruption import Cause
from assistant.answering.ports import AnswerLog, LogBatch, LogOpening
from assistant.api.event_encoding import EventEncoder
from assistant.domain.errors import AssistantError

if TYPE_CHECKING:
    from assistant.api.answer_writing import AnswerWriting
    from assistant.api.running_answers import RunningAnswers

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
        while True:
            # All answers of the process at the same instants: their batches then share calls of the store.
            await _set_within(self._due, BATCH_INTERVAL_S - loop.time() % BATCH_INTERVAL_S)
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

    async def _ask(self, log: AnswerLog, writings: Mapping[str, AnswerWriting]) -> None:
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
