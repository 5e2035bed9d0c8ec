"""Open questions without an answer that ask for the same are one gap, and what a person acted on stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from assistant.domain.desk import Case, CaseReason, CaseState, DeskKind, body_of_item, case_id
from assistant.domain.errors import EmbeddingUnavailableError
from assistant.options.desk.cases import UPKEEP, read_cases
from assistant.options.desk.events import FeedbackKind
from assistant.options.desk.gaps import GapUpkeep, OpenQuestion, group, regrouped
from assistant.options.desk.intake import gap_id
from assistant.text.language import language
from tests.fakes.answering import FakeEmbedder
from tests.options.desk.desk_scene import feedback
from tests.options.desk.desks import Desk, desk_of

ENGLISH = language("en")
NORTH, EAST = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
NEAR_NORTH = (0.95, 0.3, 0.1)


def opened(
    name: str, gap: str, vector: tuple[float, ...] = NORTH, *, is_held: bool = False, question: str = ""
) -> OpenQuestion:
    return OpenQuestion(name, gap, question or f"Do you rent crutches {'x' * int(name)}?", vector, is_held)


def grouped(*questions: OpenQuestion) -> list[list[str]]:
    return [[one.case_id for one in members] for members in group(questions)]


def test_near_questions_are_one_group_and_others_are_not() -> None:
    assert grouped(opened("1", "a"), opened("2", "b", EAST), opened("3", "c", NEAR_NORTH)) == [
        ["1", "3"],
        ["2"],
    ]


@pytest.mark.parametrize(
    ("first", "second"), [("Is code 70 a refusal?", "Is code 75 one?"), ("Do we sell AB-12?", "And AB-13?")]
)
def test_questions_with_other_numbers_or_codes_are_two_groups_however_near(first: str, second: str) -> None:
    assert grouped(opened("1", "a", question=first), opened("2", "b", question=second)) == [["1"], ["2"]]


def test_questions_held_apart_stay_apart_however_near() -> None:
    questions = [
        opened("1", "gap-a", is_held=True),
        opened("2", "gap-b", is_held=True),
        opened("3", "gap-a", EAST, is_held=True),
    ]
    assert grouped(*questions) == [["1", "3"], ["2"]]


def test_a_group_keeps_the_gap_of_most_of_its_questions() -> None:
    questions = [opened("1", "gap-a"), opened("2", "gap-b"), opened("3", "gap-b")]
    assert regrouped(questions) == {"1": "gap-b"}


def test_a_group_keeps_the_gap_that_a_person_acted_on() -> None:
    questions = [opened("1", "gap-a", is_held=True), opened("2", "gap-b"), opened("3", "gap-b")]
    assert regrouped(questions) == {"2": "gap-a", "3": "gap-a"}


def test_of_a_gap_that_falls_apart_the_smaller_group_gets_a_new_one() -> None:
    other = "Is the pill gluten free?"
    questions = [opened("1", "gap-a"), opened("2", "gap-a"), opened("3", "gap-a", EAST, question=other)]
    assert regrouped(questions) == {"3": gap_id(other)}


def test_two_new_gaps_of_the_same_words_have_two_ids() -> None:
    questions = [
        opened("1", "gap-a", NORTH, question="Same?"),
        opened("2", "gap-a", NORTH, question="Same?"),
        opened("3", "gap-a", EAST, question="Other?"),
        opened("4", gap_id("Other?"), (0.0, 0.0, 1.0), question="Different?"),
    ]
    assert regrouped(questions)["3"] not in ("gap-a", gap_id("Other?"))


# --- over a desk -------------------------------------------------------------------------------------------
WORDS = {"a1": "rent crutches", "a2": "gluten capsules", "a3": "rent crutches please"}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk with three open questions, all in the gap ``gap-first``."""
    async with desk_of(tmp_path) as opened_desk:
        services = opened_desk.services
        for answer, question in WORDS.items():
            await opened_desk.answered(answer, question)
            await opened_desk.took(feedback(answer, FeedbackKind.UNANSWERED))
            opened_desk.clock.step(1)
        async for item, case in read_cases(services.store, CaseState):
            grouped_before = case.model_copy(update={"gap": "gap-first"})
            await services.put_next(item, grouped_before, by=UPKEEP, note="")
        yield opened_desk


async def gaps_of(desk: Desk) -> list[str | None]:
    cases = [await desk.case(answer, CaseReason.UNANSWERED) for answer in WORDS]
    return [case.gap for case in cases if case is not None]


async def test_a_new_question_is_a_gap_whose_id_holds_no_word_of_it(desk: Desk) -> None:
    await desk.answered("a4", "Do you lend walkers?")
    await desk.took(feedback("a4", FeedbackKind.UNANSWERED))
    case = await desk.case("a4", CaseReason.UNANSWERED)
    assert case is not None
    assert case.gap == gap_id("do you lend WALKERS?")
    assert "walkers" not in str(case.gap)


async def act(desk: Desk, answer: str) -> None:
    """Have a reviewer take the case."""
    item = await desk.services.store.get(DeskKind.CASE, case_id(answer, CaseReason.UNANSWERED))
    assert item is not None
    body = body_of_item(item, Case).model_copy(update={"assigned_to": "rita"}).model_dump_json()
    update = {"revision": item.revision + 1, "by": "rita", "body": body}
    await desk.services.store.put(item.model_copy(update=update))


async def test_a_gap_that_a_reviewer_acted_on_stays_as_it_is(desk: Desk) -> None:
    await act(desk, "a1")
    assert await GapUpkeep(desk.services, ENGLISH)() == 0
    assert await gaps_of(desk) == ["gap-first"] * 3


async def test_nothing_is_grouped_again_until_a_case_changes(desk: Desk) -> None:
    upkeep = GapUpkeep(desk.services, ENGLISH)
    with capture_logs() as logs:
        await upkeep()
        await upkeep()
        assert [entry["event"] for entry in logs] == ["gaps_grouped"]
        await act(desk, "a2")
        await upkeep()
        assert [entry["event"] for entry in logs] == ["gaps_grouped"] * 2


async def test_nothing_is_grouped_while_the_model_is_down(desk: Desk) -> None:
    embedder = desk.services.embedder
    assert isinstance(embedder, FakeEmbedder)
    embedder.error = EmbeddingUnavailableError("down")
    upkeep = GapUpkeep(desk.services, ENGLISH)
    assert await upkeep() == 0
    embedder.error = None
    assert await upkeep() == 1


async def test_a_question_is_embedded_once(desk: Desk) -> None:
    upkeep = GapUpkeep(desk.services, ENGLISH)
    await upkeep()
    await act(desk, "a2")
    embedder = desk.services.embedder
    assert isinstance(embedder, FakeEmbedder)
    before = len(embedder.texts)
    await upkeep()
    assert len(embedder.texts) == before
