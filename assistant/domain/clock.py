"""The clock, and deadlines made from it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from assistant.domain.errors import DeadlineExceededError


class Clock(Protocol):
    """Wall time for records, monotonic time for waits."""

    def now(self) -> datetime:
        """Return the current time with time zone UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Deadline:
    """An instant on the monotonic clock that bounds every wait of a request."""

    at_monotonic_s: float
    clock: Clock

    @classmethod
    def after(cls, seconds: float, *, clock: Clock) -> Deadline:
        return cls(clock.monotonic_s() + seconds, clock)

    def remaining_s(self) -> float:
        """Return the seconds left, never below zero."""
        return max(0.0, self.at_monotonic_s - self.clock.monotonic_s())

    def within_s(self, limit_s: float) -> float:
        """Return the timeout of one step: its own limit or the time left, whichever is less.

        Raises DeadlineExceededError when nothing is left.
        """
        remaining_s = self.remaining_s()
        if remaining_s <= 0.0:
            raise DeadlineExceededError("The answer's deadline has passed; ask again.")
        return min(limit_s, remaining_s)


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after ``seconds``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
