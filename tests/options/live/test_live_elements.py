"""Which live elements a question asks for, by examples: with the connectors of the shipped tenants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from assistant.domain.answers import LiveMatch, LiveMatchState
from assistant.domain.live import ElementType
from assistant.options.live.examples import USUAL_LIVE, Example, LiveExamples
from assistant.options.live.section import systems_of
from assistant.tenant.tenant import TenantConfig, load_tenant
from tests.fakes.answering import FakeTenant
from tests.fakes.live import FakeLive

TENANTS = Path(__file__).parents[3] / "tests/tenants"
ORDER, LINK = "orders.delivery", "orders.tracking"
STATES = LiveMatchState


def offered_by(config: TenantConfig) -> tuple[ElementType, ...]:
    """Return what the connectors of a tenant file offer."""
    return tuple(
        ElementType(
            name=f"{entry.name}.{one.name}",
            kind=one.kind,
            title=one.title,
            source=entry.connector.source,
            operation=f"{entry.name}.{one.operation}",
            about=one.about,
        )
        for entry in systems_of(config)
        for one in entry.connector.elements
    )


def examples_of(name: str = "pharmacy") -> LiveExamples:
    """Return the examples of a shipped tenant, without vectors."""
    config = load_tenant(TENANTS / f"{name}.toml")
    live = FakeLive(offered=offered_by(config))
    return LiveExamples(FakeTenant(config=config, live_elements=live).services)


def read_of(matches: Sequence[LiveMatch]) -> list[str]:
    return [one.element for one in matches if one.state is STATES.READ]


def state_of(matches: Sequence[LiveMatch]) -> Mapping[str, LiveMatchState]:
    return {one.element: one.state for one in matches}


def with_examples(
    *examples: tuple[str | None, Sequence[float]], of: LiveExamples | None = None
) -> LiveExamples:
    """Return the pharmacy's elements with these examples: element and vector."""
    made = of or examples_of()
    made._examples.value = tuple(  # pyright: ignore[reportPrivateUsage]
        Example("orders", f"example {number}", vector, element)
        for number, (element, vector) in enumerate(examples)
    )
    return made


def matches(
    examples: LiveExamples, vector: Sequence[float], live: float | None = USUAL_LIVE
) -> list[LiveMatch]:
    return examples.match(vector, live=live)


# Names in a question


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("May I refill it?", []),
        ("When can she refill her Lisinopril or metformin?", ["lisinopril", "metformin"]),
        ("Where is the order?", []),
    ],
)
def test_a_question_names_the_words_that_are_neither_common_nor_the_connectors(
    question: str, names: list[str]
) -> None:
    assert list(examples_of().names(question, known=())) == names


def test_a_word_of_the_glossary_is_no_name() -> None:
    assert examples_of().names("May she refill her Glucophage?", known={"glucophage"}) == ()


def test_where_no_connector_has_names_a_question_has_none() -> None:
    assert examples_of("shop").names("Is lisinopril in stock?", known=()) == ()


# Reading a question as the examples are written


@pytest.mark.parametrize(
    ("question", "read_as"),
    [
        ("Was 8362-5386 delivered?", "Was the order delivered?"),
        ("where is the order 4471-2208?", "where is the order?"),
        ("call 44712208", "call 44712208"),
        ("Where is it?", "Where is it?"),
    ],
)
def test_an_id_that_fits_a_parameter_is_read_as_its_label(question: str, read_as: str) -> None:
    assert examples_of().plain(question) == read_as


# Which element it asks for

NEAR, BESIDE, FAR = [1.0, 0.0, 0.0], [0.75, 0.661, 0.0], [0.0, 0.0, 1.0]


def test_the_nearest_element_is_read_and_the_others_say_why_not() -> None:
    found = matches(with_examples((ORDER, NEAR), (LINK, BESIDE), ("orders.items", FAR)), NEAR)
    assert state_of(found) == {ORDER: STATES.READ, LINK: STATES.OTHER, "orders.items": STATES.FAR}
    assert (found[0].cosine, found[0].example) == (1.0, "example 0")


def test_a_question_that_no_element_answers_and_is_as_near_is_not_read() -> None:
    [found] = matches(with_examples((ORDER, BESIDE), (None, NEAR)), NEAR)
    assert (found.state, found.against) == (STATES.NOT_ABOUT, 1.0)
    [found] = matches(with_examples((ORDER, NEAR), (None, BESIDE)), NEAR)
    assert found.state is STATES.READ


def test_how_much_a_question_asks_for_live_data_moves_the_least_cosine() -> None:
    examples = with_examples((ORDER, NEAR), (None, BESIDE))
    [unsure], [usual], [sure] = (matches(examples, NEAR, live) for live in (-9.0, USUAL_LIVE, 3.0))
    assert unsure.least > usual.least > sure.least


def test_a_name_is_read_as_it() -> None:
    examples = examples_of()
    assert examples.without_names("Are refills of Lisinopril left?", known=()) == "Are refills of it left?"
    assert examples.without_names("Is Lisinopril left?", known={"lisinopril"}) == "Is Lisinopril left?"
