"""What every AnswerLog does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from assistant.answering.excerpts import run_of
from assistant.answering.ports import LOG_EXPIRES_AFTER_S, LogReading, LogSignals
from tests.contracts import samples
from tests.contracts.conftest import OtherProcess
from tests.contracts.twins import Twin
from tests.fakes.clock import SteppedClock

TOKEN = b'id: a1:1\nevent: token\ndata: {"text":"Day 24\xe2\x80\xa6"}\n\n'
DONE = b"id: a1:2\nevent: done\ndata: {}\n\n"


async def test_an_opened_log_is_there_and_empty(twin: Twin) -> None:
    opening = samples.opening(key="k1")
    assert await twin.log.open(opening) == opening
    assert await twin.log.read("a1") == LogReading(opening, ())


async def test_an_unknown_log_is_none(twin: Twin) -> None:
    assert await twin.log.read("nothing") is None


async def test_a_key_used_before_stands_for_the_first_opening(twin: Twin) -> None:
    first = samples.opening("a1", key="k1")
    await twin.log.open(first)
    assert await twin.log.open(samples.opening("a2", key="k1", request_hash="other")) == first
    assert await twin.log.read("a2") is None


async def test_a_key_belongs_to_its_agent(twin: Twin) -> None:
    await twin.log.open(samples.opening("a1", agent="ana", key="k1"))
    other = samples.opening("a2", agent="ben", key="k1")
    assert await twin.log.open(other) == other


async def test_agent_and_key_are_never_run_together(twin: Twin) -> None:
    await twin.log.open(samples.opening("a1", agent="ana#k", key="1"))
    other = samples.opening("a2", agent="ana", key="k#1")
    assert await twin.log.open(other) == other


async def test_of_two_openings_at_once_one_wins(twin: Twin) -> None:
    openings = [samples.opening(f"a{number}", key="k1") for number in range(8)]
    opened = await asyncio.gather(*(twin.log.open(opening) for opening in openings))
    assert len(set(opened)) == 1
    found = [opening for opening in openings if await twin.log.read(opening.answer_id) is not None]
    assert found == [opened[0]]


async def test_openings_without_a_key_are_all_begun(twin: Twin) -> None:
    for answer_id in ("a1", "a2"):
        assert (await twin.log.open(samples.opening(answer_id))).answer_id == answer_id


async def test_a_released_log_and_its_key_are_forgotten(twin: Twin) -> None:
    await twin.log.open(samples.opening("a1", key="k1"))
    await twin.log.release(samples.opening("a1", key="k1"))
    assert await twin.log.read("a1") is None
    again = samples.opening("a2", key="k1")
    assert await twin.log.open(again) == again


async def test_a_log_with_a_batch_is_not_released(twin: Twin) -> None:
    opening = samples.opening("a1", key="k1")
    await twin.log.open(opening)
    await twin.log.append("a1", samples.batch())
    await twin.log.release(opening)
    assert await twin.log.open(samples.opening("a2", key="k1")) == opening


async def test_a_release_leaves_a_key_that_another_log_holds(twin: Twin) -> None:
    holder = samples.opening("a1", key="k1")
    await twin.log.open(holder)
    await twin.log.release(samples.opening("a2", key="k1"))
    assert await twin.log.open(samples.opening("a3", key="k1")) == holder


async def test_a_freed_key_begins_anew_and_its_log_can_still_be_read(twin: Twin) -> None:
    first = samples.opening("a1", key="k1")
    await twin.log.open(first)
    await twin.log.append("a1", samples.batch(frames=[TOKEN]))
    await twin.log.free_key(first)
    assert await _numbers(twin, after=0) == [1]
    again = samples.opening("a2", key="k1", request_hash="other")
    assert await twin.log.open(again) == again
    await twin.log.free_key(first)  # late: the key stands for another log now
    assert await twin.log.open(samples.opening("a3", key="k1")) == again


async def test_an_opened_answer_is_unsettled_until_it_is_settled(twin: Twin) -> None:
    for answer_id in ("a1", "a2"):
        await twin.log.open(samples.opening(answer_id))
        await twin.log.append(answer_id, samples.batch(ended=True))
    assert sorted(await twin.log.unsettled()) == ["a1", "a2"]
    await twin.log.settled("a1")
    await twin.log.settled("a1")
    assert list(await twin.log.unsettled()) == ["a2"]
    assert await twin.log.read("a1") is not None


async def test_a_released_log_is_not_unsettled(twin: Twin) -> None:
    first = samples.opening("a1", key="k1")
    await twin.log.open(first)
    await twin.log.open(samples.opening("a2", key="k1"))
    assert list(await twin.log.unsettled()) == ["a1"]
    await twin.log.release(first)
    assert list(await twin.log.unsettled()) == []


async def test_unsettled_answers_expire_with_their_logs(twin: Twin) -> None:
    clock = SteppedClock()
    log = twin.log_by(clock)
    await log.open(samples.opening())
    clock.step(LOG_EXPIRES_AFTER_S)
    assert list(await log.unsettled()) == []


async def test_batches_come_back_whole_and_in_order(twin: Twin) -> None:
    batches = [
        samples.batch(1, frames=[TOKEN, b"", b"\n\x00\xff"]),
        samples.batch(2, first=4),
        *(samples.batch(number, first=4) for number in range(3, 11)),
        samples.batch(11, first=4, frames=[DONE], ended=True),
    ]
    await twin.log.open(samples.opening())
    for batch in batches:
        await twin.log.append("a1", batch)
    reading = await twin.log.read("a1")
    assert reading is not None
    assert list(reading.batches) == batches


async def test_excerpts_come_back_with_their_batch(twin: Twin) -> None:
    first, second = samples.excerpt(), samples.excerpt(7, document_id="wait")
    run = f'id: a1:1\nevent: token\ndata: {{"text":"{run_of(first)}"}}\n\n'.encode()
    batches = (
        samples.batch(1, frames=(run,), excerpts=(first, second)),
        samples.batch(2, first=2, frames=(DONE,), ended=True),
    )
    await twin.log.open(samples.opening())
    for batch in batches:
        await twin.log.append("a1", batch)
    reading = await twin.log.read("a1")
    assert reading is not None
    assert reading.batches == batches


async def test_only_the_batches_after_the_asked_number_come(twin: Twin) -> None:
    await twin.log.open(samples.opening())
    for number in (1, 2, 3):
        await twin.log.append("a1", samples.batch(number, first=number, frames=[TOKEN]))
    assert await _numbers(twin, after=2) == [3]
    assert await _numbers(twin, after=3) == []


async def test_the_same_batch_twice_is_one(twin: Twin) -> None:
    await twin.log.open(samples.opening())
    for _ in range(2):
        await twin.log.append("a1", samples.batch(frames=[TOKEN]))
    reading = await twin.log.read("a1")
    assert reading is not None
    assert reading.batches == (samples.batch(frames=[TOKEN]),)


async def test_batches_behind_a_missing_one_wait(twin: Twin) -> None:
    """Its write may still be under way, or have failed: nobody may read on without it."""
    await twin.log.open(samples.opening())
    for number in (1, 3, 4):
        await twin.log.append("a1", samples.batch(number))
    assert await _numbers(twin) == [1]
    assert await _numbers(twin, after=1) == []
    await twin.log.append("a1", samples.batch(2))
    assert await _numbers(twin, after=1) == [2, 3, 4]


async def test_many_large_batches_all_come(twin: Twin) -> None:
    """More than one page of any store: DynamoDB ends a page at 1 MB."""
    batches = [samples.batch(number, first=number, frames=[_noise(number)]) for number in range(1, 9)]
    await twin.log.open(samples.opening())
    for batch in batches:
        await twin.log.append("a1", batch)
    reading = await twin.log.read("a1")
    assert reading is not None
    assert list(reading.batches) == batches


async def test_a_batch_larger_than_any_row_is_kept(twin: Twin) -> None:
    huge = samples.batch(frames=[_noise(number) for number in range(4)])
    await twin.log.open(samples.opening())
    await twin.log.append("a1", huge)
    await twin.log.append("a1", samples.batch(2, first=5))
    reading = await twin.log.read("a1")
    assert reading is not None
    assert reading.batches == (huge, samples.batch(2, first=5))
    assert await _numbers(twin, after=1) == [2]


async def test_answers_have_logs_of_their_own(twin: Twin) -> None:
    for answer_id in ("a1", "a11"):
        await twin.log.open(samples.opening(answer_id))
    await twin.log.append("a11", samples.batch(frames=[TOKEN]))
    assert await _numbers(twin) == []


async def test_signals_reach_the_owner(twin: Twin) -> None:
    await twin.log.signal_cancel("a1")
    await twin.log.signal_reader("a2")
    await twin.log.signal_reader("a2")
    found = await twin.log.signals(["a1", "a2", "a3"])
    assert dict(found) == {"a1": LogSignals(cancelled=True), "a2": LogSignals(readers=2)}


async def test_a_reader_s_signal_does_not_take_a_cancel_back(twin: Twin) -> None:
    await twin.log.signal_cancel("a1")
    await twin.log.signal_reader("a1")
    assert (await twin.log.signals(["a1"]))["a1"] == LogSignals(cancelled=True, readers=1)


async def test_a_hundred_answers_signals_come_at_once(twin: Twin) -> None:
    answer_ids = [f"a{number}" for number in range(100)]
    for answer_id in answer_ids[::9]:
        await twin.log.signal_cancel(answer_id)
    assert sorted(await twin.log.signals(answer_ids)) == sorted(answer_ids[::9])


async def test_no_answers_have_no_signals(twin: Twin) -> None:
    assert dict(await twin.log.signals([])) == {}


@pytest.mark.parametrize(("age_s", "found"), [(LOG_EXPIRES_AFTER_S - 1, True), (LOG_EXPIRES_AFTER_S, False)])
async def test_a_log_expires_whether_or_not_it_was_deleted(twin: Twin, age_s: float, found: bool) -> None:
    clock = SteppedClock()
    log = twin.log_by(clock)
    await log.open(samples.opening())
    await log.append("a1", samples.batch())
    clock.step(age_s)
    assert (await log.read("a1") is not None) == found


async def test_an_expired_key_may_be_used_anew(twin: Twin) -> None:
    clock = SteppedClock()
    log = twin.log_by(clock)
    await log.open(samples.opening("a1", key="k1"))
    clock.step(LOG_EXPIRES_AFTER_S)
    again = samples.opening("a2", key="k1")
    assert await log.open(again) == again
    assert await log.open(samples.opening("a3", key="k1")) == again


async def test_expired_signals_are_not_found(twin: Twin) -> None:
    clock = SteppedClock()
    log = twin.log_by(clock)
    await log.signal_cancel("a1")
    clock.step(LOG_EXPIRES_AFTER_S)
    assert dict(await log.signals(["a1"])) == {}


async def test_another_process_follows_and_is_heard(twin: Twin, elsewhere: OtherProcess) -> None:
    await twin.log.open(samples.opening("here"))
    for number in (1, 2, 3):
        await twin.log.append("here", samples.batch(number))
    assert await elsewhere("follow_log") == [2, 3]
    assert (await twin.log.signals(["here"]))["here"] == LogSignals(readers=1)


async def test_a_key_holds_over_processes(twin: Twin, elsewhere: OtherProcess) -> None:
    assert await elsewhere("open_log") == "there"
    assert (await twin.log.open(samples.opening("here", key="k1"))).answer_id == "there"


async def test_a_released_log_of_many_is_the_only_one_forgotten(twin: Twin) -> None:
    for answer_id in ("a1", "a2"):
        await twin.log.open(samples.opening(answer_id))
    await twin.log.release(samples.opening("a2"))
    assert await twin.log.read("a1") is not None
    assert await twin.log.read("a2") is None


async def test_logs_of_another_tenant_are_unknown(twin: Twin, stranger: Twin) -> None:
    await twin.log.open(samples.opening("a1", key="k1"))
    await twin.log.append("a1", samples.batch(frames=[TOKEN]))
    await twin.log.signal_cancel("a1")
    assert await _numbers(twin) == [1]
    assert await stranger.log.read("a1") is None
    assert dict(await stranger.log.signals(["a1"])) == {}


async def test_a_key_of_another_tenant_is_free(twin: Twin, stranger: Twin) -> None:
    await twin.log.open(samples.opening("a1", key="k1"))
    own = samples.opening("a2", key="k1")
    assert await stranger.log.open(own) == own


async def _numbers(twin: Twin, *, after: int = 0) -> list[int]:
    reading = await twin.log.read("a1", after_batch=after)
    assert reading is not None
    return [batch.number for batch in reading.batches]


def _noise(seed: int) -> bytes:
    """Return 200,000 bytes that no compression makes smaller."""
    return Random(seed).randbytes(200_000)  # noqa: S311 : no secret


# --- context tokens, each for one answer ------------------------------------------------------------------
TOKEN_ID = "7" * 64


async def test_a_context_counts_for_its_first_answer_alone(twin: Twin) -> None:
    assert await twin.log.count_context(TOKEN_ID, answer_id="a1", key="k1")
    for key in ("k2", "a1", None):
        assert not await twin.log.count_context(TOKEN_ID, answer_id="a2", key=key)
    assert await twin.log.count_context("8" * 64, answer_id="a2", key=None)


async def test_a_repeat_under_the_same_key_belongs_to_the_first_answer(twin: Twin) -> None:
    assert await twin.log.count_context(TOKEN_ID, answer_id="a1", key="k1")
    assert await twin.log.count_context(TOKEN_ID, answer_id="a2", key="k1")
    await twin.log.uncount_context(TOKEN_ID, answer_id="a2")
    assert not await twin.log.count_context(TOKEN_ID, answer_id="a3", key="k3")


async def test_a_count_that_is_repeated_after_a_lost_response_is_the_same(twin: Twin) -> None:
    for _ in range(2):
        assert await twin.log.count_context(TOKEN_ID, answer_id="a1", key=None)


async def test_of_many_answers_at_once_a_context_counts_for_one(twin: Twin) -> None:
    counted = await asyncio.gather(
        *(twin.log.count_context(TOKEN_ID, answer_id=f"a{number}", key=None) for number in range(8))
    )
    assert sum(counted) == 1


async def test_the_context_of_an_answer_that_never_began_counts_anew(twin: Twin) -> None:
    assert await twin.log.count_context(TOKEN_ID, answer_id="a1", key=None)
    await twin.log.uncount_context(TOKEN_ID, answer_id="a2")
    assert not await twin.log.count_context(TOKEN_ID, answer_id="a3", key=None)
    await twin.log.uncount_context(TOKEN_ID, answer_id="a1")
    assert await twin.log.count_context(TOKEN_ID, answer_id="a3", key=None)


async def test_a_counted_context_expires_with_the_logs(twin: Twin) -> None:
    clock = SteppedClock()
    log = twin.log_by(clock)
    assert await log.count_context(TOKEN_ID, answer_id="a1", key=None)
    clock.step(LOG_EXPIRES_AFTER_S - 1)
    assert not await log.count_context(TOKEN_ID, answer_id="a2", key=None)
    clock.step(2)
    async with asyncio.timeout(60):  # no byte is left
        while TOKEN_ID.encode() in await twin.stored_bytes(clock):
            pass
    assert await log.count_context(TOKEN_ID, answer_id="a2", key=None)


async def test_an_expired_count_that_is_not_deleted_yet_gives_way(twin: Twin) -> None:
    assert await twin.log.count_context(TOKEN_ID, answer_id="a1", key=None)
    later = SteppedClock(datetime.now(UTC) + timedelta(seconds=LOG_EXPIRES_AFTER_S + 1))
    assert await twin.log_by(later).count_context(TOKEN_ID, answer_id="a2", key=None)


async def test_another_tenant_counts_by_itself(twin: Twin, stranger: Twin) -> None:
    assert await twin.log.count_context(TOKEN_ID, answer_id="a1", key=None)
    assert await stranger.log.count_context(TOKEN_ID, answer_id="a1", key=None)
