"""OpenSearch's answers to the adapter's hybrid search: passages of 150 words, raw scores of both legs."""

from __future__ import annotations

import orjson

from benchmarks.load.http_server import HttpConnection, Request, response
from benchmarks.load.pacing import Pace
from benchmarks.load.questions import passages

_BARE_HITS = 5


class OpenSearchStandIn:
    """Answers every search with passages of the pharmacy."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        hits = [{"_source": {"text": text}} for text in passages()[:_BARE_HITS]]
        self._bare = response(orjson.dumps({"took": 9, "hits": {"hits": hits}}))

    def answer(self, request: Request, connection: HttpConnection) -> None:
        assert request.path
        self._pace.later(self._pace.search_s, connection.send, self._bare)
