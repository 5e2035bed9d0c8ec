"""Calls that are run together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from assistant.domain.errors import SearchUnavailableError
from assistant.stores.index.embedded import BatchedCalls


class Engine:
    """Doubles numbers, when it may."""

    def __init__(self, *, most_at_once: int = 3) -> None:
        self.batches: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.asked = asyncio.Event()
        self.error: Exception | None = None
        self.calls = BatchedCalls(self.run, most_at_once=most_at_once)

    async def run(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.asked.set()
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return [2 * number for number in numbers]

    def call(self, number: int, *, timeout_s: float = 20.0) -> asyncio.Task[int]:
        return asyncio.create_task(self.calls.call(number, timeout_s=timeout_s))


async def test_the_first_call_runs_alone_and_waiting_calls_run_together() -> None:
    engine = Engine()
    first = engine.call(1)
    await engine.asked.wait()
    others = [engine.call(number) for number in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    engine.may_answer.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10]
    assert engine.batches == [[1], [2, 3, 4], [5]]


@pytest.mark.parametrize("error", [SearchUnavailableError("down"), ZeroDivisionError("a mistake")])
async def test_an_error_is_that_of_its_batch_alone(error: Exception) -> None:
    engine = Engine()
    engine.error = error
    engine.may_answer.set()
    with pytest.raises(type(error)):
        await engine.call(1)
    engine.error = None
    assert await engine.call(2) == 4


async def test_a_cancelled_call_is_not_run() -> None:
    engine = Engine()
    first = engine.call(1)
    await engine.asked.wait()
    leaving, staying = engine.call(2), engine.call(3)
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    engine.may_answer.set()
    assert await asyncio.gather(first, staying) == [2, 6]
    assert engine.batches == [[1], [3]]


async def test_a_wait_has_its_limit() -> None:
    engine = Engine()
    with pytest.raises(TimeoutError):
        await engine.call(1, timeout_s=0.01)
    engine.may_answer.set()
    assert await engine.call(2) == 4
