"""The hybrid query of a question, as OpenSearch takes it."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from assistant.adapters.aws.opensearch_rows import UNLABELLED, microseconds, visibility_terms
from assistant.adapters.aws.opensearch_schema import FIELD_BOOSTS
from assistant.domain.retrieval import PassageQuery, SearchFilters

TIE_MARGIN = 10
"""Hits beyond a leg's end that are asked for: passages that tie there are then chosen by their ids."""
MOST_QUERY_WORDS = 256
"""Different words of a question beyond these are left out: the domain takes 1,024 clauses, three a word."""
LEXICAL = "lexical"
"""Name under which a hit tells its score in the lexical leg."""
_COSINE = "cosineSimilarity(params.question, doc['vector'])"
_WORD = re.compile(r"\w+")


def search_body(query: PassageQuery) -> dict[str, Any]:
    """Return the hybrid query: both legs under one filter, and all their hits with their raw scores."""
    depth = query.leg_size + TIE_MARGIN
    vector = list(query.vector)
    return {
        "size": 2 * depth,
        "track_total_hits": False,
        "_source": False,
        "stored_fields": "_none_",
        "docvalue_fields": ["passage_id", "kept"],
        "script_fields": {"cosine": {"script": {"source": _COSINE, "params": {"question": vector}}}},
        "query": {
            "hybrid": {
                "pagination_depth": depth,
                "filter": {"bool": {"filter": _filters(query.filters, query.labels)}},
                "queries": [_lexical_leg(query.text), {"knn": {"vector": {"vector": vector, "k": depth}}}],
            }
        },
    }


def _lexical_leg(text: str) -> dict[str, Any]:
    return {
        "multi_match": {
            "query": _shortened(text),
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
    clauses: list[dict[str, Any]] = [
        {"terms": {"visible_to": [UNLABELLED, *sorted(visibility_terms(labels))]}}
    ]
    for name in ("source", "type", "document_id"):
        values: tuple[str, ...] = getattr(filters, name)
        if values:
            clauses.append({"terms": {name: list(values)}})
    if filters.updated_after is not None:
        clauses.append({"range": {"updated_at_us": {"gt": microseconds(filters.updated_after)}}})
    return clauses
