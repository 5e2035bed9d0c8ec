"""The clock, deadlines made from it, and limits on repeating calls of a dependency that fails: waits, a
budget of retries, and a circuit."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from assistant.domain.errors import DeadlineExceededError, OverloadedError

_EARNED_PER_CALL = 0.1
"""Retries that one call earns: while a dependency is overloaded, retries add at most a tenth to its calls."""
_MOST_SAVED_RETRIES = 3.0
"""Most retries that a budget can save up; a process starts with as many."""
_MOST_RETRIES = 3
"""Retries of one call of ``retry_overload``."""
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 2.0
Result = TypeVar("Result")


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
    """An instant on the monotonic clock that bounds every wait of a request.

    >>> deadline = Deadline.after(30.0, clock=SystemClock())
    >>> timeout_s = deadline.within_s(6.0)  # of one step: 6.0, or less when the 30 s are nearly over
    """

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


# Calls that are repeated


def back_off_s(attempt: int, *, first_s: float, longest_s: float) -> float:
    """Return the wait in seconds before a retry: ``first_s``, doubled with each attempt from 0 on, at most
    ``longest_s``; of that a random 50 to 100 %, so that callers spread out."""
    return min(longest_s, first_s * 2 ** min(attempt, 30)) * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)


async def all_or_cancel(calls: Iterable[Awaitable[Result]]) -> list[Result]:
    """Return all results in order. When one call fails, cancel the others and raise its error."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class RetryBudget:
    """Limits retries so that they cannot worsen an overload. Shared by all calls of one adapter.

    Each call earns a tenth of a retry; a retry costs one. Call ``earn`` once for each call, and ``spend``
    before each retry.
    """

    def __init__(self) -> None:
        self._saved = _MOST_SAVED_RETRIES

    def earn(self) -> None:
        self._saved = min(_MOST_SAVED_RETRIES, self._saved + _EARNED_PER_CALL)

    def spend(self) -> bool:
        """Take one retry; False when none is left."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


async def retry_overload(
    call: Callable[[], Awaitable[Result]],
    *,
    budget: RetryBudget,
    deadline: Deadline,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Result:
    """Return the result of ``call``. Retry it with back-off while it raises OverloadedError, within budget
    and deadline."""
    budget.earn()
    for attempt in range(_MOST_RETRIES):
        try:
            return await call()
        except OverloadedError as overload:
            wait_s = back_off_s(attempt, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S)
            if wait_s >= deadline.remaining_s() or not budget.spend():
                raise
            await sleep(wait_s)
            if deadline.remaining_s() <= 0.0:  # the wait took longer than asked: report the overload
                raise overload from None
    return await call()


class Circuit:
    """Stops calls of a dependency that failed ``failures`` times in a row, for ``open_s`` seconds.

    After that one call, the trial, may go out: a success closes the circuit, a failure opens it again. A
    trial that never reports is given up after ``open_s`` too. The caller asks ``allows()`` before each call,
    and reports its end by ``succeeded()`` or ``failed()``.
    """

    def __init__(self, *, clock: Clock, failures: int = 5, open_s: float = 10.0) -> None:
        self._clock = clock
        self._most_failures = failures
        self._open_s = open_s
        self._failures_in_row = 0
        self._next_trial_s = 0.0
        """Monotonic time from which an open circuit allows the next trial."""

    @property
    def is_open(self) -> bool:
        """Whether the last calls failed, so that none but a trial goes out."""
        return self._failures_in_row >= self._most_failures

    def allows(self) -> bool:
        """Return whether a call may go out now. Of an open circuit this call is then the trial."""
        if not self.is_open:
            return True
        now_s = self._clock.monotonic_s()
        if now_s < self._next_trial_s:
            return False
        self._next_trial_s = now_s + self._open_s  # this call is the trial
        return True

    def succeeded(self) -> None:
        self._failures_in_row = 0

    def failed(self) -> None:
        self._failures_in_row += 1
        if self.is_open:
            self._next_trial_s = self._clock.monotonic_s() + self._open_s
