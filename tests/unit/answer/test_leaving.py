"""Answers that are cancelled, whose reader leaves, and whose record cannot be written."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from structlog.testing import capture_logs

from assistant.answer.answer import AnswerQuestion
from assistant.answer.call import Interruption
from assistant.answer.events import AnswerEvent, Done, Problem
from assistant.answer.plan import Plan
from assistant.answer.text_end import CANCELLED, DISCONNECTED, TextEnd
from assistant.domain.answers import AnswerRecord, FinishReason, Outcome
from assistant.domain.errors import RecordsUnavailableError
from tests.stage.answering import FakeTenant, Gate
from tests.unit.answer.asking_and_reading import prepare

LIMIT_S = 60.0
FIRST = "Retail refills are payable on day 23 of 30."


async def read(use_case: AnswerQuestion, prepared: Plan) -> list[AnswerEvent]:
    async with aclosing(use_case.stream(prepared)) as events:
        return [event async for event in events]


def stalling(gate: Gate, *, opening: bool = False) -> FakeTenant:
    """A tenant whose model waits, before its first token or in its second sentence."""
    tenant = FakeTenant.writing(f"{FIRST} Send", gate, " other requests to the Claims Desk.")
    if opening:
        tenant.generator.opening = gate
    return tenant


class Waiting:
    """An answer that is read by a task, and whose model waits."""

    def __init__(self, tenant: FakeTenant, use_case: AnswerQuestion, prepared: Plan) -> None:
        self.tenant = tenant
        self.use_case = use_case
        self.plan = prepared
        self.reader = asyncio.create_task(read(use_case, prepared))

    @property
    def record(self) -> AnswerRecord:
        return self.tenant.shown(self.tenant.records.answers[self.plan.basis.question.ids.answer_id])

    async def events(self) -> list[AnswerEvent]:
        return await asyncio.wait_for(self.reader, LIMIT_S)

    async def is_cancelled(self) -> None:
        with pytest.raises(asyncio.CancelledError):
            await self.events()


async def waiting(*, opening: bool = False, records: Gate | None = None) -> Waiting:
    """Return an answer that waits for its model, and whose record waits where a gate is given."""
    gate = Gate()
    tenant = stalling(gate, opening=opening)
    use_case, prepared = await prepare(tenant)
    tenant.records.gate = records
    made = Waiting(tenant, use_case, prepared)
    await asyncio.wait_for(gate.reached.wait(), LIMIT_S)
    return made


@pytest.mark.parametrize("opening", [True, False])
@pytest.mark.parametrize(
    ("cause", "outcome", "last"),
    [
        (CANCELLED, Outcome.CANCELLED, "error"),
        (DISCONNECTED, Outcome.DISCONNECTED, None),
    ],
)
async def test_an_answer_is_ended_at_once(
    *, opening: bool, cause: TextEnd, outcome: Outcome, last: str | None
) -> None:
    answer = await waiting(opening=opening)
    answer.plan.call.cancel(cause)
    events = await answer.events()
    record = answer.record
    assert (record.outcome, record.error_code) == (outcome, outcome.value)
    assert record.text == ("" if opening else FIRST)
    assert answer.tenant.generator.open_connections == 0
    assert [event.event for event in events if event.event in {"error", "done"}] == ([last] if last else [])
    if last:
        problem = events[-1]
        assert isinstance(problem, Problem)
        assert (problem.code, problem.status, problem.retryable) == ("cancelled", 409, False)


async def test_cancelling_before_the_stream_begins_calls_no_model() -> None:
    tenant = FakeTenant.writing()
    use_case, prepared = await prepare(tenant)
    prepared.call.cancel(CANCELLED)
    events = await read(use_case, prepared)
    assert [event.event for event in events] == ["started", "sources", "error"]
    assert tenant.generator.log == []


async def test_the_first_cause_counts() -> None:
    tenant = FakeTenant()
    use_case, prepared = await prepare(tenant)
    prepared.call.cancel(DISCONNECTED)
    prepared.call.cancel(CANCELLED)
    await read(use_case, prepared)
    assert tenant.records.answers[prepared.basis.question.ids.answer_id].outcome is Outcome.DISCONNECTED


async def test_a_cancelled_reader_leaves_a_record() -> None:
    answer = await waiting()
    answer.reader.cancel()
    await answer.is_cancelled()
    assert (answer.record.outcome, answer.record.text) == (Outcome.DISCONNECTED, FIRST)


async def test_a_reader_cancelled_after_the_answer_was_leaves_it_cancelled() -> None:
    answer = await waiting()
    answer.plan.call.cancel(CANCELLED)
    answer.reader.cancel()
    await answer.is_cancelled()
    assert answer.record.outcome is Outcome.CANCELLED


@pytest.mark.parametrize("tenant", [FakeTenant(), FakeTenant.writing()], ids=["quoted", "written"])
async def test_closing_the_stream_early_leaves_a_record(tenant: FakeTenant) -> None:
    use_case, prepared = await prepare(tenant)
    stream = use_case.stream(prepared)
    for _ in range(3):
        await anext(stream)
    await stream.aclose()
    record = tenant.shown(tenant.records.answers[prepared.basis.question.ids.answer_id])
    assert record.outcome is Outcome.DISCONNECTED
    assert record.text.startswith(FIRST)
    assert tenant.generator.open_connections == 0


async def test_the_connection_is_closed_before_the_record_is_written() -> None:
    records = Gate()
    answer = await waiting(records=records)
    answer.plan.call.cancel(DISCONNECTED)
    await asyncio.wait_for(records.reached.wait(), LIMIT_S)
    assert answer.tenant.generator.log == ["opened", "closed"]
    records.opened.set()
    await answer.events()


async def test_writing_the_record_survives_a_second_cancellation() -> None:
    records = Gate()
    answer = await waiting(records=records)
    answer.reader.cancel()
    await asyncio.wait_for(records.reached.wait(), LIMIT_S)
    answer.reader.cancel()
    await answer.is_cancelled()
    assert await answer.use_case.records.settle(within_s=0.0) == 1
    records.opened.set()
    assert await answer.use_case.records.settle(within_s=LIMIT_S) == 0
    assert answer.plan.basis.question.ids.answer_id in answer.tenant.records.answers


@pytest.mark.parametrize("tenant", [FakeTenant(), FakeTenant.writing()], ids=["quoted", "written"])
async def test_the_record_is_there_when_done_is_read(tenant: FakeTenant) -> None:
    use_case, prepared = await prepare(tenant)
    async with aclosing(use_case.stream(prepared)) as events:
        async for event in events:
            assert (event.event == "done") == (
                prepared.basis.question.ids.answer_id in tenant.records.answers
            )


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.answer.record._FIRST_RETRY_S", 0.005)


@pytest.mark.parametrize("error", [RecordsUnavailableError("down"), ValueError("Retail refills quoted")])
@pytest.mark.usefixtures("short_pauses")
async def test_while_the_store_fails_the_agent_is_told_and_the_record_follows(error: Exception) -> None:
    tenant = FakeTenant()
    tenant.records.error = error
    use_case, prepared = await prepare(tenant)
    with capture_logs() as logs:
        last = (await read(use_case, prepared))[-1]
        assert isinstance(last, Done)
        assert (last.finish_reason, last.recorded) == (FinishReason.STOP, False)
        assert prepared.basis.question.ids.answer_id not in tenant.records.answers
        tenant.records.error = None
        assert await use_case.records.settle(within_s=LIMIT_S) == 0
    assert tenant.records.answers[prepared.basis.question.ids.answer_id].text
    assert {line["event"] for line in logs} == {
        "beginning_not_recorded",
        "answer_record_waits",
        "answer_record_followed",
    }
    assert {line["answer_id"] for line in logs} == {prepared.basis.question.ids.answer_id}
    assert "refills" not in str(logs).lower()


@pytest.mark.usefixtures("short_pauses")
async def test_a_store_that_fails_to_the_end_is_said_in_the_log() -> None:
    tenant = FakeTenant()
    tenant.records.error = RecordsUnavailableError("down")
    use_case, prepared = await prepare(tenant)
    await read(use_case, prepared)
    with capture_logs() as logs:
        assert await use_case.records.settle(within_s=0.05) == 1
    assert [line["records"] for line in logs if line["event"] == "answer_records_lost"] == [1]


async def test_what_waits_for_the_store_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.answer.record.MAX_WAITING", 1)
    tenant = FakeTenant()
    tenant.records.error = RecordsUnavailableError("down")
    use_case, prepared = await prepare(tenant)
    _, second = await prepare(tenant)
    with capture_logs() as logs:
        await read(use_case, prepared)
        await read(use_case, second)
        await use_case.records.settle(within_s=0)
    assert [line["answer_id"] for line in logs if line["event"] == "answer_record_lost"] == [
        second.basis.question.ids.answer_id
    ]


async def test_a_store_that_hangs_does_not_hold_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.answer.answer.RECORDS_TIMEOUT_S", 0.02)
    tenant = FakeTenant()
    tenant.records.gate = Gate()
    use_case, prepared = await prepare(tenant)
    last = (await asyncio.wait_for(read(use_case, prepared), LIMIT_S))[-1]
    assert isinstance(last, Done)
    assert not last.recorded
    await use_case.records.settle(within_s=0)


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
