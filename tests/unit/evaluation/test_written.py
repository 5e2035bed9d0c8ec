"""Written answers of an evaluation: readings are recorded and played beside the answers."""

from __future__ import annotations

import pytest

from assistant.cli.evaluate import with_reading
from assistant.domain.errors import GenerationInterruptedError
from assistant.evaluation.judging import WrittenAnswers, WrittenModel
from assistant.evaluation.questions import WrittenResult
from assistant.recorded_model import CharacterCount, RecordedAnswer
from tests.fakes.answering import FakeTenant, ReadsAndWrites, Step
from tests.unit.evaluation.results import question

BEFORE = "On which day are retail refills payable?"
FOLLOW_UP = question("f1", kind="follow_up", question="And by mail?", after="q1")
SEARCHED = "Day of retail refills by mail"
READING = (
    f'{{"questions": ["On which day by mail?"], "search_text": "{SEARCHED}", "leans": true, "kind": "fact"}}'
)
ANSWER = "Retail refills are payable on day 23 of 30 [1.1]."


async def record(reading: Step) -> tuple[WrittenResult, list[RecordedAnswer]]:
    """Return the result and the lines of a follow-up that a live model reads and answers."""
    tenant = FakeTenant.writing()
    tenant.generator = ReadsAndWrites(reading, ANSWER)
    model = WrittenModel(tenant.generator, CharacterCount(), "model-1", {})
    answers = WrittenAnswers(with_reading(tenant.services, "model"), model)
    return await answers.ask(FOLLOW_UP, before=BEFORE)


async def replay(lines: list[RecordedAnswer], *, reads: bool = True) -> tuple[FakeTenant, WrittenResult]:
    tenant = FakeTenant()
    services = with_reading(tenant.services, "model" if reads else "plain")
    answers = WrittenAnswers(services, WrittenModel.of_recording(lines))
    written, recorded = await answers.ask(FOLLOW_UP, before=BEFORE)
    assert recorded == []
    return tenant, written


async def test_reading_and_answer_are_recorded_and_played() -> None:
    live, lines = await record(READING)
    assert [(line.id, line.task, line.answer) for line in lines] == [
        ("f1", "reading", READING),
        ("f1", "answer", ANSWER),
    ]
    tenant, played = await replay(lines)
    assert [query.text for query in tenant.search.queries] == [SEARCHED]
    assert (live.read_by, live.is_written, live.is_stale) == ("model", True, False)
    assert (played.read_by, played.is_written, played.is_stale) == ("model", True, False)
    assert played.text == live.text
    assert played.degraded == ()
    assert played.values["plays"] == 1.0
    _, stale = await replay(
        [line.model_copy(update={"prompt_sha256": "0" * 64}) for line in lines], reads=False
    )
    assert stale.values["plays"] == 0.0


@pytest.mark.parametrize("order", [1, -1])
async def test_only_a_line_of_an_answer_can_be_stale(order: int) -> None:
    _, lines = await record(READING)
    changed = [line.model_copy(update={"prompt_sha256": "0" * 64}) for line in lines]
    [reading, answer], [old_reading, old_answer] = lines, changed
    _, written = await replay([old_reading, answer][::order])
    assert (written.is_stale, written.is_written, written.read_by) == (False, True, "plain")
    assert written.degraded == ("reading",)
    _, written = await replay([reading, old_answer][::order])
    assert (written.is_stale, written.is_written, written.read_by) == (True, False, "model")


async def test_a_plain_evaluation_plays_the_answers_of_the_same_recording() -> None:
    _, lines = await record(READING)
    tenant, written = await replay(lines, reads=False)
    assert [query.text for query in tenant.search.queries] == [f"{BEFORE}\nAnd by mail?"]
    assert (written.read_by, written.is_written, written.degraded) == ("plain", True, ())


async def test_a_reply_that_is_no_reading_is_recorded_too_and_a_broken_stream_is_not() -> None:
    written, lines = await record("No JSON.")
    assert ([line.task for line in lines], written.read_by) == (["reading", "answer"], "plain")
    _, played = await replay(lines)
    assert (played.read_by, played.degraded) == ("plain", ())
    written, lines = await record(GenerationInterruptedError("broke off"))
    assert ([line.task for line in lines], written.degraded) == (["answer"], ("reading",))


async def test_each_question_has_its_own_lines() -> None:
    tenant = FakeTenant.writing()
    tenant.generator = ReadsAndWrites(READING, ANSWER)
    model = WrittenModel(tenant.generator, CharacterCount(), "model-1", {})
    answers = WrittenAnswers(with_reading(tenant.services, "model"), model)
    await answers.ask(FOLLOW_UP, before=BEFORE)
    _, lines = await answers.ask(question("q1", question=BEFORE))
    assert [(line.id, line.task) for line in lines] == [("q1", "answer")]
