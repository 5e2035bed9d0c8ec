"""The reading side of a tenant's passage index in OpenSearch: a search and a read of documents for each
question.

``opensearch_writer.py`` describes the rows, ``opensearch_schema.py`` their fields and the pipeline of the
search.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from assistant.domain.clock import Clock, Deadline
from assistant.domain.documents import (
    IndexInfo,
    IndexModel,
    KnownItem,
    KnownWords,
    Passage,
    PassageQuery,
    Retrieved,
    SourceIds,
    StoredDocument,
)
from assistant.domain.errors import DeadlineExceededError, SearchUnavailableError
from assistant.stores.index.opensearch_client import (
    field_values,
    reading_response,
    row_columns,
    search,
    stored_rows,
)
from assistant.stores.index.opensearch_schema import (
    CODES,
    FIELD_BOOSTS,
    HYBRID_WEIGHTS,
    PIPELINE,
    TEXT_CODES,
    OpenSearchIndexVersions,
    PassageSchema,
    read_info,
)
from assistant.stores.index.opensearch_writer import (
    DEFINES,
    OpenSearchPassageIndex,
    card_of,
    documents_in,
    passage_of,
)
from assistant.stores.index.rows import (
    UNLABELLED,
    Leg,
    known_item,
    known_words_of,
    label_terms,
    microseconds,
    retrieved,
)
from assistant.text.caches import remember_texts
from assistant.text.codes import codes_asked

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

CALL_TIMEOUT_S = 30.0
COSINE_DECIMALS = 6
SCORE_DECIMALS = 5
"""Scores are rounded so that equal texts tie, as in ``embedded_reader.py``."""
TIE_MARGIN = 10
"""Hits to read beyond a leg's end: passages that tie there are then chosen by their ids."""
MOST_QUERY_WORDS = 256
"""Different words of a question beyond these are left out: the domain takes 1,024 clauses, five a word."""
MOST_KNOWN_WORDS = 200_000
"""Most abbreviations that a process keeps in memory for a tenant."""
VALUES_A_PAGE = 10_000
LEXICAL, TITLE, TEXT = "lexical", "title", "text"
"""Names under which a hit reports its score in the lexical legs (``matched_queries``); keys of
HYBRID_WEIGHTS."""
PASSAGE_COSINE, TITLE_COSINE = "cosine", "title_cosine"
"""Names of the computed fields of a hit with the question's cosine."""
_PASSAGES_KEPT = 1_000
"""Most unpacked passages in a cache, by their packed text: about 15 MiB. For each question the index decides
which passages exist and who may see them; the cache only spares the unpacking."""
_CARDS_KEPT = 500
_ROWS_A_CALL = 5_000
_WORD = re.compile(r"\w+")
_unpack_passage = remember_texts(_PASSAGES_KEPT)(passage_of)
_unpack_card = remember_texts(_CARDS_KEPT)(card_of)


