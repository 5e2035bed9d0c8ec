"""What a question names and bounds of a catalogue's items, and what of it is read by nothing."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path

import orjson
import pytest

from assistant.domain.documents import ItemFacts, KnownItem
from assistant.options.shop.items import Catalogue, ItemQuestion, Span, span_of
from assistant.text.language import language


@cache
def catalogue() -> Catalogue:
    """Return the committed shop's."""
    lines = Path("knowledge/shop/catalogue.jsonl").read_bytes().splitlines()
    items = [
        KnownItem(
            f"catalogue:{one['id']}", one["title"], ItemFacts.model_validate_json(orjson.dumps(one["item"]))
        )
        for one in map(orjson.loads, lines)
    ]
    return Catalogue.of(items, language("en"))


def read(question: str, known: Catalogue | None = None, **meanings: str) -> ItemQuestion:
    found = (known or catalogue()).read(question, meanings=meanings)
    assert found is not None, question
    return found


def titles(found: ItemQuestion) -> list[str]:
    return [item.title for item in found.items]


def bounds(found: ItemQuestion) -> list[tuple[str, str]]:
    return [(bound.name, bound.text) for bound in found.bounds]


# --- items that are named ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "question",
    [
        "Which is lighter, the Brightmoor Rivulet 400 or the Brightmoor Rivulet 500?",
        "rivulet 400 vs rivulet 500",
        "HU-1010 or HU-1011, the cheaper one",
    ],
)
def test_items_are_named_by_name_by_a_part_of_it_and_by_number(question: str) -> None:
    found = read(question)
    assert (found.kind, found.category) == ("comparison", "Humidifiers")
    assert titles(found) == ["Brightmoor Rivulet 400", "Brightmoor Rivulet 500"]


def test_the_item_that_a_question_names_is_kept_from_the_rest() -> None:
    named = catalogue().named("HU-1011: night light?")
    assert named is not None
    assert [item.title for item in named.items] == ["Brightmoor Rivulet 500"]
    assert (named.rest, named.pronouns) == (" : night light?", "it : night light?")


# --- bounds -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("question", "category", "wanted"),
    [
        ("a humidifier under $80", "Humidifiers", [("Price", "under $80")]),
        ("kettle between $20 and $60", "Electric kettles", [("Price", "between $20 and $60")]),
        (
            "air purifier, over 50 sqm and at most 35 dB",
            "Air purifiers",
            [("Room size", "over 50 sqm"), ("Noise level", "at most 35 db")],
        ),
        ("stroller with at least 4 stars", "Strollers", [("Rating", "at least 4 stars")]),
    ],
)
def test_a_category_under_bounds_is_a_recommendation(
    question: str, category: str, wanted: Sequence[tuple[str, str]]
) -> None:
    found = read(question)
    assert (found.kind, found.category) == ("recommendation", category)
    assert bounds(found) == wanted
    assert found.unread == ()


@pytest.mark.parametrize(
    ("bound", "met"),
    [
        ("under $80", [79]),
        ("at most $80", [79, 80]),
        ("no more than $80", [79, 80]),
        ("over $80", [81]),
        ("at least $80", [80, 81]),
        ("not less than $80", [80, 81]),
        ("between $80 and $90", [80, 81]),
    ],
)
def test_a_bound_is_met_as_it_is_said(bound: str, met: Sequence[int]) -> None:
    (read_as,) = read(f"a humidifier {bound}").bounds
    prices = [ItemFacts(item_id="a", price=Decimal(price), currency="USD") for price in (79, 80, 81)]
    assert [int(one.price or 0) for one in prices if read_as.missed_by(one) == 0.0] == met


def test_a_unit_is_converted_to_that_of_the_values() -> None:
    (bound,) = read("a stroller with a weight under 20 lb").bounds
    weights = {"9 kg": 0.0, "9000 g": 0.0}
    met = {text: bound.missed_by(ItemFacts(item_id="a", properties={"Weight": text})) for text in weights}
    assert met == weights
    assert bound.missed_by(ItemFacts(item_id="a", properties={"Weight": "9.2 kg"})) > 0.0


# --- what is not checked ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("question", "unread"),
    [
        ("air purifier under $200 for allergies", ["allergies"]),
        ("kettle under $90, not plastic", ["not plastic"]),
        ("stroller under $300, warranty?", []),
    ],
)
def test_words_that_nothing_is_chosen_by_are_listed(question: str, unread: Sequence[str]) -> None:
    assert list(read(question).unread) == unread


# --- values -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("4.5 L", Span(4_500.0, 4_500.0, "ml")),
        ("-20 to +5 °C", Span(-20.0, 5.0, "°c")),
        ("1,5 l", Span(1_500.0, 1_500.0, "ml")),
        ("2", Span(2.0, 2.0, "")),
    ],
)
def test_a_value_is_read_in_the_unit_that_it_is_compared_in(text: str, span: Span) -> None:
    assert span_of(text) == span
