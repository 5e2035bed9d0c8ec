"""Which approved answer a question gets or is offered, and why it gets none."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from assistant.answer.scores import CosineScale
from assistant.options.desk.approved import LEAST_COSINE, ApprovedAnswers, LiveAnswer, Match
from assistant.tenant.tenant import EmbeddingSection
from assistant.text.language import language
from tests.fakes.answering import vector_of
from tests.options.desk.desk import AT, LATER, approved

QUESTION = "May a child pick up a controlled prescription?"
TODAY = date(2026, 3, 1)


def answers(*questions: str, labels: tuple[str, ...] = (), expires_on: date = LATER) -> ApprovedAnswers:
    live = [
        LiveAnswer(
            f"item-{number}",
            1,
            AT,
            approved(question, labels=labels, expires_on=expires_on, vectors=(tuple(vector_of(question)),)),
        )
        for number, question in enumerate(questions)
    ]
    return compiled(live)


def compiled(live: list[LiveAnswer]) -> ApprovedAnswers:
    return ApprovedAnswers.of(live, language=language("en"), scale=CosineScale.of(EmbeddingSection()))


def match(made: ApprovedAnswers, question: str, *labels: str, today: date = TODAY) -> Match:
    return made.match(question, vector_of(question), labels=frozenset(labels), today=today)


def test_the_approved_question_itself_gets_its_answer() -> None:
    found = match(answers("How long is a refill held?", QUESTION), QUESTION)
    assert found.live is not None
    assert found.reason == "equal"
    assert (found.live.item_id, found.wording) == ("item-1", QUESTION)
    assert found.cosine == pytest.approx(1.0)


@pytest.mark.parametrize(
    "asked",
    [
        "may a child pick up a controlled  prescription",
        "May a child picks up a controlled prescriptions?",
        "\u201cMay a child pick up a controlled prescription?\u201d",
    ],
    ids=["case and space", "inflection", "quotes"],
)
def test_the_same_question_gets_the_answer_however_it_is_typed(asked: str) -> None:
    assert match(answers(QUESTION), asked).reason == "equal"


@pytest.mark.parametrize(
    "asked",
    [
        "May an adult pick up a controlled prescription?",
        "May a child never pick up a controlled prescription?",
        "Pick up a controlled prescription, may a child?",
    ],
    ids=["another word", "a negation", "another order"],
)
def test_a_near_question_is_only_offered_the_answer(asked: str) -> None:
    found = match(answers("How long is a refill held?", QUESTION), asked)
    assert found.live is not None
    assert found.reason == "near"
    assert (found.live.item_id, found.wording) == ("item-1", QUESTION)
    assert LEAST_COSINE <= found.cosine <= 1.0


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("May a child pick up 25 controlled prescription?", "number"),
        ("May a child pick up a C2 controlled prescription?", "number"),
        ("Where is the moon tonight?", "none_near"),
    ],
)
def test_a_question_without_a_match_says_why(asked: str, reason: str) -> None:
    found = match(answers(QUESTION), asked)
    assert found.reason not in ("equal", "near")
    assert found.reason == reason


def test_a_question_that_names_something_else_is_not_offered_the_answer() -> None:
    metformin, lisinopril = (f"May a child pick up a {name} order?" for name in ("metformin", "lisinopril"))
    other = "Is lisinopril on the shelf?"
    found = match(answers(metformin, other), lisinopril)
    assert found.reason not in ("equal", "near")
    assert found.reason == "name"
    misspelled = lisinopril.replace("lisinopril", "metfromin")
    assert match(answers(metformin, other), misspelled).reason == "near"


def test_a_reader_needs_every_label() -> None:
    made = answers(QUESTION, labels=("hr", "controlled"))
    assert match(made, QUESTION, "hr").reason not in ("equal", "near")
    assert match(made, QUESTION, "hr", "controlled", "staff").reason == "equal"


def test_an_answer_is_served_until_the_day_before_it_expires() -> None:
    made = answers(QUESTION, expires_on=TODAY)
    assert match(made, QUESTION, today=TODAY - timedelta(days=1)).reason == "equal"
    assert match(made, QUESTION, today=TODAY).reason not in ("equal", "near")


def test_the_right_one_of_many_is_found() -> None:
    others = [f"How is form number {number} filled in by week {number}?" for number in range(500)]
    found = match(answers(*others, QUESTION), QUESTION)
    assert found.live is not None
    assert found.reason == "equal"
    assert found.live.item_id == "item-500"