class OpenSearchPassageSearch:
    """``PassageSearch`` of one tenant: searches the index that ``alias`` points at.

    ``schema`` is that of the questions' vectors; an index of other vectors is refused. ``pinned`` searches
    that schema's own index instead, wherever the alias points: all calls of an answer then read one version.
    The client is shared and not closed here.
    """

    def __init__(
        self, client: AsyncOpenSearch, *, alias: str, schema: PassageSchema, pinned: bool = False
    ) -> None:
        self._client = client
        self._alias = alias
        self._schema = schema
        self._name = schema.index_name(alias) if pinned else alias

    async def search(self, query: PassageQuery, *, deadline: Deadline) -> Retrieved:
        """Return the best ``query.size`` passages and all hits by one call, which is never retried.

        The call runs all five legs. The ranks of each leg are computed here from the raw scores of its hits,
        ties in order of row id: the domain would order ties by segment.
        """
        deadline.within_s(CALL_TIMEOUT_S)  # raises when the deadline has passed
        has, asked = self._schema.model.dimensions, len(query.vector)
        if asked != has:
            raise SearchUnavailableError(f"The index has {has} dimensions, the question {asked}.")
        response = await self._search(
            search_body(query),
            deadline=deadline,
            search_pipeline=PIPELINE,
            include_named_queries_score="true",
        )
        hits = _LegHits()
        with reading_response():
            for hit in response.get("hits", {}).get("hits", ()):
                hits.add(hit)
        version = self._version_of(hits.index)
        legs = hits.legs(size=query.leg_size)
        return retrieved(
            legs,
            size=query.size,
            index_version=version,
            cosines=hits.cosines,
            passages=lambda names: {name: _passage_of(hits.kept.get(name, "")) for name in names},
        )

    async def read_documents(
        self, document_ids: Sequence[str], *, labels: frozenset[str], deadline: Deadline
    ) -> Mapping[str, StoredDocument]:
        """Read by one call, and one more for each further 5,000 rows."""
        # All passages, and of the titles the leading row, which has the card.
        clauses = [
            {"terms": {"document_id": list(document_ids)}},
            _visible(labels),
            {"bool": {"should": [{"term": {"kind": "passage"}}, {"term": {"leads": True}}]}},
        ]
        ask, query = partial(self._search, deadline=deadline), {"bool": {"filter": clauses}}
        rows = stored_rows(ask, query, "kept", "card", rows_a_call=_ROWS_A_CALL)
        documents = await documents_in(rows, card_of=_unpack_card, passage_of=_unpack_passage)
        return {name: documents[name] for name in document_ids if name in documents}

    async def known_words(self, *, items_of: Sequence[SourceIds] = ()) -> KnownWords:
        """Read in pages of 10,000 values, at most MOST_KNOWN_WORDS abbreviations; items in pages of 5,000."""
        leading = [_visible(frozenset()), {"term": {"leads": True}}]
        definitions: dict[tuple[str, str], int] = {}
        values = field_values(
            self._search, "abbreviations", values_a_call=VALUES_A_PAGE, query={"bool": {"filter": leading}}
        )
        async for value, documents in values:
            short, _, long = value.partition(DEFINES)
            definitions[short, long] = documents
            if len(definitions) >= MOST_KNOWN_WORDS:
                break
        items: list[KnownItem | None] = []
        for ids in items_of:
            query = {"bool": _of_source(ids, leading)}
            rows = stored_rows(self._search, query, "card", rows_a_call=_ROWS_A_CALL)
            stored = await documents_in(rows, card_of=_unpack_card)
            items += [known_item(document.card) for document in stored.values()]
        return known_words_of(definitions, items=items)

    async def info(self) -> IndexInfo:
        info = await read_info(self._client, self._name, timeout_s=CALL_TIMEOUT_S)
        if info.index_version != self._schema.version:
            raise SearchUnavailableError(
                f"The alias points at the index {info.index_version}, and this process reads "
                f"{self._schema.version}. Fill that version and swap the alias."
            )
        return info

    async def _search(
        self, body: Mapping[str, Any], *, deadline: Deadline | None = None, **params: str
    ) -> Any:
        """Make one call without a retry. Raises DeadlineExceededError, SearchUnavailableError."""
        timeout_s = CALL_TIMEOUT_S if deadline is None else deadline.within_s(CALL_TIMEOUT_S)
        try:
            return await search(self._client, self._name, body, timeout_s=timeout_s, **params)
        except SearchUnavailableError:
            if deadline is not None and deadline.remaining_s() <= 0.0:
                raise DeadlineExceededError("The answer's deadline has passed; ask again.") from None
            raise

    def _version_of(self, index: str | None) -> str:
        """Return the version in the name of the searched index, ``<alias>-<version>``; without hits there is
        no name, and it is this schema's. Raises SearchUnavailableError for vectors of another model."""
        version = index.removeprefix(f"{self._alias}-") if index is not None else self._schema.version
        if not version.endswith(f"-{self._schema.model_version}"):
            raise SearchUnavailableError(
                f"The index {version} holds vectors of another model than the question's, "
                f"{self._schema.model_version}. Fill a new version and swap the alias."
            )
        return version


