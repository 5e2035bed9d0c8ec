"""OpenSearch's answers to the adapter's calls: the hits of all legs, the cosines of the documents' titles,
whole documents, and the words that all documents hold.

What is answered is made by the product's own ``rows_of``, as much as a real index gives: each leg brings its
hundred, some passages and titles stand in two, and the raw scores fall from rank to rank. The documents of
``READ_DOCUMENTS`` lead every leg, so every answer has the same sources.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from typing import Any

import orjson

from assistant.aws.opensearch_index import passage_row, row_id, rows_of
from assistant.aws.opensearch_search import LEXICAL, PASSAGE_COSINE, TEXT, TITLE, TITLE_COSINE
from assistant.domain.documents import IndexedDocument
from benchmarks.load.http_server import HttpConnection, Request, response
from benchmarks.load.knowledge import AT, READ_DOCUMENTS, document, passages
from benchmarks.load.pacing import Pace

_LEG = 100
_IN_BOTH = 40
_NUMBERS = 2 * _LEG - _IN_BOTH
_ANSWERS = 8
_BARE_HITS = 5
_BEST_COSINE = 0.78
_BEST_BM25 = 19.0


class OpenSearchStandIn:
    """Answers every search, in turn with one of a few sets of hits."""

    def __init__(self, pace: Pace, *, index: str) -> None:
        self._pace = pace
        self._index = index
        self._asked = 0
        self._answers = [response(orjson.dumps(hybrid_answer(index, seed=seed))) for seed in range(_ANSWERS)]
        self._title_cosines = response(orjson.dumps(title_cosines_answer(index)))
        self._words = response(orjson.dumps(words_answer()))
        hits = [{"_source": {"text": text}} for text in passages()[:_BARE_HITS]]
        self._bare = response(orjson.dumps({"took": 9, "hits": {"hits": hits}}))

    def answer(self, request: Request, connection: HttpConnection) -> None:
        """Every call takes as long; the words are read beside the questions."""
        self._pace.later(self._pace.search_s, connection.send, self._found(request))

    def _found(self, request: Request) -> bytes:
        if request.path.startswith("/bare/"):
            return self._bare
        if b'"collapse"' in request.body:
            return self._title_cosines
        if b'"aggs"' in request.body:
            return self._words if b'"words"' in request.body else response(orjson.dumps(_aggregated(())))
        if b'"hybrid"' in request.body:
            self._asked += 1
            return self._answers[self._asked % _ANSWERS]
        clauses = orjson.loads(request.body)["query"]["bool"]["filter"]
        hits = b",".join(stored_hits(self._index, name) for name in clauses[0]["terms"]["document_id"])
        return response(b'{"timed_out":false,"hits":{"hits":[%s]}}' % hits)


def hybrid_answer(index: str, *, seed: int) -> dict[str, Any]:
    """Return what the node answers: 320 hits, fields and scores as the adapter asks for them."""
    chosen = random.Random(seed)
    first, others = list(range(READ_DOCUMENTS)), list(range(READ_DOCUMENTS, _NUMBERS))
    chosen.shuffle(first)
    chosen.shuffle(others)
    numbers = [*first, *others]
    hits = [_hit(index, number, rank=rank) for rank, number in enumerate(numbers)]
    hits += [_title_hit(index, number, rank=rank) for rank, number in enumerate(numbers)]
    return {"timed_out": False, "hits": {"hits": hits}}


def title_cosines_answer(index: str) -> dict[str, Any]:
    """Return what the node answers to the second call: each document's best title."""
    hits = [_title_fields(index, number, cosine=_BEST_COSINE / 2) for number in range(_NUMBERS)]
    return {"timed_out": False, "hits": {"hits": hits}}


def words_answer() -> dict[str, Any]:
    """Return the page of all words with the number of documents that hold each."""
    counts = Counter(word for number in range(_NUMBERS) for word in document(number).card.words)
    return _aggregated(
        {"key": {"value": word}, "doc_count": documents} for word, documents in sorted(counts.items())
    )


@cache
def stored_hits(index: str, document_id: str) -> bytes:
    """Return the hits of a whole document, joined by commas."""
    stored = document(int(document_id.rpartition("-")[2]))
    indexed = IndexedDocument(
        card=stored.card, title_vectors=[()], passages=[(passage, ()) for passage in stored.passages]
    )
    hits: list[bytes] = []
    for place, row in enumerate(rows_of(indexed, indexed_at=AT)):
        fields = {"row_id": [row.row_id]}
        fields |= {name: [_column(row.body[name])] for name in ("kept", "card") if name in row.body}
        hits.append(orjson.dumps({"_index": index, "fields": fields, "sort": [document_id, place]}))
    return b",".join(hits)


def _aggregated(buckets: Any) -> dict[str, Any]:
    return {"timed_out": False, "aggregations": {"values": {"buckets": list(buckets)}}}


def _hit(index: str, number: int, *, rank: int) -> dict[str, Any]:
    falls = 1.0 - rank / (4 * _LEG)
    fields = {
        "row_id": [f"document-{number}#0"],
        "kept": [_column(passage_row(document(number).passages[0], (), indexed_at=AT).body["kept"])],
        PASSAGE_COSINE: [_BEST_COSINE * falls],
    }
    hit: dict[str, Any] = {"_index": index, "fields": fields}
    if rank < _LEG:
        hit["matched_queries"] = {LEXICAL: _BEST_BM25 * falls}
    return hit


def _title_hit(index: str, number: int, *, rank: int) -> dict[str, Any]:
    falls = 1.0 - rank / (4 * _LEG)
    hit = _title_fields(index, number, cosine=_BEST_COSINE * falls)
    if rank < _LEG:
        hit["matched_queries"] = {TITLE: _BEST_BM25 * falls, TEXT: _BEST_BM25 * falls}
    return hit


def _title_fields(index: str, number: int, *, cosine: float) -> dict[str, Any]:
    fields = {"row_id": [row_id(f"document-{number}", "title", 0)], TITLE_COSINE: [cosine]}
    return {"_index": index, "fields": fields}


def _column(packed: str) -> str:
    """Return a binary column as the node gives it back: base64 for URLs, without padding."""
    return packed.replace("+", "-").replace("/", "_").rstrip("=")
