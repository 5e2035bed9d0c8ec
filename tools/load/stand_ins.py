"""Stand-ins for OpenSearch, S3 and SageMaker, answering as the adapters expect, after the pace's delays.

OpenSearch's hits are made by the product's own ``rows_of``: each leg has its hundred, some passages and
titles are in two, and scores fall from rank to rank. ``READ_DOCUMENTS`` lead every leg, so every answer has
the same sources.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import orjson

from assistant.aws.opensearch_index import passage_row, row_id, rows_of
from assistant.aws.opensearch_search import LEXICAL, PASSAGE_COSINE, TEXT, TITLE, TITLE_COSINE
from assistant.domain.documents import IndexedDocument
from assistant.knowledge.parsing import parse_document
from assistant.local.gateway import CONTENT_TYPE, payload_part
from tools.load import workload
from tools.load.dynamodb import DynamoDbStandIn
from tools.load.http_server import (
    LAST_CHUNK,
    HttpConnection,
    Request,
    chunk,
    read_plan,
    response,
    run_until_told,
    serve,
)
from tools.load.workload import Pace

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
        self._abbreviations = response(orjson.dumps(_aggregated(())))
        hits = [{"_source": {"text": text}} for text in workload.passages()[:_BARE_HITS]]
        self._bare = response(orjson.dumps({"took": 9, "hits": {"hits": hits}}))

    def answer(self, request: Request, connection: HttpConnection) -> None:
        """Every call takes as long; the abbreviations are read beside the questions."""
        self._pace.later(self._pace.search_s, connection.send, self._found(request))

    def _found(self, request: Request) -> bytes:
        if request.path.startswith("/bare/"):
            return self._bare
        if b'"collapse"' in request.body:
            return self._title_cosines
        if b'"aggs"' in request.body:
            return self._abbreviations
        if b'"hybrid"' in request.body:
            self._asked += 1
            return self._answers[self._asked % _ANSWERS]
        clauses = orjson.loads(request.body)["query"]["bool"]["filter"]
        hits = b",".join(stored_hits(self._index, name) for name in clauses[0]["terms"]["document_id"])
        return response(b'{"timed_out":false,"hits":{"hits":[%s]}}' % hits)


def hybrid_answer(index: str, *, seed: int) -> dict[str, Any]:
    """Return what the node answers: 320 hits, fields and scores as the adapter asks for them."""
    chosen = random.Random(seed)
    first, others = list(range(workload.READ_DOCUMENTS)), list(range(workload.READ_DOCUMENTS, _NUMBERS))
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


@cache
def stored_hits(index: str, document_id: str) -> bytes:
    """Return the hits of a whole document, joined by commas."""
    stored = workload.document(int(document_id.rpartition("-")[2]))
    indexed = IndexedDocument(
        card=stored.card, title_vectors=[()], passages=[(passage, ()) for passage in stored.passages]
    )
    hits: list[bytes] = []
    for place, row in enumerate(rows_of(indexed, indexed_at=workload.AT)):
        fields = {"row_id": [row.row_id]}
        fields |= {name: [_column(row.body[name])] for name in ("kept", "card") if name in row.body}
        hits.append(orjson.dumps({"_index": index, "fields": fields, "sort": [document_id, place]}))
    return b",".join(hits)


def _aggregated(buckets: Any) -> dict[str, Any]:
    return {"timed_out": False, "aggregations": {"values": {"buckets": list(buckets)}}}


def _hit(index: str, number: int, *, rank: int) -> dict[str, Any]:
    falls = 1.0 - rank / (4 * _LEG)
    row = passage_row(workload.document(number).passages[0], (), indexed_at=workload.AT)
    fields = {
        "row_id": [f"document-{number}#0"],
        "kept": [_column(row.body["kept"])],
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


# --- S3 -------------------------------------------------------------------------------------------------


_DOCUMENTS = 1_000
"""More than any search finds."""
_KEY = re.compile(r"/([0-9a-f]{64})/(document|parsed)")
_NONE = b"<Error><Code>NoSuchKey</Code><Message>There is no such key.</Message></Error>"


class S3StandIn:
    """Gives the canonical document, or its parsed text, of each document that the searches find."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def answer(self, request: Request, connection: HttpConnection) -> None:
        self._pace.later(self._pace.store_s, connection.send, self._found(request))

    def _found(self, request: Request) -> bytes:
        key = _KEY.search(request.path)
        number = _numbers().get(key[1]) if key is not None else None
        if key is None or number is None:
            return response(_NONE, status="404 Not Found", kind="application/xml")
        return _object(number, parsed=key[2] == "parsed")


