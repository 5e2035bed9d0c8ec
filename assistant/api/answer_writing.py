"""One answer while it is written: its events are numbered, logged and handed to whoever reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from assistant.answering.events import AnswerEvent, Done, Problem
from assistant.answering.interruption import Cause
from assistant.answering.prepare import PreparedAnswer
from assistant.api.answer_logging import LoggedAnswer
from assistant.api.metrics import AnswerObserver
from assistant.api.outbox import OUTBOX_LIMIT_BYTES, Outbox
from assistant.api.problems import internal_problem, problem_of
from assistant.domain.errors import AnswerInterruptedError
from assistant.settings.deployed_names import ANSWER_ENDED, FINISH_REASON, FIRST_TOKEN_MS, MODEL_FAILED

_GRACE_S = 5.0
"""Beyond the answer's own deadline, for its last event."""
_READER_ELSEWHERE_S = 4.0
"""A reader on another task tells of itself every 2 s: two of its signals may be lost."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    heartbeat_s: float = 10.0
    """A comment is sent when nothing flowed for so long."""
    stall_s: float = 30.0
    """A reader who takes nothing for so long loses the connection."""
    outbox_bytes: int = OUTBOX_LIMIT_BYTES


class AnswerWriting:
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
