"""Retries: only of overload, with back-off, within a tenth of the calls and the deadline."""

from __future__ import annotations

import pytest

from assistant.domain.clock import Deadline, RetryBudget, retry_overload
from assistant.domain.errors import EmbeddingUnavailableError, OverloadedError
from tests.fakes.clock import SteppedClock


class Calls:
    """Fails a number of times, then answers; notes the waits between."""

    def __init__(self, *, failures: int, error: Exception | None = None) -> None:
        self.made = 0
        self.waits: list[float] = []
        self._failures = failures
        self._error = error or OverloadedError("full")

    async def __call__(self) -> str:
        self.made += 1
        if self.made <= self._failures:
            raise self._error
        return "answer"

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


async def retried(calls: Calls, *, budget: RetryBudget | None = None, deadline_s: float = 60.0) -> str:
    deadline = Deadline.after(deadline_s, clock=SteppedClock())
    return await retry_overload(calls, budget=budget or RetryBudget(), deadline=deadline, sleep=calls.sleep)


async def test_an_overload_is_tried_again_after_growing_waits() -> None:
    calls = Calls(failures=3)

    assert await retried(calls) == "answer"
    assert calls.made == 4
    assert calls.waits == sorted(calls.waits)


async def test_three_retries_are_the_most() -> None:
    calls = Calls(failures=99)

    with pytest.raises(OverloadedError):
        await retried(calls)

    assert calls.made == 4


async def test_another_error_is_not_tried_again() -> None:
    calls = Calls(failures=1, error=EmbeddingUnavailableError("gone"))

    with pytest.raises(EmbeddingUnavailableError):
        await retried(calls)

    assert calls.made == 1


async def test_no_retry_begins_that_the_deadline_would_end() -> None:
    calls = Calls(failures=1)

    with pytest.raises(OverloadedError):
        await retried(calls, deadline_s=0.05)

    assert calls.made == 1


async def test_under_lasting_overload_a_tenth_of_the_calls_is_retried() -> None:
    budget = RetryBudget()
    made = 0
    for _ in range(200):
        calls = Calls(failures=99)
        with pytest.raises(OverloadedError):
            await retried(calls, budget=budget)
        made += calls.made

    reserve = 3
    assert made - 200 <= 200 * 0.1 + reserve
