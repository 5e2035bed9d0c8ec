"""What every source of revoked tokens does, and what the service makes of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from structlog.testing import capture_logs

from assistant.domain.errors import DependencyError, TokenRevokedError
from assistant.service.identity import RevokedTokens
from tests.contracts.twins import Twin
from tests.fakes.clock import SteppedClock

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def content(**revoked: datetime) -> str:
    return orjson.dumps({agent: at.isoformat() for agent, at in revoked.items()}).decode()


async def is_refused(tokens: RevokedTokens, agent: str = "ann", *, issued_at: datetime = NOON) -> bool:
    """Whether the token is refused, once the source was read; on a busy machine that takes seconds."""
    async with asyncio.timeout(60):
        while True:
            try:
                await tokens.require(agent, issued_s=issued_at.timestamp())
            except TokenRevokedError:
                return True
            except DependencyError:
                continue
            return False


async def test_nothing_is_revoked_where_nobody_revoked_anything(twin: Twin) -> None:
    assert await twin.revocations.fetch() == b"{}"
    assert not await is_refused(RevokedTokens(twin.revocations, clock=SteppedClock()))


async def test_a_process_that_starts_refuses_what_was_revoked_before(twin: Twin) -> None:
    await twin.put_revocations(content(ann=NOON))
    tokens = RevokedTokens(twin.revocations, clock=SteppedClock())
    assert await is_refused(tokens)
    assert await is_refused(tokens, issued_at=NOON - timedelta(hours=1))
    assert not await is_refused(tokens, issued_at=NOON + timedelta(seconds=1))
    assert not await is_refused(tokens, "bob")


async def test_a_revocation_holds_within_a_minute_also_after_a_quiet_time(twin: Twin) -> None:
    clock = SteppedClock()
    tokens = RevokedTokens(twin.revocations, clock=clock)
    assert not await is_refused(tokens)
    await twin.put_revocations(content(ann=NOON))
    async with asyncio.timeout(60):
        while not await is_refused(tokens):
            clock.step(16)
    await twin.put_revocations(content(bob=NOON))
    async with asyncio.timeout(60):
        while not await is_refused(tokens, "bob"):
            clock.step(16)
    assert not await is_refused(tokens)


async def test_while_the_source_cannot_be_read_the_last_reading_counts(twin: Twin) -> None:
    clock = SteppedClock()
    await twin.put_revocations(content(ann=NOON))
    tokens, started_now = (RevokedTokens(twin.revocations, clock=clock) for _ in range(2))
    assert await is_refused(tokens)
    async with twin.unreadable_switches():
        clock.step(300)
        with capture_logs() as logs:
            assert await is_refused(tokens)
            with pytest.raises(DependencyError):
                await started_now.require("bob", issued_s=NOON.timestamp())
        assert {log["event"] for log in logs} >= {"revocations_not_read"}


@pytest.mark.parametrize("damaged", ["{", "[]", '{"ann": "yesterday"}', '{"ann": "2026-11-25T12:00:00"}'])
async def test_a_damaged_text_revokes_nobody_anew_and_frees_nobody(twin: Twin, damaged: str) -> None:
    clock = SteppedClock()
    await twin.put_revocations(content(ann=NOON))
    tokens = RevokedTokens(twin.revocations, clock=clock)
    assert await is_refused(tokens)
    await twin.put_revocations(damaged)
    clock.step(60)
    assert await is_refused(tokens)
    assert not await is_refused(tokens, "bob")


async def test_another_tenant_s_revocations_are_others(twin: Twin, stranger: Twin) -> None:
    await twin.put_revocations(content(ann=NOON))
    assert await is_refused(RevokedTokens(twin.revocations, clock=SteppedClock()))
    assert not await is_refused(RevokedTokens(stranger.revocations, clock=SteppedClock()))
