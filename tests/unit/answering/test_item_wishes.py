"""What a question denies, what it says by other forms of words, and what is listed as not checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache

import pytest

from assistant.answering.item_directory import ItemDirectory
from assistant.answering.item_questions import ItemQuestion, ItemReader
from assistant.answering.item_words import bound_before, opinion_asked, respelled, stance
from assistant.domain.documents import ItemFacts, KnownItem
from assistant.text.language import language
from tests.unit.answering.test_item_questions import read, reader, wishes


def best(question: str) -> list[str]:
    """Return the values of the asked properties of the catalogue's items that meet the wishes."""
    asked = read(question)
    return [item.facts.properties[asked.wishes[0].name] for item in fitting(reader(), asked)]


def fitting(known: ItemReader, asked: ItemQuestion) -> list[KnownItem]:
    """Return the items that meet the wishes of a question."""
    items = {item.document_id: item for own in known.directory.aliases.values() for item in own}
    return [
        item
        for item in items.values()
        if item.facts.category == asked.category
        and all(wish.miss(item.facts, language("en")) == 0.0 for wish in asked.wishes)
    ]


def _tent(*values: str) -> Mapping[str, str]:
    return dict(zip(("Persons", "Weight", "Water column", "Vestibules", "Seasons"), values, strict=True))


OUTDOOR: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "Tents": {
        "Skua UL": _tent("1", "0.95 kg", "1,500 mm", "1", "3"),
        "Tarn": _tent("2", "1.9 kg", "3,000 mm", "2", "3"),
        "Tarn Large": _tent("3", "2.6 kg", "3,000 mm", "2", "3, 4"),
        "Basecamp": _tent("4", "5.8 kg", "2,000 mm", "1", "3, winter"),
    },
    "Sleeping bags": {
        "Lark": {"Comfort temperature": "10 °C", "Limit temperature": "5 °C"},
        "Lark Warm": {"Comfort temperature": "0 °C", "Limit temperature": "-6 °C"},
        "Eider": {"Comfort temperature": "-3 °C", "Limit temperature": "-9 °C"},
        "Eider Warm": {"Comfort temperature": "-11 °C", "Limit temperature": "-18 °C"},
    },
    "Headlamps": {
        "Glow": {"Red light": "no", "Battery": "3 AAA", "Weight": "0.08 kg"},
        "Glow Red": {"Red light": "yes", "Battery": "rechargeable", "Weight": "0.09 kg"},
    },
}
"""Category, item and properties."""
PRICES = {"Skua UL": "419", "Tarn": "249", "Tarn Large": "319", "Basecamp": "189", "Glow": "29.90"}


@cache
def outdoor(currency: str | None = "EUR") -> ItemReader:
    items = [
        KnownItem(
            f"catalogue:{name}",
            name,
            ItemFacts(
                item_id=name.replace(" ", "-"),
                category=category,
                price=Decimal(PRICES.get(name, "100")),
                currency=currency,
                properties=dict(properties),
            ),
        )
        for category, own in OUTDOOR.items()
        for name, properties in own.items()
    ]
    return ItemReader(ItemDirectory.of(items, language("en")))


def read_outdoor(question: str, currency: str | None = "EUR") -> ItemQuestion:
    found = outdoor(currency).read(question)
    assert found is not None, question
    return found


def titles_of(found: ItemQuestion, currency: str | None = "EUR") -> set[str]:
    return {item.title for item in fitting(outdoor(currency), found)}


