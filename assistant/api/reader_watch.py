"""A limit on how long one reader may take nothing, at no cost to those that do."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Send

_LOOKS_WITHIN_LIMIT = 4


class StalledReaderError(Exception):
    """The reader took nothing for too long."""


class ReaderWatch:
    """Ends sends that wait longer than a limit, within a quarter of it more.

    ``asyncio.timeout`` around each send makes and drops a timer for every token, which costs as much as the
    send's own Python. Here one timer a connection looks now and then whether a send has waited too long::

        with ReaderWatch(limit_s=30.0) as watch:
            await watch.send(send, message)

    Raises StalledReaderError out of the ``with`` of the watch. Bound to the task that enters it.
    """

    __slots__ = ("_cancelling_before", "_limit_s", "_loop", "_since_s", "_stalled", "_task", "_timer")

    def __init__(self, *, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since_s: float | None = None
        self._stalled = False

    async def send(self, send: Send, message: dict[str, object]) -> None:
        """Send one ASGI message."""
        self._since_s = self._loop.time()
        await send(message)
        self._since_s = None

    def __enter__(self) -> ReaderWatch:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A reader is watched inside a task.")
        self._loop, self._task = asyncio.get_running_loop(), task
        self._cancelling_before = task.cancelling()
        self._timer = self._loop.call_later(self._limit_s / _LOOKS_WITHIN_LIMIT, self._look)
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if not self._stalled or self._task.uncancel() > self._cancelling_before:
            return  # a cancellation that somebody else asked for goes on
        if exception_type is None or issubclass(exception_type, asyncio.CancelledError):
            raise StalledReaderError from exception

    def _look(self) -> None:
        if self._since_s is not None and self._loop.time() - self._since_s >= self._limit_s:
            self._stalled = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(self._limit_s / _LOOKS_WITHIN_LIMIT, self._look)
