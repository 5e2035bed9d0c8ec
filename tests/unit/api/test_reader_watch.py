from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from assistant.api.limits import ReaderWatch, StalledReaderError

PART: dict[str, object] = {"type": "http.response.body"}


async def taken(_message: MutableMapping[str, Any]) -> None:
    """A reader who takes what comes."""


async def stuck(_message: MutableMapping[str, Any]) -> None:
    await asyncio.Event().wait()


async def test_a_reader_who_takes_nothing_is_found_out() -> None:
    async with asyncio.timeout(5):
        with pytest.raises(StalledReaderError), ReaderWatch(limit_s=0.02) as watch:
            await watch.send(stuck, PART)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_waiting_for_the_next_event_is_no_stall() -> None:
    with ReaderWatch(limit_s=0.01) as watch:
        await watch.send(taken, PART)
        await asyncio.sleep(0.05)
        await watch.send(taken, PART)


async def test_a_cancellation_from_elsewhere_goes_on() -> None:
    async def deliver() -> None:
        with ReaderWatch(limit_s=30) as watch:
            await watch.send(stuck, PART)

    task = asyncio.create_task(deliver())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