# --- temperatures -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("question", "wanted", "found"),
    [
        ("Sleeping bag for -10 degrees", "Comfort temperature at most -10 degrees", {"Eider Warm"}),
        ("Sleeping bag for minus 10 °C", "Comfort temperature at most -10 °C", {"Eider Warm"}),
        ("Sleeping bag for -10", "Comfort temperature at most -10 °C", {"Eider Warm"}),
        (
            "sleeping bag with a comfort temperature below -2 °C",
            "Comfort temperature at most -2 °C",
            {"Eider", "Eider Warm"},
        ),
        (
            "sleeping bag good down to at least -3 °C",
            "Comfort temperature at most -3 °C",
            {"Eider", "Eider Warm"},
        ),
        ("sleeping bag, limit temperature -9 °C", "Limit temperature at most -9 °C", {"Eider", "Eider Warm"}),
        ("sleeping bag for -5 to 5 °C", "Comfort temperature between -5 °C and 5 °C", {"Lark Warm", "Eider"}),
        ("sleeping bag for 23 °F", "Comfort temperature at most 23 °F", {"Eider Warm"}),
    ],
)
def test_a_bag_for_a_temperature_is_as_warm_as_that(question: str, wanted: str, found: set[str]) -> None:
    asked = read_outdoor(question)
    assert [f"{wish.name} {wish.said}" for wish in asked.wishes] == [wanted]
    assert titles_of(asked) == found
    assert asked.unread == ()


# --- counts -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("question", "said", "found"),
    [
        ("Tents for more than 3 persons", "more than 3", {"Basecamp"}),
        ("Tents for more than three people", "more than 3", {"Basecamp"}),
        ("tents for at least 3 persons", "at least 3", {"Tarn Large", "Basecamp"}),
        ("tents for 3 persons or more", "at least 3", {"Tarn Large", "Basecamp"}),
        ("tents for no more than 2 persons", "at most 2", {"Skua UL", "Tarn"}),
        ("tents for fewer than two persons", "less than 2", {"Skua UL"}),
        ("tents for 2 or 3 persons", "between 2 and 3", {"Tarn", "Tarn Large"}),
        ("tents for two to three persons", "between 2 and 3", {"Tarn", "Tarn Large"}),
        ("a one-person tent", "1", {"Skua UL"}),
        ("a 4-man tent", "4", {"Basecamp"}),
        ("a tent for two", "2", {"Tarn"}),
        ("a tent that sleeps 4", "4", {"Basecamp"}),
        ("a tent for up to 2 persons", "at most 2", {"Skua UL", "Tarn"}),
        ("a tent for six persons", "6", set[str]()),
    ],
)
def test_a_count_is_a_number_of_its_property(question: str, said: str, found: set[str]) -> None:
    asked = read_outdoor(question)
    assert (wishes(asked), asked.orders, asked.unread) == ([("Persons", said)], (), ())
    assert titles_of(asked) == found


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("a tent with two vestibules", [("Vestibules", "2")]),
        ("a tent for two under 300 euro", [("Persons", "2"), ("Price", "at most €300")]),
        ("a one-person tent under 500 €", [("Persons", "1"), ("Price", "at most €500")]),
        ("I am looking for one tent under 2 kg", [("Weight", "at most 2 kg")]),
        ("a tent, looking for one under 2 kg", [("Weight", "at most 2 kg")]),
        ("a tent under 2 kg for two weeks", [("Weight", "at most 2 kg")]),
        ("a tent under 2 kg for two nights", [("Weight", "at most 2 kg")]),
    ],
)
def test_a_count_is_of_the_thing_that_is_counted(question: str, wanted: list[tuple[str, str]]) -> None:
    assert wishes(read_outdoor(question)) == wanted


# --- what another wish has used ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        (
            "a tent with at least 3000 mm water column and under 2 kg",
            [("Water column", "at least 3000 mm"), ("Weight", "at most 2 kg")],
        ),
        ("Which 2-person tent weighs under 2 kg?", [("Persons", "2"), ("Weight", "at most 2 kg")]),
        ("a tent under 3 kg", [("Weight", "at most 3 kg")]),
        ("a tent for 3 seasons under 4 kg", [("Weight", "at most 4 kg"), ("Seasons", "3")]),
    ],
)
def test_a_number_that_a_limit_has_used_is_no_other_wish(
    question: str, wanted: list[tuple[str, str]]
) -> None:
    assert wishes(read_outdoor(question)) == wanted


def test_a_word_of_a_name_orders_nothing() -> None:
    asked = read_outdoor("Which headlamp has a red light and costs under €100?")
    assert (wishes(asked), asked.orders, asked.unread) == (
        [("Price", "at most €100"), ("Red light", "yes")],
        (),
        (),
    )


