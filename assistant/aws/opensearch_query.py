"""The hybrid query of a question, as OpenSearch takes it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from assistant.adapters.index_values import microseconds
from assistant.aws.opensearch_rows import UNLABELLED, visibility_terms
from assistant.aws.opensearch_schema import FIELD_BOOSTS
from assistant.domain.documents import PassageQuery, SearchFilters

TIE_MARGIN = 10
"""Hits beyond a leg's end that are asked for: passages that tie there are then chosen by their ids."""
MOST_QUERY_WORDS = 256
"""Different words of a question beyond these are left out: the domain takes 1,024 clauses, five a word."""
VALUES_A_PAGE = 10_000
LEXICAL, TITLE, TEXT = "lexical", "title", "text"
"""Names under which a hit tells its score in the legs of words."""
PASSAGE_COSINE, TITLE_COSINE = "cosine", "title_cosine"
_WORD = re.compile(r"\w+")


def search_body(query: PassageQuery) -> dict[str, Any]:
    """Return the hybrid query: all legs under one filter, and all their hits with their raw scores.

    Each leg asks for fields that only its rows have: those of passages never find a title.
    """
    depth = query.leg_size + TIE_MARGIN
    vector, text = list(query.vector), _shortened(query.text)
    return {
        "size": 5 * depth,
        "track_total_hits": False,
        "_source": False,
        "stored_fields": "_none_",
        "docvalue_fields": ["row_id", "kept"],
        "script_fields": {
            PASSAGE_COSINE: _cosine("vector", vector),
            TITLE_COSINE: _cosine("title_vector", vector),
        },
        "query": {
            "hybrid": {
                "pagination_depth": depth,
                "filter": {"bool": {"filter": _filters(query.filters, query.labels)}},
                "queries": [
                    _lexical_leg(text),
                    {"knn": {"vector": {"vector": vector, "k": depth}}},
                    {"match": {"asked": {"query": text, "_name": TITLE}}},
                    {"match": {"text": {"query": text, "_name": TEXT}}},
                    {"knn": {"title_vector": {"vector": vector, "k": depth}}},
                ],
            }
        },
    }


def title_cosines_body(vector: Sequence[float], document_ids: Sequence[str]) -> dict[str, Any]:
    """Return the query for each document's title or question that is nearest to the vector."""
    question = list(vector)
    nearest = {"source": f"1.0 + {_similarity('title_vector')}", "params": {"question": question}}
    rows = [{"term": {"kind": "title"}}, {"terms": {"document_id": list(document_ids)}}]
    return {
        "size": len(document_ids),
        "track_total_hits": False,
        "_source": False,
        "stored_fields": "_none_",
        "docvalue_fields": ["row_id"],
        "script_fields": {TITLE_COSINE: _cosine("title_vector", question)},
        "query": {"script_score": {"query": {"bool": {"filter": rows}}, "script": nearest}},
        "collapse": {"field": "document_id"},
    }


def documents_body(document_ids: Sequence[str], labels: frozenset[str], *, size: int) -> dict[str, Any]:
    """Return the query for the cards and all passages of the documents that the labels let through."""
    return {
        "size": size,
        "track_total_hits": False,
        "_source": False,
        "stored_fields": "_none_",
        "docvalue_fields": ["row_id", "kept", "card"],
        "query": {
            "bool": {
                "filter": [
                    {"terms": {"document_id": list(document_ids)}},
                    _visible(labels),
                    {"bool": {"should": [{"term": {"kind": "passage"}}, {"term": {"leads": True}}]}},
                ]
            }
        },
        "sort": [{"document_id": "asc"}, {"ordinal": "asc"}, {"kind": "asc"}],
    }


def values_body(field: str, *, after: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the query for a page of a keyword field's values on documents without labels, with counts."""
    page: dict[str, Any] = {"size": VALUES_A_PAGE, "sources": [{"value": {"terms": {"field": field}}}]}
    if after is not None:
        page["after"] = after
    rows = [_visible(frozenset()), {"term": {"leads": True}}]
    return {
        "size": 0,
        "query": {"bool": {"filter": rows}},
        "aggs": {"values": {"composite": page}},
    }


def _similarity(field: str) -> str:
    return f"cosineSimilarity(params.question, doc['{field}'])"


def _cosine(field: str, question: list[float]) -> dict[str, Any]:
    source = f"if (doc['{field}'].size() == 0) {{ return null; }} return {_similarity(field)};"
    return {"script": {"source": source, "params": {"question": question}}}


def _lexical_leg(text: str) -> dict[str, Any]:
    return {
        "multi_match": {
            "query": text,
            "fields": [f"{name}^{boost}" for name, boost in FIELD_BOOSTS.items()],
            "type": "most_fields",
            "_name": LEXICAL,
        }
    }


def _shortened(text: str) -> str:
    words = Counter(_WORD.findall(text.lower()))
    if len(words) <= MOST_QUERY_WORDS:
        return text
    return " ".join(word for word, _ in words.most_common(MOST_QUERY_WORDS))


def _filters(filters: SearchFilters, labels: frozenset[str]) -> list[dict[str, Any]]:
    clauses = [_visible(labels)]
    for name in ("source", "type", "document_id"):
        values: tuple[str, ...] = getattr(filters, name)
        if values:
            clauses.append({"terms": {name: list(values)}})
    if filters.updated_after is not None:
        clauses.append({"range": {"updated_at_us": {"gt": microseconds(filters.updated_after)}}})
    return clauses


def _visible(labels: frozenset[str]) -> dict[str, Any]:
    return {"terms": {"visible_to": [UNLABELLED, *sorted(visibility_terms(labels))]}}
