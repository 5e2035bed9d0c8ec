"""Written answers of an evaluation: readings are recorded and played beside the answers."""

from __future__ import annotations

import pytest

from assistant.domain.errors import GenerationInterruptedError
from assistant.evaluation.judging import Written, WrittenAnswers, WrittenModel
from assistant.evaluation.questions import PlantedReply
from assistant.models.recorded import CharacterCount, RecordedAnswer
from tests.fakes.answering import FakeTenant, JudgesAndWrites, ReadsAndWrites, Step, verdicts
from tests.unit.evaluation.results import question

BEFORE = "On which day are retail refills payable?"
FOLLOW_UP = question("f1", kind="follow_up", question="And by mail?", after="q1")
SEARCHED = "Day of retail refills by mail"
READING = (
    f'{{"questions": ["On which day by mail?"], "search_text": "{SEARCHED}", "leans": true, "kind": "fact"}}'
)
ANSWER = "Retail refills are payable on day 23 of 30 [1.1]."


async def record(reading: Step) -> tuple[Written, list[RecordedAnswer]]:
    """Return the result and the lines of a follow-up that a live model reads and answers."""
    tenant = FakeTenant.writing()
    tenant.configure(answers={"reading": "model"})
    tenant.generator = ReadsAndWrites(reading, ANSWER)
    model = WrittenModel(tenant.generator, CharacterCount(), "model-1", {})
    written = await WrittenAnswers(tenant.services, model).ask(FOLLOW_UP, before=BEFORE)
    return written, list(written.recorded)


async def replay(lines: list[RecordedAnswer], *, reads: bool = True) -> tuple[FakeTenant, Written]:
    tenant = FakeTenant()
    tenant.configure(answers={"reading": "model" if reads else "plain"})
    answers = WrittenAnswers(tenant.services, WrittenModel.of_recording(lines))
    written = await answers.ask(FOLLOW_UP, before=BEFORE)
    assert written.recorded == ()
    return tenant, written


async def test_reading_and_answer_are_recorded_and_played() -> None:
    live, lines = await record(READING)
    assert [(line.id, line.task, line.answer) for line in lines] == [
        ("f1", "reading", READING),
        ("f1", "answer", ANSWER),
        ("f1", "reply", ANSWER),
        ("f1", "reply_check", ANSWER),
    ]
    tenant, played = await replay(lines)
    assert [query.text for query in tenant.search.queries] == [SEARCHED]
    assert (live.values["read_by_model"], live.is_written, live.values.get("plays")) == (1.0, True, None)
    assert (played.values["read_by_model"], played.is_written) == (1.0, True)
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
    [reading, answer, *_], [old_reading, old_answer, *_] = lines, changed
    _, written = await replay([old_reading, answer][::order])
    assert (written.values["plays"], written.is_written, written.values["read_by_model"]) == (1.0, True, 0.0)
    assert written.degraded == ("reading",)
    _, written = await replay([reading, old_answer][::order])
    assert (written.values["plays"], written.is_written, written.values["read_by_model"]) == (0.0, False, 1.0)


async def test_a_plain_evaluation_plays_the_answers_of_the_same_recording() -> None:
    _, lines = await record(READING)
    tenant, written = await replay(lines, reads=False)
    assert [query.text for query in tenant.search.queries] == [f"{BEFORE}\nAnd by mail?"]
    assert (written.values["read_by_model"], written.is_written, written.degraded) == (0.0, True, ())


async def test_a_reply_that_is_no_reading_is_recorded_too_and_a_broken_stream_is_not() -> None:
    written, lines = await record("No JSON.")
    assert ([line.task for line in lines], written.values["read_by_model"]) == (
        ["reading", "answer", "reply", "reply_check"],
        0.0,
    )
    _, played = await replay(lines)
    assert (played.values["read_by_model"], played.degraded) == (0.0, ())
    written, lines = await record(GenerationInterruptedError("broke off"))
    assert ([line.task for line in lines], written.degraded) == (
        ["answer", "reply", "reply_check"],
        ("reading",),
    )


@pytest.mark.parametrize(
    ("reply", "faults"), [("You pay on day 23 of 30.", 0.0), ("You pay on day 24.", 1.0)]
)
async def test_a_reply_with_a_value_that_no_line_holds_is_counted_as_stopped(
    reply: str, faults: float
) -> None:
    _, lines = await record(READING)
    replied = [line.model_copy(update={"answer": reply}) if line.task == "reply" else line for line in lines]
    _, written = await replay(replied)
    assert written.values["reply_faults"] == faults


async def test_each_question_has_its_own_lines() -> None:
    tenant = FakeTenant.writing()
    tenant.configure(answers={"reading": "model"})
    tenant.generator = ReadsAndWrites(READING, ANSWER)
    model = WrittenModel(tenant.generator, CharacterCount(), "model-1", {})
    answers = WrittenAnswers(tenant.services, model)
    await answers.ask(FOLLOW_UP, before=BEFORE)
    written = await answers.ask(question("q1", question=BEFORE))
    assert [(line.id, line.task) for line in written.recorded] == [
        ("q1", "answer"),
        ("q1", "reply"),
        ("q1", "reply_check"),
    ]


async def test_planted_changes_are_judged_recorded_and_played() -> None:
    right = "You pay on day 23 of 30."
    wrong = PlantedReply(kind="negation", text="You never pay on day 23 of 30.")
    unseen = PlantedReply(kind="negation", text="You pay only on day 23 of 30.")
    same = PlantedReply(kind="reworded", text="Day 23 of 30 it is.")
    asked = question("q1", question=BEFORE).model_copy(update={"planted": (wrong, unseen, same)})
    tenant = FakeTenant.writing()
    held = verdicts((1, "held", 1, ""))
    tenant.generator = JudgesAndWrites(
        ANSWER, verdicts=[held, verdicts((1, "opposite", 1, "never")), held, held]
    )
    model = WrittenModel(tenant.generator, CharacterCount(), "model-1", {})
    live = await WrittenAnswers(tenant.services, model).ask(asked)
    lines = [
        line.model_copy(update={"answer": right}) if line.task == "reply" else line for line in live.recorded
    ]
    assert [line.task for line in lines] == ["answer", "reply", *["reply_check"] * 4]
    played = await WrittenAnswers(FakeTenant().services, WrittenModel.of_recording(lines)).ask(asked)
    lacking = WrittenModel.of_recording([line for line in lines if "opposite" not in line.answer])
    unread = await WrittenAnswers(FakeTenant().services, lacking).ask(asked)
    # the check of the reply, whose text is another one here, was not recorded
    for written, named, read in ((live, 0.5, 1.0), (played, 0.5, 0.75), (unread, 0.0, 0.5)):
        assert written.values["planted_named"] == written.values["planted_negation"] == named
        assert (written.values["rewordings_stopped"], written.values["checks_read"]) == (0.0, read)


async def test_an_answer_that_cites_nothing_is_recorded_without_a_reply() -> None:
    tenant = FakeTenant.writing()
    tenant.generator = ReadsAndWrites("Retail refills are payable.", "Retail refills are payable.")
    model = WrittenModel(tenant.generator, CharacterCount(), "model-1", {})
    written = await WrittenAnswers(tenant.services, model).ask(question("q1", question=BEFORE))
    assert [line.task for line in written.recorded] == ["answer"]
    assert "reply_faults" not in written.values
