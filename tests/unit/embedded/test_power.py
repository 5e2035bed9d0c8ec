"""The power file says on or paused; whatever else it is, answers go on as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.embedded.files import FilePower
from tests.fakes.clock import SteppedClock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "power"


def say(file: Path, word: str) -> None:
    file.write_text(word)


async def test_endpoints_are_on_without_a_file(file: Path) -> None:
    assert not await FilePower(file, clock=SteppedClock()).is_paused()


async def test_a_change_is_seen_within_seconds(file: Path) -> None:
    clock = SteppedClock()
    power = FilePower(file, clock=clock)
    say(file, "paused\n")
    assert await power.is_paused()
    say(file, "on\n")
    clock.step(5.0)
    assert not await power.is_paused()


async def test_within_two_seconds_the_file_is_read_once(file: Path) -> None:
    clock = SteppedClock()
    power = FilePower(file, clock=clock)
    say(file, "paused")
    assert await power.is_paused()
    say(file, "on")
    clock.step(1.0)
    assert await power.is_paused()


def become_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


async def test_a_file_that_cannot_be_read_leaves_the_last_state(file: Path) -> None:
    clock = SteppedClock()
    power = FilePower(file, clock=clock)
    say(file, "paused")
    assert await power.is_paused()
    become_a_folder(file)
    clock.step(5.0)
    assert await power.is_paused()
