"""Which live elements a question asks for, by examples: with the connectors of the shipped tenants."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from assistant.answering.live_elements import Example, LiveExamples
from assistant.answering.routing import Routing
from assistant.domain.answers import LiveMatch, LiveMatchState
from assistant.live.ports import ElementType
from assistant.settings.tenant import TenantConfig, load_tenant
from tests.fakes.answering import FakeTenant
from tests.fakes.live import FakeLive

TENANTS = Path(__file__).parents[3] / "tenants"
ORDER, LINK = "orders.delivery", "orders.tracking"
STATES = LiveMatchState


def offered_by(config: TenantConfig) -> tuple[ElementType, ...]:
    """Return what the connectors of a tenant file offer."""
    return tuple(
        ElementType(
            name=f"{entry.name}.{one.name}",
            kind=one.kind,
            title=one.title,
            source=entry.inline.source,
            operation=f"{entry.name}.{one.operation}",
            about=one.about,
        )
        for entry in config.reach
        if entry.inline is not None
        for one in entry.inline.elements
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
    made._examples = tuple(  # pyright: ignore[reportPrivateUsage]
        Example("orders", f"example {number}", vector, element)
        for number, (element, vector) in enumerate(examples)
    )
    return made


def matches(
    examples: LiveExamples,
    vector: Sequence[float],
    text: str = "where is the order",
    routing: Routing | None = None,
) -> list[LiveMatch]:
    return examples.match(text, vector, routing)


# Names in a question


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("May I refill it?", []),
        ("May she refill her meds?", []),
        ("How many refills are left on the methylphenidate?", ["methylphenidate"]),
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
        ("where is order 4471-2208", "where is the order"),
        ("where is the order 4471-2208?", "where is the order?"),
        ("next fill of 7301842-04417.", "next fill of the prescription."),
        ("call 44712208", "call 44712208"),
        ("Where is it?", "Where is it?"),
    ],
)
def test_an_id_that_fits_a_parameter_is_read_as_its_label(question: str, read_as: str) -> None:
    assert examples_of().plain(question) == read_as


# Which element it asks for

NEAR, HALF, FAR = [1.0, 0.0, 0.0], [0.52, 0.854, 0.0], [0.0, 0.0, 1.0]


def test_the_nearest_element_is_read_and_the_others_say_why_not() -> None:
    found = matches(with_examples((ORDER, NEAR), (LINK, HALF), ("orders.items", FAR)), NEAR)
    assert state_of(found) == {ORDER: STATES.READ, LINK: STATES.OTHER, "orders.items": STATES.FAR}
    assert (found[0].cosine, found[0].least, found[0].example) == (1.0, 0.5, "example 0")


def test_a_question_that_no_element_answers_and_is_as_near_is_not_read() -> None:
    against = [0.99, 0.141, 0.0]
    [found] = matches(with_examples((ORDER, NEAR), (None, against)), NEAR)
    assert (found.state, found.against) == (STATES.NOT_ABOUT, 0.99)
    [found] = matches(with_examples((ORDER, NEAR), (None, HALF)), NEAR)
    assert found.state is STATES.READ


def test_words_that_the_connector_does_not_use_ask_for_more() -> None:
    text = "does the court hear the order appeal of the plaintiff"
    [found] = matches(with_examples((ORDER, HALF)), NEAR, text)
    assert (found.state, found.least, found.unknown_words) == (STATES.FAR, 0.62, 4)
    assert read_of(matches(with_examples((ORDER, HALF)), NEAR)) == [ORDER]


def test_many_unknown_words_ask_for_no_more_than_a_bound() -> None:
    [found] = matches(
        with_examples((ORDER, NEAR)), NEAR, " ".join(f"zymurgy{chr(97 + n)}" for n in range(20))
    )
    assert (found.least, found.state) == (0.7, STATES.READ)


def test_the_routing_moves_what_is_near_the_border() -> None:
    config = load_tenant(TENANTS / "pharmacy.toml")
    [source] = [one for one in config.sources if one.reach == "orders"]
    others = {one.name: 0.0 for one in config.sources if one is not source}
    near = [0.45, 0.893, 0.0]
    even = dict.fromkeys((source.name, *others), 1.0 / (1 + len(others)))
    examples = with_examples((ORDER, near))
    assert read_of(matches(examples, NEAR)) == read_of(matches(examples, NEAR, routing=Routing(even))) == []
    assert read_of(matches(examples, NEAR, routing=Routing({source.name: 1.0, **others}))) == [ORDER]


def test_an_id_s_pattern_is_matched_in_linear_time() -> None:
    def seconds(many: int) -> float:
        pattern = "(a|ab?)" * many + "b"
        config = load_tenant(TENANTS / "pharmacy.toml")
        orders = next(one for one in config.reach if one.inline is not None)
        assert orders.inline is not None
        operation = orders.inline.operations[0]
        parameter = operation.parameters[0].model_copy(update={"pattern": pattern})
        operations = (operation.model_copy(update={"parameters": (parameter,)}),)
        connector = orders.inline.model_copy(update={"operations": operations})
        changed = config.model_copy(update={"reach": (orders.model_copy(update={"inline": connector}),)})
        examples = LiveExamples(FakeTenant(config=changed).services)
        word = "a" * many + "c"
        assert examples.plain(word) == word  # compiled
        began_s = time.process_time()
        examples.plain(" ".join([word] * 20))
        return time.process_time() - began_s

    assert seconds(16) < 60 * max(seconds(4), 1e-4)  # each way in turn is 2 ** 12 as much
