"""The reading side of a tenant's passage index in OpenSearch: two calls a question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from assistant.aws.opensearch_client import call
from assistant.aws.opensearch_index import (
    DEFINES,
    UNLABELLED,
    card_of,
    document_id_of,
    passage_of,
    visibility_terms,
)
from assistant.aws.opensearch_schema import (
    FIELD_BOOSTS,
    HYBRID_WEIGHTS,
    LEG_WEIGHTS,
    PIPELINE,
    PassageSchema,
    read_info,
)
from assistant.domain.clock import Deadline
from assistant.domain.documents import (
    DocumentCard,
    DocumentHit,
    IndexInfo,
    KnownWords,
    Passage,
    PassageHit,
    PassageQuery,
    RankedPassage,
    Retrieved,
    SearchFilters,
    StoredDocument,
    reciprocal_rank_fusion,
)
from assistant.domain.errors import DeadlineExceededError, SearchUnavailableError
from assistant.stored_values import known_words_of, microseconds

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch


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
            PASSAGE_COSINE: _cosine_field("vector", vector),
            TITLE_COSINE: _cosine_field("title_vector", vector),
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
        "script_fields": {TITLE_COSINE: _cosine_field("title_vector", question)},
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


def _cosine_field(field: str, question: list[float]) -> dict[str, Any]:
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


# The reading side of a tenant's passage index in OpenSearch: two calls a question.


CALL_TIMEOUT_S = 30.0
COSINE_DECIMALS = 6
SCORE_DECIMALS = 5
MOST_KNOWN_WORDS = 200_000
_ROWS_A_CALL = 5_000
_ANSWER_FIELDS = "timed_out,hits.hits._index,hits.hits.fields,hits.hits.matched_queries,hits.hits.sort"
Read = TypeVar("Read")


class OpenSearchPassageSearch:
    """``PassageSearch`` of one tenant: searches what ``alias`` points at, and nothing by any other name.

    ``schema`` says whose vectors the questions are; an index of other vectors is refused. The client is
    shared and not closed here.
    """

    def __init__(self, client: AsyncOpenSearch, *, alias: str, schema: PassageSchema) -> None:
        self._client = client
        self._alias = alias
        self._schema = schema

    async def search(self, query: PassageQuery, *, deadline: Deadline) -> Retrieved:
        """Return the best ``query.size`` passages and all hits by two calls, which are never repeated.

        The first runs all five legs; the raw scores that come with its hits tell each leg's ranks, and put
        rows that tie, which the domain leaves in the order of its segments, in order of their ids. Only then
        it is known of which documents the second has to read the titles' cosines.
        """
        deadline.within_s(CALL_TIMEOUT_S)  # raises when the deadline has passed
        if len(query.vector) != self._schema.dimensions:
            raise SearchUnavailableError(
                f"The index has {self._schema.dimensions} dimensions, the question {len(query.vector)}."
            )
        answer = await self._ask(
            search_body(query),
            deadline=deadline,
            search_pipeline=PIPELINE,
            include_named_queries_score="true",
        )
        hits = _read(answer, _read_hit)
        version = self._version_of(hits)
        legs = _legs(hits, query)
        listed = sorted({document_id_of(row_id) for leg in legs.values() for row_id in leg})
        cosines: dict[str, float] = {}
        if listed:
            nearest = await self._ask(title_cosines_body(query.vector, listed), deadline=deadline)
            cosines = dict(_read(nearest, _read_title_cosine))
        by_id = {hit.row_id: hit for hit in hits}
        nearest_passage = next(iter(legs["vector"].values()), 0.0)
        return Retrieved(
            passages=_ranked(by_id, legs, query),
            best_cosine=nearest_passage,
            index_version=version,
            hits=_passage_hits(by_id, legs),
            documents=_document_hits(listed, legs, cosines),
        )

    async def read_documents(
        self, document_ids: Sequence[str], *, labels: frozenset[str], deadline: Deadline
    ) -> Mapping[str, StoredDocument]:
        """Read by one call; a further one for each 5,000 rows."""
        body = documents_body(document_ids, labels, size=_ROWS_A_CALL)
        cards: dict[str, DocumentCard] = {}
        passages: dict[str, list[Passage]] = {}
        while True:
            hits = _read(await self._ask(body, deadline=deadline), _read_stored)
            for hit in hits:
                name = document_id_of(hit.row_id)
                if hit.card is not None:
                    cards[name] = hit.card
                elif hit.passage is not None:
                    passages.setdefault(name, []).append(hit.passage)
            if len(hits) < _ROWS_A_CALL:
                break
            body["search_after"] = hits[-1].sort
        return {
            name: StoredDocument(card=cards[name], passages=tuple(passages.get(name, ())))
            for name in document_ids
            if name in cards
        }

    async def known_words(self) -> KnownWords:
        """Read in pages of 10,000 values, at most MOST_KNOWN_WORDS words and as many abbreviations."""
        words = await self._values("words")
        definitions: dict[tuple[str, str], int] = {}
        for value, documents in await self._values("abbreviations"):
            short, _, long = value.partition(DEFINES)
            definitions[short, long] = documents
        return known_words_of(dict(words), definitions)

    async def _values(self, field: str) -> list[tuple[str, int]]:
        """Return each value of a keyword field of documents without labels, and how many have it."""
        values: list[tuple[str, int]] = []
        after: Mapping[str, Any] | None = None
        while len(values) < MOST_KNOWN_WORDS:
            answer = await call(
                self._client,
                f"POST /{self._alias}/_search",
                body=values_body(field, after=after),
                params={"allow_partial_search_results": "false", "filter_path": "timed_out,aggregations"},
                timeout_s=CALL_TIMEOUT_S,
            )
            try:
                page = answer["aggregations"]["values"]
                values += [(bucket["key"]["value"], bucket["doc_count"]) for bucket in page["buckets"]]
                after = page.get("after_key")
            except (KeyError, TypeError) as error:
                raise _odd(error) from None
            if after is None:
                break
        return values

    async def _ask(self, body: Mapping[str, Any], *, deadline: Deadline, **params: str) -> Any:
        """Make one call, which is never repeated. Raises DeadlineExceededError, SearchUnavailableError."""
        try:
            return await call(
                self._client,
                f"POST /{self._alias}/_search",
                body=body,
                params={
                    **params,
                    "allow_partial_search_results": "false",
                    "filter_path": _ANSWER_FIELDS,
                },
                timeout_s=deadline.within_s(CALL_TIMEOUT_S),
            )
        except SearchUnavailableError:
            if deadline.remaining_s() <= 0.0:
                raise DeadlineExceededError("The answer's deadline has passed; ask again.") from None
            raise

    async def info(self) -> IndexInfo:
        info = await read_info(self._client, self._alias, timeout_s=CALL_TIMEOUT_S)
        if info.index_version != self._schema.version:
            raise SearchUnavailableError(
                f"The alias points at the index {info.index_version}, and this process reads "
                f"{self._schema.version}: fill and swap in that version."
            )
        return info

    def _version_of(self, hits: Sequence[_Hit]) -> str:
        """Return the version that answered. Raises SearchUnavailableError when it has other vectors."""
        version = hits[0].index.removeprefix(f"{self._alias}-") if hits else self._schema.version
        if not version.endswith(f"-{self._schema.model_version}"):
            raise SearchUnavailableError(
                f"The index {version} holds vectors of another model than the question's, "
                f"{self._schema.model_version}: fill and swap in a new version."
            )
        return version


@dataclass(slots=True)  # some hundred a search: a frozen one takes three times as long to make
class _Hit:
    """A row that a leg found; a passage's text is unpacked only when it is shown."""

    index: str
    row_id: str
    kept: str | None
    """Of a passage."""
    scores: Mapping[str, float]
    """BM25 by the leg's name, of every hit that has a word of the question, whichever leg found it."""
    cosine: float | None
    title_cosine: float | None


