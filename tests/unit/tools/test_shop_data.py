"""The shop's data: the same every time, and true to itself."""

from __future__ import annotations

import os
import re
from collections import Counter
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.domain.documents import Document
from assistant.knowledge.files import SourceDocument
from assistant.knowledge.formats import line_item
from tools.shop_data import FOLDER, STORES, TODAY, Shop, documents, make_shop, write

_NUMBER = re.compile(r"\d+(?:\.\d+)? (?:dB|L|kg|W|mm|m²|m³/h)\b")


LARGE = os.environ.get("EXAMPLES") == "new"
"""In ``make check-full``: 2,000 items and 20,000 reviews, too."""


@cache
def small() -> Shop:
    return make_shop()


@cache
def shop() -> Shop:
    """Return the shop whose facts are checked: the committed one, or in ``make check-full`` the large one."""
    return make_shop(items=2_000, reviews=20_000) if LARGE else small()


def lines(shop: Shop, source: str) -> list[dict[str, Any]]:
    return documents(shop)[source]


def facts_of(shop: Shop) -> dict[str, dict[str, Any]]:
    return {line["id"]: line["item"] for line in lines(shop, "catalogue")}


def test_the_committed_files_are_what_the_generator_writes(tmp_path: Any) -> None:
    sizes = write(small(), tmp_path)
    assert {name: (FOLDER / name).read_bytes() for name in sizes} == {
        name: (tmp_path / name).read_bytes() for name in sizes
    }
    assert sum(sizes.values()) < 1_500_000


def test_the_shop_has_the_items_and_reviews_that_were_asked_for() -> None:
    assert len(lines(shop(), "catalogue")) == (2_000 if LARGE else 200)
    assert len(lines(shop(), "reviews")) == (20_000 if LARGE else 2_000)


@settings(max_examples=8, deadline=None)
@given(items=st.integers(16, 120), reviews=st.integers(0, 300), seed=st.integers(0, 10_000))
def test_the_same_arguments_give_the_same_shop(items: int, reviews: int, seed: int) -> None:
    made = [make_shop(items=items, reviews=reviews, seed=seed) for _ in range(2)]
    assert documents(made[0]) == documents(made[1])
    assert made[0].stores() == made[1].stores()


@settings(max_examples=8, deadline=None)
@given(items=st.integers(16, 120), reviews=st.integers(0, 300), seed=st.integers(0, 10_000))
def test_numbers_are_exact_and_names_and_texts_are_apart(items: int, reviews: int, seed: int) -> None:
    shop = make_shop(items=items, reviews=reviews, seed=seed)
    of_reviews = lines(shop, "reviews")
    assert len(lines(shop, "catalogue")) == items
    assert len(of_reviews) == reviews
    assert len({item.name for item in shop.items}) == items
    assert len({line["text"] for line in of_reviews}) == reviews
    ids = [line["id"] for source in documents(shop).values() for line in source]
    assert len(ids) == len(set(ids))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_rating_is_the_mean_of_the_items_reviews(seed: int) -> None:
    shop = make_shop(items=40, reviews=200, seed=seed)
    stars: dict[str, list[int]] = {}
    for line in lines(shop, "reviews"):
        stars.setdefault(line["item"]["item_id"], []).append(line["item"]["rating"])
    for item_id, facts in facts_of(shop).items():
        own = stars.get(item_id, [])
        assert facts["ratings"] == len(own)
        assert facts.get("rating") == (round(sum(own) / len(own), 1) if own else None)


def test_the_catalogue_says_its_fields_in_words_too() -> None:
    for line in lines(shop(), "catalogue"):
        facts = line["item"]
        assert f"- Price: ${facts['price']}\n" in line["markdown"]
        for name, value in facts["properties"].items():
            assert f"- {name}: {value}" in line["markdown"].splitlines()


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_number_in_a_community_answer_is_of_the_catalogue(seed: int) -> None:
    shop = make_shop(items=64, reviews=0, seed=seed)
    values = {
        value
        for facts in facts_of(shop).values()
        for value in _NUMBER.findall(" ".join(facts["properties"].values()))
    }
    for asked in shop.community:
        named = [item for item in shop.items if item.name in f"{asked.question} {asked.item.name}"]
        own = {value for item in named for value in item.properties.values()}
        for number in _NUMBER.findall(asked.answers[0]):
            assert number in " ".join(own), (asked.item.name, asked.question, asked.answers)
            assert number in values


