"""What claims do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from assistant.stores.events import CLAIM_EXPIRES_AFTER_S as LIFE_S
from assistant.stores.events import EVENTS_TABLE, StoredClaims
from tests.contracts import samples
from tests.stage.tenant_stores import SteppedClock, TenantStores


async def test_a_key_used_before_stands_for_the_first_answer(stores: TenantStores) -> None:
    first = samples.claim("a1")
    assert await stores.claims.claim(first) == first
    found = await stores.claims.claim(samples.claim("a2", request_hash="other"))
    assert (found.answer_id, found.request_hash) == ("a1", "hash-1")
    assert abs(found.claimed_at - first.claimed_at) < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("first", "second"), [(("ana", "k"), ("ben", "k")), (("ana#k", "1"), ("ana", "k#1"))]
)
async def test_a_key_belongs_to_its_agent(
    stores: TenantStores, first: tuple[str, str], second: tuple[str, str]
) -> None:
    await stores.claims.claim(samples.claim("a1", agent=first[0], key=first[1]))
    claimed = await stores.claims.claim(samples.claim("a2", agent=second[0], key=second[1]))
    assert claimed.answer_id == "a2"


async def test_of_two_claims_at_once_one_wins(stores: TenantStores) -> None:
    claims = [samples.claim(f"a{number}") for number in range(8)]
    held = await asyncio.gather(*map(stores.claims.claim, claims))
    assert len({claim.answer_id for claim in held}) == 1


async def test_a_released_key_begins_anew(stores: TenantStores) -> None:
    first = samples.claim("a1")
    await stores.claims.claim(first)
    await stores.claims.release(first)
    again = samples.claim("a2", request_hash="other")
    assert await stores.claims.claim(again) == again
    await stores.claims.release(first)  # late: the key stands for another answer now
    assert (await stores.claims.claim(samples.claim("a3"))).answer_id == "a2"


@pytest.mark.parametrize(("age_s", "holder"), [(LIFE_S - 1, "a1"), (LIFE_S, "a2")])
async def test_an_expired_key_may_be_used_anew(stores: TenantStores, age_s: float, holder: str) -> None:
    clock = SteppedClock()
    claims = StoredClaims(stores.table_expiring_by(clock), clock=clock)
    await claims.claim(samples.claim("a1", at=clock.now()))
    clock.step(age_s)
    assert (await claims.claim(samples.claim("a2", at=clock.now()))).answer_id == holder


async def test_a_cancellation_reaches_the_task_that_writes(stores: TenantStores) -> None:
    for _ in range(2):
        await stores.claims.cancel("a1")
    assert list(await stores.claims.cancelled(["a1", "a2"])) == ["a1"]
    assert list(await stores.claims.cancelled([])) == []


async def test_a_hundred_cancellations_come_at_once(stores: TenantStores) -> None:
    answer_ids = [f"a{number}" for number in range(100)]
    for answer_id in answer_ids[::9]:
        await stores.claims.cancel(answer_id)
    assert sorted(await stores.claims.cancelled(answer_ids)) == sorted(answer_ids[::9])


# --- context tokens, each for one answer ------------------------------------------------------------------
TOKEN_ID = "7" * 64


async def test_a_context_counts_for_its_first_answer_alone(stores: TenantStores) -> None:
    assert await stores.claims.count_context(TOKEN_ID, answer_id="a1", key="k1")
    for key in ("k2", "a1", None):
        assert not await stores.claims.count_context(TOKEN_ID, answer_id="a2", key=key)
    assert await stores.claims.count_context("8" * 64, answer_id="a2", key=None)


async def test_a_repeat_under_the_same_key_belongs_to_the_first_answer(stores: TenantStores) -> None:
    assert await stores.claims.count_context(TOKEN_ID, answer_id="a1", key="k1")
    assert await stores.claims.count_context(TOKEN_ID, answer_id="a2", key="k1")
    await stores.claims.uncount_context(TOKEN_ID, answer_id="a2")
    assert not await stores.claims.count_context(TOKEN_ID, answer_id="a3", key="k3")


async def test_a_count_that_is_repeated_after_a_lost_response_is_the_same(stores: TenantStores) -> None:
    for _ in range(2):
        assert await stores.claims.count_context(TOKEN_ID, answer_id="a1", key=None)


async def test_of_many_answers_at_once_a_context_counts_for_one(stores: TenantStores) -> None:
    counted = await asyncio.gather(
        *(stores.claims.count_context(TOKEN_ID, answer_id=f"a{number}", key=None) for number in range(8))
    )
    assert sum(counted) == 1


async def test_the_context_of_an_answer_that_never_began_counts_anew(stores: TenantStores) -> None:
    assert await stores.claims.count_context(TOKEN_ID, answer_id="a1", key=None)
    await stores.claims.uncount_context(TOKEN_ID, answer_id="a2")
    assert not await stores.claims.count_context(TOKEN_ID, answer_id="a3", key=None)
    await stores.claims.uncount_context(TOKEN_ID, answer_id="a1")
    assert await stores.claims.count_context(TOKEN_ID, answer_id="a3", key=None)


async def test_a_counted_context_expires_with_the_claims(stores: TenantStores) -> None:
    clock = SteppedClock()
    claims = StoredClaims(stores.table_expiring_by(clock), clock=clock)
    assert await claims.count_context(TOKEN_ID, answer_id="a1", key=None)
    clock.step(LIFE_S - 1)
    assert not await claims.count_context(TOKEN_ID, answer_id="a2", key=None)
    clock.step(2)
    async with asyncio.timeout(60):  # no byte is left
        while TOKEN_ID.encode() in await stores.stored_bytes():
            pass
    assert await claims.count_context(TOKEN_ID, answer_id="a2", key=None)


async def test_an_expired_count_that_is_not_deleted_yet_gives_way(stores: TenantStores) -> None:
    assert await stores.claims.count_context(TOKEN_ID, answer_id="a1", key=None)
    later = SteppedClock(datetime.now(UTC) + timedelta(seconds=LIFE_S + 1))
    claims = StoredClaims(stores.get(EVENTS_TABLE), clock=later)
    assert await claims.count_context(TOKEN_ID, answer_id="a2", key=None)
