"""What the record of live reads does over each table."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from assistant.domain.audit import LiveRead, LiveReadQuery
from tests.contracts.twins import Twin

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
OTHER = "89abcdef"


def read(
    number: int, *, at: datetime = NOON, subject: str | None = "0123abcd", agent: str = "ana"
) -> LiveRead:
    return LiveRead(
        read_id=f"r{number:04d}",
        at=at,
        agent=agent,
        answer_id="a1",
        system="orders",
        operation="orders.get_order",
        subject=subject,
        outcome="ready",
    )


def query(since: datetime = NOON, *, until: datetime = NOON + HOUR, limit: int = 100) -> LiveReadQuery:
    return LiveReadQuery(since, until, limit=limit)


async def listed(twin: Twin, asked: LiveReadQuery) -> list[LiveRead]:
    """Return the reads of all pages."""
    found: list[LiveRead] = []
    while True:
        page = await twin.live_reads.list(asked)
        assert len(page.reads) <= asked.limit
        found += page.reads
        if page.next_after is None:
            return found
        asked = replace(asked, after=page.next_after)


async def recorded(twin: Twin, *reads: LiveRead) -> None:
    await asyncio.gather(*map(twin.live_reads.record, reads))


async def test_reads_are_listed_as_they_were_recorded_the_oldest_first(twin: Twin) -> None:
    reads = [read(number, at=NOON + timedelta(minutes=number)) for number in range(3)]
    await recorded(twin, *reversed(reads))
    assert await listed(twin, query()) == reads


async def test_a_period_begins_with_its_first_instant_and_ends_before_its_last(twin: Twin) -> None:
    before, first, last = read(1, at=NOON - timedelta(microseconds=1)), read(2), read(3, at=NOON + HOUR)
    await recorded(twin, before, first, last)
    assert await listed(twin, query()) == [first]


async def test_an_empty_period_has_no_reads(twin: Twin) -> None:
    await recorded(twin, read(1))
    assert await listed(twin, query(until=NOON)) == []


async def test_a_period_goes_over_days_and_months(twin: Twin) -> None:
    reads = [read(number, at=NOON + timedelta(days=number * 20)) for number in range(4)]
    await recorded(twin, *reads)
    assert await listed(twin, query(until=NOON + timedelta(days=60))) == reads[:3]


async def test_a_period_of_six_years_leaves_no_read_out(twin: Twin) -> None:
    """HIPAA's accounting of disclosures goes back for six years."""
    days = (0, 1, 399, 400, 401, 800, 1500, 2191)
    reads = [read(number, at=NOON + timedelta(days=day)) for number, day in enumerate(days)]
    await recorded(twin, *reads)
    whole = query(until=NOON + timedelta(days=2192))
    assert await listed(twin, whole) == reads
    assert await listed(twin, replace(whole, subject=reads[0].subject)) == reads


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_lead_through_everything_once(twin: Twin, limit: int) -> None:
    reads = [read(number, at=NOON + timedelta(days=number // 3)) for number in range(10)]
    await recorded(twin, *reads)
    assert await listed(twin, query(until=NOON + timedelta(days=9), limit=limit)) == reads


async def test_one_customer_s_reads_are_found_among_many_of_others(twin: Twin) -> None:
    others = [read(number, subject=OTHER, at=NOON + timedelta(seconds=number)) for number in range(60)]
    own = [read(number, at=NOON + timedelta(seconds=number)) for number in (100, 101)]
    await recorded(twin, *others, *own)
    asked = replace(query(limit=2), subject="0123abcd")
    page = await twin.live_reads.list(asked)
    assert (list(page.reads), page.next_after) == (own, None)
    assert await listed(twin, replace(query(), subject="unknown")) == []


async def test_reads_are_found_by_agent_and_by_both(twin: Twin) -> None:
    ana, ben = read(1), read(2, agent="ben")
    bens_other = read(3, agent="ben", subject=OTHER)
    await recorded(twin, ana, ben, bens_other)
    assert await listed(twin, replace(query(), agent="ben")) == [ben, bens_other]
    assert await listed(twin, replace(query(), agent="ben", subject=OTHER)) == [bens_other]


async def test_reads_of_one_instant_are_all_kept(twin: Twin) -> None:
    reads = [read(number) for number in range(10)]
    await recorded(twin, *reads)
    assert await listed(twin, query(limit=3)) == reads


async def test_reads_of_nobody_have_no_subject(twin: Twin) -> None:
    nobody = read(1, subject=None).model_copy(update={"answer_id": None, "cached": True})
    await recorded(twin, nobody)
    assert await listed(twin, query()) == [nobody]


async def test_another_tenant_s_reads_are_others(twin: Twin, stranger: Twin) -> None:
    await recorded(twin, read(1))
    assert await listed(stranger, query()) == []
    assert await listed(stranger, replace(query(), subject="0123abcd")) == []