@cache
def _numbers() -> dict[str, int]:
    ids = (f"document-{number}" for number in range(_DOCUMENTS))
    return {hashlib.sha256(name.encode()).hexdigest(): number for number, name in enumerate(ids)}


@cache
def _object(number: int, *, parsed: bool) -> bytes:
    made = workload.made_document(number)
    content = orjson.dumps(asdict(parse_document(made)) if parsed else made.model_dump(mode="json"))
    checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return response(content, more=f"x-amz-checksum-sha256: {checksum}\r\n")


# --- SageMaker ------------------------------------------------------------------------------------------


DIMENSIONS = 384
_MOST_PARTS = 3
_STREAM_HEAD = (
    f"HTTP/1.1 200 OK\r\ncontent-type: {CONTENT_TYPE}\r\nx-amzn-invoked-production-variant: AllTraffic\r\n"
    "transfer-encoding: chunked\r\n\r\n"
).encode()


def sse_chunk(text: str | None, *, finish_reason: str | None = None) -> bytes:
    """Return one server-sent event of a streamed chat completion."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    body = {
        "id": "chatcmpl-7f1d2c3b4a5968778695a4b3c2d1e0f1",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "load",
        "choices": [choice],
    }
    return b"data: " + orjson.dumps(body) + b"\n\n"


def tail(tokens: int) -> bytes:
    """Return what follows the last token: why it ended, what it used, the end mark."""
    usage = {"prompt_tokens": 600, "completion_tokens": tokens, "total_tokens": 600 + tokens}
    last = orjson.dumps({"object": "chat.completion.chunk", "choices": [], "usage": usage})
    return sse_chunk(None, finish_reason="stop") + b"data: " + last + b"\n\ndata: [DONE]\n\n"


def framed(events: bytes, *, cuts: random.Random) -> bytes:
    """Return server-sent events in payload parts, cut at random bytes: one to three."""
    count = cuts.randrange(_MOST_PARTS)
    positions = sorted(cuts.sample(range(1, len(events)), count))
    edges = zip([0, *positions], [*positions, len(events)], strict=True)
    return b"".join(payload_part(events[start:end]) for start, end in edges)


class AnswerFrames:
    """The framed tokens of every variant of an answer, by its length."""

    def __init__(self, *, seed: int) -> None:
        self._cuts = random.Random(seed)
        self._frames: dict[tuple[int, int], list[bytes]] = {}
        self._tails: dict[int, bytes] = {}

    def of(self, tag: str, *, tokens: int) -> list[bytes]:
        """Return an answer's ``tokens + 1`` pieces as they are sent one after the other."""
        key = workload.variant_of(tag), tokens - 1
        if key not in self._frames:
            self._frames[key] = [
                chunk(framed(sse_chunk(text), cuts=self._cuts)) for text in workload.later_pieces(*key)
            ]
        first = chunk(framed(sse_chunk(workload.first_piece(tag)), cuts=self._cuts))
        if tokens not in self._tails:
            self._tails[tokens] = chunk(framed(tail(tokens), cuts=self._cuts)) + LAST_CHUNK
        return [first, *self._frames[key], self._tails[tokens]]


