"""Questions about items are answered by a table of the catalogue's lines, with reviews cited."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.elements import element_of, use_of
from assistant.domain.answers import Mode
from assistant.domain.documents import ItemFacts, StoredDocument
from assistant.domain.live import ElementDisplay, ElementKind, ElementState
from assistant.options.live.reads import ReadElementAgain
from tests.options.live.live_scene import KeptReads
from tests.stage.answering import STOCK, FakeLive, FakeTenant, agent, document
from tests.unit.answer.asking_and_reading import Asked, ask, prepare

DATED = date(2026, 11, 20)
SOURCES: list[dict[str, object]] = [
    {"name": "catalogue", "access": "everyone", "kind": "catalogue"},
    {"name": "reviews", "access": "everyone", "kind": "reviews"},
    {"name": "help", "access": "everyone", "kind": "help"},
]
WEIGHTS = "What is the weight of the Aria Mist 200 and of the Aria Mist 300?"
LONG_AGO = date(2025, 2, 3)


def item(
    number: int, *, weight: str, noise: str, price: str, labels: tuple[str, ...] = (), **more: str
) -> StoredDocument:
    properties = {"Weight": weight, "Noise level": noise, **more}
    lines = "\n".join(f"- {name}: {value}" for name, value in {"Price": f"${price}", **properties}.items())
    title = f"Aria Mist {number}"
    made = document(
        f"catalogue:A-{number}",
        f"A humidifier: {title}.\n\n{lines}\n\nBoil the water.",
        title=title,
        labels=labels,
        effective_date=DATED,
    )
    facts = ItemFacts(
        item_id=f"A-{number}",
        category="Humidifiers",
        price=Decimal(price),
        currency="USD",
        properties=properties,
        ratings=0,
    )
    return replace(made, card=replace(made.card, item=facts))


def review(item_id: str, number: int, stars: float, text: str, *, votes: int = 0) -> StoredDocument:
    title = f"Aria Mist {item_id.removeprefix('A-')}: so so"
    made = document(f"reviews:{item_id}-r{number}", text, title=title, effective_date=LONG_AGO)
    facts = ItemFacts(item_id=item_id, rating=stars, helpful_votes=votes)
    return replace(made, card=replace(made.card, item=facts))


LIGHT = item(200, weight="1.2 kg", noise="38 dB", price="59.90", Mist="cool")
HEAVY = item(300, weight="2 kg", noise="28 dB", price="89.00", Mist="warm")
GONE = item(100, weight="1 kg", noise="24 dB", price="19.00", Discontinued="no longer made")
REVIEWS = [
    review("A-300", 1, 5.0, "You barely hear it at night."),
    review("A-300", 2, 1.0, "It leaked on the dresser."),
    review("A-300", 3, 1.0, "It broke within a week.", votes=40),
    review("A-200", 1, 3.0, "It does its job."),
]


def shop(*documents: StoredDocument) -> FakeTenant:
    tenant = FakeTenant()
    tenant.configure(sources=SOURCES)  # pyright: ignore[reportArgumentType]
    return tenant.with_documents(*(documents or (LIGHT, HEAVY, GONE, *REVIEWS)))


async def table(tenant: FakeTenant, question: str = WEIGHTS) -> Asked:
    answered = await ask(tenant, question)
    assert answered.elements, answered.text
    return answered


def rows(answered: Asked) -> list[tuple[str, dict[str, str]]]:
    (element,) = answered.elements
    assert element.data is not None
    return [(row.title, {value.label: value.text for value in row.values}) for row in element.data.rows]


# --- what is shown ----------------------------------------------------------------------------------------
async def test_what_the_question_names_comes_first_and_both_items_are_quoted() -> None:
    tenant = shop()
    tenant.configure(answers={"escalation": {"default": "Team Lead, ext. 1"}})
    answered = await table(tenant)
    assert (answered.done.mode, answered.done.escalation) == (Mode.QUOTED, None)
    first, second = rows(answered)
    assert (first[0], first[1]["Weight"]) == ("Aria Mist 200", "1.2 kg")
    assert (second[0], second[1]["Weight"]) == ("Aria Mist 300", "2 kg")
    assert answered.text.startswith(
        "**Humidifiers: Weight**\n\n**Aria Mist 200**\n\n- Weight: 1.2 kg\n- Price: $59.90\n"
    )


async def test_the_text_is_whole_without_the_element_which_stands_in_for_its_lines() -> None:
    answered = await table(shop())
    assert "Not checked" not in answered.text
    (element,) = answered.elements
    assert (element.kind, element.state, element.name) == (
        ElementKind.TABLE,
        ElementState.READY,
        "catalogue.comparison",
    )
    assert (element.as_of, element.source) == (DATED, "catalogue")
    replaced = answered.text[element.display.start : element.display.end]
    assert replaced.startswith("**Humidifiers")
    assert replaced.endswith("- Mist: warm")
    for _, values in rows(answered):
        assert all(f"{name}: {value}" in replaced for name, value in values.items())


async def test_each_value_and_each_line_cites_its_own_item() -> None:
    answered = await table(shop())
    (element,) = answered.elements
    by_number = {source.n: source.document_id for source in answered.sources.sources}
    assert element.data is not None
    for row, own in zip(element.data.rows, ("catalogue:A-200", "catalogue:A-300"), strict=True):
        assert {by_number[n] for value in row.values for n in value.citations} == {own}
    cited = [by_number[sentence.citations[0]] for sentence in answered.sentences]
    assert cited[:2] == ["catalogue:A-200", "catalogue:A-300"]
    assert set(cited[2:]) == {"reviews:A-200-r1", "reviews:A-300-r1", "reviews:A-300-r3"}


async def test_reviews_for_and_against_are_quoted_with_stars_and_date() -> None:
    answered = await table(shop())
    assert "- ★★★★★, 2025-02-03, Aria Mist 300: so so: You barely hear it at night." in answered.text
    assert "- ★☆☆☆☆, 2025-02-03, Aria Mist 300: so so: It broke within a week." in answered.text
    assert "It leaked" not in answered.text, "the more helpful one is enough"
    assert "- ★★★☆☆, 2025-02-03, Aria Mist 200: so so: It does its job." in answered.text


def rated(number: int, stars: float, count: int) -> StoredDocument:
    """Return an item whose mean of ``count`` ratings is ``stars``."""
    made = item(number, weight="1 kg", noise="30 dB", price="50.00")
    facts = made.card.item
    assert facts is not None
    rating = {"rating": stars, "ratings": count}
    return replace(made, card=replace(made.card, item=facts.model_copy(update=rating)))


async def test_recommended_items_come_by_rating_in_which_few_reviews_count_less() -> None:
    tenant = shop(rated(500, 3.9, 90), rated(600, 4.0, 2), rated(700, 3.2, 4))
    answered = await table(tenant, "humidifier under $60")
    assert [title for title, _ in rows(answered)] == ["Aria Mist 500", "Aria Mist 600", "Aria Mist 700"]
    assert answered.text.startswith(
        "**Humidifiers: Price under $60; Rating (few reviews count less), highest first**\n\n**"
    )


async def test_without_an_item_that_fits_the_nearest_is_named_and_none_is_shown() -> None:
    answered = await ask(shop(), "a humidifier under $30")
    assert (answered.text, answered.elements) == ("", [])
    assert answered.done.reason == (
        "The catalogue has no item of humidifiers with Price under $30 that is still sold. "
        "The nearest is “Aria Mist 200”."
    )


# --- what may be seen -------------------------------------------------------------------------------------
async def test_an_item_behind_a_label_is_in_no_table() -> None:
    hidden = item(400, weight="0.5 kg", noise="20 dB", price="9.00", labels=("staff",))
    answered = await table(shop(LIGHT, HEAVY, hidden), "a humidifier with a weight under 3 kg")
    assert "400" not in answered.text


async def test_an_item_that_was_withdrawn_meanwhile_is_not_shown() -> None:
    tenant = shop()
    await ask(tenant, WEIGHTS)
    tenant.search.gone.add("catalogue:A-200")
    answered = await ask(tenant, "a humidifier with a weight under 3 kg")
    assert "Aria Mist 200" not in answered.text


async def test_facts_that_changed_meanwhile_are_judged_anew() -> None:
    tenant = shop(LIGHT, HEAVY)
    services = tenant.services
    known = await services.search.known_words()
    assert known.items == ()
    await ask(tenant, WEIGHTS)
    dearer = item(200, weight="1.2 kg", noise="38 dB", price="199.00", Mist="cool")
    tenant.search.documents[:] = [dearer, HEAVY]
    answered = await table(tenant, "a humidifier under $95")
    assert [title for title, _ in rows(answered)] == ["Aria Mist 300"]


async def test_the_record_keeps_no_word_of_the_documents() -> None:
    answered = await table(shop())
    kept = answered.kept.text
    assert "1.2 kg" not in kept
    assert "barely hear" not in kept
    assert answered.record.text == answered.text
    (use,) = answered.kept.elements
    assert (use.name, use.operation) == ("catalogue.comparison", None)


# --- systems ----------------------------------------------------------------------------------------------
async def test_reviews_that_are_late_are_left_out() -> None:
    tenant = shop()
    answered_all = await table(tenant)
    assert "What customers say" in answered_all.text
    search = tenant.search.search

    async def slow(query: object, **given: object) -> object:
        if getattr(query, "text", "").startswith("Aria"):
            await asyncio.sleep(60)
        return await search(query, **given)  # type: ignore[arg-type]

    slow_sources = [{**one, "deadline_s": 0.05} for one in SOURCES]
    tenant.configure(sources=slow_sources)  # pyright: ignore[reportArgumentType]
    tenant.search.search = slow  # type: ignore[method-assign, assignment]
    answered = await table(tenant, "Compare Aria Mist 200 and Aria Mist 300")
    assert "What customers say" not in answered.text
    assert "Aria Mist 300" in answered.text


@pytest.mark.parametrize("question", ["Boil the water?", "Does the Aria Mist 200 make warm mist?"])
async def test_other_questions_get_no_table(question: str) -> None:
    assert (await ask(shop(), question)).elements == []


# --- questions about one item -----------------------------------------------------------------------------


async def test_an_opinion_is_quoted_whole_and_of_the_named_item() -> None:
    split = "It leaked on the dresser. Still, the mist is fine."
    other = "It leaked on the dresser, on the floor and on the cat."
    tenant = shop(LIGHT, HEAVY, review("A-200", 1, 3.0, split), review("A-300", 1, 1.0, other))
    answered = await ask(tenant, "What do customers say about leaking with the Aria Mist 200?")
    assert answered.text == split


@pytest.mark.parametrize(
    ("question", "numbers"),
    [
        ("What is the stock of the Aria Mist 300?", 1),
        ("What is the stock of A-300?", 1),
        ("Which stock is larger, of the Aria Mist 200 or the Aria Mist 300?", 0),
        ("What is the stock?", 0),
    ],
)
async def test_a_system_is_asked_by_the_number_of_the_one_item_that_is_named(
    question: str, numbers: int
) -> None:
    tenant = shop(LIGHT, HEAVY)
    tenant.live_elements = FakeLive()
    await ask(tenant, "What is the stock?")  # the first question reads the words of the index
    _, prepared = await prepare(tenant, question)
    asked = prepared.basis.hydration.caller.question
    assert asked.startswith(question)
    assert asked.count("A-") == numbers


# --- questions of opinion on one item ---------------------------------------------------------------------
@pytest.mark.parametrize(
    "question", ["Do customers say the Aria Mist 300 is loud?", "Is the Aria Mist 300 loud, reviews?"]
)
async def test_a_neutral_question_of_opinion_shows_both_sides(question: str) -> None:
    loud = review("A-300", 6, 1.0, "It is loud, loud, loud.")
    answered = await ask(shop(LIGHT, HEAVY, loud, REVIEWS[0]), question)
    assert answered.text.startswith("**What customers say of the Aria Mist 300**\n\n- ★")
    assert "- ★☆☆☆☆, 2025-02-03, Aria Mist 300: so so: It is loud, loud, loud." in answered.text
    assert "- ★★★★★, 2025-02-03, Aria Mist 300: so so: You barely hear it at night." in answered.text
    assert answered.elements == []
    by_number = {source.n: source.document_id for source in answered.sources.sources}
    cited = {by_number[n] for sentence in answered.sentences for n in sentence.citations}
    assert cited == {"reviews:A-300-r6", "reviews:A-300-r1"}
    assert "loud, loud" not in answered.kept.text


async def test_opinions_behind_a_label_are_on_neither_side() -> None:
    loud = review("A-300", 6, 1.0, "It is loud, loud, loud.")
    hidden = replace(REVIEWS[0], card=replace(REVIEWS[0].card, labels=frozenset({"staff"})))
    answered = await ask(shop(LIGHT, HEAVY, loud, hidden), "Do customers say the Aria Mist 300 is loud?")
    assert "barely hear" not in answered.text
    assert "It is loud, loud, loud." in answered.text


FIRST = "What is the price of the Aria Mist 300?"


@pytest.mark.parametrize(
    ("follow_up", "number"), [("And the Aria Mist 200?", ["A-200"]), ("And is it in stock?", [])]
)
async def test_a_follow_up_is_asked_by_the_number_of_the_item_that_it_names_itself(
    follow_up: str, number: list[str]
) -> None:
    tenant = shop(LIGHT, HEAVY)
    tenant.live_elements = FakeLive()
    await ask(tenant, "What is the stock?")  # the first question reads the words of the index
    first = await ask(tenant, FIRST)
    _, prepared = await prepare(tenant, follow_up, conversation_id=first.conversation_id)
    assert prepared.basis.hydration.caller.question.splitlines() == [follow_up, *number]


async def test_an_element_is_read_again_for_the_item_that_the_question_named() -> None:
    tenant = shop(LIGHT, HEAVY)
    tenant.live_elements = live = FakeLive()
    await ask(tenant, "What is the stock?")
    first = await ask(tenant, FIRST)
    element = ElementDisplay(place="block", start=0, end=0)
    use = use_of(element_of(STOCK, element_id="e1", display=element, outcome=None), operation=STOCK.operation)
    update = {"answer_id": "again", "elements": (use,)}
    await tenant.records.put_answer(first.record.model_copy(update=update))
    answers = AnswerQuestion(tenant.services)
    again = ReadElementAgain(tenant.services, reads=KeptReads(), as_asked=answers.read.as_asked)
    await again.read("again", "e1", identity=agent(), context=None)
    _, caller = live.calls[-1]
    assert caller.question.splitlines() == [FIRST, "A-300"]


QUIET = "a humidifier with a noise level under 40 dB"


async def test_a_recommendation_shows_what_fits_and_nothing_that_is_discontinued() -> None:
    answered = await table(shop(), QUIET)
    assert {title for title, _ in rows(answered)} == {"Aria Mist 200", "Aria Mist 300"}
    assert "Noise level under 40 db; Rating (few reviews count less), highest first" in answered.text
