"""What the service makes of the word that revokes tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from assistant.domain.errors import DependencyError, TokenRevokedError
from assistant.service.identity import RevokedTokens
from assistant.stores.words import FileWords, Revocations
from tests.fakes.clock import SteppedClock


class Source:
    """The revocations of a tenant in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.revocations = Revocations(FileWords(file))

    def put(self, content: str) -> None:
        self.file.write_text(content)

    @contextmanager
    def unreadable(self) -> Iterator[None]:
        """Have a folder where the file was."""
        content = self.file.read_text()
        self.file.unlink()
        self.file.mkdir()
        yield
        self.file.rmdir()
        self.file.write_text(content)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "revocations.json")


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


async def test_nothing_is_revoked_where_nobody_revoked_anything(source: Source) -> None:
    assert await source.revocations.fetch() == b"{}"
    assert not await is_refused(RevokedTokens(source.revocations, clock=SteppedClock()))


async def test_a_process_that_starts_refuses_what_was_revoked_before(source: Source) -> None:
    source.put(content(ann=NOON))
    tokens = RevokedTokens(source.revocations, clock=SteppedClock())
    assert await is_refused(tokens)
    assert await is_refused(tokens, issued_at=NOON - timedelta(hours=1))
    assert not await is_refused(tokens, issued_at=NOON + timedelta(seconds=1))
    assert not await is_refused(tokens, "bob")


async def test_a_revocation_holds_within_a_minute_also_after_a_quiet_time(source: Source) -> None:
    clock = SteppedClock()
    tokens = RevokedTokens(source.revocations, clock=clock)
    assert not await is_refused(tokens)
    source.put(content(ann=NOON))
    async with asyncio.timeout(60):
        while not await is_refused(tokens):
            clock.step(16)
    source.put(content(bob=NOON))
    async with asyncio.timeout(60):
        while not await is_refused(tokens, "bob"):
            clock.step(16)
    assert not await is_refused(tokens)


async def test_while_the_source_cannot_be_read_the_last_reading_counts(source: Source) -> None:
    clock = SteppedClock()
    source.put(content(ann=NOON))
    tokens, started_now = (RevokedTokens(source.revocations, clock=clock) for _ in range(2))
    assert await is_refused(tokens)
    with source.unreadable():
        clock.step(300)
        with capture_logs() as logs:
            assert await is_refused(tokens)
            with pytest.raises(DependencyError):
                await started_now.require("bob", issued_s=NOON.timestamp())
        assert {log["event"] for log in logs} >= {"revocations_not_read"}


@pytest.mark.parametrize("damaged", ["{", "[]", '{"ann": "yesterday"}', '{"ann": "2026-11-25T12:00:00"}'])
async def test_a_damaged_text_revokes_nobody_anew_and_frees_nobody(source: Source, damaged: str) -> None:
    clock = SteppedClock()
    source.put(content(ann=NOON))
    tokens = RevokedTokens(source.revocations, clock=clock)
    assert await is_refused(tokens)
    source.put(damaged)
    clock.step(60)
    assert await is_refused(tokens)
    assert not await is_refused(tokens, "bob")
