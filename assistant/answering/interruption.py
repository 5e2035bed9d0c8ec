"""Ending a stream from outside while it waits: by its reader, or by a timer."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from types import TracebackType


class Cause(StrEnum):
    """Why an answer ends before its generation does."""

    CANCELLED = "cancelled"
    DISCONNECTED = "disconnected"
    LATE = "generation_late"
    DEADLINE = "deadline"


class InterruptedAnswerError(Exception):
    """Raised inside ``with interruption:`` once somebody interrupted; never leaves answering."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


class Interruption:
    """Interrupts the awaits that stand under ``with interruption:``, and no other.

    An async generator hands its task to the reader at every ``yield``, so ``asyncio.timeout`` around a
    loop that yields would cancel the reader's own awaits. Here only the wait itself is cancelled, the
    first cause counts, and one that comes between two waits is raised at the next. Bound to one event
    loop; a wait costs half a microsecond more.
    """

    __slots__ = ("_cancel_sent", "_cancelling_before", "_task", "cause")

    def __init__(self) -> None:
        self.cause: Cause | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling_before = 0
        self._cancel_sent = False

    def interrupt(self, cause: Cause) -> None:
        """Interrupt the present wait, or the next one. A second cause changes nothing."""
        if self.cause is not None:
            return
        self.cause = cause
        if self._task is not None:
            self._cancel_sent = True
            self._task.cancel()

    def __enter__(self) -> None:
        if self.cause is not None:
            raise InterruptedAnswerError(self.cause)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("An interruptible wait must run inside a task.")
        self._task = task
        self._cancelling_before = task.cancelling()

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if task is None or not self._cancel_sent:
            return
        # As asyncio.timeout does: a cancellation that somebody else asked for meanwhile must go on.
        if task.uncancel() > self._cancelling_before or self.cause is None:
            return
        if exception_type is None or issubclass(exception_type, asyncio.CancelledError):
            raise InterruptedAnswerError(self.cause) from exception
