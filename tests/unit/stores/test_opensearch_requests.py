"""What the adapters ask of OpenSearch, and what an index is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant.domain.documents import IndexModel, SearchFilters, SourceIds
from assistant.stores.index.opensearch_schema import (
    PassageSchema,
    index_body,
)
from assistant.stores.index.opensearch_search import MOST_QUERY_WORDS, search_body
from assistant.stores.index.opensearch_writer import card_of, passage_of, rows_of
from tests.contracts.samples import EAST, NOON, indexed, passage, query

SCHEMA = PassageSchema(model=IndexModel("all-MiniLM-L6-v2", 384, "53aa"))


def test_one_filter_stands_over_all_legs() -> None:
    filters = SearchFilters(
        source=("wiki",), type=("claims", "returns"), document_id=("a",), updated_after=NOON
    )
    hybrid = search_body(query(filters=filters, labels=["staff", "claims"]))["query"]["hybrid"]
    assert hybrid["filter"]["bool"]["filter"] == [
        {"terms": {"visible_to": ["*", "=claims", "=staff"]}},
        {"terms": {"source": ["wiki"]}},
        {"terms": {"type": ["claims", "returns"]}},
        {"terms": {"document_id": ["a"]}},
        {"range": {"updated_at_us": {"gt": int(NOON.timestamp()) * 1_000_000}}},
    ]
    assert [next(iter(leg)) for leg in hybrid["queries"]] == ["bool", "knn", "match", "bool", "knn"]


def test_what_is_left_out_stands_beside_the_other_sources_of_a_tenant() -> None:
    asked = replace(query(ids=SourceIds("", ("shop:",))), without=frozenset({"fees-v1", "draft"}))
    assert search_body(asked)["query"]["hybrid"]["filter"]["bool"]["must_not"] == [
        {"prefix": {"document_id": "shop:"}},
        {"terms": {"document_id": ["draft", "fees-v1"]}},
    ]


def test_a_long_question_keeps_its_most_frequent_words() -> None:
    words = [f"w{number}" for number in range(MOST_QUERY_WORDS + 50)]
    asked = " ".join([*words, "dose", "dose"])
    words_of = matched_words(search_body(query(asked)))
    assert len(words_of) == 3
    for matched in words_of:
        kept = matched.split()
        assert len(kept) == MOST_QUERY_WORDS
        assert kept[0] == "dose"


def matched_words(body: dict[str, Any]) -> list[str]:
    """Return the words that each leg of words is given."""
    lexical, _, title, text, _ = body["query"]["hybrid"]["queries"]
    return [
        lexical["bool"]["should"][0]["multi_match"]["query"],
        title["match"]["asked"]["query"],
        text["bool"]["should"][0]["match"]["text"],
    ]


def test_the_name_of_the_index_has_schema_and_model_in_lower_case() -> None:
    name = SCHEMA.index_name("clinic-passages")
    assert name.startswith("clinic-passages-v2-all-minilm-l6-v2-384-")
    assert name == name.lower()


@pytest.mark.parametrize(
    "other",
    [
        replace(SCHEMA.model, digest="53ab"),
        replace(SCHEMA.model, dimensions=385),
        replace(SCHEMA.model, name="all-minilm-l6-v2"),
    ],
)
def test_other_vectors_are_another_version(other: IndexModel) -> None:
    assert PassageSchema(model=other).version != SCHEMA.version


def test_how_an_index_is_spread_is_no_part_of_its_version() -> None:
    assert replace(SCHEMA, replicas=2, shards=3).version == SCHEMA.version


def test_a_domain_with_standby_gets_its_copies() -> None:
    index = index_body(replace(SCHEMA, replicas=2), alias="clinic-passages")["settings"]["index"]
    assert (index["number_of_replicas"], index["number_of_shards"]) == (2, 1)


def test_the_title_s_row_leads_and_keeps_the_card() -> None:
    document = indexed(
        (passage("refill", labels=("staff",)), EAST),
        questions={"May it be early?": EAST},
        words=["refill"],
        abbreviations=[("pa", "prior authorization")],
    )
    rows = {row["row_id"]: row for row in rows_of(document, indexed_at=NOON)}
    assert list(rows) == ["refill#0", "refill#title0", "refill#title1"]
    assert [body.get("leads") for body in rows.values()] == [None, True, False]
    assert [name for name, body in rows.items() if "card" in body] == ["refill#title0"]
    assert card_of(as_column(rows["refill#title0"]["card"])) == document.card


def as_column(packed: str) -> str:
    """Return a binary value as the node gives it back."""
    return packed.rstrip("=").replace("+", "-").replace("/", "_")


@pytest.mark.parametrize("kept", ["", "?", "e30", "W10", "bnVsbA"])
def test_an_invalid_passage_is_a_named_error(kept: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, IndexError)):
        passage_of(kept)
