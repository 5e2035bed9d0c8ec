"""A log as its follower sees it, with a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from assistant.answering.events import Done, ElementChanged, Problem, Started, Token
from assistant.answering.excerpts import Excerpts
from assistant.answering.ports import LogBatch, LogOpening, LogReading, LogSignals
from assistant.api import running
from assistant.api.delivery import EncodedEvent, EventEncoder
from assistant.api.running import LEASE_S, KeptEvents, LogFollower, LoggedAnswer
from assistant.domain.answers import FinishReason, Usage
from assistant.domain.elements import (
    ElementData,
    ElementDisplay,
    ElementProblem,
    ElementState,
    ElementValue,
)
from assistant.domain.errors import AnswerInterruptedError, AssistantError, RecordsUnavailableError
from tests.contracts.samples import answer, opening
from tests.fakes.answering import FakeSearch, FakeTexts

DONE = Done(finish_reason=FinishReason.STOP, citations=(), usage=Usage(), timings_ms={})
STARTED = Started(answer_id="a1", conversation_id="c1", model="m", index_version="i", trace_id=None)


class ScriptedLog:
    """An ``AnswerLog`` in memory that fails on demand; every read advances the clock a little."""

    def __init__(self) -> None:
        self.opening: LogOpening | None = opening("a1")
        self.batches: list[LogBatch] = []
        self.is_down = False
        self.loses_acknowledgements = 0
        self.readers = 0
        self.freed: list[str] = []
        self.now_s = 0.0
        self.step_s = 1.0

    def is_at(self, instant_s: float) -> bool:
        return self.now_s >= instant_s

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return self.now_s

    async def open(self, opening: LogOpening) -> LogOpening:
        return opening

    async def release(self, opening: LogOpening) -> None:
        self.opening = None

    async def free_key(self, opening: LogOpening) -> None:
        self._check()
        self.freed.append(opening.key or "")

    async def count_context(self, token_id: str, *, answer_id: str, key: str | None) -> bool:
        return True

    async def uncount_context(self, token_id: str, *, answer_id: str) -> None: ...

    async def unsettled(self) -> Sequence[str]:
        return []

    async def settled(self, answer_id: str) -> None: ...

    async def append(self, answer_id: str, batch: LogBatch) -> None:
        self._check()
        if all(kept.number != batch.number for kept in self.batches):
            self.batches.append(batch)
        if self.loses_acknowledgements:
            self.loses_acknowledgements -= 1
            raise RecordsUnavailableError("no answer")

    async def read(self, answer_id: str, *, after_batch: int = 0) -> LogReading | None:
        self.now_s += self.step_s
        self._check()
        if self.opening is None:
            return None
        return LogReading(self.opening, tuple(batch for batch in self.batches if batch.number > after_batch))

    async def signal_cancel(self, answer_id: str) -> None: ...

    async def signal_reader(self, answer_id: str) -> None:
        self.readers += 1

    async def signals(self, answer_ids: Sequence[str]) -> Mapping[str, LogSignals]:
        return {}

    def _check(self) -> None:
        if self.is_down:
            raise RecordsUnavailableError("down")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_POLL_S", 0.0)
    monkeypatch.setattr(running, "BATCH_INTERVAL_S", 0.005)
    monkeypatch.setattr(running, "_RETRY_S", 0.001)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


async def following(log: ScriptedLog, *, after: int = 0, lapses: list[str] | None = None) -> LogFollower:
    reading = await log.read("a1")
    assert reading is not None

    async def lapse() -> AssistantError:
        (lapses if lapses is not None else []).append("a1")
        return AnswerInterruptedError("The task is gone. Ask again.")

    kept = KeptEvents(FakeTexts(FakeSearch()), labels=frozenset())
    return LogFollower(log, reading, after=after, clock=log, on_lapse=lapse, kept=kept)


async def read_on(follower: LogFollower) -> list[Any]:
    seen: list[Any] = []
    while (numbered := await follower.take(beat_s=1e6)) is not None:
        seen += numbered
    return seen


def batch(number: int, first: int, *frames: bytes, ended: bool = False) -> LogBatch:
    return LogBatch(number=number, first_sequence=first, frames=frames, ended=ended)


async def test_events_after_the_seen_one_come_once_and_in_order() -> None:
    log = ScriptedLog()
    log.batches = [batch(1, 1, b"one", b"two", b"three"), batch(2, 4), batch(3, 4, b"four", ended=True)]
    seen = await read_on(await following(log, after=2))
    assert seen == [(3, EncodedEvent(b"three")), (4, EncodedEvent(b"four"))]


async def test_an_owner_that_renews_is_waited_for() -> None:
    log = ScriptedLog()
    follower = await following(log)
    coming = asyncio.create_task(read_on(follower))
    for number in range(1, 20):  # 20 s of empty batches, far beyond the lease
        log.batches.append(batch(number, 1))
        await until(partial(log.is_at, log.now_s + 1))
    log.batches.append(batch(20, 1, b"last", ended=True))
    assert await coming == [(1, EncodedEvent(b"last"))]


async def test_an_owner_that_stops_renewing_is_found_gone_after_its_lease() -> None:
    log, lapses = ScriptedLog(), list[str]()
    log.batches = [batch(1, 1, b"one")]
    seen = await read_on(await following(log, lapses=lapses))
    assert seen[0] == (1, EncodedEvent(b"one"))
    sequence, problem = seen[-1]
    assert isinstance(problem, Problem)
    assert (sequence, problem.code, problem.retryable) == (0, "interrupted", True)
    assert lapses == ["a1"]
    assert LEASE_S < log.now_s <= LEASE_S + 4


async def test_a_store_that_cannot_be_read_does_not_make_an_owner_dead() -> None:
    log, lapses = ScriptedLog(), list[str]()
    follower = await following(log, lapses=lapses)
    log.is_down = True
    [(sequence, problem)] = await read_on(follower)
    assert (sequence, problem.code, problem.retryable) == (0, "records_unavailable", True)
    assert lapses == []


async def test_a_store_that_is_back_gives_the_owner_its_whole_lease_again() -> None:
    log = ScriptedLog()
    follower = await following(log)
    coming = asyncio.create_task(read_on(follower))
    log.is_down, log.step_s = True, 0.5
    await until(lambda: log.now_s >= LEASE_S - 1)
    log.is_down = False
    back_s = log.now_s
    await until(lambda: log.now_s >= back_s + LEASE_S - 1)
    log.batches.append(batch(1, 1, b"one", ended=True))
    assert await coming == [(1, EncodedEvent(b"one"))]


async def test_a_log_that_is_gone_is_interrupted() -> None:
    log = ScriptedLog()
    follower = await following(log)
    log.opening = None
    [(_, problem)] = await read_on(follower)
    assert problem.code == "interrupted"


async def test_a_follower_tells_the_owner_of_itself_every_two_seconds() -> None:
    log = ScriptedLog()
    log.batches = [batch(number, 1) for number in range(1, 3)]
    await read_on(await following(log))
    assert 3 <= log.readers <= 5


async def test_a_follower_that_is_stopped_ends_without_an_end() -> None:
    log = ScriptedLog()
    follower = await following(log)
    follower.stop()
    assert await read_on(follower) == []


# --- the owner's side ---


async def ended(logged: LoggedAnswer) -> None:
    logged.end()
    await asyncio.wait_for(logged.task, 60)


async def test_an_answer_s_events_are_logged_with_the_last_at_once() -> None:
    log = ScriptedLog()
    logged = LoggedAnswer(log, opening("a1"), excerpts=Excerpts())
    for text in "abc":
        logged.put(Token(text))
    logged.put(DONE)
    await ended(logged)
    frames = [frame for kept in log.batches for frame in kept.frames]
    assert [frame.split(b"\n")[0] for frame in frames] == [b"id: a1:%d" % n for n in range(1, 5)]
    assert [kept.ended for kept in log.batches][-1]


async def test_a_waiting_answer_renews_its_lease_with_empty_batches() -> None:
    log = ScriptedLog()
    logged = LoggedAnswer(log, opening("a1"), excerpts=Excerpts())
    await until(lambda: len(log.batches) >= 3)
    await ended(logged)
    assert [kept.number for kept in log.batches] == list(range(1, len(log.batches) + 1))


async def test_what_the_store_did_not_acknowledge_is_neither_lost_nor_doubled() -> None:
    log = ScriptedLog()
    log.loses_acknowledgements = 3
    logged = LoggedAnswer(log, opening("a1"), excerpts=Excerpts())
    logged.put(Token("a"))
    await until(lambda: log.batches)
    logged.put(Token("b"))
    await ended(logged)
    seen = await read_on(await following(log))
    assert [sequence for sequence, _ in seen] == [1, 2]


async def test_the_end_of_a_log_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_LAST_BATCH_S", 0.02)
    log = ScriptedLog()
    log.is_down = True
    logged = LoggedAnswer(log, opening("a1"), excerpts=Excerpts())
    await ended(logged)
    assert log.batches == []


# --- the first text, and keys ---


async def test_the_first_text_is_kept_before_anybody_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BATCH_INTERVAL_S", 1e6)
    log = ScriptedLog()
    logged = LoggedAnswer(log, opening("a1"), excerpts=Excerpts())
    assert not logged.put(STARTED)
    assert logged.put(Token("a"))
    await logged.first_text_kept()
    assert [len(kept.frames) for kept in log.batches] == [2]
    assert not logged.put(Token("b"))
    await ended(logged)


async def test_the_first_event_is_kept_at_once_and_the_text_behind_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "BATCH_INTERVAL_S", 1e6)
    log = ScriptedLog()
    logged = LoggedAnswer(log, opening("a1"), excerpts=Excerpts())
    logged.put(STARTED)
    await until(lambda: len(log.batches) == 1)
    logged.put(Token("a"))
    await until(lambda: len(log.batches) == 2)
    assert all(kept.urgent for kept in log.batches)
    await ended(logged)


async def test_a_write_that_passes_the_next_instant_does_not_delay_the_text_after_it_by_an_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interval_s = 0.4
    monkeypatch.setattr(running, "BATCH_INTERVAL_S", interval_s)
    loop, log = asyncio.get_running_loop(), ScriptedLog()
    took_s: list[float] = []

    async def append_slowly(answer_id: str, batch: LogBatch) -> None:
        if not log.batches:
            until_s = loop.time() + 2 * interval_s - loop.time() % interval_s + 0.01
            await asyncio.sleep(until_s - loop.time())
        log.batches.append(batch)
        took_s.append(loop.time())

    monkeypatch.setattr(log, "append", append_slowly)
    logged = LoggedAnswer(log, opening("a1"), excerpts=Excerpts())
    logged.put(Token("a"))
    await asyncio.sleep(0)  # the first batch is being written
    await asyncio.sleep(0)
    logged.put(Token("b"))
    await until(lambda: len(log.batches) == 2)
    assert took_s[1] - took_s[0] < interval_s / 2
    assert len(log.batches[1].frames) == 1
    await ended(logged)


async def test_a_store_that_is_down_holds_the_first_text_back_for_a_moment_only() -> None:
    log = ScriptedLog()
    log.is_down = True
    logged = LoggedAnswer(log, opening("a1"), excerpts=Excerpts())
    logged.put(Token("a"))
    await asyncio.wait_for(logged.first_text_kept(), 60)
    assert log.batches == []
    logged.task.cancel()


@pytest.mark.parametrize(("retryable", "freed"), [(True, ["k1"]), (False, [])])
async def test_a_key_does_not_stand_for_an_answer_that_may_be_tried_again(
    retryable: bool, freed: list[str]
) -> None:
    log = ScriptedLog()
    logged = LoggedAnswer(log, opening("a1", key="k1"), excerpts=Excerpts())
    logged.put(STARTED)
    logged.put(Problem(title="t", status=503, detail="d", code="c", retryable=retryable))
    await ended(logged)
    assert log.freed == freed
    assert log.batches[-1].ended


async def test_an_owner_whose_reader_left_too_early_to_know_is_still_found_gone() -> None:
    log, lapses = ScriptedLog(), list[str]()
    log.batches = [batch(1, 1, b"one")]
    follower = await following(log, lapses=lapses)
    assert await follower.take(beat_s=0) == [(1, EncodedEvent(b"one"))]
    follower.stop()
    assert not follower.is_judged
    await asyncio.wait_for(follower.judge_owner(), 60)
    assert lapses == ["a1"]


async def test_an_owner_is_found_gone_also_when_its_reader_is_stopped_late() -> None:
    log, lapses = ScriptedLog(), list[str]()
    log.batches = [batch(1, 1, b"one")]
    follower = await following(log, lapses=lapses)
    judging = asyncio.create_task(follower.judge_owner())
    await until(partial(log.is_at, 2.0))
    follower.stop()  # what the connection does last
    await asyncio.wait_for(judging, 60)
    assert lapses == ["a1"]


async def test_an_owner_is_judged_once_a_store_that_was_down_is_back() -> None:
    log, lapses = ScriptedLog(), list[str]()
    log.batches = [batch(1, 1, b"one")]
    follower = await following(log, lapses=lapses)
    follower.stop()
    log.is_down = True
    judging = asyncio.create_task(follower.judge_owner())
    await until(partial(log.is_at, 3 * LEASE_S))
    assert (judging.done(), lapses) == (False, [])
    log.is_down = False
    await asyncio.wait_for(judging, 60)
    assert lapses == ["a1"]


async def test_an_owner_that_is_heard_of_needs_no_judging() -> None:
    log, lapses = ScriptedLog(), list[str]()
    follower = await following(log, lapses=lapses)
    follower.stop()
    log.batches = [batch(1, 1, b"one")]
    await asyncio.wait_for(follower.judge_owner(), 60)
    assert (follower.is_judged, lapses, log.readers) == (True, [], 0)


async def test_an_answer_in_preparation_is_given_the_time_of_its_limits() -> None:
    log, lapses = ScriptedLog(), list[str]()
    await read_on(await following(log, lapses=lapses))
    assert log.now_s > 3 * LEASE_S


def test_the_record_of_an_interrupted_answer_has_its_elements_without_values() -> None:
    value = ElementValue(name="status", label="Status", text="shipped order-bo")
    display = ElementDisplay(place="inline", start=0, end=14)
    one: dict[str, Any] = {
        "name": "orders.status",
        "kind": "status",
        "title": "Order status",
        "source": "orders",
        "display": display,
    }
    events = [
        STARTED,
        Token("[order status]"),
        ElementChanged(id="e1", state=ElementState.PENDING, **one),
        ElementChanged(id="e2", state=ElementState.PENDING, **one),
        ElementChanged(id="e1", state=ElementState.READY, data=ElementData(values=(value,)), **one),
    ]
    encoder = EventEncoder("a1")
    frames = tuple(encoder.encode(number, event) for number, event in enumerate(events, start=1))
    batch = LogBatch(number=1, first_sequence=1, frames=frames, ended=False)
    head = replace(opening("a1"), context=answer("a1").model_dump_json())
    record = running.record_of_log(LogReading(head, (batch,)), now=datetime.now(UTC))
    assert [(use.id, use.state, use.problem) for use in record.elements] == [
        ("e1", ElementState.READY, None),
        ("e2", ElementState.FAILED, ElementProblem.CANCELLED),
    ]
    assert "order-bo" not in record.model_dump_json()
