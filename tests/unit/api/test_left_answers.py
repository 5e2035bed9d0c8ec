"""Answers whose task ended before they were on record."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assistant.answering.events import AnswerEvent, Done, Sources, Started, Token
from assistant.answering.ports import LogOpening
from assistant.api import running
from assistant.api.delivery import EventEncoder
from assistant.api.running import LeftAnswers, RunningAnswers
from assistant.domain.answers import FinishReason, Mode, Outcome, Usage
from assistant.embedded.records import SqliteAnswerLog, SqliteAnswerRecords
from tests.contracts import samples
from tests.fakes.clock import SteppedClock

STARTED = Started(answer_id="a1", conversation_id="c1", model="m", index_version="i", trace_id=None)
DONE = Done(
    finish_reason=FinishReason.STOP,
    citations=(1,),
    usage=Usage(),
    timings_ms={"embed": 2.0},
    mode=Mode.WRITTEN,
)


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_LOOK_EVERY_S", 0.001)


class Left:
    """A log and records as a task left them, and another task that looks at them."""

    def __init__(self, folder: Path) -> None:
        self.clock = SteppedClock()
        self.log = SqliteAnswerLog(folder / "events.sqlite", clock=self.clock)
        self.records = SqliteAnswerRecords(folder / "records.sqlite", clock=self.clock)
        begun = samples.answer("a1").model_copy(update={"outcome": Outcome.FAILED, "text": ""})
        self.opening = LogOpening("a1", "ana", "hash", "k1", begun.model_dump_json())

    async def leaves(self, *events: AnswerEvent, ended: bool = False) -> None:
        encoder = EventEncoder("a1")
        frames = [encoder.encode(number, event) for number, event in enumerate(events, start=1)]
        await self.log.append("a1", samples.batch(frames=frames, ended=ended))

    @asynccontextmanager
    async def looked_at(self) -> AsyncIterator[None]:
        tenant: Any = SimpleNamespace(log=self.log, answering=SimpleNamespace(records=self.records))
        looking = asyncio.create_task(LeftAnswers({"t": tenant}, RunningAnswers(), clock=self.clock).run())
        yield
        looking.cancel()
        await asyncio.wait([looking])

    async def is_settled(self) -> bool:
        return not await self.log.unsettled()


@pytest.fixture
async def left(tmp_path: Path) -> AsyncIterator[Left]:
    left = Left(tmp_path)
    await left.log.open(left.opening)
    yield left
    await left.log.close()
    await left.records.close()


async def test_an_answer_that_was_shown_whole_is_recorded_whole(left: Left) -> None:
    await left.leaves(STARTED, Sources(sources=()), Token("Day 24."), DONE, ended=True)
    async with left.looked_at():
        await _step_until_settled(left)
    record = await left.records.get_answer("a1")
    assert record is not None
    assert (record.outcome, record.finish_reason, record.error_code) == (
        Outcome.DONE,
        FinishReason.STOP,
        None,
    )
    assert (record.text, record.mode, record.timings_ms) == ("Day 24.", Mode.WRITTEN, {"embed": 2.0})
    other = samples.opening("a2", key="k1")
    assert (await left.log.open(other)).answer_id == "a1"


async def test_what_was_shown_of_a_cut_answer_is_recorded_and_its_key_is_free(left: Left) -> None:
    await left.leaves(STARTED, Token("Day"))
    async with left.looked_at():
        await _step_until_settled(left)
    record = await left.records.get_answer("a1")
    assert record is not None
    assert record.text == "Day"
    other = samples.opening("a2", key="k1")
    assert await left.log.open(other) == other


async def test_an_answer_whose_log_grows_is_left_alone(left: Left) -> None:
    async with left.looked_at():
        for number in range(1, 8):
            await left.log.append("a1", samples.batch(number))
            left.clock.step(10)
            await asyncio.sleep(0.01)
    assert await left.records.get_answer("a1") is None


async def test_an_answer_on_record_stays_as_it_is(left: Left) -> None:
    await left.records.put_answer(samples.answer("a1"))
    async with left.looked_at():
        await _step_until_settled(left)
    assert await left.records.get_answer("a1") == samples.answer("a1")


async def test_a_store_that_could_not_take_it_is_asked_again(
    left: Left, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await left.leaves(STARTED, Token("Day"))
    assert await left.records.get_answer("a1") is None
    monkeypatch.setattr(running, "_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(tmp_path / "records.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with left.looked_at():
            for _ in range(40):
                left.clock.step(1)
                await asyncio.sleep(0.005)
            assert not await left.is_settled()
            other.execute("ROLLBACK")
            monkeypatch.setattr(running, "_TIMEOUT_S", 3.0)
            await _step_until_settled(left)
    assert await left.records.get_answer("a1") is not None


async def test_an_answer_of_a_newer_release_holds_up_no_other(left: Left) -> None:
    await left.leaves(STARTED, Token("Day"))
    await left.log.open(replace(left.opening, answer_id="a0", key=None, context='{"not": "known"}'))
    async with left.looked_at():
        async with asyncio.timeout(60):
            while await left.log.unsettled() != ["a0"]:
                left.clock.step(1)
                await asyncio.sleep(0.002)
    assert await left.records.get_answer("a1") is not None


async def _step_until_settled(left: Left) -> None:
    async with asyncio.timeout(60):
        while not await left.is_settled():
            left.clock.step(1)
            await asyncio.sleep(0.002)
