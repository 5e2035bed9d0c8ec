"""What a question wants of a catalogue's items."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cache

import orjson
import pytest

from assistant.answering.item_directory import ItemDirectory
from assistant.answering.item_questions import ItemQuestion, ItemReader
from assistant.domain.documents import ItemFacts, KnownItem
from assistant.text.language import language
from tools.shop_data import documents, make_shop


@cache
def reader() -> ItemReader:
    """Return a reader of the committed shop."""
    lines = documents(make_shop())["catalogue"]
    items = [
        KnownItem(
            f"catalogue:{one['id']}", one["title"], ItemFacts.model_validate_json(orjson.dumps(one["item"]))
        )
        for one in lines
    ]
    return ItemReader(ItemDirectory.of(items, language("en")))


def read(question: str, **meanings: str) -> ItemQuestion:
    found = reader().read(question, meanings=meanings)
    assert found is not None, question
    return found


def titles(found: ItemQuestion) -> list[str]:
    return [item.title for item in found.items]


def wishes(found: ItemQuestion) -> list[tuple[str, str]]:
    return [(wish.name, wish.said) for wish in found.wishes]


@pytest.mark.parametrize(
    ("question", "names", "order"),
    [
        (
            "Which is lighter, the Brightmoor Rivulet 500 or the Calmora Breeze 100?",
            ["Brightmoor Rivulet 500", "Calmora Breeze 100"],
            [("Weight", "low")],
        ),
        (
            "Brightmoor Rivulet 400 vs Calmora Breeze 100: which one runs longer?",
            ["Brightmoor Rivulet 400", "Calmora Breeze 100"],
            [("Run time", "high")],
        ),
        (
            "Which has the better battery life, Lumenor Tempo 500 or Lumenor Tempo 400?",
            ["Lumenor Tempo 500", "Lumenor Tempo 400"],
            [("Battery life", "high")],
        ),
        ("compare Rivulet 400 and 500", ["Brightmoor Rivulet 400", "Brightmoor Rivulet 500"], []),
        (
            "HU-1010 or HU-1011, the cheaper one",
            ["Brightmoor Rivulet 400", "Brightmoor Rivulet 500"],
            [("Price", "low")],
        ),
        (
            "Rivulet 400 and Rivulet 500, the less noisy one?",
            ["Brightmoor Rivulet 400", "Brightmoor Rivulet 500"],
            [("Noise level", "low")],
        ),
    ],
)
def test_items_are_compared_by_what_is_asked(
    question: str, names: Sequence[str], order: Sequence[tuple[str, str]]
) -> None:
    found = read(question)
    assert found.kind == "comparison"
    assert titles(found) == names
    assert [tuple(one) for one in found.orders] == order


@pytest.mark.parametrize(
    ("question", "category", "wanted"),
    [
        ("recommend a quiet humidifier under $80", "Humidifiers", [("Price", "at most $80")]),
        (
            "a stroller under 8 kg that folds with one hand",
            "Strollers",
            [("Weight", "at most 8 kg"), ("One-hand fold", "yes")],
        ),
        (
            "air purifier for a 40 m² room, not louder than 35 dB",
            "Air purifiers",
            [("Room size", "at least 40 m2"), ("Noise level", "at most 35 db")],
        ),
        (
            "is there a yoga mat without latex under $60",
            "Yoga mats",
            [("Price", "at most $60"), ("Latex-free", "yes")],
        ),
        ("which rollator can carry 150 kg?", "Rollators", [("Maximum load", "at least 150 kg")]),
        ("blood pressure monitor for a 40 cm arm", "Blood pressure monitors", [("Cuff size", "for 40 cm")]),
        (
            "monitor without wifi, range over 300 m",
            "Baby monitors",
            [("Range", "at least 300 m"), ("Wi-Fi", "no")],
        ),
        (
            "thermometer that reads in under 5 seconds",
            "Thermometers",
            [("Reading time", "at most 5 seconds")],
        ),
        (
            "kettle between $20 and $60, glass",
            "Electric kettles",
            [("Price", "between $20 and $60"), ("Material", "glass")],
        ),
        ("which strollers are under 15 lb", "Strollers", [("Weight", "at most 15 lb")]),
        ("A stroller under 10 kg", "Strollers", [("Weight", "at most 10 kg")]),
        ("stroller under 14 kg", "Strollers", [("Weight", "at most 14 kg")]),
        ("a stroller for more than 20 kg", "Strollers", [("Maximum load", "at least 20 kg")]),
        ("a stroller that is rated above 4", "Strollers", [("Rating", "at least 4 stars")]),
    ],
)
def test_a_category_with_limits_is_a_recommendation(
    question: str, category: str, wanted: Sequence[tuple[str, str]]
) -> None:
    found = read(question)
    assert (found.kind, found.category) == ("recommendation", category)
    assert wishes(found) == wanted


def test_an_amount_limits_the_property_that_has_such_values_in_any_order_of_properties() -> None:
    items = [
        KnownItem(
            item.document_id,
            item.title,
            item.facts.model_copy(update={"properties": dict(sorted(item.facts.properties.items()))}),
        )
        for own in reader().directory.aliases.values()
        for item in own
    ]
    found = ItemReader(ItemDirectory.of(items, language("en"))).read("A stroller under 10 kg")
    assert found is not None
    assert wishes(found) == [("Weight", "at most 10 kg")]


def test_words_of_the_glossary_name_categories_and_properties() -> None:
    assert read("buggy under 8 kg", buggy="stroller").category == "Strollers"
    assert read("Pearl 400 vs Pearl 300: speed", speed="movements").mentioned == ("Movements",)


def test_an_item_may_be_the_bound() -> None:
    found = read("something cheaper than the Brightmoor Rivulet 500")
    (wish,) = found.wishes
    assert (found.category, wish.name, wish.is_strict) == ("Humidifiers", "Price", True)
    same = found.items[0].facts
    cheaper = same.model_copy(update={"price": Decimal("9.90")})
    assert wish.miss(cheaper, language("en")) == 0.0
    assert wish.miss(same, language("en"))


def test_a_limit_that_the_catalogue_does_not_know_is_kept() -> None:
    (wish,) = read("a humidifier under 20 bar and at most 3 kW").wishes
    assert not wish.is_known
    assert wish.miss(ItemFacts(item_id="a", properties={"Power": "20 W"}), language("en")) is None


@pytest.mark.parametrize(
    "question",
    [
        "Does the Brightmoor Rivulet 500 have a night light?",
        "how do I return a humidifier?",
        "what is the warranty on strollers over $300?",
        "What do people say about the Brightmoor Rivulet 500?",
        "Does the Calmora Breeze Filter pack fit the Brightmoor Rivulet 400?",
        "What is the best way to clean a humidifier?",
        "where is my order 4100-1037",
        "can you recommend a good doctor",
        "a monitor please",
        "",
    ],
)
def test_other_questions_are_left_to_quotes(question: str) -> None:
    assert reader().read(question) is None


def test_a_long_message_is_read_in_little_time() -> None:
    assert reader().read("Calmora Breeze 100 or Rivulet 400 lighter than 5 kg under $80 " * 400) is not None


@pytest.mark.parametrize("value", ["yes", "no"])
def test_a_choice_is_met_by_its_own_value_alone(value: str) -> None:
    (wish,) = (one for one in read("fitness tracker with GPS at least 10 days battery").wishes if one.choice)
    met = wish.miss(ItemFacts(item_id="a", properties={"GPS": value}), language("en")) == 0.0
    assert met == (value == "yes")


# --- questions about one item -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("question", "items", "rest"),
    [
        ("how loud is the Rivulet 400?", ["Brightmoor Rivulet 400"], "how loud is the  ?"),
        ("HU-1011: night light?", ["Brightmoor Rivulet 500"], " : night light?"),
    ],
)
def test_the_item_that_a_question_names_is_kept_from_the_rest(
    question: str, items: Sequence[str], rest: str
) -> None:
    named = reader().named(question)
    assert named is not None
    assert [item.title for item in named.items] == items
    assert named.rest == rest


@pytest.mark.parametrize(
    ("question", "word", "meant"),
    [
        ("how loud is the Rivulet 400?", "loud", {"nois", "level"}),
        ("grams of the lumenor glow 300?", "grams", {"weight"}),
        ("mm of calmora stillness 300?", "mm", {"thick"}),
    ],
)
def test_words_and_units_ask_for_a_property(question: str, word: str, meant: set[str]) -> None:
    named = reader().named(question)
    assert named is not None
    assert named.meant[word] == meant


@pytest.mark.parametrize("question", ["how loud is it?", "do you repair cars", ""])
def test_a_question_without_a_name_names_nothing(question: str) -> None:
    assert reader().named(question) is None


@pytest.mark.parametrize(
    ("question", "forms"),
    [
        ("how loud is the Rivulet 500?", {"#item", "#property"}),
        ("does the Rivulet 500 keep its noise down at that level?", {"#item", "#property"}),
        ("may the filter of the Summit 500 be washed?", {"#item", "#near-property"}),
        ("can I put vinegar into the Rivulet 500?", {"#item", "#no-property"}),
        ("Which is lighter, the Rivulet 500 or the Breeze 100?", {"#items", "#property", "#comparison"}),
        ("a humidifier under $80", {"#no-item", "#category", "#recommendation"}),
        ("who pays the label for a return?", {"#no-item", "#no-category"}),
    ],
)
def test_what_a_question_asks_of_items_has_few_forms(question: str, forms: set[str]) -> None:
    assert reader().forms(question) == forms


def test_words_of_the_glossary_ask_for_a_property() -> None:
    question = "does the Rivulet 500 switch itself off?"
    assert "#no-property" in reader().forms(question)
    assert "#property" in reader().forms(question, meanings={"switch itself off": "auto shut-off"})
