"""What the power switch does over each place of words."""

from __future__ import annotations

import asyncio

import pytest

from assistant.stores.words import Power
from tests.contracts.conftest import OtherProcess
from tests.contracts.twins import Twin
from tests.fakes.clock import SteppedClock

REFRESH_S = 5.0


async def becomes(power: Power, clock: SteppedClock, *, paused: bool) -> bool:
    """Whether the switch is seen that way, asked anew every few seconds of its clock."""
    for polls in range(500):
        if await power.is_paused() == paused:
            return True
        if polls % 25 == 24:  # half a second: none is being read when the next reading is due
            clock.step(REFRESH_S)
        await asyncio.sleep(0.02)
    return False


async def test_endpoints_are_on_where_nobody_said_anything(twin: Twin) -> None:
    clock = SteppedClock()
    power = twin.power_by(clock)
    for _ in range(5):
        assert not await power.is_paused()
        clock.step(REFRESH_S)
        await asyncio.sleep(0.02)


async def test_pausing_and_resuming_are_seen(twin: Twin) -> None:
    clock = SteppedClock()
    power = twin.power_by(clock)
    for word in ("paused", "on", "paused"):
        await twin.set_power(word)
        clock.step(REFRESH_S)
        assert await becomes(power, clock, paused=word == "paused")


@pytest.mark.parametrize("word", ["pausing", "resuming"])
async def test_endpoints_that_come_or_go_are_not_called(twin: Twin, word: str) -> None:
    clock = SteppedClock()
    power = twin.power_by(clock)
    await twin.set_power(word)
    assert await becomes(power, clock, paused=True)
    await twin.set_power("on")
    clock.step(REFRESH_S)
    assert await becomes(power, clock, paused=False)


async def test_white_space_around_the_word_is_nothing(twin: Twin) -> None:
    clock = SteppedClock()
    await twin.set_power(" paused\n")
    assert await becomes(twin.power_by(clock), clock, paused=True)


@pytest.mark.parametrize("word", ["off", "PAUSED", "paused paused", "{}"])
async def test_any_other_word_means_on(twin: Twin, word: str) -> None:
    clock = SteppedClock()
    power = twin.power_by(clock)
    await twin.set_power("paused")
    assert await becomes(power, clock, paused=True)
    await twin.set_power(word)
    clock.step(REFRESH_S)
    assert await becomes(power, clock, paused=False)


async def test_between_two_readings_the_last_one_stands(twin: Twin) -> None:
    clock = SteppedClock()
    power = twin.power_by(clock)
    await twin.set_power("paused")
    assert await becomes(power, clock, paused=True)
    await twin.set_power("on")
    clock.step(1.0)
    assert await power.is_paused()


async def test_after_a_quiet_time_the_first_to_ask_is_told_the_truth(twin: Twin) -> None:
    clock = SteppedClock()
    power = twin.power_by(clock)
    assert not await power.is_paused()
    await twin.set_power("paused")
    clock.step(8 * 3600.0)
    assert await power.is_paused()


async def test_another_tenant_s_switch_is_another(twin: Twin, stranger: Twin) -> None:
    clock, theirs = SteppedClock(), SteppedClock()
    await twin.set_power("paused")
    assert await becomes(twin.power_by(clock), clock, paused=True)
    await stranger.set_power("on")
    assert not await stranger.power_by(theirs).is_paused()
    assert await becomes(twin.power_by(clock), clock, paused=True)


async def test_another_process_s_pause_is_seen(twin: Twin, elsewhere: OtherProcess) -> None:
    clock = SteppedClock()
    power = twin.power_by(clock)
    await elsewhere("pause_endpoints")
    assert await becomes(power, clock, paused=True)
