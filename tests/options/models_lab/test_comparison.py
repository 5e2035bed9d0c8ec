"""Comparison of models that write: what is counted, and the table."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from assistant.domain.errors import GenerationUnavailableError
from assistant.evaluation.judging import WrittenModel
from assistant.evaluation.questions import EvaluationQuestion
from assistant.models.recorded import CharacterCount
from assistant.options.models_lab.comparison import (
    Compared,
    Contender,
    compare,
    comparison_rows,
)
from assistant.stores.ports import GenerationDelta
from assistant.tenant.added_models import ServedLlm
from tests.fakes.answering import FakeTenant, ScriptedGenerator, Step
from tests.fakes.clock import SteppedClock
from tests.unit.evaluation.results import question, unanswerable

ANSWER = "Retail refills are payable on day 23 of 30 [1.1]."
INVENTED = "Retail refills are payable on day 29 of 30 [1.1]."
REFUSAL = "The documents do not answer this question."
ASKED = "On which day are retail refills payable?"


def asked(number: int = 1) -> list[EvaluationQuestion]:
    return [
        question(f"q{n}", documents=(f"d{n}",), question=ASKED, answer_contains=("day 23",))
        for n in range(number)
    ]


def contender(name: str, *steps: Step, usd_per_hour: float | None = None) -> Contender:
    tenant = FakeTenant.writing(*steps)
    model = WrittenModel(tenant.generator, CharacterCount(), f"of {name}", {})
    return Contender(name, model, tenant.services, usd_per_hour)


async def results(
    *contenders: Contender, questions: list[EvaluationQuestion] | None = None
) -> list[Compared]:
    return await compare(contenders, questions or asked(), earlier={}, clock=SteppedClock())


async def test_a_right_answer_counts_and_an_invented_value_is_withheld() -> None:
    right, invented = await results(contender("a", ANSWER), contender("b", INVENTED))

    assert right.answers[0].values["right"] == 1
    assert right.answers[0].values["withheld"] == 0
    assert invented.answers[0].values["right"] == 0
    assert invented.answers[0].values["withheld"] == 1


async def test_a_refusal_is_wrong_for_an_answerable_question_and_right_for_another() -> None:
    (answerable,) = await results(contender("a", REFUSAL))
    other = unanswerable("q1", question=ASKED)
    (refused,) = await results(contender("a", REFUSAL), questions=[other])
    (answered,) = await results(contender("a", ANSWER), questions=[other])

    assert (answerable.answers[0].values["right"], answerable.answers[0].values["refused"]) == (0, 1)
    assert refused.answers[0].values["refused_rightly"] == 1
    assert answered.answers[0].values["refused_rightly"] == 0


async def test_a_call_that_fails_is_no_right_answer_though_a_quote_is() -> None:
    """The quote that takes the model's place holds the right day."""
    (failed,) = await results(contender("a", GenerationUnavailableError("gone")))

    assert failed.answers[0].values == {"failed": 1.0, "withheld": 0.0, "right": 0.0, "refused": 0.0}


async def test_times_are_those_of_the_model_s_stream() -> None:
    clock = SteppedClock()

    class Slow(ScriptedGenerator):
        async def deltas(self) -> AsyncIterator[GenerationDelta]:
            clock.step(2.0)
            async for delta in super().deltas():
                yield delta
                clock.step(0.5)

    one = contender("a", ANSWER, usd_per_hour=3.6)
    slow = Contender("a", WrittenModel(Slow(ANSWER), CharacterCount(), "a", {}), one.services, 3.6)
    (timed,) = await compare([slow], asked(), earlier={}, clock=clock)

    values = timed.answers[0].values
    assert values["first_token_s"] == pytest.approx(2.0)
    assert values["tokens_per_s"] == pytest.approx(6 / 0.5)  # 7 tokens, the first after 2 s
    assert values["usd_per_1000"] == pytest.approx(2.5)


async def test_times_are_those_of_the_answer_and_not_of_its_reply_or_check() -> None:
    clock = SteppedClock()

    class SlowAfterTheAnswer(ScriptedGenerator):
        first_text_s = 2.0

        async def deltas(self) -> AsyncIterator[GenerationDelta]:
            clock.step(self.first_text_s)
            self.first_text_s = 9.0
            async for delta in super().deltas():
                yield delta

    services = contender("a", ANSWER).services
    model = WrittenModel(SlowAfterTheAnswer(ANSWER), CharacterCount(), "a", {})
    (timed,) = await compare([Contender("a", model, services)], asked(), earlier={}, clock=clock)
    assert timed.answers[0].values["first_token_s"] == pytest.approx(2.0)


async def test_the_table_has_each_model_with_intervals() -> None:
    compared = await results(
        contender("first", ANSWER), contender("second", GenerationUnavailableError("x")), questions=asked(8)
    )
    rows = {row[0]: row[1:] for row in comparison_rows(compared)}

    assert rows["right, of the answerable"] == ("1 [1, 1] of 8", "0 [0, 0] of 8")
    assert rows["first token, mean, s"] == ("0 [0, 0] of 8", "-")
    assert "refused, of the unanswerable" not in rows  # none was asked


def test_a_served_model_writes_with_its_own_context() -> None:
    tenant = FakeTenant.writing(ANSWER)
    model = ServedLlm(name="small", model="small", url="http://127.0.0.1:1/v1", context_tokens=1024)
    served = Contender.served("small", model, tenant.services.writer, tenant.services)

    assert served.services.tenant.generation.context_tokens == 1024
    assert served.model.name == "small at http://127.0.0.1:1/v1"
