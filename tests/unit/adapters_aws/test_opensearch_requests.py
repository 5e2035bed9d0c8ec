"""What the adapters ask of OpenSearch, and what an index is made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from assistant.adapters.aws.opensearch_query import MOST_QUERY_WORDS, TIE_MARGIN, search_body
from assistant.adapters.aws.opensearch_rows import passage_of, row_of
from assistant.adapters.aws.opensearch_schema import LEG_WEIGHTS, PassageSchema, index_body, pipeline_body
from assistant.domain.retrieval import RRF_K, SearchFilters
from tests.contracts.samples import EAST, NOON, passage, query

SCHEMA = PassageSchema(embedding_model="all-MiniLM-L6-v2", dimensions=384, model_digest="53aa")


def test_one_filter_stands_over_both_legs() -> None:
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
    assert [next(iter(leg)) for leg in hybrid["queries"]] == ["multi_match", "knn"]


def test_without_labels_only_unlabelled_passages_are_asked_for() -> None:
    hybrid = search_body(query())["query"]["hybrid"]
    assert hybrid["filter"]["bool"]["filter"] == [{"terms": {"visible_to": ["*"]}}]


def test_the_legs_are_in_the_order_of_the_pipeline_s_weights() -> None:
    weights = pipeline_body()["phase_results_processors"][0]["score-ranker-processor"]["combination"]
    assert list(LEG_WEIGHTS) == ["lexical", "vector"]
    assert weights["rank_constant"] == RRF_K
    assert weights["parameters"]["weights"] == pytest.approx([0.4, 0.6])
    assert sum(weights["parameters"]["weights"]) == 1.0


def test_all_hits_of_both_legs_come_back_whatever_is_shown() -> None:
    body = search_body(query(leg_size=7, size=1))
    hybrid = body["query"]["hybrid"]
    depth = 7 + TIE_MARGIN
    assert hybrid["pagination_depth"] == hybrid["queries"][1]["knn"]["vector"]["k"] == depth
    assert body["size"] == 2 * depth


def test_a_long_question_keeps_its_most_frequent_words() -> None:
    words = [f"w{number}" for number in range(MOST_QUERY_WORDS + 50)]
    asked = " ".join([*words, "dose", "dose"])
    match = search_body(query(asked))["query"]["hybrid"]["queries"][0]["multi_match"]
    kept = match["query"].split()
    assert len(kept) == MOST_QUERY_WORDS
    assert kept[0] == "dose"


def test_a_question_s_text_goes_nowhere_but_into_the_matched_words() -> None:
    body = search_body(query('"}} OR {"match_all'))
    match = body["query"]["hybrid"]["queries"][0]["multi_match"]
    assert match.pop("query") == '"}} OR {"match_all'
    assert "match_all" not in str(body)


def test_the_index_s_name_tells_schema_and_model_in_small_letters() -> None:
    name = SCHEMA.index_name("clinic-passages")
    assert name.startswith("clinic-passages-v1-all-minilm-l6-v2-384-")
    assert name == name.lower()


@pytest.mark.parametrize(
    "other",
    [
        replace(SCHEMA, model_digest="53ab"),
        replace(SCHEMA, dimensions=385),
        replace(SCHEMA, embedding_model="all-minilm-l6-v2"),
    ],
)
def test_other_vectors_are_another_version(other: PassageSchema) -> None:
    assert other.version != SCHEMA.version


def test_how_an_index_is_spread_is_no_part_of_its_version() -> None:
    assert replace(SCHEMA, replicas=2, shards=3).version == SCHEMA.version


def test_a_domain_with_standby_gets_its_copies() -> None:
    index = index_body(replace(SCHEMA, replicas=2), alias="clinic-passages")["settings"]["index"]
    assert (index["number_of_replicas"], index["number_of_shards"]) == (2, 1)


def test_vectors_are_indexed_by_the_engine_that_both_sides_have() -> None:
    method = index_body(SCHEMA, alias="a")["mappings"]["properties"]["vector"]["method"]
    assert (method["engine"], method["space_type"]) == ("lucene", "cosinesimil")


def test_a_passage_is_kept_whole_beside_its_fields() -> None:
    written = replace(
        passage("ré:fill", 3, text="Täglich\x00 „einmal“", labels=("staff",)),
        url=None,
        updated_at=NOON + timedelta(microseconds=1),
    )
    row = row_of(written, EAST, indexed_at=NOON, leads=True)
    assert passage_of(row["kept"].rstrip("=").replace("+", "-").replace("/", "_")) == written


@pytest.mark.parametrize("kept", ["", "?", "e30", "W10", "bnVsbA"])
def test_what_is_no_passage_is_told_by_a_named_error(kept: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        passage_of(kept)