@dataclass(slots=True)
class _StoredHit:
    row_id: str
    passage: Passage | None
    card: DocumentCard | None
    sort: Sequence[Any]


_Legs = Mapping[str, Mapping[str, float]]
"""Leg → row id → score, best first, ties in order of row ids."""


def _read(answer: Any, read_hit: Callable[[Any], Read]) -> list[Read]:
    try:
        if answer["timed_out"]:  # always there: an answer without hits is none, not an empty index
            raise SearchUnavailableError("The passage index did not finish the search in time.")
        return [read_hit(hit) for hit in answer.get("hits", {}).get("hits", ())]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise _odd(error) from None


def _read_hit(hit: Mapping[str, Any]) -> _Hit:
    fields = hit["fields"]
    scores = hit.get("matched_queries", {})
    return _Hit(
        index=hit["_index"],
        row_id=fields["row_id"][0],
        kept=fields["kept"][0] if "kept" in fields else None,
        scores={name: round(score, SCORE_DECIMALS) for name, score in scores.items()},
        cosine=_cosine(fields, PASSAGE_COSINE),
        title_cosine=_cosine(fields, TITLE_COSINE),
    )


def _read_title_cosine(hit: Mapping[str, Any]) -> tuple[str, float]:
    """Return document id and cosine."""
    fields = hit["fields"]
    return document_id_of(fields["row_id"][0]), round(fields[TITLE_COSINE][0], COSINE_DECIMALS)