def test_reviews_name_the_items_own_values() -> None:
    named = 0
    for item in shop().items:
        own = " ".join([*item.properties.values(), item.shown("Price")])
        for review in item.reviews:
            for number in re.findall(r"(?<![~\d])\d+ (?:dB|kg|mm)\b|\$\d+\.\d\d", review.text):
                named += 1
                assert number in own, (item.name, review.text)
    assert named > 20, "hardly any review names a value"


def test_a_review_that_says_another_number_than_promised_does() -> None:
    texts = " ".join(one["text"] for one in lines(shop(), "reviews"))
    said = re.findall(r"I got (.+?) out of it, not (.+?)\.", texts)
    assert said
    assert [pair for pair in said if pair[0] == pair[1]] == []


def test_a_noun_has_the_article_that_it_is_said_with() -> None:
    intros = [one["markdown"].split("\n")[0] for one in lines(shop(), "catalogue")]
    assert any(intro.startswith("An air purifier for ") for intro in intros)
    wrong = re.compile(r"A [aeiou]|An [^aeiou]|An? \w+(?: \w+)?s for ")
    assert [intro for intro in intros if wrong.match(intro)] == []


def test_stars_agree_with_the_words() -> None:
    for item in shop().items:
        for review in item.reviews:
            if "Recommended." in review.text:
                assert review.stars >= 4
            if "Sent it back." in review.text:
                assert review.stars <= 2


def test_opinions_differ_on_most_items_with_many_reviews() -> None:
    many = [item for item in shop().items if len(item.reviews) >= 8]
    split = [
        item
        for item in many
        if {1, 2} & {r.stars for r in item.reviews} and {4, 5} & {r.stars for r in item.reviews}
    ]
    assert len(split) > 0.8 * len(many)


def test_accessories_and_items_name_each_other() -> None:
    for item in shop().items:
        for other in item.fits:
            assert item in other.fits
            assert item.family.is_accessory != other.family.is_accessory


def test_nothing_that_is_out_of_stock_is_in_a_store() -> None:
    stores = shop().stores()
    states = {item_id: item["state"] for item_id, item in stores["items"].items()}
    assert set(states.values()) == {"in_stock", "out_of_stock", "discontinued"}
    for item in stores["items"].values():
        assert set(item["stock"]) == set(STORES)
        assert (sum(item["stock"].values()) > 0) == (item["state"] == "in_stock")
        assert (item["restock_date"] is not None) == (item["state"] == "out_of_stock")


def test_the_stores_prices_and_discontinued_items_are_the_catalogues() -> None:
    facts = facts_of(shop())
    for item_id, item in shop().stores()["items"].items():
        assert item["price"] == facts[item_id]["price"]
        assert (item["state"] == "discontinued") == ("Discontinued" in facts[item_id]["properties"])


def test_orders_wait_only_for_what_is_out_of_stock() -> None:
    stores = shop().stores()
    for order in stores["orders"]:
        of_lines = [stores["items"][line["item_id"]] for line in order["lines"]]
        waits = [item["restock_date"] for item in of_lines if item["state"] == "out_of_stock"]
        if order["status"] == "backordered":
            assert order["expected_date"] == max(waits)
        elif all(item["state"] != "discontinued" for item in of_lines):
            assert waits == []
        assert Decimal(order["total"]) == sum(Decimal(line["price"]) for line in order["lines"])
        assert date.fromisoformat(order["placed_on"]) <= TODAY
    assert len({order["order_id"] for order in stores["orders"]}) == len(stores["orders"])
    assert len(Counter(order["status"] for order in stores["orders"])) >= 6


def test_every_line_is_a_document_that_the_worker_reads() -> None:
    for source, of_source in documents(make_shop(items=48, reviews=60)).items():
        for line in of_source:
            item = line_item(source, orjson.dumps(line))
            assert isinstance(item, SourceDocument), item
            assert isinstance(item.document, Document)
            assert (item.document.item is None) == (source == "help")


def test_hygiene_items_on_the_page_are_those_of_the_catalogue() -> None:
    (page,) = [line for line in lines(small(), "help") if line["id"] == "returns"]
    for line in lines(small(), "catalogue"):
        sealed = line["item"]["properties"]["Returns"] != "45 days"
        assert sealed == (line["item"]["category"].lower() in page["markdown"])


def test_too_few_or_too_many_items_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than"):
        make_shop(items=3)
    with pytest.raises(ValueError, match="not enough names"):
        make_shop(items=9_000, reviews=0)
