"""What every SystemSwitches does."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from assistant.options.live.stored import SwitchUnreadableError, SystemSwitches
from tests.contracts.twins import Twin
from tests.fakes.clock import SteppedClock

REFRESH_S = 5.0


async def becomes(switches: SystemSwitches, clock: SteppedClock, *, on: bool, system: str = "orders") -> bool:
    """Whether the switch is seen that way, asked anew every few seconds of its clock."""
    for _ in range(500):
        with suppress(SwitchUnreadableError):
            if await switches.is_on(system) == on:
                return True
        await asyncio.sleep(0.02)
        clock.step(REFRESH_S)
    return False


async def test_a_system_is_on_where_nobody_said_anything(twin: Twin) -> None:
    clock = SteppedClock()
    switches = twin.switches_by(clock)
    assert await becomes(switches, clock, on=True)
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


@pytest.mark.parametrize(
    ("word", "is_on"), [(" OFF ", False), ("Off\n", False), (" ON ", True), ("On\n", True), ("on", True)]
)
async def test_case_and_white_space_do_not_matter(twin: Twin, word: str, is_on: bool) -> None:
    clock = SteppedClock()
    switches = twin.switches_by(clock)
    await twin.set_switch("orders", "off" if is_on else "on")
    assert await becomes(switches, clock, on=not is_on)
    await twin.set_switch("orders", word)
    assert await becomes(switches, clock, on=is_on)


@pytest.mark.parametrize("word", ["stop", "paused", "on off", "false", "{}", "\u043en"])
async def test_any_other_word_is_off_and_logged_as_an_error(twin: Twin, word: str) -> None:
    clock = SteppedClock()
    switches = twin.switches_by(clock)
    assert await becomes(switches, clock, on=True)
    await twin.set_switch("orders", word)
    clock.step(REFRESH_S)
    with capture_logs() as logs:
        assert await becomes(switches, clock, on=False)
    assert {("switch_not_understood", "error")} == {(log["event"], log["log_level"]) for log in logs}


async def test_a_switch_that_was_never_read_lets_nothing_be_called(twin: Twin) -> None:
    clock = SteppedClock()
    await twin.set_switch("orders", "on")
    async with twin.unreadable_switches():
        switches = twin.switches_by(clock)
        for _ in range(3):
            with pytest.raises(SwitchUnreadableError):
                await switches.is_on("orders")
            clock.step(REFRESH_S)
    assert await becomes(switches, clock, on=True)


async def test_a_switch_that_cannot_be_read_any_more_keeps_its_last_state(twin: Twin) -> None:
    clock = SteppedClock()
    for word in ("on", "off"):
        await twin.set_switch("orders", word)
        switches = twin.switches_by(clock)
        assert await becomes(switches, clock, on=word == "on")
        async with twin.unreadable_switches():
            for _ in range(3):
                clock.step(REFRESH_S)
                assert await switches.is_on("orders") == (word == "on")


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
    clock = SteppedClock()
    assert await becomes(stranger.switches_by(clock), clock, on=True)
