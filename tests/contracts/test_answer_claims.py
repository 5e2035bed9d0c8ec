"""What claims do over each table."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from assistant.stores.events import CLAIM_EXPIRES_AFTER_S as LIFE_S
from tests.contracts import samples
from tests.contracts.conftest import OtherProcess
from tests.contracts.twins import Twin
from tests.fakes.clock import SteppedClock


async def test_a_key_used_before_stands_for_the_first_answer(twin: Twin) -> None:
    first = samples.claim("a1")
    assert await twin.claims.claim(first) == first
    found = await twin.claims.claim(samples.claim("a2", request_hash="other"))
    assert (found.answer_id, found.request_hash) == ("a1", "hash-1")
    assert abs(found.claimed_at - first.claimed_at) < timedelta(seconds=1)


async def test_a_key_belongs_to_its_agent(twin: Twin) -> None:
    await twin.claims.claim(samples.claim("a1", agent="ana"))
    assert (await twin.claims.claim(samples.claim("a2", agent="ben"))).answer_id == "a2"


async def test_agent_and_key_are_never_run_together(twin: Twin) -> None:
    await twin.claims.claim(samples.claim("a1", agent="ana#k", key="1"))
    assert (await twin.claims.claim(samples.claim("a2", agent="ana", key="k#1"))).answer_id == "a2"


async def test_of_two_claims_at_once_one_wins(twin: Twin) -> None:
    claims = [samples.claim(f"a{number}") for number in range(8)]
    held = await asyncio.gather(*map(twin.claims.claim, claims))
    assert len({claim.answer_id for claim in held}) == 1


async def test_a_released_key_begins_anew(twin: Twin) -> None:
    first = samples.claim("a1")
    await twin.claims.claim(first)
    await twin.claims.release(first)
    again = samples.claim("a2", request_hash="other")
    assert await twin.claims.claim(again) == again
    await twin.claims.release(first)  # late: the key stands for another answer now
    assert (await twin.claims.claim(samples.claim("a3"))).answer_id == "a2"


@pytest.mark.parametrize(("age_s", "holder"), [(LIFE_S - 1, "a1"), (LIFE_S, "a2")])
async def test_an_expired_key_may_be_used_anew(twin: Twin, age_s: float, holder: str) -> None:
    clock = SteppedClock()
    claims = twin.claims_by(clock)
    await claims.claim(samples.claim("a1", at=clock.now()))
    clock.step(age_s)
    assert (await claims.claim(samples.claim("a2", at=clock.now()))).answer_id == holder


async def test_a_cancellation_reaches_the_task_that_writes(twin: Twin) -> None:
    for _ in range(2):
        await twin.claims.cancel("a1")
    assert list(await twin.claims.cancelled(["a1", "a2"])) == ["a1"]
    assert list(await twin.claims.cancelled([])) == []


async def test_a_hundred_cancellations_come_at_once(twin: Twin) -> None:
    answer_ids = [f"a{number}" for number in range(100)]
    for answer_id in answer_ids[::9]:
        await twin.claims.cancel(answer_id)
    assert sorted(await twin.claims.cancelled(answer_ids)) == sorted(answer_ids[::9])


async def test_an_expired_cancellation_is_not_found(twin: Twin) -> None:
    clock = SteppedClock()
    claims = twin.claims_by(clock)
    await claims.cancel("a1")
    clock.step(LIFE_S)
    assert list(await claims.cancelled(["a1"])) == []


async def test_a_key_and_a_cancellation_hold_over_processes(twin: Twin, elsewhere: OtherProcess) -> None:
    assert await elsewhere("claim_and_cancel") == "there"
    assert (await twin.claims.claim(samples.claim("here"))).answer_id == "there"
    assert list(await twin.claims.cancelled(["here"])) == ["here"]


async def test_a_key_of_another_tenant_is_free(twin: Twin, stranger: Twin) -> None:
    await twin.claims.claim(samples.claim("a1"))
    await twin.claims.cancel("a1")
    assert (await stranger.claims.claim(samples.claim("a2"))).answer_id == "a2"
    assert list(await stranger.claims.cancelled(["a1"])) == []


# --- context tokens, each for one answer ------------------------------------------------------------------
TOKEN_ID = "7" * 64


async def test_a_context_counts_for_its_first_answer_alone(twin: Twin) -> None:
    assert await twin.claims.count_context(TOKEN_ID, answer_id="a1", key="k1")
    for key in ("k2", "a1", None):
        assert not await twin.claims.count_context(TOKEN_ID, answer_id="a2", key=key)
    assert await twin.claims.count_context("8" * 64, answer_id="a2", key=None)


async def test_a_repeat_under_the_same_key_belongs_to_the_first_answer(twin: Twin) -> None:
    assert await twin.claims.count_context(TOKEN_ID, answer_id="a1", key="k1")
    assert await twin.claims.count_context(TOKEN_ID, answer_id="a2", key="k1")
    await twin.claims.uncount_context(TOKEN_ID, answer_id="a2")
    assert not await twin.claims.count_context(TOKEN_ID, answer_id="a3", key="k3")


async def test_a_count_that_is_repeated_after_a_lost_response_is_the_same(twin: Twin) -> None:
    for _ in range(2):
        assert await twin.claims.count_context(TOKEN_ID, answer_id="a1", key=None)


async def test_of_many_answers_at_once_a_context_counts_for_one(twin: Twin) -> None:
    counted = await asyncio.gather(
        *(twin.claims.count_context(TOKEN_ID, answer_id=f"a{number}", key=None) for number in range(8))
    )
    assert sum(counted) == 1


async def test_the_context_of_an_answer_that_never_began_counts_anew(twin: Twin) -> None:
    assert await twin.claims.count_context(TOKEN_ID, answer_id="a1", key=None)
    await twin.claims.uncount_context(TOKEN_ID, answer_id="a2")
    assert not await twin.claims.count_context(TOKEN_ID, answer_id="a3", key=None)
    await twin.claims.uncount_context(TOKEN_ID, answer_id="a1")
    assert await twin.claims.count_context(TOKEN_ID, answer_id="a3", key=None)


async def test_a_counted_context_expires_with_the_claims(twin: Twin) -> None:
    clock = SteppedClock()
    claims = twin.claims_by(clock)
    assert await claims.count_context(TOKEN_ID, answer_id="a1", key=None)
    clock.step(LIFE_S - 1)
    assert not await claims.count_context(TOKEN_ID, answer_id="a2", key=None)
    clock.step(2)
    async with asyncio.timeout(60):  # no byte is left
        while TOKEN_ID.encode() in await twin.stored_bytes(clock):
            pass
    assert await claims.count_context(TOKEN_ID, answer_id="a2", key=None)


async def test_an_expired_count_that_is_not_deleted_yet_gives_way(twin: Twin) -> None:
    assert await twin.claims.count_context(TOKEN_ID, answer_id="a1", key=None)
    later = SteppedClock(datetime.now(UTC) + timedelta(seconds=LIFE_S + 1))
    assert await twin.claims_by(later).count_context(TOKEN_ID, answer_id="a2", key=None)


async def test_another_tenant_counts_by_itself(twin: Twin, stranger: Twin) -> None:
    assert await twin.claims.count_context(TOKEN_ID, answer_id="a1", key=None)
    assert await stranger.claims.count_context(TOKEN_ID, answer_id="a1", key=None)
