"""Which answers let a model write, and how fast a model reads, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date

import pytest

from assistant.domain.answers import Usage
from assistant.domain.clock import Deadline
from assistant.evaluation.model_questions import (
    REFUSAL,
    ModelQuestion,
    ask_model,
    count_answers,
    load_model_questions,
    measure_reading,
)
from assistant.models.recorded import RecordedAnswer, RecordedModel
from assistant.stores.ports import GenerationDelta, GenerationRequest
from tests.fakes.clock import SteppedClock

SHIPPED = load_model_questions()


class _Stream:
    inference_id: str | None = None
    variant: str | None = None

    def __init__(self, *deltas: GenerationDelta) -> None:
        self._deltas = deltas

    async def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        for delta in self._deltas:
            yield delta


class FakeModel:
    """Answers by ``reply``; reads ``tokens_per_s`` of a prompt after a start of half a second."""

    def __init__(
        self, clock: SteppedClock, *, reply: Callable[[str], str] = str, tokens_per_s: float = 1e9
    ) -> None:
        self._clock, self._reply, self._tokens_per_s = clock, reply, tokens_per_s

    @asynccontextmanager
    async def stream(self, request: GenerationRequest, *, deadline: Deadline) -> AsyncGenerator[_Stream]:
        asked = request.messages[-1].content
        tokens = len(asked.split())
        self._clock.step(0.5 + tokens / self._tokens_per_s)
        usage = Usage(prompt_tokens=tokens, completion_tokens=1)
        yield _Stream(GenerationDelta(self._reply(asked)), GenerationDelta("", "stop", usage))


def right(question: ModelQuestion) -> str:
    if not question.units:
        return REFUSAL
    lines = SHIPPED.documents[question.document].strip().splitlines()
    return " ".join(f"{lines[int(unit.removeprefix('1.')) - 1]} [{unit}]" for unit in question.units)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda _: None, (14, 14, 6, True)),
        (lambda one: right(one).partition(" [")[0], (0, 14, 6, False)),
        (lambda one: f"{right(one)} [1.1][1.5]" if one.units else None, (0, 14, 6, False)),
        (lambda one: f"{right(one)} 99" if one.units else None, (14, 0, 6, False)),
        (lambda one: f"See [{one.units[0]}]." if one.units else None, (14, 0, 6, False)),
        (lambda one: None if one.units else "Our partner. [1.2]", (14, 14, 0, False)),
        (lambda one: None if one.units else f'"{REFUSAL}"\n', (14, 14, 6, True)),
    ],
    ids=["right", "never cites", "cites too much", "wrong number", "no number", "never refuses", "quotes"],
)
def test_a_model_may_write_when_it_cites_copies_and_refuses(
    change: Callable[[ModelQuestion], str | None], counts: tuple[int, int, int, bool]
) -> None:
    found = count_answers(SHIPPED, [change(one) or right(one) for one in SHIPPED.questions])
    assert (found.cites, found.copies, found.refuses, found.may_write) == counts


async def test_each_question_is_asked_over_its_numbered_document() -> None:
    clock = SteppedClock()
    asked: list[str] = []
    shown: list[tuple[int, int]] = []
    model = FakeModel(clock, reply=lambda prompt: asked.append(prompt) or REFUSAL)

    counts = await ask_model(model, SHIPPED, clock=clock, show=lambda *at: shown.append(at))

    assert (counts.cites, counts.refuses, counts.may_write) == (0, 6, False)
    assert asked[0].startswith("[1.1] Parcel returns at the Harrow Lane depot\n[1.2] A customer may")
    assert asked[0].endswith("Question: How many days does a customer have to return a parcel?")
    assert shown[-1] == (19, 20)


@pytest.mark.parametrize(("tokens_per_s", "tokens"), [(100.0, 250), (600.0, 1500)])
async def test_the_time_that_does_not_grow_with_the_prompt_is_no_reading(
    tokens_per_s: float, tokens: int
) -> None:
    clock = SteppedClock()
    model = FakeModel(clock, tokens_per_s=tokens_per_s)

    found = await measure_reading(model, context_tokens=4096, clock=clock)

    assert found == pytest.approx(tokens, abs=2)


async def test_a_model_that_reads_its_whole_context_in_time_has_no_bound() -> None:
    clock = SteppedClock()

    assert await measure_reading(FakeModel(clock), context_tokens=4096, clock=clock) is None


def test_a_recording_checks_only_where_checks_were_recorded() -> None:
    answer = RecordedAnswer(id="q", prompt_sha256="0", answer="a", model="m", made_at=date(2026, 11, 22))
    check = answer.model_copy(update={"task": "check", "prompt_sha256": "1"})

    assert not RecordedModel([answer]).checks
    assert RecordedModel([answer, check]).checks
