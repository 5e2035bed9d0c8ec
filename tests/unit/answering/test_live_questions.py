"""Which live elements a question asks for, by examples: with the connectors of the shipped tenants."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from assistant.answering.hydration import LiveSlot
from assistant.answering.live_questions import (
    AskedElement,
    Clause,
    ClauseReader,
    Example,
    LiveQuestions,
    ShownFields,
    clauses_of,
    fields_of,
)
from assistant.answering.understand import Vocabulary
from assistant.domain.answers import LiveMatch, LiveMatchState
from assistant.domain.documents import KnownWords
from assistant.domain.elements import ElementData, ElementKind, ElementValue
from assistant.live.ports import AskedName, ElementType, Filled
from assistant.settings.tenant import TenantConfig, load_tenant
from tests.fakes.answering import FakeTenant
from tests.fakes.live import AS_OF, FakeLive

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


def questions_of(name: str = "pharmacy") -> LiveQuestions:
    """Return the questions of a shipped tenant."""
    config = load_tenant(TENANTS / f"{name}.toml")
    live = FakeLive(offered=offered_by(config))
    return LiveQuestions(FakeTenant(config=config, live_elements=live).services)


def plain(question: str, *, tenant: str = "pharmacy", known: KnownWords | None = None) -> str:
    [clause] = questions_of(tenant).reader.clauses(question, known=known)
    return clause.plain


def read_of(matches: Sequence[LiveMatch]) -> list[str]:
    return [one.element for one in matches if one.state is STATES.READ]


def state_of(matches: Sequence[LiveMatch]) -> Mapping[str, LiveMatchState]:
    return {one.element: one.state for one in matches}


def with_examples(*examples: tuple[str | None, Sequence[float]]) -> LiveQuestions:
    """Return the pharmacy's questions with these examples: element and vector."""
    questions = questions_of()
    questions._examples = tuple(  # pyright: ignore[reportPrivateUsage]
        Example("orders", f"example {number}", vector, element)
        for number, (element, vector) in enumerate(examples)
    )
    return questions


def matches(
    questions: LiveQuestions, vector: Sequence[float], clause: Clause | None = None, **leaning: float
) -> list[LiveMatch]:
    clause = clause or Clause("where is the order", "where is the order")
    return questions.match(clause, {clause.plain: vector}, leaning=leaning)


# Names in a question


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("May I refill it?", []),
        ("May she refill her meds?", []),
        ("When can Susan and Kevin refill their pills in April?", []),
        ("Refill with Aetna?", []),
        ("How many refills are left on the methylphenidate?", ["methylphenidate"]),
        ("When can she refill her Lisinopril or metformin?", ["lisinopril", "metformin"]),
        ("When can she refill her Lipitor?", ["lipitor"]),
        ("Ritalin refills left?", ["ritalin"]),
    ],
)
def test_a_question_names_only_what_surely_is_a_medicine(question: str, names: list[str]) -> None:
    vocabulary = Vocabulary.of(load_tenant(TENANTS / "pharmacy.toml"))
    found = questions_of().reader.names(question, meanings=vocabulary.meanings(question))
    assert sorted(one.said for one in found) == names


def test_a_brand_of_the_glossary_is_the_same_as_its_generic_name() -> None:
    [name] = questions_of().reader.names("Glucophage?", meanings={"glucophage": "metformin tablets"})
    assert name == AskedName("glucophage", frozenset({"metformin"}))


def test_where_no_connector_has_names_a_question_has_none() -> None:
    assert questions_of("shop").reader.names("Is lisinopril in stock?", meanings={}) == ()


# Reading a clause as the examples are written


@pytest.mark.parametrize(
    ("question", "read_as"),
    [
        ("Was 8362-5386 delivered?", "was the order delivered?"),
        ("where is order 4471-2208", "where is the order"),
        ("where is the order 4471-2208?", "where is the order?"),
        ("next fill of 7301842-04417.", "next fill of the prescription."),
        ("call 44712208", "call 44712208"),
    ],
)
def test_an_id_that_fits_a_parameter_is_read_as_its_label(question: str, read_as: str) -> None:
    assert plain(question) == read_as