def test_a_word_of_degree_beside_such_a_name_orders() -> None:
    (order,) = read_outdoor("Which light headlamp has a red light?").orders
    assert tuple(order) == ("Weight", "low")


# --- money ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "question",
    [
        "a tent under €300",
        "a tent for at most 300 euros",
        "a tent for less than 300 EUR",
        "a tent under 300",
        "a tent, budget EUR 300",
    ],
)
def test_a_price_is_read_in_the_currency_of_the_catalogue(question: str) -> None:
    asked = read_outdoor(question)
    assert (wishes(asked), asked.unread) == ([("Price", "at most €300")], ())
    assert titles_of(asked) == {"Tarn", "Basecamp"}


def test_both_ends_of_a_price_are_read() -> None:
    asked = read_outdoor("a tent between €200 and €300")
    assert (wishes(asked), titles_of(asked)) == ([("Price", "between €200 and €300")], {"Tarn"})


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("a tent under $300", "$300 (prices are in EUR)"),
        ("a tent under 300 Swiss francs", "300 CHF (prices are in EUR)"),
        ("a tent below 300 pounds", "£300 (prices are in EUR)"),
    ],
)
def test_a_price_in_another_currency_is_told_and_not_applied(question: str, told: str) -> None:
    asked = read_outdoor(question)
    assert (wishes(asked), asked.unread) == ([], (told,))


@pytest.mark.parametrize(
    ("question", "currency", "said"),
    [
        ("a tent under $300", "CAD", "at most 300 CAD"),
        ("a tent under 300 pounds", "GBP", "at most £300"),
        ("a tent under 3000 kr", "NOK", "at most 3000 NOK"),
        ("a tent under €300", None, "at most €300"),
    ],
)
def test_a_name_of_several_currencies_is_the_one_of_the_prices(
    question: str, currency: str | None, said: str
) -> None:
    assert wishes(read_outdoor(question, currency)) == [("Price", said)]


def test_pounds_that_an_item_weighs_are_no_price() -> None:
    assert wishes(read_outdoor("a tent that weighs under 5 pounds", "GBP")) == [
        ("Weight", "at most 5 pounds")
    ]


def test_a_price_is_not_compared_with_one_in_another_currency() -> None:
    (wish,) = read_outdoor("a tent under €300").wishes
    in_dollars = ItemFacts(item_id="a", price=Decimal(10), currency="USD")
    assert wish.miss(in_dollars, language("en")) is None


# --- negation ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "question",
    [
        "Cheapest kettle not plastic",
        "cheapest kettle, no plastic",
        "a kettle without plastic please",
        "a non-plastic kettle",
        "kettle, anything but plastic",
        "a kettle that isn't made of plastic",
        "plastic-free kettle",
        "kettle: nothing that is made of plastic",
        "kettle other than plastic",
        "he hates plastic, which kettle?",
    ],
)
def test_a_value_that_is_denied_is_excluded(question: str) -> None:
    assert wishes(read(question)) == [("Material", "not plastic")]
    found = set(best(question))
    assert found
    assert "plastic" not in found


@pytest.mark.parametrize(
    ("question", "material"),
    [
        ("kettle, not plastic but glass", "glass, not plastic"),
        ("kettle in nothing but glass", "glass"),
        ("isn't there a glass kettle?", "glass"),
        ("I can't find a glass kettle", "glass"),
        ("glass kettle, no more than $90", "glass"),
        ("kettle of glass or steel", "steel or glass"),
    ],
)
def test_a_negation_of_something_else_excludes_nothing(question: str, material: str) -> None:
    assert dict(wishes(read(question)))["Material"] == material


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("baby monitor without wifi or two-way talk", {"Wi-Fi": "no", "Two-way talk": "no"}),
        ("baby monitor without wifi and two-way talk", {"Wi-Fi": "no", "Two-way talk": "no"}),
        ("baby monitor with wifi, no two-way talk", {"Wi-Fi": "yes", "Two-way talk": "no"}),
        ("which rollator does not fold?", {"Foldable": "no"}),
        ("a latex-free yoga mat", {"Latex-free": "yes"}),
    ],
)
def test_yes_and_no_are_wished_as_they_are_said(question: str, wanted: dict[str, str]) -> None:
    assert dict(wishes(read(question))) == wanted


