"""OpenSearch's answer to the adapter's hybrid search: the hits of both legs with passages of 150 words.

The hits are made by the product's own ``row_of``, as many as a real index gives: each leg brings its hundred,
some passages stand in both, and the raw scores fall from rank to rank.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import orjson

from assistant.adapters.aws.opensearch_query import LEXICAL
from assistant.adapters.aws.opensearch_rows import row_of
from assistant.domain.documents import Passage, Span
from benchmarks.load.http_server import HttpConnection, Request, response
from benchmarks.load.pacing import Pace
from benchmarks.load.questions import passages

_LEG = 100
_IN_BOTH = 40
_ANSWERS = 8
_BARE_HITS = 5
_BEST_COSINE = 0.78
_BEST_BM25 = 19.0
_AT = datetime(2026, 1, 1, tzinfo=UTC)


class OpenSearchStandIn:
    """Answers every search, in turn with one of a few sets of hits."""

    def __init__(self, pace: Pace, *, index: str) -> None:
        self._pace = pace
        self._asked = 0
        self._answers = [response(orjson.dumps(hybrid_answer(index, seed=seed))) for seed in range(_ANSWERS)]
        hits = [{"_source": {"text": text}} for text in passages()[:_BARE_HITS]]
        self._bare = response(orjson.dumps({"took": 9, "hits": {"hits": hits}}))

    def answer(self, request: Request, connection: HttpConnection) -> None:
        """The relay by hand asks for five hits, as one would; the adapter for all that its ranks need."""
        if request.path.startswith("/bare/"):
            self._pace.later(self._pace.search_s, connection.send, self._bare)
            return
        self._asked += 1
        self._pace.later(self._pace.search_s, connection.send, self._answers[self._asked % _ANSWERS])


def hybrid_answer(index: str, *, seed: int) -> dict[str, Any]:
    """Return what the node answers: 160 hits, fields and scores as the adapter asks for them."""
    chosen = random.Random(seed)
    numbers = list(range(2 * _LEG - _IN_BOTH))
    chosen.shuffle(numbers)
    hits = [_hit(index, number, rank=rank) for rank, number in enumerate(numbers)]
    return {"timed_out": False, "hits": {"hits": hits}}


def _hit(index: str, number: int, *, rank: int) -> dict[str, Any]:
    falls = 1.0 - rank / (4 * _LEG)
    fields = {
        "passage_id": [f"document-{number}#0"],
        "kept": [_kept(number)],
        "cosine": [_BEST_COSINE * falls],
    }
    hit: dict[str, Any] = {"_index": index, "fields": fields}
    if rank < _LEG:
        hit["matched_queries"] = {LEXICAL: _BEST_BM25 * falls}
    return hit


def _kept(number: int) -> str:
    """Return a row's binary column as the node gives it back: base64 for URLs, without padding."""
    row = row_of(passage(number), (), indexed_at=_AT, leads=True)
    return row["kept"].replace("+", "-").replace("/", "_").rstrip("=")


def passage(number: int) -> Passage:
    """Return a passage about what every question asks: the gate looks, and lets it pass."""
    text = passages()[number % len(passages())]
    return Passage(
        passage_id=f"document-{number}#0",
        document_id=f"document-{number}",
        content_hash=f"{number:064x}",
        ordinal=0,
        title="Prior authorization denied, refill too soon, package damaged in delivery",
        heading="What we tell a caller with a reference",
        text=text,
        span=Span(0, len(text)),
        token_count=200,
        source="pharmacy",
        type="article",
        url=None,
        updated_at=_AT,
        labels=(),
    )
