"""Questions without an answer that ask for the same are one gap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from assistant.domain.desk import Case, DeskKind
from assistant.domain.errors import EmbeddingUnavailableError
from assistant.domain.feedback import FeedbackKind
from assistant.learning.desk import body_of_item
from assistant.learning.gaps import DeskGaps, Gaps, gap_id, wordings
from assistant.learning.intake import OpenCases
from assistant.text.language import language
from tests.fakes.answering import FakeEmbedder
from tests.fakes.desk_scene import feedback
from tests.unit.learning.desks import Desk, desk_of

ENGLISH = language("en")
CRUTCHES, RENTING = "Can I rent crutches?", "How much is it to rent crutches?"


def desk_gaps(
    desk: Desk, embedder: FakeEmbedder | None = None, *, model: Callable[[], str] = lambda: ""
) -> DeskGaps:
    return DeskGaps(
        desk.services.store,
        records=desk.services.records,
        language=ENGLISH,
        clock=desk.clock,
        embedder=embedder,
        model=model,
    )


def test_a_first_question_opens_a_gap_whose_id_holds_no_word_of_it() -> None:
    gap = Gaps(ENGLISH).assign(CRUTCHES, None)
    assert gap == gap_id(CRUTCHES)
    assert "crutches" not in gap


def test_a_question_in_other_words_joins_by_its_vector() -> None:
    gaps = Gaps(ENGLISH)
    first = gaps.assign(CRUTCHES, [1.0, 0.0])
    assert gaps.assign("Do you lend walkers?", [0.8, 0.6]) == first


def test_a_question_of_another_direction_opens_a_gap() -> None:
    gaps = Gaps(ENGLISH)
    first = gaps.assign(CRUTCHES, [1.0, 0.0])
    assert gaps.assign(RENTING, [0.0, 1.0]) != first


def test_without_vectors_words_decide() -> None:
    gaps = Gaps(ENGLISH)
    first = gaps.assign(CRUTCHES, None)
    assert gaps.assign(RENTING, None) == first
    assert gaps.assign("Is the pill gluten free?", None) != first


def test_a_question_with_a_vector_meets_one_without_by_words() -> None:
    gaps = Gaps(ENGLISH)
    first = gaps.assign(CRUTCHES, None)
    assert gaps.assign(RENTING, [1.0, 0.0]) == first


def test_vectors_of_another_model_are_not_compared() -> None:
    gaps = Gaps(ENGLISH)
    first = gaps.assign(CRUTCHES, [1.0, 0.0])
    assert gaps.assign(RENTING, [0.0, 0.0, 1.0]) == first


def test_the_questions_in_memory_are_bounded() -> None:
    gaps = Gaps(ENGLISH)
    for number in range(1_010):
        gaps.add(f"gap-{number}", f"question {number}", None)
    assert gaps.assign("question 1", None) != "gap-1"
    assert gaps.assign("question 1009", None) == "gap-1009"


def test_who_asks_and_how_is_no_subject() -> None:
    assert wordings("Caller wants to know: do you rent crutches?", ENGLISH)[2] == "rent crutches"


def test_a_medicine_or_an_insurer_is_named_by_its_class_and_the_setting_is_left_out() -> None:
    general = wordings("Does the clinic take Aetna for Ozempic or Wegovy?", ENGLISH)[1]
    assert general == "does the take insurer for medicine or medicine"


def test_a_question_of_the_setting_alone_keeps_its_words() -> None:
    assert wordings("Clinic?", ENGLISH) == ("Clinic?", "Clinic?", "clinic")


async def test_gaps_are_found_again_after_a_restart(tmp_path: Path) -> None:
    async with desk_of(tmp_path) as desk:
        await desk.answered("a1", CRUTCHES)
        intake = OpenCases(
            desk.services.store,
            records=desk.services.records,
            language=ENGLISH,
            clock=desk.clock,
            gaps=desk_gaps(desk),
        )
        await intake.take([feedback("a1", FeedbackKind.UNANSWERED)])
        assert await desk_gaps(desk).assign(RENTING, None) == gap_id(CRUTCHES)


async def test_gaps_are_found_by_words_while_the_model_is_down(tmp_path: Path) -> None:
    async with desk_of(tmp_path) as desk:
        gaps = desk_gaps(desk, FakeEmbedder(error=EmbeddingUnavailableError("down")))
        assert await gaps.assign(CRUTCHES, [1.0, 0.0]) == await gaps.assign(RENTING, [0.0, 1.0])


async def test_gaps_are_read_again_after_the_upkeep_grouped_questions(tmp_path: Path) -> None:
    async with desk_of(tmp_path) as desk:
        await desk.answered("a1", CRUTCHES)
        gaps = desk_gaps(desk)
        intake = OpenCases(
            desk.services.store, records=desk.services.records, language=ENGLISH, clock=desk.clock, gaps=gaps
        )
        await intake.take([feedback("a1", FeedbackKind.UNANSWERED)])
        item = (await desk.services.store.list(DeskKind.CASE))[0]
        case = body_of_item(item, Case).model_copy(update={"gap": "gap-other"})
        update = {"revision": 2, "body": case.model_dump_json()}
        await desk.services.store.put(item.model_copy(update=update))
        desk.clock.step(901)
        assert await gaps.assign(RENTING, None) == "gap-other"


async def test_questions_of_gaps_are_embedded_again_by_another_live_model(tmp_path: Path) -> None:
    """Vectors of two models of one size would be compared, and every gap would be wrong."""
    async with desk_of(tmp_path) as desk:
        await desk.answered("a1", CRUTCHES)
        live, embedder = ["former"], FakeEmbedder()
        gaps = desk_gaps(desk, embedder, model=lambda: live[0])
        intake = OpenCases(
            desk.services.store, records=desk.services.records, language=ENGLISH, clock=desk.clock, gaps=gaps
        )
        await intake.take([feedback("a1", FeedbackKind.UNANSWERED)])
        embedder.texts.clear()
        await gaps.assign(RENTING, None)
        assert embedder.texts == []
        live[0] = "tuned"
        await gaps.assign(RENTING, None)
        assert [CRUTCHES] in embedder.texts
