"""What the record of live reads does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assistant.domain.audit import LiveRead, LiveReadQuery, by_writer
from tests.stage.tenant_stores import TenantStores

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


async def listed(stores: TenantStores, asked: LiveReadQuery) -> list[LiveRead]:
    """Return the reads of all pages."""
    found: list[LiveRead] = []
    while True:
        page = await stores.live_reads.list(asked)
        assert len(page.reads) <= asked.limit
        found += page.reads
        if page.next_after is None:
            return found
        asked = replace(asked, after=page.next_after)


async def recorded(stores: TenantStores, *reads: LiveRead) -> None:
    await asyncio.gather(*map(stores.live_reads.record, reads))


async def test_reads_are_listed_as_they_were_recorded_the_oldest_first(stores: TenantStores) -> None:
    reads = [read(number, at=NOON + timedelta(minutes=number)) for number in range(3)]
    await recorded(stores, *reversed(reads))
    assert await listed(stores, query()) == reads


async def test_a_period_begins_with_its_first_instant_and_ends_before_its_last(stores: TenantStores) -> None:
    before, first, last = read(1, at=NOON - timedelta(microseconds=1)), read(2), read(3, at=NOON + HOUR)
    await recorded(stores, before, first, last)
    assert await listed(stores, query()) == [first]


async def test_a_period_of_six_years_leaves_no_read_out(stores: TenantStores) -> None:
    """HIPAA's accounting of disclosures goes back for six years."""
    days = (0, 1, 399, 400, 401, 800, 1500, 2191)
    reads = [read(number, at=NOON + timedelta(days=day)) for number, day in enumerate(days)]
    await recorded(stores, *reads)
    whole = query(until=NOON + timedelta(days=2192))
    assert await listed(stores, whole) == reads
    assert await listed(stores, replace(whole, subject=reads[0].subject)) == reads


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_pages_lead_through_everything_once(stores: TenantStores, limit: int) -> None:
    reads = [read(number, at=NOON + timedelta(days=number // 3)) for number in range(10)]
    await recorded(stores, *reads)
    assert await listed(stores, query(until=NOON + timedelta(days=9), limit=limit)) == reads


async def test_one_customer_s_reads_are_found_among_many_of_others(stores: TenantStores) -> None:
    others = [read(number, subject=OTHER, at=NOON + timedelta(seconds=number)) for number in range(60)]
    own = [read(number, at=NOON + timedelta(seconds=number)) for number in (100, 101)]
    await recorded(stores, *others, *own)
    asked = replace(query(limit=2), subject="0123abcd")
    page = await stores.live_reads.list(asked)
    assert (list(page.reads), page.next_after) == (own, None)
    assert await listed(stores, replace(query(), subject="unknown")) == []


async def test_reads_are_found_by_agent_and_by_both(stores: TenantStores) -> None:
    ana, ben = read(1), read(2, agent="ben")
    bens_other = read(3, agent="ben", subject=OTHER)
    await recorded(stores, ana, ben, bens_other)
    assert await listed(stores, replace(query(), agent="ben")) == [ben, bens_other]
    assert await listed(stores, replace(query(), agent="ben", subject=OTHER)) == [bens_other]


async def test_a_read_is_in_a_chain_of_audit_records(stores: TenantStores) -> None:
    await recorded(stores, read(1))
    (chain,) = by_writer(await stores.records.audited(NOON.date())).values()
    assert LiveRead.model_validate_json(chain[1][0].content) == read(1)


async def test_another_tenant_s_reads_are_others(stores: TenantStores, tmp_path: Path) -> None:
    await recorded(stores, read(1))
    stranger = TenantStores(tmp_path / "stranger")
    assert await listed(stranger, query()) == []
    assert await listed(stranger, replace(query(), subject="0123abcd")) == []
    await stranger.close()
