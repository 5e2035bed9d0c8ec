"""What the power switch makes of its word."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from assistant.stores.words import FileWords, Power
from tests.stage.tenant_stores import SteppedClock

REFRESH_S = 5.0


@dataclass
class Switch:
    """A tenant's power file, as a process sees it whose clock a test steps."""

    file: Path
    clock: SteppedClock = field(default_factory=SteppedClock)

    def __post_init__(self) -> None:
        self.power = Power(FileWords(self.file), clock=self.clock)

    async def becomes(self, *, paused: bool) -> bool:
        """Whether the switch is seen that way, asked anew every few seconds of its clock."""
        for polls in range(500):
            if await self.power.is_paused() == paused:
                return True
            if polls % 25 == 24:  # half a second: none is being read when the next reading is due
                self.clock.step(REFRESH_S)
            await asyncio.sleep(0.02)
        return False

    async def sees(self, word: str, *, paused: bool) -> bool:
        self.file.write_text(word)
        self.clock.step(REFRESH_S)
        return await self.becomes(paused=paused)


@pytest.fixture
def switch(tmp_path: Path) -> Switch:
    return Switch(tmp_path / "power")


async def test_endpoints_are_on_where_nobody_said_anything(switch: Switch) -> None:
    for _ in range(5):
        assert not await switch.power.is_paused()
        switch.clock.step(REFRESH_S)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("word", ["paused", " paused\n", "pausing", "resuming"])
async def test_endpoints_that_pause_come_or_go_are_not_called(switch: Switch, word: str) -> None:
    assert await switch.sees(word, paused=True)
    assert await switch.sees("on", paused=False)
    assert await switch.sees(word, paused=True)


@pytest.mark.parametrize("word", ["off", "PAUSED", "paused paused", "{}"])
async def test_any_other_word_means_on(switch: Switch, word: str) -> None:
    assert await switch.sees("paused", paused=True)
    assert await switch.sees(word, paused=False)


async def test_between_two_readings_the_last_one_stands(switch: Switch) -> None:
    assert await switch.sees("paused", paused=True)
    switch.file.write_text("on")
    switch.clock.step(1.0)
    assert await switch.power.is_paused()


async def test_after_a_quiet_time_the_first_to_ask_is_told_the_truth(switch: Switch) -> None:
    assert not await switch.power.is_paused()
    switch.file.write_text("paused")
    switch.clock.step(8 * 3600.0)
    assert await switch.power.is_paused()


async def test_a_file_that_cannot_be_read_leaves_the_last_state(switch: Switch) -> None:
    assert await switch.sees("paused", paused=True)
    switch.file.unlink()
    switch.file.mkdir()
    switch.clock.step(REFRESH_S)
    assert await switch.power.is_paused()
