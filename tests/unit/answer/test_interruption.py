"""Interrupting a wait from outside, and nothing but that wait."""

from __future__ import annotations

import asyncio

import pytest

from assistant.answer.call import InterruptedAnswerError, Interruption
from assistant.answer.text_end import CANCELLED, LATE, TextEnd

LIMIT_S = 60.0


async def wait_under(interruption: Interruption, waiting: asyncio.Event) -> TextEnd | None:
    try:
        waiting.set()
        await interruption.wait(asyncio.Event().wait())
    except InterruptedAnswerError as interrupted:
        return interrupted.end
    return None


async def test_the_cancellation_of_somebody_else_goes_on() -> None:
    interruption, waiting = Interruption(), asyncio.Event()
    task = asyncio.create_task(wait_under(interruption, waiting))
    await asyncio.wait_for(waiting.wait(), LIMIT_S)
    task.cancel()
    interruption.interrupt(CANCELLED)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, LIMIT_S)


async def test_a_wait_that_turned_the_cancellation_into_its_own_error_keeps_it() -> None:
    interruption, waiting = Interruption(), asyncio.Event()

    async def work() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError from None

    task = asyncio.create_task(interruption.wait(work()))
    await asyncio.wait_for(waiting.wait(), LIMIT_S)
    interruption.interrupt(CANCELLED)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(task, LIMIT_S)
    assert task.cancelling() == 0


async def test_a_wait_inside_a_time_out_is_interrupted_as_such() -> None:
    interruption, waiting = Interruption(), asyncio.Event()

    async def work() -> TextEnd | None:
        async with asyncio.timeout(LIMIT_S):
            return await wait_under(interruption, waiting)

    task = asyncio.create_task(work())
    await asyncio.wait_for(waiting.wait(), LIMIT_S)
    interruption.interrupt(LATE)
    assert await asyncio.wait_for(task, LIMIT_S) is LATE
