"""Retries that cannot make an overload worse: at most a tenth of the calls, and few in a row."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from assistant.domain.clock import Deadline
from assistant.domain.errors import OverloadedError

_RATIO = 0.1
_RESERVE = 3.0
"""Retries that may be saved up, and that a quiet process begins with."""
_MOST_RETRIES = 3
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 2.0
Result = TypeVar("Result")


class RetryBudget:
    """Each call earns a tenth of a retry; a retry costs one. Shared by all calls of one adapter."""

    def __init__(self) -> None:
        self._saved = _RESERVE

    def earn(self) -> None:
        self._saved = min(_RESERVE, self._saved + _RATIO)

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
    sleep: Callable[[float], Awaitable[None]],
) -> Result:
    """Make a call again while it raises OverloadedError, with back-off, within budget and deadline."""
    budget.earn()
    for attempt in range(_MOST_RETRIES):
        try:
            return await call()
        except OverloadedError as overload:
            wait_s = _back_off_s(attempt)
            if wait_s >= deadline.remaining_s() or not budget.spend():
                raise
            await sleep(wait_s)
            if deadline.remaining_s() <= 0.0:  # the wait took longer: still, what failed was the overload
                raise overload from None
    return await call()


def _back_off_s(attempt: int) -> float:
    """Return an exponential wait with jitter: half of it is random, so that callers spread out."""
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 : no secret
