"""How many generations run and wait at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from assistant.domain.errors import OverloadedError

LONGEST_WAIT_S = 60.0
"""SageMaker gives up on a response that has not begun after 60 s."""


class Admission:
    """``slots`` requests are in at once, ``queue_size`` wait in order of arrival, more are refused."""

    def __init__(self, *, slots: int, queue_size: int) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._queue_size = queue_size
        self._waiting = 0

    @property
    def waiting(self) -> int:
        return self._waiting

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        """Hold a slot. Raises OverloadedError when the queue is full, or no slot came free in time."""
        if self._slots.locked() and self._waiting >= self._queue_size:
            raise OverloadedError("Every slot of the model is taken and its queue is full; try again later.")
        self._waiting += 1
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                await self._slots.acquire()
        except TimeoutError:
            raise OverloadedError(f"No slot of the model came free within {LONGEST_WAIT_S:.0f} s.") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()
