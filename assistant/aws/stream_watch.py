"""Limits on the reads of one stream, with one timer for all of them."""

from __future__ import annotations

import asyncio
from types import TracebackType

import aiohttp

from assistant.domain.clock import Deadline
from assistant.domain.errors import DeadlineExceededError


class StreamStalledError(Exception):
    """Nothing came for too long."""


class StreamWatch:
    """Reads a response; a read that waits too long, or beyond the deadline, is ended by an error.

    ``asyncio.timeout`` around each read would make and drop a timer for every token, which costs more than
    the read itself. Here the one timer notes the pending read's beginning, and fires when it may be due::

        with StreamWatch(response.content, stall_timeout_s=30.0, deadline=deadline) as watch:
            data = await watch.read()
    """

    __slots__ = ("_content", "_deadline", "_loop", "_since_s", "_stall_timeout_s", "_timer")

    def __init__(self, content: aiohttp.StreamReader, *, stall_timeout_s: float, deadline: Deadline) -> None:
        self._content = content
        self._stall_timeout_s = stall_timeout_s
        self._deadline = deadline
        self._since_s: float | None = None

    @property
    def at_end(self) -> bool:
        return self._content.at_eof()

    async def read(self) -> bytes:
        """Return what came next, nothing at the end.

        Raises StreamStalledError, DeadlineExceededError (also for what was not read in time), and aiohttp's
        ClientError when the connection breaks.
        """
        self._since_s = self._loop.time()
        data = await self._content.readany()
        self._since_s = None
        return data

    def __enter__(self) -> StreamWatch:
        self._loop = asyncio.get_running_loop()
        self._look_within(self._stall_timeout_s)
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if self._deadline.remaining_s() <= 0.0:
            error = DeadlineExceededError("The deadline passed while the model answered.")
            self._content.set_exception(error)
            return
        silent_s = 0.0 if self._since_s is None else self._loop.time() - self._since_s
        if silent_s >= self._stall_timeout_s:
            self._content.set_exception(StreamStalledError(f"silent for {self._stall_timeout_s:.0f} s"))
        else:
            self._look_within(self._stall_timeout_s - silent_s)

    def _look_within(self, seconds: float) -> None:
        self._timer = self._loop.call_later(min(seconds, self._deadline.remaining_s()), self._look)
