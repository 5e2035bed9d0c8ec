"""Reading an answer that another task writes, or wrote, from its event log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from assistant.answering.ports import AnswerLog, LogReading
from assistant.domain.clock import Clock
from assistant.domain.errors import AnswerInterruptedError, AssistantError, RecordsUnavailableError
from assistant.service.event_encoding import EncodedEvent
from assistant.service.outbox import Numbered
from assistant.service.problems import problem_of

LEASE_S = 5.0
"""An owner that wrote no batch for so long, by the follower's own clock, is gone. Batches come about every
second; one that is late by a time-out of the store (3 s) is still in time."""
_POLL_S = 0.4
_READ_TIMEOUT_S = 3.0
_SIGNAL_INTERVAL_S = 2.0
_log = structlog.get_logger(__name__)

_INTERRUPTED = AnswerInterruptedError(
    "The task that wrote this answer ended before the answer did: nothing follows. Ask again."
)
_STORE_DOWN = RecordsUnavailableError("The rest of the answer cannot be read just now; come back to it.")


class LogFollower:
    """An ``EventReader`` over an ``AnswerLog``: the events after a sequence, then all that follow.

    When the owner's lease lapses it calls ``on_lapse`` and ends with an ``error`` event ``interrupted`` that
    has no id: in the answer's own numbering nothing was written. ``stop`` ends it without an end, so that its
    reader comes back on another task.
    """

    def __init__(
        self,
        log: AnswerLog,
        reading: LogReading,
        *,
        after: int,
        clock: Clock,
        on_lapse: Callable[[], Awaitable[None]],
    ) -> None:
        self._on_lapse = on_lapse
        self._log = log
        self._answer_id = reading.opening.answer_id
        self._after = after
        self._clock = clock
        self._unread = reading.batches
        self._batch = 0
        self._renewed_s = clock.monotonic_s()
        self._read_s = clock.monotonic_s()
        self._signalled_s = float("-inf")
        self._ended = False

    def stop(self) -> None:
        self._ended = True

    async def take(self, *, beat_s: float) -> list[Numbered] | None:
        due_s = self._clock.monotonic_s() + beat_s
        while not self._ended:
            found = self._take_unread() or await self._lapse()
            if found:
                return found
            if self._ended:
                break
            if self._clock.monotonic_s() >= due_s:
                return []
            await asyncio.sleep(_POLL_S)
            await self._poll()
        return None

    def _take_unread(self) -> list[Numbered]:
        found: list[Numbered] = []
        for batch in self._unread:
            self._batch, self._renewed_s = batch.number, self._clock.monotonic_s()
            self._ended = self._ended or batch.ended
            for sequence, frame in enumerate(batch.frames, start=batch.first_sequence):
                if sequence > self._after:
                    found.append((sequence, EncodedEvent(frame)))
        self._unread = ()
        return found

    async def _lapse(self) -> list[Numbered]:
        """Return the last event when nothing more can come. A reader who sees it finds the record."""
        if self._ended:
            return []
        now_s = self._clock.monotonic_s()
        if now_s - self._read_s > LEASE_S:
            self._ended = True
            return [(0, problem_of(_STORE_DOWN))]
        if now_s - self._renewed_s > LEASE_S:
            _log.warning("answer_interrupted", answer_id=self._answer_id)
            await self._on_lapse()
            self._ended = True
            return [(0, problem_of(_INTERRUPTED))]
        return []

    async def _poll(self) -> None:
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                await self._tell_owner()
                reading = await self._log.read(self._answer_id, after_batch=self._batch)
        except (AssistantError, TimeoutError) as error:
            _log.warning("log_not_read", answer_id=self._answer_id, error=type(error).__name__)
            return
        if reading is None:  # it expired, or its answer failed before the first event
            self._renewed_s = float("-inf")
            return
        if self._clock.monotonic_s() - self._read_s > LEASE_S / 2:
            self._renewed_s = self._clock.monotonic_s()  # who could not look cannot say that nothing came
        self._read_s = self._clock.monotonic_s()
        self._unread = reading.batches

    async def _tell_owner(self) -> None:
        if self._clock.monotonic_s() - self._signalled_s >= _SIGNAL_INTERVAL_S:
            self._signalled_s = self._clock.monotonic_s()
            await self._log.signal_reader(self._answer_id)
