"""The reading side of a tenant's passage index in OpenSearch: a search and a read for each question."""

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
    FIELD_BOOSTS,
    HYBRID_WEIGHTS,
    PIPELINE,
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

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

CALL_TIMEOUT_S = 30.0
COSINE_DECIMALS = 6
SCORE_DECIMALS = 5
TIE_MARGIN = 10
"""Hits to read beyond a leg's end: passages that tie there are then chosen by their ids."""
MOST_QUERY_WORDS = 256
"""Different words of a question beyond these are left out: the domain takes 1,024 clauses, five a word."""
MOST_KNOWN_WORDS = 200_000
VALUES_A_PAGE = 10_000
LEXICAL, TITLE, TEXT = "lexical", "title", "text"
"""Names under which a hit reports its score in the lexical legs."""
PASSAGE_COSINE, TITLE_COSINE = "cosine", "title_cosine"
_PASSAGES_KEPT = 1_000
"""Unpacked passages that are cached by their packed bytes: about 15 MiB. The index decides anew for each
question which passages exist and who may see them; only the unpacking is spared."""
_CARDS_KEPT = 500
_ROWS_A_CALL = 5_000
_WORD = re.compile(r"\w+")
_unpack_passage = remember_texts(_PASSAGES_KEPT)(passage_of)
_unpack_card = remember_texts(_CARDS_KEPT)(card_of)


class OpenSearchPassageSearch:
    """``PassageSearch`` of one tenant: searches the index that ``alias`` points at, under no other name.

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

        It runs all five legs. Its hits have their raw scores, which give each leg's ranks and order ties by
        row id; the domain orders them by segment.
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
        hits = _Found()
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
        stored = [
            {"terms": {"document_id": list(document_ids)}},
            _visible(labels),
            {"bool": {"should": [{"term": {"kind": "passage"}}, {"term": {"leads": True}}]}},
        ]
        ask, query = partial(self._search, deadline=deadline), {"bool": {"filter": stored}}
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
            found = await documents_in(rows, card_of=_unpack_card)
            items += [known_item(document.card) for document in found.values()]
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
        """Return the version of the searched index. Raises SearchUnavailableError for other vectors."""
        version = index.removeprefix(f"{self._alias}-") if index is not None else self._schema.version
        if not version.endswith(f"-{self._schema.model_version}"):
            raise SearchUnavailableError(
                f"The index {version} holds vectors of another model than the question's, "
                f"{self._schema.model_version}. Fill a new version and swap the alias."
            )
        return version


def search_body(query: PassageQuery) -> dict[str, Any]:
    """Return the hybrid query: all legs under one filter, and all their hits with their raw scores.

    Each leg searches fields that only its rows have: the legs of passages never find a title.
    """
    depth = query.leg_size + TIE_MARGIN
    vector, text = list(query.vector), _shorten(query.text)
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
                    {
                        "multi_match": {
                            "query": text,
                            "fields": [f"{name}^{boost}" for name, boost in FIELD_BOOSTS.items()],
                            "type": "most_fields",
                            "_name": LEXICAL,
                        }
                    },
                    {"knn": {"vector": {"vector": vector, "k": depth}}},
                    {"match": {"asked": {"query": text, "_name": TITLE}}},
                    {"match": {"text": {"query": text, "_name": TEXT}}},
                    {"knn": {"title_vector": {"vector": vector, "k": depth}}},
                ],
            }
        },
    }


def _cosine_field(field: str, question: list[float]) -> dict[str, Any]:
    cosine = f"cosineSimilarity(params.question, doc['{field}'])"
    source = f"if (doc['{field}'].size() == 0) {{ return null; }} return {cosine};"
    return {"script": {"source": source, "params": {"question": question}}}


def _shorten(text: str) -> str:
    words = Counter(_WORD.findall(text.lower()))
    if len(words) <= MOST_QUERY_WORDS:
        return text
    return " ".join(word for word, _ in words.most_common(MOST_QUERY_WORDS))


def _filters(query: PassageQuery) -> dict[str, Any]:
    filters, ids = query.filters, query.ids
    clauses = [_visible(query.labels)]
    for name in ("source", "type", "document_id"):
        values: tuple[str, ...] = getattr(filters, name)
        if values:
            clauses.append({"terms": {name: list(values)}})
    if filters.updated_after is not None:
        clauses.append({"range": {"updated_at_us": {"gt": microseconds(filters.updated_after)}}})
    return {"filter": clauses} if ids is None else _of_source(ids, clauses)


def _of_source(ids: SourceIds, clauses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the clauses, and one that lets only the source's documents through."""
    if ids.prefix:
        return {"filter": [*clauses, _begins(ids.prefix)]}
    return {"filter": clauses, "must_not": [_begins(prefix) for prefix in ids.others]}


def _begins(prefix: str) -> dict[str, Any]:
    return {"prefix": {"document_id": prefix}}


def _visible(labels: frozenset[str]) -> dict[str, Any]:
    return {"terms": {"visible_to": [UNLABELLED, *sorted(label_terms(labels))]}}


class _Found:
    """The hits of all legs, filled hit by hit: hundreds, of which only the returned ones are unpacked."""

    def __init__(self) -> None:
        self.index: str | None = None
        self.kept: dict[str, str] = {}
        """Packed passages by row id."""
        self.cosines: dict[str, float | None] = {}
        self._legs: dict[str, list[tuple[float, str]]] = {name: [] for name in HYBRID_WEIGHTS}
        """(negative score, row id) by leg."""

    def add(self, hit: Mapping[str, Any]) -> None:
        """Add a hit. A hit has the BM25 score of every leg whose words it holds, whichever leg found it."""
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
    value = fields[name][0] if name in fields else None
    return None if value is None else round(value, COSINE_DECIMALS)


def _passage_of(kept: str) -> Passage:
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
