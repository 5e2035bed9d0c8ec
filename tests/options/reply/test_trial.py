"""Replies to the written answers of an evaluation, and their checks: recorded, and played."""

from __future__ import annotations

import pytest

from assistant.evaluation.judging import WrittenAnswers, WrittenModel, WrittenResult
from assistant.models.recorded import CharacterCount, RecordedAnswer
from tests.fakes.answering import FakeTenant, ScriptedGenerator
from tests.unit.evaluation.results import question

BEFORE = "On which day are retail refills payable?"
FOLLOW_UP = question("f1", kind="follow_up", question="And by mail?", after="q1")
ANSWER = "Retail refills are payable on day 23 of 30 [1.1]."


async def record() -> tuple[WrittenResult, list[RecordedAnswer]]:
    """Return the result and the lines of a follow-up that a live model answers."""
    tenant = FakeTenant.writing()
    tenant.generator = ScriptedGenerator(ANSWER)
    model = WrittenModel(tenant.generator, CharacterCount(), "model-1", {})
    written = await WrittenAnswers(tenant.services, model).ask(FOLLOW_UP, before=BEFORE)
    return written, list(written.recorded)


async def replay(lines: list[RecordedAnswer]) -> WrittenResult:
    written = await WrittenAnswers(FakeTenant().services, WrittenModel.of_recording(lines)).ask(
        FOLLOW_UP, before=BEFORE
    )
    assert written.recorded == ()
    return written


async def test_an_answer_its_reply_and_the_check_of_it_are_recorded_and_played() -> None:
    live, lines = await record()
    assert [(line.id, line.task, line.answer) for line in lines] == [
        ("f1", "answer", ANSWER),
        ("f1", "check", ANSWER),
        ("f1", "reply", ANSWER),
        ("f1", "check", ANSWER),
    ]
    played = await replay(lines)
    assert (live.is_written, live.values.get("plays")) == (True, None)
    assert (played.is_written, played.values["plays"]) == (True, 1.0)
    assert (played.text, played.degraded) == (live.text, ())


@pytest.mark.parametrize(
    ("reply", "faults"), [("You pay on day 23 of 30.", 0.0), ("You pay on day 24.", 1.0)]
)
async def test_a_reply_with_a_value_that_no_line_holds_is_counted_as_stopped(
    reply: str, faults: float
) -> None:
    _, lines = await record()
    replied = [line.model_copy(update={"answer": reply}) if line.task == "reply" else line for line in lines]
    written = await replay(replied)
    assert written.values["reply_faults"] == faults


async def test_each_question_has_its_own_lines() -> None:
    tenant = FakeTenant.writing()
    tenant.generator = ScriptedGenerator(ANSWER)
    model = WrittenModel(tenant.generator, CharacterCount(), "model-1", {})
    answers = WrittenAnswers(tenant.services, model)
    await answers.ask(FOLLOW_UP, before=BEFORE)
    written = await answers.ask(question("q1", question=BEFORE))
    assert [(line.id, line.task) for line in written.recorded] == [
        ("q1", "answer"),
        ("q1", "check"),
        ("q1", "reply"),
        ("q1", "check"),
    ]