def _read_stored(hit: Mapping[str, Any]) -> _StoredHit:
    fields = hit["fields"]
    return _StoredHit(
        row_id=fields["row_id"][0],
        passage=passage_of(fields["kept"][0]) if "kept" in fields else None,
        card=card_of(fields["card"][0]) if "card" in fields else None,
        sort=hit["sort"],
    )


def _cosine(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name, (None,))[0]
    return None if value is None else round(value, COSINE_DECIMALS)


def _legs(hits: Sequence[_Hit], query: PassageQuery) -> _Legs:
    """Return the legs as long as asked."""
    scores: dict[str, list[tuple[float, str]]] = {name: [] for name in HYBRID_WEIGHTS}
    for hit in hits:
        for name, score in hit.scores.items():
            scores[name].append((-score, hit.row_id))
        if hit.cosine is not None:
            scores["vector"].append((-hit.cosine, hit.row_id))
        if hit.title_cosine is not None:
            scores["title_vector"].append((-hit.title_cosine, hit.row_id))
    return {
        name: {row_id: -negative for negative, row_id in sorted(leg)[: query.leg_size]}
        for name, leg in scores.items()
    }


def _ranked(by_id: Mapping[str, _Hit], legs: _Legs, query: PassageQuery) -> tuple[RankedPassage, ...]:
    """Return the best passages with the legs' ranks and scores, ties in order of passage ids."""
    lexical, vector = (list(legs[name]) for name in LEG_WEIGHTS)
    lexical_ranks, vector_ranks = (
        {name: rank for rank, name in enumerate(leg, start=1)} for leg in (lexical, vector)
    )
    fused = reciprocal_rank_fusion([lexical, vector], weights=list(LEG_WEIGHTS.values()))
    return tuple(
        RankedPassage(
            passage=_unpacked(by_id[name]),
            rank=rank,
            fused_score=score,
            lexical_rank=lexical_ranks.get(name),
            lexical_score=legs[LEXICAL].get(name),
            vector_rank=vector_ranks.get(name),
            cosine=by_id[name].cosine,
        )
        for rank, (name, score) in enumerate(list(fused.items())[: query.size], start=1)
    )


def _passage_hits(by_id: Mapping[str, _Hit], legs: _Legs) -> tuple[PassageHit, ...]:
    lexical, vector = (legs[name] for name in LEG_WEIGHTS)
    return tuple(
        PassageHit(
            passage_id=name,
            document_id=document_id_of(name),
            lexical_score=lexical.get(name),
            cosine=by_id[name].cosine,
        )
        for name in sorted({*lexical, *vector})
    )


def _document_hits(
    listed: Sequence[str], legs: _Legs, cosines: Mapping[str, float]
) -> tuple[DocumentHit, ...]:
    title_scores, text_scores = (_best_of_documents(legs[name]) for name in (TITLE, TEXT))
    return tuple(
        DocumentHit(
            document_id=name,
            title_cosine=cosines.get(name),
            title_score=title_scores.get(name),
            text_score=text_scores.get(name),
        )
        for name in listed
    )


def _best_of_documents(leg: Mapping[str, float]) -> dict[str, float]:
    best: dict[str, float] = {}
    for row_id, score in leg.items():
        best.setdefault(document_id_of(row_id), score)
    return best


def _unpacked(hit: _Hit) -> Passage:
    try:
        return passage_of(hit.kept or "")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _odd(error) from None


def _odd(error: Exception) -> SearchUnavailableError:
    # the error's text may quote a passage
    return SearchUnavailableError(f"The passage index answered oddly ({type(error).__name__}).")