@pytest.mark.parametrize(
    ("question", "read_as"),
    [
        ("where is her ordr", "where is her order"),
        ("how mny refils left", "how mny refill left"),
        ("any news on the pakcage", "any news on the package"),
        ("where is her bear", "where is her bear"),
    ],
)
def test_a_misspelt_word_gets_the_connector_s_spelling(question: str, read_as: str) -> None:
    assert plain(question) == read_as


@pytest.mark.parametrize(
    ("question", "clauses"),
    [
        (
            "What is the status of order 4100-1148 and the stock of the Rivulet 400?",
            ["What is the status of order 4100-1148", "the stock of the Rivulet 400?"],
        ),
        (
            "status of order 4100-1148 and price of the Rivulet, plus the stock of the Breeze",
            ["status of order 4100-1148", "price of the Rivulet", "the stock of the Breeze"],
        ),
        ("Where is her order and the total of it?", ["Where is her order", "the total of it?"]),
        ("The stock of the Rivulet 400 and the Breeze 100", None),
        ("What are the terms and the way of the refund", None),
        ("price and the stock of the Rivulet", None),
    ],
)
def test_a_second_thing_of_something_else_is_a_half_of_its_own(
    question: str, clauses: list[str] | None
) -> None:
    found = questions_of("shop").reader.clauses(question)
    assert [one.said for one in found] == (clauses or [question])
    assert {one.is_half for one in found} == {clauses is not None}


def test_a_word_of_the_documents_is_not_misspelt() -> None:
    known = KnownWords(words={"packege": 3}, abbreviations={})
    assert plain("was the packege sent") == "was the package sent"
    assert plain("was the packege sent", known=known) == "was the packege sent"


def test_a_medicine_s_name_is_read_as_it() -> None:
    [clause] = questions_of().reader.clauses("When can lisinopril be filled again?")
    assert (clause.plain, clause.names) == ("when can it be filled again?", True)


def test_an_item_s_name_is_read_as_it() -> None:
    reader = questions_of("shop").reader
    [clause] = reader.clauses("price of the Rivulet 400", without_items=lambda _: "price of it")
    assert (clause.plain, clause.names) == ("price of it", False)


def test_a_short_follow_up_is_read_after_the_question_before_too() -> None:
    [short] = questions_of().reader.clauses("and 8362-5386?", before="Where is order 4471-2208?")
    joined = "where is the order? the order?"
    assert (short.plain, short.joined, short.follows) == ("the order?", joined, True)
    [long] = questions_of().reader.clauses(
        "and where is the parcel of her sister now?", before="May I refill it?"
    )
    assert (long.plain, long.joined) == ("where is the parcel of her sister now?", None)


@pytest.mark.parametrize(
    ("question", "clauses"),
    [
        ("Where is it?", []),
        ("Where is it, and may I refill it?", ["Where is it", "may I refill it"]),
        ("He has not got it yet. Where is it now?", ["He has not got it yet", "Where is it now"]),
        ("How fast does Dr. Patel reply?", []),
        (
            "price and stock of it in Harbour Street",
            ["price of it in Harbour Street", "stock of it in Harbour Street"],
        ),
        ("what is the price and stock of it", ["price of it", "stock of it"]),
        ("What is the price and stock of it?", ["price of it", "stock of it"]),
    ],
)
def test_a_question_is_cut_into_clauses(question: str, clauses: list[str]) -> None:
    assert clauses_of(question) == clauses


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


@pytest.mark.parametrize(
    "said",
    [
        "How do I track it",
        "What if it is lost",
        "who do I call about it",
        'What does "shipped" mean',
        "what to do",
    ],
)
def test_a_clause_that_asks_what_to_do_reads_nothing(said: str) -> None:
    [found] = matches(with_examples((ORDER, NEAR)), NEAR, Clause(said, "where is the order"))
    assert found.state is STATES.WHAT_TO_DO


