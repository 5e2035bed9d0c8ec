"""Live elements in answers: named by documents or a model, filled while the text flows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from assistant.answer.events import ElementChanged, Token
from assistant.answer.text_end import CANCELLED, DISCONNECTED, TextEnd
from assistant.domain.answers import (
    Certainty,
    FinishReason,
    LiveMatch,
    LiveMatchState,
    Mode,
    Outcome,
    ShownAs,
)
from assistant.domain.errors import EmbeddingUnavailableError
from assistant.domain.live import (
    Caller,
    ElementData,
    ElementProblem,
    ElementState,
    ElementType,
    ElementValue,
    Filled,
    LiveReadError,
)
from assistant.options.live.examples import USUAL_LIVE, Example, LiveExamples
from assistant.options.live.section import systems_of
from assistant.tenant.tenant import TenantConfig, load_tenant
from tests.stage.answering import (
    STATUS,
    SUMMARY,
    FakeLive,
    FakeTenant,
    Gate,
    document,
    of_customer,
    vector_of,
)
from tests.unit.answer.asking_and_reading import QUESTION, Asked, ask, prepare

STEP = "Retail refills are payable on day 23 of 30 when {{orders.status}} is delivered."
SHOWN = "Retail refills are payable on day 23 of 30 when [order status] is delivered."
PENDING, READY, FAILED = ElementState.PENDING, ElementState.READY, ElementState.FAILED
BO = of_customer("bo")


def with_live(
    live: FakeLive | None = None,
    content: str = STEP,
    *,
    title: str = "Refill too soon",
    allowed: bool = True,
    writes: tuple[str, ...] = (),
) -> FakeTenant:
    tenant = FakeTenant.writing(*writes) if writes else FakeTenant()
    tenant = tenant.with_documents(document(content=content, title=title))
    tenant.live_elements = live or FakeLive()
    source = {"name": "knowledge", "namespace": "", "access": "everyone", "elements": allowed}
    tenant.config = tenant.config.model_validate(tenant.config.model_dump() | {"sources": [source]})
    return tenant


def states(asked: Asked) -> list[tuple[str, ElementState]]:
    return [(one.id, one.state) for one in asked.elements]


# Named by a document


async def test_a_source_that_may_not_name_elements_shows_the_tag() -> None:
    live = FakeLive()
    asked = await ask(with_live(live, allowed=False), context=BO)
    assert (asked.text, asked.elements, live.calls) == (STEP, [], [])


@pytest.mark.parametrize(
    ("problem", "state", "retryable"),
    [
        (ElementProblem.NOT_ALLOWED, ElementState.NOT_ALLOWED, False),
        (ElementProblem.NOT_FOUND, FAILED, False),
        (ElementProblem.PARAMETER_MISSING, FAILED, False),
        (ElementProblem.SYSTEM_UNAVAILABLE, FAILED, True),
        (ElementProblem.SYSTEM_LATE, FAILED, True),
        (ElementProblem.SYSTEM_INVALID, FAILED, False),
        (ElementProblem.SWITCHED_OFF, FAILED, False),
    ],
)
async def test_an_element_that_cannot_be_filled_says_why_and_the_text_is_whole(
    problem: ElementProblem, state: ElementState, retryable: bool
) -> None:
    live = FakeLive(errors={"orders.status": LiveReadError(problem, "Ask the desk.", about="order 1")})
    asked = await ask(with_live(live), context=BO)
    last = asked.elements[-1]
    assert (last.state, last.problem, last.retryable) == (state, problem, retryable)
    assert (last.detail, last.about, last.data) == ("Ask the desk.", "order 1", None)
    assert (asked.text, asked.done.finish_reason) == (SHOWN, FinishReason.STOP)


async def test_a_defect_of_a_connector_costs_only_its_element() -> None:
    live = FakeLive(errors={"orders.status": ZeroDivisionError("of customer 4711")})
    asked = await ask(with_live(live), context=BO)
    assert asked.elements[-1].problem is ElementProblem.SYSTEM_UNAVAILABLE
    assert "4711" not in str(asked.events)
    assert asked.done.finish_reason is FinishReason.STOP


async def test_an_element_ends_at_its_own_limit() -> None:
    offered = (replace(STATUS, limit_s=0.05),)
    asked = await ask(with_live(FakeLive(offered, gates={"orders.status": Gate()})), context=BO)
    assert asked.elements[-1].problem is ElementProblem.SYSTEM_LATE
    assert asked.elements[-1].detail == "orders did not answer in time."


@pytest.mark.parametrize("cause", [CANCELLED, DISCONNECTED])
async def test_leaving_ends_the_reads_at_once(cause: TextEnd) -> None:
    live = FakeLive(gates={"orders.status": Gate()})
    tenant = with_live(live)
    use_case, prepared = await prepare(tenant, context=BO)
    names: list[str] = []
    async with aclosing(use_case.stream(prepared)) as events:
        async for event in events:
            names.append(event.event)
            if isinstance(event, ElementChanged):
                await live.gates["orders.status"].reached.wait()
                prepared.call.cancel(cause)
    await asyncio.sleep(0)
    assert names[-1] == ("error" if cause is CANCELLED else "element")
    assert (live.cancelled, live.active) == (["orders.status"], 0)
    [record] = tenant.records.answers.values()
    assert record.outcome is (Outcome.CANCELLED if cause is CANCELLED else Outcome.DISCONNECTED)
    assert [(one.state, one.problem) for one in record.elements] == [(FAILED, ElementProblem.CANCELLED)]


# What is kept


async def test_the_record_keeps_which_element_and_no_value() -> None:
    asked = await ask(with_live(), context=BO)
    [use] = asked.kept.elements
    assert (use.name, use.operation, use.state) == ("orders.status", "orders.get_order", READY)
    assert "order-bo" not in asked.kept.model_dump_json()


async def test_a_unit_with_a_label_is_kept_as_an_excerpt_and_shown_again() -> None:
    asked = await ask(with_live(), context=BO)
    assert "payable" not in asked.kept.text
    assert "order status" not in asked.kept.text
    [unit] = [one for one in asked.kept.excerpts if one.shown_as is ShownAs.UNIT]
    assert unit.labels == {"orders.status": "[order status]"}
    assert asked.record.text == SHOWN


async def test_a_value_that_looks_like_a_document_s_run_loses_those_characters() -> None:
    value = ElementValue(name="status", label="Status", text="\U000f0000\U000f0000paid")
    live = FakeLive(data={"orders.status": ElementData(values=(value,))})
    data = (await ask(with_live(live), context=BO)).elements[-1].data
    assert data is not None
    assert data.values[0].text == "paid"


# Written by a model (scripted: the local one cannot write markup)

FIRST = "Retail refills are payable on day 23 of 30."


async def test_a_model_s_element_is_filled_while_it_goes_on_writing() -> None:
    gate = Gate()
    live = FakeLive()
    tenant = with_live(live, f"{FIRST} Send other requests to the Claims Desk. {{{{orders.status}}}}")
    tenant.model = FakeTenant.writing().model
    tenant.generator.steps[:] = [
        f"{FIRST}\n{{{{orders.",
        "status}}\nSend",
        gate,
        " other requests to the Claims Desk.",
    ]
    use_case, prepared = await prepare(tenant, context=BO)
    names: list[str] = []
    text = ""
    async with aclosing(use_case.stream(prepared)) as events:
        async for event in events:
            names.append(event.event)
            text += getattr(event, "text", "")
            if isinstance(event, ElementChanged):
                gate.opened.set()  # the model goes on once the element has its place
    assert names == [
        *("started", "sources", "token", "sentence", "token"),
        *("element", "token", "sentence", "element", "done"),
    ]
    assert text == f"{FIRST}\n[order status]\nSend other requests to the Claims Desk."


async def test_a_model_that_may_write_elements_is_offered_all_of_them() -> None:
    tenant = with_live(content=FIRST, writes=(f"{FIRST}\n{{{{stores.stock}}}}",))
    tenant.use_model(writes_elements=True)
    asked = await ask(tenant, context=BO)
    assert asked.text == f"{FIRST}\n[stock]"
    system = tenant.generator.requests[0].messages[0].content
    assert "{{orders.status}}: Order status" in system
    assert "order-bo" not in str(tenant.generator.requests)


async def test_a_recording_answers_prompts_without_the_tenant_s_live_elements() -> None:
    """So that an answer which was recorded without live systems plays where there are some."""
    plain = FakeTenant.writing(FIRST).with_documents(document(content=FIRST))
    await ask(plain)
    tenant = with_live(content=FIRST, writes=(f"{FIRST}\n{{{{stores.stock}}}}",))
    tenant.use_model(writes_elements=True, recorded="a model, 2026-11-22")
    asked = await ask(tenant, context=BO)
    assert asked.text == f"{FIRST}\n[stock]"
    assert tenant.generator.requests[0].messages == plain.generator.requests[0].messages


async def test_a_model_that_may_not_is_told_of_none_and_its_tag_calls_nothing() -> None:
    tenant = with_live(content=FIRST, writes=(f"{FIRST}\n{{{{stores.stock}}}}",))
    asked = await ask(tenant, context=BO)
    assert "{{" not in tenant.generator.requests[0].messages[0].content
    assert asked.elements == []
    assert asked.text == FIRST


async def test_a_model_s_tags_take_no_element_from_the_section_that_replaces_its_text() -> None:
    live = FakeLive(gates={"orders.status": Gate()})
    content = STEP.replace("{{orders.status}}", "{{orders.summary}}")
    tenant = with_live(live, content, writes=("Day 25 " + "{{orders.status}} " * 20 + "too.",))
    asked = await ask(tenant, context=BO)
    assert asked.done.mode is Mode.QUOTED
    assert [(one.name, one.state) for one in asked.elements] == [
        ("orders.summary", PENDING),
        ("orders.summary", READY),
    ]
    assert live.active == 0


async def test_an_element_of_a_withheld_sentence_is_not_shown() -> None:
    live = FakeLive(gates={"orders.status": Gate()})
    tenant = with_live(live, FIRST, writes=(f"{FIRST} Day 25 {{{{orders.status}}}} too. ", "More."))
    asked = await ask(tenant, context=BO)
    assert (asked.text, asked.elements) == (f"{FIRST} More.", [])
    assert live.active == 0


# A live system that answers by itself

WHERE = "Has the order been shipped?"
IS_SHIPPED = "Has the order been shipped"
BOTH = f"{WHERE} {QUESTION}"
LIVE_ONLY = "Grapefruit interacts with simvastatin."


async def test_a_question_that_only_a_system_answers_is_answered_by_its_element() -> None:
    asked = await ask(with_live(content=LIVE_ONLY), WHERE, context=BO)
    assert asked.names == ["started", "sources", "element", "token", "element", "done"]
    assert asked.text == "[order status]"
    pending, ready = asked.elements
    assert (pending.display.start, pending.display.end) == (0, 0)
    assert (ready.display.start, ready.display.end, ready.display.place) == (0, 14, "inline")
    done = asked.done
    assert (done.finish_reason, done.mode, done.certainty) == (FinishReason.STOP, Mode.QUOTED, None)
    assert (asked.record.finish_reason, asked.record.text) == (FinishReason.STOP, "[order status]")


async def test_the_record_says_why_elements_were_read_or_not() -> None:
    asked = await ask(with_live(content=FIRST), BOTH, context=BO)
    [match] = [one for one in asked.kept.live_matches if one.state is LiveMatchState.READ]
    assert (match.element, match.example) == ("orders.status", WHERE)
    named = with_live(content=f"{IS_SHIPPED}: say {{{{orders.status}}}} to the caller.", title=IS_SHIPPED)
    matches = (await ask(named, WHERE, context=BO)).kept.live_matches
    assert [one.state for one in matches] == [LiveMatchState.SHOWN]


async def test_a_rule_from_a_document_comes_first_and_the_order_after_it() -> None:
    asked = await ask(with_live(content=FIRST), BOTH, context=BO)
    assert asked.text == f"{FIRST}\n\n[order status]"
    assert states(asked) == [("e1", PENDING), ("e1", READY)]


async def test_a_model_that_names_the_element_which_the_question_asks_for_reads_it_once() -> None:
    live = FakeLive()
    content = f"{WHERE} Say {{{{orders.status}}}} to the caller."
    asked = await ask(
        with_live(live, content, title=IS_SHIPPED, writes=("Say {{orders.status}}", " to the caller.")),
        WHERE,
        context=BO,
    )
    assert asked.text == "Say [order status] to the caller."
    assert [
        (one.id, one.state, asked.text[one.display.start : one.display.end]) for one in asked.elements
    ] == [("e1", PENDING, "[order status]"), ("e1", READY, "[order status]")]
    assert [name for name, _ in live.calls] == ["orders.status"]
    assert asked.done.finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (ElementProblem.SYSTEM_UNAVAILABLE, "orders did not answer."),
        (ElementProblem.SYSTEM_LATE, "orders did not answer."),
        (ElementProblem.NOT_FOUND, "Ask the desk."),
        (ElementProblem.NOT_ALLOWED, "Ask the desk."),
    ],
)
async def test_a_system_that_fails_leaves_no_evidence_that_names_it_and_no_document(
    problem: ElementProblem, reason: str
) -> None:
    live = FakeLive(errors={"orders.status": LiveReadError(problem, "Ask the desk.")})
    tenant = with_live(live, LIVE_ONLY)
    tenant.configure(answers={"escalation": {"default": "Team Lead, ext. 1"}})
    asked = await ask(tenant, WHERE, context=BO)
    done = asked.done
    assert (done.finish_reason, done.mode, done.certainty) == (FinishReason.NO_EVIDENCE, None, None)
    assert done.reason == reason
    assert (done.escalation, asked.text) == ("Team Lead, ext. 1", "")


async def test_values_stand_in_the_order_of_the_question_whichever_system_is_faster() -> None:
    paid = replace(SUMMARY, about=("What price did the customer pay?",))
    live = FakeLive(offered=(STATUS, paid), gates={"orders.status": Gate()})
    use_case, prepared = await prepare(
        with_live(live, LIVE_ONLY), f"{WHERE} What price did the customer pay?", context=BO
    )
    ready: list[tuple[str, int]] = []
    texts: list[str] = []
    async with aclosing(use_case.stream(prepared)) as events:
        async for event in events:
            if isinstance(event, Token):
                texts.append(event.text)
            if isinstance(event, ElementChanged) and event.state is READY:
                ready.append((event.id, event.display.start))
                live.gates["orders.status"].opened.set()
    assert "".join(texts) == "[order status]\n\n[order]"
    assert ready == [("e2", 0), ("e1", 0), ("e2", 16)]


# The sources that were asked


async def test_a_live_system_is_no_source_of_documents() -> None:
    tenant = with_live()
    reach = [{"name": "orders", "port": 443, "live": {"connector": "orders.toml"}}]
    sources = [
        {"name": "catalogue", "access": "everyone", "namespace": "", "kind": "catalogue"},
        {"name": "orders", "kind": "live", "reach": "orders"},
    ]
    config = tenant.config.model_dump() | {"sources": sources, "reach": reach}
    tenant.config = tenant.config.model_validate(config)
    asked = await ask(tenant)
    assert [(one.name, one.state) for one in asked.done.asked] == [("catalogue", "answered")]
    assert [search.ids for search in tenant.search.queries] == [None]


class OfCustomers(FakeLive):
    """A live system whose data are read in a customer's conversation alone."""

    def types(self) -> Mapping[str, ElementType]:
        return {name: replace(one, needs_context=True) for name, one in super().types().items()}