class SageMakerStandIn:
    """Answers both operations of the SageMaker Runtime."""

    def __init__(self, pace: Pace, *, seed: int = 0) -> None:
        self._pace = pace
        self._frames = AnswerFrames(seed=seed)
        self._vectors = [response(_vector_body(number)) for number in range(16)]
        self._asked = 0
        self.abandoned = 0
        """Streams whose reader left before the end."""

    def answer(self, request: Request, connection: HttpConnection) -> None:
        if request.path.endswith("/invocations-response-stream"):
            self._stream(request, connection)
            return
        self._asked += 1
        count = len(orjson.loads(request.body)["inputs"])
        body = self._vectors[self._asked % 16] if count == 1 else response(_vector_body(0, count=count))
        self._pace.later(self._pace.embedding_s, connection.send, body)

    def _stream(self, request: Request, connection: HttpConnection) -> None:
        asked = orjson.loads(request.body)
        wanted = int(asked.get("max_tokens") or workload.ANSWER_TOKENS)
        tokens = max(2, min(self._pace.tokens, wanted, workload.ANSWER_TOKENS))
        frames = self._frames.of(workload.tag_in(request.body), tokens=tokens)
        connection.send(_STREAM_HEAD)
        pace = self._pace
        _Stream(self, frames, connection, pace.delayed, pace.token_s).begin(first_s=pace.first_token_s)


@dataclass(slots=True)
class _Stream:
    """One answer on its way, token after token against an absolute schedule."""

    stand_in: SageMakerStandIn
    frames: list[bytes]
    connection: HttpConnection
    delayed: bool
    every_s: float
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    next: int = 0
    due_s: float = 0.0

    def begin(self, *, first_s: float) -> None:
        self.due_s = self.loop.time()
        self._send_after(first_s)

    def _send(self) -> None:
        if self.connection.gone:
            self.stand_in.abandoned += 1
            return
        last = self.next + 2 == len(self.frames)  # the tail follows the last token at once
        frame = self.frames[self.next]
        self.connection.send(frame + self.frames[-1] if last else frame)
        if not last:
            self.next += 1
            self._send_after(self.every_s)

    def _send_after(self, delay_s: float) -> None:
        """Send the next token when it is due; without delays in the loop's next turn, still one by one."""
        if self.delayed:
            self.due_s += delay_s
            self.loop.call_at(self.due_s, self._send)
        else:
            self.loop.call_soon(self._send)


def unit_vector(number: int) -> list[float]:
    """Return a unit vector, shape (384,)."""
    chosen = random.Random(number)
    values = [chosen.gauss(0.0, 1.0) for _ in range(DIMENSIONS)]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def _vector_body(number: int, *, count: int = 1) -> bytes:
    return orjson.dumps([unit_vector(number)] * count)


# --- the process of all of them, on one port ------------------------------------------------------------


class StandIns:
    """Sends each request to the stand-in that it is for."""

    def __init__(self, *, jwks: dict[str, Any], index: str, seed: int = 0) -> None:
        self.pace = Pace()
        self._sagemaker = SageMakerStandIn(self.pace, seed=seed)
        self._opensearch = OpenSearchStandIn(self.pace, index=index)
        self._dynamodb = DynamoDbStandIn(self.pace)
        self._s3 = S3StandIn(self.pace)
        self._jwks = response(orjson.dumps(jwks))
        self._calls: Counter[str] = Counter()

    def answer(self, request: Request, connection: HttpConnection) -> None:
        if request.path.startswith("/endpoints/"):
            self._calls[request.path.rpartition("/")[2]] += 1
            self._sagemaker.answer(request, connection)
        elif target := request.header("x-amz-target"):
            self._calls[target.rpartition(".")[2]] += 1
            self._dynamodb.answer(request, connection, operation=target.rpartition(".")[2])
        elif request.path.startswith("/load-documents/"):
            self._calls["documents"] += 1
            self._s3.answer(request, connection)
        elif request.path == "/jwks.json":
            connection.send(self._jwks)
        elif request.path.startswith("/control/"):
            connection.send(self._control(request))
        else:
            self._calls["search"] += 1
            self._opensearch.answer(request, connection)

    def _control(self, request: Request) -> bytes:
        if request.path == "/control/pace":
            wanted = orjson.loads(request.body)
            self.pace.delayed, self.pace.tokens = bool(wanted["delayed"]), int(wanted["tokens"])
        state = {
            "calls": dict(self._calls),
            "abandoned": self._sagemaker.abandoned,
            "items": self._dynamodb.counts(),
            "refused": self._dynamodb.refused,
        }
        return response(orjson.dumps(state))


async def main(plan: dict[str, Any]) -> None:
    await serve(StandIns(jwks=plan["jwks"], index=plan["index"]).answer)


if __name__ == "__main__":
    run_until_told(main(read_plan()))