def search_body(query: PassageQuery) -> dict[str, Any]:
    """Return the body of the search: five legs under one filter, and all their hits with their raw scores.

    The order of ``queries`` is that of HYBRID_WEIGHTS. Each leg searches fields that only its rows have: the
    legs of passages never find a title.
    """
    depth = query.leg_size + TIE_MARGIN
    vector, text = list(query.vector), _shorten(query.text)
    codes = " ".join(codes_asked(query.text))
    words = {
        "multi_match": {
            "query": text,
            "fields": [f"{name}^{boost}" for name, boost in FIELD_BOOSTS.items()],
            "type": "most_fields",
        }
    }
    return row_columns("row_id", "kept", size=5 * depth) | {
        "script_fields": {
            PASSAGE_COSINE: _cosine_field("vector", vector),
            TITLE_COSINE: _cosine_field("title_vector", vector),
        },
        "query": {
            "hybrid": {
                "pagination_depth": depth,
                "filter": {"bool": _filters(query)},
                "queries": [
                    _either(words, {"match": {CODES: codes}}, name=LEXICAL),
                    {"knn": {"vector": {"vector": vector, "k": depth}}},
                    {"match": {"asked": {"query": text, "_name": TITLE}}},
                    _either({"match": {"text": text}}, {"match": {TEXT_CODES: codes}}, name=TEXT),
                    {"knn": {"title_vector": {"vector": vector, "k": depth}}},
                ],
            }
        },
    }


