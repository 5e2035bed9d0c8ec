"""One writer of an index at a time, over processes that know nothing of each other."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import DependencyError
from assistant.process.aws import open_client
from assistant.stores.documents import INDEX_WRITES, StoredWriteTurn
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.tenant.deployed_names import STATES
from tests.emulated_aws import create_table
from tests.fakes.aws_server import REGION

Turns = Callable[..., StoredWriteTurn]


class ShiftedClock(SystemClock):
    def __init__(self, ahead_s: float) -> None:
        self._ahead = timedelta(seconds=ahead_s)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead


@pytest.fixture
async def turns(aws_server_url: str) -> AsyncIterator[Turns]:
    """Makes turns as other processes would have them."""
    async with open_client("dynamodb", region=REGION, endpoint_url=aws_server_url) as client:
        name = f"states-{uuid.uuid4().hex[:12]}"
        await create_table(client, STATES, name=name)
        table = DynamoDbTable(client, name=name, unavailable=DependencyError)

        def turn(*, clock: Clock | None = None, **times: Any) -> StoredWriteTurn:
            return StoredWriteTurn(table, replace(INDEX_WRITES, **times), clock=clock)

        yield turn
        await table.close()


async def test_only_one_writes_at_a_time(turns: Turns) -> None:
    writing: list[int] = []
    most = 0

    async def write(turn: StoredWriteTurn) -> None:
        nonlocal most
        async with turn:
            writing.append(1)
            most = max(most, len(writing))
            await asyncio.sleep(0.02)
            writing.pop()

    here, there = turns(), turns()
    await asyncio.gather(*(write(turn) for turn in (here, there, here, there)))

    assert most == 1


async def test_a_wait_for_the_lock_that_is_too_long_fails(turns: Turns) -> None:
    async with turns():
        with pytest.raises(DependencyError, match="Another process writes"):
            async with turns(waits_s=0.1):
                pass


async def test_a_lock_whose_holder_died_expires(turns: Turns) -> None:
    await turns().__aenter__()

    async with turns(clock=ShiftedClock(ahead_s=91)):
        pass


async def test_a_holder_is_cancelled_before_its_lock_expires(turns: Turns) -> None:
    with pytest.raises(DependencyError, match="took too long"):
        async with turns(lasts_s=15.05):
            await asyncio.Event().wait()
    async with turns():
        pass


async def test_a_failure_inside_releases_the_lock(turns: Turns) -> None:
    with pytest.raises(ZeroDivisionError):
        async with turns():
            raise ZeroDivisionError

    async with turns(waits_s=0.1):
        pass


async def test_a_lost_lock_is_not_taken_from_its_new_holder(turns: Turns) -> None:
    slow, quick, third = turns(), turns(clock=ShiftedClock(ahead_s=91)), turns(waits_s=0.1)
    await slow.__aenter__()
    async with quick:
        await slow.__aexit__(None, None, None)
        with pytest.raises(DependencyError):
            await third.__aenter__()