async def test_without_a_customer_a_rule_is_answered_without_a_word_of_their_data() -> None:
    live = OfCustomers()
    content = f"{IS_SHIPPED}: say that it comes within three days."
    asked = await ask(with_live(live, content, title=IS_SHIPPED), WHERE)
    assert (asked.elements, live.calls) == ([], [])
    assert asked.done.finish_reason is FinishReason.STOP


# --- a system has something else than what the question names ---------------------------------------------
class OfAnother(FakeLive):
    """A live system whose thing has another name than the question's."""

    def filled(self, name: str, caller: Caller) -> Filled:
        return replace(super().filled(name, caller), is_of_another=True)


async def test_a_written_answer_that_shows_another_thing_than_the_question_names_is_only_possible() -> None:
    written = (f"{FIRST} [1.1] It is {{{{orders.status}}}}.",)
    same = await ask(with_live(FakeLive(), writes=written), context=BO)
    another = await ask(with_live(OfAnother(), writes=written), context=BO)
    assert (same.done.certainty, another.done.certainty) == (Certainty.ANSWERED, Certainty.POSSIBLY)


async def test_digits_around_an_element_are_two_numbers() -> None:
    tenant = with_live(content=f"{FIRST} {{{{orders.status}}}}")
    tenant.model = FakeTenant.writing().model
    tenant.generator.steps[:] = ["Retail refills are payable on day 2{{orders.status}}3 of 30."]
    assert (await ask(tenant, context=BO)).sentences[0].detail == "withheld"


async def test_without_vectors_of_the_examples_the_answer_goes_on() -> None:
    tenant = with_live(content=FIRST)
    await prepare(tenant, WHERE)
    tenant.embedder.error = EmbeddingUnavailableError("down")
    examples = LiveExamples(tenant.services)
    assert not await examples.load()
    assert examples.match(vector_of(WHERE), live=None) == []
    tenant.embedder.error = None
    assert await examples.load()
    matches = examples.match(vector_of(WHERE), live=None)
    assert [one.element for one in matches if one.state == "read"] == ["orders.status"]


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


def test_a_name_is_read_as_it() -> None:
    examples = examples_of()
    assert examples.without_names("Are refills of Lisinopril left?", known=()) == "Are refills of it left?"
    assert examples.without_names("Is Lisinopril left?", known={"lisinopril"}) == "Is Lisinopril left?"
