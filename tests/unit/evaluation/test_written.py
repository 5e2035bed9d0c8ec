"""Written answers of an evaluation: recorded, and played where the prompt is the same."""

from __future__ import annotations

from assistant.domain.errors import GenerationInterruptedError
from assistant.evaluation.judging import WrittenAnswers, WrittenModel
from assistant.models.recorded import CharacterCount
from tests.fakes.answering import FakeTenant, ScriptedGenerator, Step
from tests.unit.evaluation.results import question

ASKED = question("q1", question="On which day are retail refills payable?")
ANSWER = "Retail refills are payable on day 23 of 30 [1.1]."


def live(*steps: Step) -> WrittenAnswers:
    """Return the answers of a live model."""
    tenant = FakeTenant.writing()
    tenant.generator = ScriptedGenerator(*steps)
    return WrittenAnswers(tenant.services, WrittenModel(tenant.generator, CharacterCount(), "model-1", {}))


async def test_an_answer_plays_for_its_own_prompt_alone() -> None:
    line = (await live(ANSWER).ask(ASKED)).recorded[0]
    stale = line.model_copy(update={"prompt_sha256": "0" * 64})
    for recorded, plays in ((line, 1.0), (stale, 0.0)):
        written = await WrittenAnswers(FakeTenant().services, WrittenModel.of_recording([recorded])).ask(
            ASKED
        )
        assert (written.values["plays"], written.is_written, written.recorded) == (plays, bool(plays), ())


async def test_a_broken_stream_is_not_recorded() -> None:
    written = await live(ANSWER, GenerationInterruptedError("broke off")).ask(ASKED)
    assert written.recorded == ()
