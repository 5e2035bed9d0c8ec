"""What the switches of live systems make of their words."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from assistant.options.live.stored import Switches, SwitchUnreadableError
from assistant.stores.words import FileWords
from tests.fakes.clock import SteppedClock

REFRESH_S = 5.0


@dataclass
class Site:
    """A tenant's switches, as a process sees them whose clock a test steps."""

    folder: Path
    clock: SteppedClock = field(default_factory=SteppedClock)

    def __post_init__(self) -> None:
        self.switches = Switches(FileWords(self.folder), clock=self.clock)

    def say(self, word: str, *, system: str = "orders") -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / system).write_text(word)
        self.clock.step(REFRESH_S)

    async def becomes(self, *, on: bool) -> bool:
        """Whether the switch is seen that way, asked anew every few seconds of its clock."""
        for _ in range(500):
            with suppress(SwitchUnreadableError):
                if await self.switches.is_on("orders") == on:
                    return True
            await asyncio.sleep(0.02)
            self.clock.step(REFRESH_S)
        return False

    def break_away(self) -> None:
        """Have a file where the folder was."""
        self.folder.rename(self.folder.with_name("aside"))
        self.folder.write_text("")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "systems")


async def test_a_system_is_on_where_nobody_said_anything(site: Site) -> None:
    assert await site.becomes(on=True)
    for _ in range(3):
        assert await site.switches.is_on("orders")
        site.clock.step(REFRESH_S)


async def test_a_process_that_starts_sees_a_system_that_is_off_at_once_and_no_other(site: Site) -> None:
    site.say("off")
    assert not await site.switches.is_on("orders")
    assert await site.switches.is_on("stores")


@pytest.mark.parametrize(
    ("word", "is_on"), [(" OFF ", False), ("Off\n", False), (" ON ", True), ("On\n", True), ("on", True)]
)
async def test_switching_is_seen_whatever_case_and_white_space(site: Site, word: str, is_on: bool) -> None:
    site.say("off" if is_on else "on")
    assert await site.becomes(on=not is_on)
    site.say(word)
    assert await site.becomes(on=is_on)


@pytest.mark.parametrize("word", ["stop", "paused", "on off", "false", "{}", "\u043en"])
async def test_any_other_word_is_off_and_logged_as_an_error(site: Site, word: str) -> None:
    assert await site.becomes(on=True)
    site.say(word)
    with capture_logs() as logs:
        assert await site.becomes(on=False)
    assert {("switch_not_understood", "error")} == {(log["event"], log["log_level"]) for log in logs}


async def test_a_switch_that_was_never_read_lets_nothing_be_called(site: Site) -> None:
    site.say("on")
    site.break_away()
    for _ in range(3):
        with pytest.raises(SwitchUnreadableError):
            await site.switches.is_on("orders")
        site.clock.step(REFRESH_S)


@pytest.mark.parametrize("word", ["on", "off"])
async def test_a_switch_that_cannot_be_read_any_more_keeps_its_last_state(site: Site, word: str) -> None:
    site.say(word)
    assert await site.becomes(on=word == "on")
    site.break_away()
    for _ in range(3):
        site.clock.step(REFRESH_S)
        assert await site.switches.is_on("orders") == (word == "on")


async def test_between_two_readings_the_last_one_stands(site: Site) -> None:
    site.say("off")
    assert await site.becomes(on=False)
    (site.folder / "orders").write_text("on")
    site.clock.step(1.0)
    assert not await site.switches.is_on("orders")
