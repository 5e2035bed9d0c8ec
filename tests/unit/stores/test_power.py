"""What is particular to the power file: the contract has what every power switch does."""

from __future__ import annotations

from pathlib import Path

from assistant.stores.words import FileWords, Power
from tests.fakes.clock import SteppedClock


async def test_a_file_that_cannot_be_read_leaves_the_last_state(tmp_path: Path) -> None:
    file, clock = tmp_path / "power", SteppedClock()
    power = Power(FileWords(file), clock=clock)
    file.write_text("paused")
    assert await power.is_paused()
    file.unlink()
    file.mkdir()
    clock.step(5.0)
    assert await power.is_paused()