@pytest.mark.parametrize(
    "question",
    [
        "best fitness tracker, GPS is not needed",
        "best tracker, does not need GPS",
        "best tracker, GPS or not",
    ],
)
def test_what_the_asker_does_not_mind_is_no_wish(question: str) -> None:
    asked = read(question)
    assert (asked.wishes, asked.unread) == ((), ())


@pytest.mark.parametrize(
    ("question", "order"),
    [
        ("recommend a stroller not too heavy", ("Weight", "low")),
        ("a stroller that isn't overly heavy", ("Weight", "low")),
        ("humidifier, nothing too loud", ("Noise level", "low")),
        ("stroller, anything but heavy", ("Weight", "low")),
        ("a heavy stroller", ("Weight", "high")),
    ],
)
def test_a_denied_word_of_degree_asks_for_its_opposite(question: str, order: tuple[str, str]) -> None:
    assert [tuple(one) for one in read(question).orders] == [order]


@pytest.mark.parametrize(
    ("before", "bound"),
    [
        ("not less than ", "lower"),
        ("no less than ", "lower"),
        ("does not weigh more than ", "upper"),
        ("doesn't cost over ", "upper"),
        ("nothing above ", "upper"),
        ("not plastic, under ", "upper"),
        ("not plastic under ", "upper"),
        ("at least ", "lower"),
    ],
)
def test_a_denied_bound_is_the_other_bound(before: str, bound: str) -> None:
    assert bound_before(before) == bound


def test_a_double_negation_denies_nothing() -> None:
    text = "kettle, not plastic-free"
    start = text.index("plastic")
    assert stance(text, start, start + len("plastic")) == "wanted"


@pytest.mark.parametrize(
    ("question", "order"),
    [
        ("which kitchen scale is the most precise", ("Precision", "low")),
        ("kitchen scale with the highest precision", ("Precision", "low")),
        ("thermometer with the highest accuracy", ("Accuracy", "low")),
        ("which kitchen scale is the least precise", ("Precision", "high")),
    ],
)
def test_more_precision_is_a_smaller_number(question: str, order: tuple[str, str]) -> None:
    assert [tuple(one) for one in read(question).orders] == [order]


# --- other forms of words ---------------------------------------------------------------------------------
def test_verbs_say_properties() -> None:
    asked = read("Which walking frame folds and costs less than $200?", **{"walking frame": "rollator"})
    assert wishes(asked) == [("Price", "at most $200"), ("Foldable", "yes")]
    assert "Foldable" in asked.asked


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("a heating pad that can be washed in the machine, which one?", ("Machine-washable", "yes")),
        ("blender that goes in the dishwasher", ("Dishwasher-safe", "yes")),
        ("which scale can I recharge?", ("Rechargeable", "yes")),
        ("a thermometer that is water proof", ("Waterproof", "yes")),
        ("which monitor detects an irregular heartbeat?", ("Irregular heartbeat alert", "yes")),
    ],
)
def test_other_forms_of_a_name_say_its_property(question: str, wanted: tuple[str, str]) -> None:
    assert wanted in wishes(read(question))


@pytest.mark.parametrize(
    "question",
    [
        "Cheapest thermometer without contact, waterproof",
        "a non-contact thermometer",
        "contactless thermometer",
    ],
)
def test_a_part_of_a_value_is_enough(question: str) -> None:
    assert wishes(read(question))[0] == ("Measures at", "no contact")
    assert set(best(question)) == {"forehead, no contact"}


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("humidifier with cool and warm mist", {"cool and warm"}),
        ("humidifier with cool or warm mist", {"cool and warm", "cool", "warm"}),
    ],
)
def test_parts_are_wanted_together_or_either(question: str, found: set[str]) -> None:
    assert set(best(question)) == found