def _either(*queries: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a query for the rows that one of these finds at least, also where the domain adds a filter."""
    return {"bool": {"should": queries, "minimum_should_match": 1, "_name": name}}


def _cosine_field(field: str, question: list[float]) -> dict[str, Any]:
    """Return a computed field with the cosine of the question and a vector field; null in rows without it."""
    cosine = f"cosineSimilarity(params.question, doc['{field}'])"
    source = f"if (doc['{field}'].size() == 0) {{ return null; }} return {cosine};"
    return {"script": {"source": source, "params": {"question": question}}}


def _shorten(text: str) -> str:
    """Return a question with its MOST_QUERY_WORDS most frequent words, if it has more different ones."""
    words = Counter(_WORD.findall(text.lower()))
    if len(words) <= MOST_QUERY_WORDS:
        return text
    return " ".join(word for word, _ in words.most_common(MOST_QUERY_WORDS))


def _filters(query: PassageQuery) -> dict[str, Any]:
    """Return the clauses that every row must pass: labels, the client's filters, and the source."""
    filters, ids = query.filters, query.ids
    clauses = [_visible(query.labels)]
    for name in ("source", "type", "document_id"):
        values: tuple[str, ...] = getattr(filters, name)
        if values:
            clauses.append({"terms": {name: list(values)}})
    if filters.updated_after is not None:
        clauses.append({"range": {"updated_at_us": {"gt": microseconds(filters.updated_after)}}})
    asked = {"filter": clauses} if ids is None else _of_source(ids, clauses)
    if query.without:
        asked["must_not"] = [*asked.get("must_not", ()), {"terms": {"document_id": sorted(query.without)}}]
    return asked


def _of_source(ids: SourceIds, clauses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the clauses, with one that lets only the source's documents through (``SourceIds``)."""
    if ids.prefix:
        return {"filter": [*clauses, _begins(ids.prefix)]}
    return {"filter": clauses, "must_not": [_begins(prefix) for prefix in ids.others]}


def _begins(prefix: str) -> dict[str, Any]:
    return {"prefix": {"document_id": prefix}}


def _visible(labels: frozenset[str]) -> dict[str, Any]:
    """Return the clause for rows that an agent with these labels may see."""
    return {"terms": {"visible_to": [UNLABELLED, *sorted(label_terms(labels))]}}


class _LegHits:
    """The hits of all legs of one search: hundreds, so passages stay packed until they are returned. Call
    ``add`` for each hit, then ``legs``."""

    def __init__(self) -> None:
        self.index: str | None = None
        """Name of the searched index; None without hits."""
        self.kept: dict[str, str] = {}
        """Packed passages by row id."""
        self.cosines: dict[str, float | None] = {}
        """Cosine of the question by row id; None for titles."""
        self._legs: dict[str, list[tuple[float, str]]] = {name: [] for name in HYBRID_WEIGHTS}
        """(negative score, row id) by leg: sorted, they are best first, ties by row id."""

    def add(self, hit: Mapping[str, Any]) -> None:
        """Add a hit to each leg that it has a score of, whichever leg found it. Example of a hit::

        {"_index": "docs-v3-bge-small-384-1a2b3c4d", "matched_queries": {"lexical": 7.1},
         "fields": {"row_id": ["refill#2"], "kept": ["eJx…"], "cosine": [0.83]}}
        """
        fields = hit["fields"]
        row_id: str = fields["row_id"][0]
        if self.index is None:
            self.index = hit["_index"]
        for name, score in hit.get("matched_queries", {}).items():
            self._legs[name].append((-round(score, SCORE_DECIMALS), row_id))
        cosine = self.cosines[row_id] = _cosine(fields, PASSAGE_COSINE)
        if cosine is not None:
            self._legs["vector"].append((-cosine, row_id))
        title_cosine = _cosine(fields, TITLE_COSINE)
        if title_cosine is not None:
            self._legs["title_vector"].append((-title_cosine, row_id))
        if "kept" in fields:
            self.kept[row_id] = fields["kept"][0]

    def legs(self, *, size: int) -> Mapping[str, Leg]:
        """Return the legs, each ``size`` long at most, ties in order of row ids."""
        return {
            name: {row_id: -negative for negative, row_id in sorted(leg)[:size]}
            for name, leg in self._legs.items()
        }


def _cosine(fields: Mapping[str, Any], name: str) -> float | None:
    """Return a computed cosine of a hit, rounded; None where its row has no such vector."""
    value = fields[name][0] if name in fields else None
    return None if value is None else round(value, COSINE_DECIMALS)


def _passage_of(kept: str) -> Passage:
    """Return a packed passage, from the cache where it is there. Raises SearchUnavailableError."""
    with reading_response():
        return _unpack_passage(kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSearchIndex:
    """``Index`` behind one alias. The client is shared and not closed here."""

    client: AsyncOpenSearch
    alias: str
    shards: int
    replicas: int
    clock: Clock

    def versions(self, own: IndexModel) -> OpenSearchIndexVersions:
        return OpenSearchIndexVersions(self.client, alias=self.alias, schema=self._schema(own))

    def search(self, model: IndexModel, *, pinned: bool = False) -> OpenSearchPassageSearch:
        schema = self._schema(model)
        return OpenSearchPassageSearch(self.client, alias=self.alias, schema=schema, pinned=pinned)

    def beside(self, model: IndexModel) -> OpenSearchPassageIndex:
        return self._writer(model, applies_schema=False)

    async def alone(self, model: IndexModel, *, applies_schema: bool = False) -> OpenSearchPassageIndex:
        return self._writer(model, applies_schema=applies_schema)

    def _writer(self, model: IndexModel, *, applies_schema: bool) -> OpenSearchPassageIndex:
        return OpenSearchPassageIndex(
            self.client,
            alias=self.alias,
            schema=self._schema(model),
            applies_schema=applies_schema,
            clock=self.clock,
        )

    def _schema(self, model: IndexModel) -> PassageSchema:
        return PassageSchema(model=model, shards=self.shards, replicas=self.replicas)
