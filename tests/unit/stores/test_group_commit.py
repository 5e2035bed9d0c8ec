"""Which writes go together, and what one does to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from assistant.domain.errors import RecordsUnavailableError, SearchUnavailableError
from assistant.stores.group_commit import GroupCommit, Outcome, WriteRefusedError
from assistant.stores.index.embedded import BatchedCalls
from assistant.stores.table import Item


class HeldWrites:
    """Calls that end when the test lets them."""

    def __init__(self, outcome: Callable[[Item], Outcome] = lambda _: Outcome.WRITTEN) -> None:
        self.calls: list[list[str]] = []
        self.free = asyncio.Event()
        self._outcome = outcome

    async def write(self, items: Sequence[Item]) -> Sequence[Outcome]:
        self.calls.append([item["sk"] for item in items])
        await asyncio.wait_for(self.free.wait(), 60)
        return [self._outcome(item) for item in items]


NUMBERS = [str(number) for number in range(60)]


@pytest.mark.parametrize(
    ("names", "body", "calls"),
    [
        ("abc", "", [["a", "b", "c"]]),
        (NUMBERS, "", [NUMBERS[:25], NUMBERS[25:50], NUMBERS[50:]]),
        ("abc", "x" * 400_000, [["a", "b"], ["c"]]),  # a call carries a megabyte
        ("aba", "", [["a", "b"], ["a"]]),  # and no key twice
    ],
)
async def test_writes_of_one_turn_go_together_within_the_limits_of_a_call(
    names: Sequence[str], body: str, calls: list[list[str]]
) -> None:
    writes = HeldWrites(lambda item: Outcome.PRESENT if item["sk"] == "b" else Outcome.WRITTEN)
    writes.free.set()
    commit = _commit(writes)
    results = await asyncio.gather(*(_write(commit, name, body=body) for name in names))
    assert results == [name != "b" for name in names]
    assert writes.calls == calls


async def test_a_slow_call_does_not_delay_other_writes() -> None:
    writes = HeldWrites()
    commit = _commit(writes)
    tasks = [asyncio.create_task(_write(commit, "slow"))]
    await _until(lambda: writes.calls == [["slow"]])
    tasks.append(asyncio.create_task(_write(commit, "next")))
    await _until(lambda: writes.calls == [["slow"], ["next"]])
    writes.free.set()
    assert await asyncio.gather(*tasks) == [True, True]


async def test_calls_in_flight_are_bounded() -> None:
    writes = HeldWrites()
    commit = _commit(writes)
    tasks = [asyncio.create_task(_write(commit, str(number))) for number in range(25 * 12)]
    await _until(lambda: len(writes.calls) == 8)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(writes.calls) == 8
    writes.free.set()
    assert all(await asyncio.gather(*tasks))


async def test_waiting_writes_are_bounded() -> None:
    writes = HeldWrites()
    commit = _commit(writes)
    tasks = [asyncio.create_task(_write(commit, str(number))) for number in range(3000)]
    await _until(lambda: len(writes.calls) == 8 and any(task.done() for task in tasks))
    writes.free.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [result for result in results if isinstance(result, RecordsUnavailableError)]
    assert 0 < len(refused) <= 1000
    assert results.count(True) == 3000 - len(refused)


async def test_only_throttled_writes_are_retried() -> None:
    throttled = ["b"]

    def outcome(item: Item) -> Outcome:
        name = item["sk"]
        if name in throttled:
            throttled.remove(name)
            return Outcome.RETRY
        return Outcome.WRITTEN

    writes = HeldWrites(outcome)
    writes.free.set()
    commit = _commit(writes)
    assert await asyncio.gather(*(_write(commit, name) for name in "abc")) == [True, True, True]
    assert writes.calls == [["a", "b", "c"], ["b"]]


async def test_a_throttling_that_lasts_is_an_error() -> None:
    writes = HeldWrites(lambda _: Outcome.RETRY)
    writes.free.set()
    with pytest.raises(RecordsUnavailableError):
        await _write(_commit(writes), "a")
    assert writes.calls == [["a"]] * 4


async def test_a_write_that_refuses_its_call_fails_alone() -> None:
    class Choosy(HeldWrites):
        async def write(self, items: Sequence[Item]) -> Sequence[Outcome]:
            outcomes = await super().write(items)
            if any(item["sk"] == "bad" for item in items):
                raise WriteRefusedError("ValidationException")
            return outcomes

    writes = Choosy()
    writes.free.set()
    commit = _commit(writes)
    names = ("a", "bad", "c")
    first, bad, last = await asyncio.gather(*(_write(commit, name) for name in names), return_exceptions=True)
    assert (first, last) == (True, True)
    assert isinstance(bad, RecordsUnavailableError)


async def test_a_cancelled_writer_does_not_affect_others() -> None:
    writes = HeldWrites()
    commit = _commit(writes)
    leaver, stayer = (asyncio.create_task(_write(commit, name)) for name in "ab")
    await _until(lambda: writes.calls == [["a", "b"]])
    leaver.cancel()
    writes.free.set()
    assert await stayer


async def test_closing_ends_calls_in_flight_and_refuses_waiting_writes() -> None:
    writes = HeldWrites()
    commit = _commit(writes)
    under_way = asyncio.create_task(_write(commit, "under way"))
    await _until(lambda: bool(writes.calls))
    waiting = asyncio.create_task(_write(commit, "waiting"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(commit.close())
    await asyncio.sleep(0)
    writes.free.set()
    await closing
    assert await under_way
    with pytest.raises(RecordsUnavailableError):
        await waiting


def _commit(writes: HeldWrites) -> GroupCommit:
    def write(group: Sequence[Sequence[Item]]) -> Awaitable[Sequence[Outcome]]:
        return writes.write([item for (item,) in group])

    return GroupCommit(write, unavailable=RecordsUnavailableError)


async def _write(commit: GroupCommit, name: str, *, body: str = "") -> bool:
    item = {"pk": "p", "sk": name, "body": body}
    return await commit.write(item)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 : what is waited for has no event
            await asyncio.sleep(0.001)


# --- calls that are run together --------------------------------------------------------------------------
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
