"""What every SystemSwitches does."""

from __future__ import annotations

import asyncio

import pytest

from assistant.live.ports import SystemSwitches
from tests.contracts.twins import Twin
from tests.fakes.clock import SteppedClock

REFRESH_S = 5.0


async def becomes(switches: SystemSwitches, clock: SteppedClock, *, on: bool, system: str = "orders") -> bool:
    """Whether the switch is seen that way, asked anew every few seconds of its clock."""
    for _ in range(500):
        if await switches.is_on(system) == on:
            return True
        await asyncio.sleep(0.02)
        clock.step(REFRESH_S)
    return False


async def test_a_system_is_on_where_nobody_said_anything(twin: Twin) -> None:
    clock = SteppedClock()
    switches = twin.switches_by(clock)
    for _ in range(3):
        assert await switches.is_on("orders")
        clock.step(REFRESH_S)


async def test_switching_off_and_on_is_seen(twin: Twin) -> None:
    clock = SteppedClock()
    switches = twin.switches_by(clock)
    for word in ("off", "on", "off\n"):
        await twin.set_switch("orders", word)
        clock.step(REFRESH_S)
        assert await becomes(switches, clock, on=word == "on")


async def test_a_process_that_starts_sees_a_system_that_is_off_at_once(twin: Twin) -> None:
    await twin.set_switch("orders", "off")
    assert not await twin.switches_by(SteppedClock()).is_on("orders")


async def test_each_system_has_its_own_switch(twin: Twin) -> None:
    clock = SteppedClock()
    switches = twin.switches_by(clock)
    await twin.set_switch("orders", "off")
    assert await becomes(switches, clock, on=False)
    assert await switches.is_on("stores")


@pytest.mark.parametrize("word", ["OFF", "paused", "off off", "{}"])
async def test_any_other_word_means_on(twin: Twin, word: str) -> None:
    clock = SteppedClock()
    switches = twin.switches_by(clock)
    await twin.set_switch("orders", "off")
    assert await becomes(switches, clock, on=False)
    await twin.set_switch("orders", word)
    assert await becomes(switches, clock, on=True)


async def test_between_two_readings_the_last_one_stands(twin: Twin) -> None:
    clock = SteppedClock()
    switches = twin.switches_by(clock)
    await twin.set_switch("orders", "off")
    assert await becomes(switches, clock, on=False)
    await twin.set_switch("orders", "on")
    clock.step(1.0)
    assert not await switches.is_on("orders")


async def test_another_tenant_s_switch_is_another(twin: Twin, stranger: Twin) -> None:
    await twin.set_switch("orders", "off")
    assert await stranger.switches_by(SteppedClock()).is_on("orders")