def test_a_next_date_is_a_fact_and_no_step() -> None:
    said = "When is the next refill"
    assert read_of(matches(with_examples((ORDER, NEAR)), NEAR, Clause(said, "where is the order"))) == [ORDER]


def test_words_that_the_connector_does_not_use_ask_for_more() -> None:
    clause = Clause("x", "does the court hear the order appeal of the plaintiff")
    [found] = matches(with_examples((ORDER, HALF)), NEAR, clause)
    assert (found.state, found.least, found.unknown_words) == (STATES.FAR, 0.62, 4)
    assert read_of(matches(with_examples((ORDER, HALF)), NEAR)) == [ORDER]


def test_a_follow_up_may_be_less_near() -> None:
    near = [0.45, 0.893, 0.0]
    assert read_of(matches(with_examples((ORDER, near)), NEAR)) == []
    clause = Clause("x", "where is the order", follows=True)
    assert read_of(matches(with_examples((ORDER, near)), NEAR, clause)) == [ORDER]


def test_a_short_follow_up_is_compared_after_the_question_before_where_it_says_too_little_alone() -> None:
    questions = with_examples((ORDER, NEAR))
    clause = Clause("and 8362-5386", "the order", joined="where is it the order", follows=True)
    assert read_of(questions.match(clause, {"the order": FAR, "where is it the order": NEAR})) == [ORDER]


def test_the_routing_moves_what_is_near_the_border() -> None:
    near = [0.45, 0.893, 0.0]
    assert read_of(matches(with_examples((ORDER, near)), NEAR, orders=0.08)) == [ORDER]


def test_a_clause_that_names_a_medicine_reads_the_element_that_shows_which() -> None:
    questions = with_examples(("orders.next_fill", NEAR), ("orders.refill", HALF), (ORDER, HALF))
    assert read_of(matches(questions, NEAR)) == ["orders.next_fill"]
    named = Clause("When can lisinopril be filled", "when can it be filled", names=True)
    assert read_of(matches(questions, NEAR, named)) == ["orders.refill"]


# What the answer shows already


def test_an_element_is_shown_when_others_of_its_operation_show_all_its_fields() -> None:
    shown = ShownFields(fields_of(load_tenant(TENANTS / "pharmacy.toml")))
    shown.add("orders.status")
    assert shown.has("orders.status")
    assert not shown.has("orders.delivery")
    assert shown.of_operation("orders.delivery") == {"status"}
    assert shown.of_operation("orders.refill") == frozenset()
    shown.add("orders.delivery")
    assert shown.has("orders.promised")
    assert not shown.has("orders.tracking"), "its link is no field of the card"


@pytest.mark.parametrize(
    ("without", "left"),
    [
        ({"status"}, ["carrier"]),
        (set[str](), ["status", "carrier"]),
        ({"status", "carrier"}, ["status", "carrier"]),
    ],
)
def test_values_that_the_text_shows_are_left_out_unless_nothing_would_be_left(
    without: set[str], left: list[str]
) -> None:
    kind = ElementType(ORDER, ElementKind.CARD, "Delivery", "orders", "orders.delivery")
    values = tuple(ElementValue(name=name, label=name, text="x") for name in ("status", "carrier"))
    slot = LiveSlot(kind, filled=Filled(ElementData(values=values), AS_OF, "order 1"))
    AskedElement(0, slot, without=frozenset(without)).leave_out()
    assert slot.filled is not None
    assert [one.name for one in slot.filled.data.values] == left


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
        reader = ClauseReader(changed, {})
        word = "a" * many + "c"
        assert reader.plain(word) != ""  # compiled
        began_s = time.process_time()
        reader.plain(" ".join([word] * 20))
        return time.process_time() - began_s

    assert seconds(16) < 60 * max(seconds(4), 1e-4)  # each way in turn is 2 ** 12 as much
