"""Which writes go together, and what one does to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from assistant.domain.errors import RecordsUnavailableError
from assistant.stores.group_commit import GroupCommit, Outcome, WriteRefusedError
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


async def test_writes_of_one_turn_go_together() -> None:
    writes = HeldWrites()
    writes.free.set()
    commit = _commit(writes)
    assert await asyncio.gather(_write(commit, "a"), _write(commit, "b")) == [True, True]
    assert writes.calls == [["a", "b"]]


async def test_a_call_carries_25_writes() -> None:
    writes = HeldWrites()
    writes.free.set()
    commit = _commit(writes)
    await asyncio.gather(*(_write(commit, str(number)) for number in range(60)))
    assert [len(call) for call in writes.calls] == [25, 25, 10]


async def test_a_call_carries_one_megabyte() -> None:
    writes = HeldWrites()
    writes.free.set()
    commit = _commit(writes)
    await asyncio.gather(*(_write(commit, name, body="x" * 400_000) for name in "abc"))
    assert writes.calls == [["a", "b"], ["c"]]


async def test_a_call_has_no_key_twice() -> None:
    writes = HeldWrites()
    writes.free.set()
    commit = _commit(writes)
    await asyncio.gather(*(_write(commit, name) for name in "aba"))
    assert writes.calls == [["a", "b"], ["a"]]


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


async def test_a_present_item_is_reported_to_its_own_writer() -> None:
    writes = HeldWrites(lambda item: Outcome.PRESENT if item["sk"] == "b" else Outcome.WRITTEN)
    writes.free.set()
    commit = _commit(writes)
    assert await asyncio.gather(*(_write(commit, name) for name in "abc")) == [True, False, True]


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
