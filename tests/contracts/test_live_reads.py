"""What every LiveReads does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from assistant.domain.live import LiveRead
from tests.contracts.twins import Twin

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def read(number: int, *, at: datetime = NOON, outcome: str = "ready") -> LiveRead:
    return LiveRead(
        read_id=f"r{number}",
        at=at,
        agent="ana",
        answer_id="a1",
        system="orders",
        operation="orders.get_order",
        subject="0123abcd",
        outcome=outcome,
    )


async def test_reads_are_listed_as_they_were_recorded_the_oldest_first(twin: Twin) -> None:
    reads = [read(number, at=NOON + timedelta(minutes=number)) for number in range(3)]
    for each in reversed(reads):
        await twin.live_reads.record(each)
    assert list(await twin.live_reads.list(since=NOON, until=NOON + timedelta(hours=1))) == reads


async def test_a_period_begins_with_its_first_instant_and_ends_before_its_last(twin: Twin) -> None:
    ends = NOON + timedelta(hours=1)
    before, first, last = read(1, at=NOON - timedelta(microseconds=1)), read(2), read(3, at=ends)
    for each in (before, first, last):
        await twin.live_reads.record(each)
    assert list(await twin.live_reads.list(since=NOON, until=ends)) == [first]


async def test_a_period_goes_over_days_and_months(twin: Twin) -> None:
    reads = [read(number, at=NOON + timedelta(days=number * 20)) for number in range(4)]
    for each in reads:
        await twin.live_reads.record(each)
    found = await twin.live_reads.list(since=NOON, until=NOON + timedelta(days=60))
    assert list(found) == reads[:3]


async def test_a_list_is_bounded(twin: Twin) -> None:
    for number in range(5):
        await twin.live_reads.record(read(number, at=NOON + timedelta(days=number)))
    found = await twin.live_reads.list(since=NOON, until=NOON + timedelta(days=9), limit=3)
    assert [each.read_id for each in found] == ["r0", "r1", "r2"]


async def test_reads_of_one_instant_are_all_kept(twin: Twin) -> None:
    await asyncio.gather(*(twin.live_reads.record(read(number)) for number in range(10)))
    found = await twin.live_reads.list(since=NOON, until=NOON + timedelta(seconds=1))
    assert {each.read_id for each in found} == {f"r{number}" for number in range(10)}


async def test_reads_of_nobody_have_no_subject(twin: Twin) -> None:
    nobody = read(1).model_copy(update={"subject": None, "answer_id": None, "cached": True})
    await twin.live_reads.record(nobody)
    assert list(await twin.live_reads.list(since=NOON, until=NOON + timedelta(hours=1))) == [nobody]


async def test_another_tenant_s_reads_are_others(twin: Twin, stranger: Twin) -> None:
    await twin.live_reads.record(read(1))
    assert list(await stranger.live_reads.list(since=NOON, until=NOON + timedelta(hours=1))) == []
