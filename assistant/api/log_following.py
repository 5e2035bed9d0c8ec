"""Reading an answer that another task writes, or wrote, from its event log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from assistant.answering.ports import AnswerLog, LogReading
from assistant.api.event_encoding import EncodedEvent
from assistant.api.kept_events import KeptEvents
from assistant.api.outbox import Numbered
from assistant.api.problems import problem_of
from assistant.domain.clock import Clock
from assistant.domain.errors import (
    AssistantError,
    RecordsUnavailableError,
    WithdrawnError,
)

LEASE_S = 5.0
"""An owner that wrote no batch for so long, by the follower's own clock, is gone. Batches come about every
second; one that is late by a time-out of the store (3 s) is still in time."""
_OPENING_LEASE_S = 15.0
"""The same before the first batch: question, search and vectors have limits of their own, 13 s by default."""
_POLL_S = 0.4
_READ_TIMEOUT_S = 3.0
_SIGNAL_INTERVAL_S = 2.0
_log = structlog.get_logger(__name__)

_STORE_DOWN = RecordsUnavailableError("The rest of the answer cannot be read just now; come back to it.")


class LogFollower:
    """An ``EventReader`` over an ``AnswerLog``: the events after a sequence, then all that follow.

    When the owner's lease lapses it ends with an ``error`` event of what ``on_lapse`` returns, which has no
    id: in the answer's own numbering nothing was written. ``stop`` ends it without an end, so that its
    reader comes back on another task. ``judge_owner`` looks on after that. A reader who may not read a
    document any more that the answer shows gets ``error`` ``withdrawn``, also without an id.
    """

    def __init__(
        self,
        log: AnswerLog,
        reading: LogReading,
        *,
        after: int,
        clock: Clock,
        on_lapse: Callable[[], Awaitable[AssistantError]],
        kept: KeptEvents,
    ) -> None:
        self._on_lapse = on_lapse
        self._kept = kept
        self._log = log
        self._answer_id = reading.opening.answer_id
        self._after = after
        self._clock = clock
        self._unread = reading.batches
        self._batch = 0
        self._renewed_s = clock.monotonic_s()
        self._read_s = clock.monotonic_s()
        self._signalled_s = float("-inf")
        self._unshown_since_s: float | None = None
        self._ended = False
        self.is_judged = False
        """Whether the owner was heard of since this follower began, or is known to be gone."""

    def stop(self) -> None:
        self._ended = True

    async def take(self, *, beat_s: float) -> list[Numbered] | None:
        due_s = self._clock.monotonic_s() + beat_s
        while not self._ended:
            found = await self._show_unread()
            if not found and not self._ended:
                found = await self._lapse()
            if found:
                return found
            if self._ended:
                break
            if self._clock.monotonic_s() >= due_s:
                return []
            await asyncio.sleep(_POLL_S)
            await self._poll()
        return None

    async def judge_owner(self) -> None:
        """Return when the owner wrote a batch, or its lease lapsed and ``on_lapse`` was called. A caller who
        waits less than the lease and asks again and again would never free its key otherwise.

        A reader's end, before or after this began, says nothing of the owner; nor does a store that is down:
        that is waited for."""
        self._take_unread()
        self._signalled_s = float("inf")  # nobody reads any more
        while not self.is_judged:
            await self._lapse()
            if not self.is_judged:
                await asyncio.sleep(_POLL_S)
                await self._poll()

    async def _show_unread(self) -> list[Numbered]:
        """Return the events of the batches that were read; the last one when a document that they show was
        withdrawn. While the documents cannot be read, the batches wait."""
        if not self._unread:
            return []
        try:
            framed = await self._kept.frames(self._unread)
        except WithdrawnError as error:
            self._take_unread()
            self._ended = True
            return [(0, problem_of(error))]
        except AssistantError as error:
            _log.warning("texts_not_read", answer_id=self._answer_id, code=error.code)
            return self._without_texts()
        self._unshown_since_s = None
        found: list[Numbered] = [
            (sequence, EncodedEvent(frame))
            for batch, frames in zip(self._unread, framed, strict=True)
            for sequence, frame in enumerate(frames, start=batch.first_sequence)
            if sequence > self._after
        ]
        self._take_unread()
        return found

    def _without_texts(self) -> list[Numbered]:
        now_s = self._clock.monotonic_s()
        self._renewed_s = now_s  # the owner has written; only its text cannot be shown
        self._unshown_since_s = now_s if self._unshown_since_s is None else self._unshown_since_s
        if now_s - self._unshown_since_s <= LEASE_S:
            return []
        self._ended = True
        return [(0, problem_of(_STORE_DOWN))]

    def _take_unread(self) -> None:
        for batch in self._unread:
            self._batch, self._renewed_s = batch.number, self._clock.monotonic_s()
            self._ended = self._ended or batch.ended
            self.is_judged = self.is_judged or batch.ended
        self._unread = ()

    async def _lapse(self) -> list[Numbered]:
        """Return the last event when nothing more can come. A reader who sees it finds the record."""
        now_s = self._clock.monotonic_s()
        if now_s - self._read_s > LEASE_S:
            self._ended = True
            return [(0, problem_of(_STORE_DOWN))]
        if now_s - self._renewed_s > (LEASE_S if self._batch else _OPENING_LEASE_S):
            _log.warning("answer_interrupted", answer_id=self._answer_id)
            self.is_judged = True
            ended_by = await self._on_lapse()
            self._ended = True
            return [(0, problem_of(ended_by))]
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
            self._renewed_s = self._clock.monotonic_s()  # we could not poll: do not count the gap
        self._read_s = self._clock.monotonic_s()
        self._unread = reading.batches
        self.is_judged = self.is_judged or bool(reading.batches)

    async def _tell_owner(self) -> None:
        if self._clock.monotonic_s() - self._signalled_s >= _SIGNAL_INTERVAL_S:
            self._signalled_s = self._clock.monotonic_s()
            await self._log.signal_reader(self._answer_id)