@pytest.mark.parametrize(
    "question",
    [
        "Whats the diffrence between the Rivulet 400 and the Rivulet 500",
        "Rivulet 400, Rivulet 500: comparision",
        "wich of Rivulet 400, Rivulet 500",
    ],
)
def test_a_misspelt_word_of_the_closed_lists_is_read(question: str) -> None:
    assert read(question).kind == "comparison"


def test_a_word_that_is_spelled_right_is_left_as_it_is() -> None:
    assert respelled("a cheep light", lambda word: word == "cheep") == "a cheep light"
    assert respelled("a cheep lite", lambda _: False) == "a cheap lite"


# --- what is not checked ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("question", "unread"),
    [
        ("best air purifier for allergies", ["allergies"]),
        ("best thermometer for a 2 year old", ["2 year old"]),
        ("cheapest BPA-free kettle", ["no BPA"]),
        ("lightest heating pad without a cable", ["no cable"]),
        ("quietest HEPA air purifier, for pet hair", ["HEPA", "pet hair"]),
    ],
)
def test_a_wish_that_nothing_is_chosen_by_is_listed(question: str, unread: Sequence[str]) -> None:
    assert list(read(question).unread) == unread


@pytest.mark.parametrize(
    "question",
    [
        "Hi, customer on hold, she is looking for a really quiet humidifier under $80 for her granny, thx!",
        "which Kestrio stroller is the lightest",
        "recommend a kettle with temperature settings that isnt too heavy",
        "kettle between $20 and $60, glass",
        "can you recommend a good stroller please",
        "Which air purifier has the highest rating under $100?",
        "which strollers have good ratings and are light",
        "A quiet humidifier under $80 for a 40 m² room",
        "blood pressure monitor for a 40 cm arm",
        "What is the difference between the Rivulet 400 and the Rivulet 500?",
    ],
)
def test_what_is_no_wish_or_is_applied_is_not_listed(question: str) -> None:
    assert read(question).unread == ()


def test_a_brand_is_a_wish() -> None:
    assert wishes(read("stroller, not from Kestrio, under $400")) == [
        ("Price", "at most $400"),
        ("Brand", "not Kestrio"),
    ]


# --- opinions ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("question", "opinion"),
    [
        ("what do people complain about?", "against"),
        ("worst thing about it according to buyers", "against"),
        ("do customers say it is loud?", "both"),
        ("what do people like about it? reviews?", "for"),
        ("what do owners praise, best thing?", "for"),
        ("pros and cons, experiences", "both"),
        ("how loud is it?", None),
    ],
)
def test_opinions_are_asked_for_or_against(question: str, opinion: str | None) -> None:
    assert opinion_asked(question) == opinion


# --- several properties of one item -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("question", "properties"),
    [
        ("How much is the Samovar 400 and is it made of steel?", {"Price", "Material"}),
        ("how many watts and litres has the Samovar 400", {"Capacity", "Power"}),
        ("does the Haze 500 have a night light and a warm mist?", {"Night light", "Mist"}),
        ("how heavy is the Haze 500, and how loud in a bedroom?", {"Weight", "Noise level"}),
        ("Does the Haze 500 filter light go off when I clean the tank?", set[str]()),
        ("how do I clean the tank of the Haze 500?", set[str]()),
    ],
)
def test_properties_are_those_that_the_question_is_about(question: str, properties: set[str]) -> None:
    named = reader().named(question)
    assert named is not None
    assert set(reader().properties_of(named)) == properties


@pytest.mark.parametrize(
    ("second", "is_of_item"),
    [
        ("is the mist warm?", True),
        ("what does it weigh?", True),
        ("which kettle is the cheapest?", False),
        ("how do I return a broken one?", False),
        ("when do you open?", False),
    ],
)
def test_a_second_question_without_an_item_may_ask_of_the_first_ones(second: str, is_of_item: bool) -> None:
    named = reader().named("How much is the Haze 500?")
    assert named is not None
    assert reader().asks_of(named, second) == is_of_item
