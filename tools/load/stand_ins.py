"""Stand-ins for SageMaker, OpenSearch, DynamoDB and S3 in one process, with the delays of AWS.

They answer the calls that the product makes for an answer. Any other call gets status 501 and is counted: the
load fails by it. OpenSearch's hits are made by the product's own ``rows_of``: each leg has its hundred, some
passages and titles are in two, and scores fall from rank to rank. ``READ_DOCUMENTS`` lead every leg, so every
answer has the same sources.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, lru_cache
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from assistant.aws.dynamodb import Item, Key, key_of
from assistant.aws.opensearch_index import passage_row, row_id, rows_of
from assistant.aws.opensearch_search import LEXICAL, PASSAGE_COSINE, TEXT, TITLE, TITLE_COSINE
from assistant.domain.documents import IndexedDocument
from assistant.http_process import open_socket, read_body, send_response, serve
from assistant.knowledge.parsing import parse_document
from assistant.local.gateway import CONTENT_TYPE, ResponseCutter, payload_part
from tools.load import workload
from tools.load.child import read_plan, run_child

EMBEDDING_S = 0.015
SEARCH_S = 0.010
FIRST_TOKEN_S = 0.150
TOKEN_S = 0.020
STORE_S = 0.005
SEARCHES = 2
"""Calls of the index for a question: the search, and the documents to read."""
ADDED_TO_MS = (EMBEDDING_S + SEARCHES * SEARCH_S + FIRST_TOKEN_S) * 1000
"""What the stand-ins take until the first token; all above it is added."""
RECORDS_TABLE = "load-records"
_LARGEST_BODY_BYTES = 32 * 1024 * 1024
_MOST_CONNECTIONS = 8_000

# --- OpenSearch -----------------------------------------------------------------------------------------


_LEG = 100
_IN_BOTH = 40
_NUMBERS = 2 * _LEG - _IN_BOTH
_ANSWERS = 8
"""Different sets of hits, which take turns."""
_BEST_COSINE = 0.78
_BEST_BM25 = 19.0


@lru_cache(maxsize=_ANSWERS)
def hybrid_hits(index: str, *, seed: int) -> bytes:
    """Return what the node answers to a search: 320 hits, fields and scores as the adapter asks for them."""
    first, others = list(range(workload.READ_DOCUMENTS)), list(range(workload.READ_DOCUMENTS, _NUMBERS))
    for numbers in (first, others):
        random.Random(seed).shuffle(numbers)
    ranked = list(enumerate([*first, *others]))
    return (
        _hits([_hit(index, number, rank) for rank, number in ranked])
        + b","
        + _hits([_title_hit(index, number, rank) for rank, number in ranked])
    )


@cache
def stored_hits(index: str, document_id: str) -> bytes:
    """Return the hits of a whole document."""
    stored = workload.document(int(document_id.rpartition("-")[2]))
    indexed = IndexedDocument(
        card=stored.card, title_vectors=[()], passages=[(passage, ()) for passage in stored.passages]
    )
    hits: list[dict[str, Any]] = []
    for place, row in enumerate(rows_of(indexed, indexed_at=workload.AT)):
        fields = {"row_id": [row.row_id]}
        fields |= {name: [_column(row.body[name])] for name in ("kept", "card") if name in row.body}
        hits.append({"_index": index, "fields": fields, "sort": [document_id, place]})
    return _hits(hits)


def _hits(hits: Sequence[object]) -> bytes:
    return b",".join(map(orjson.dumps, hits))


def _hit(index: str, number: int, rank: int) -> dict[str, Any]:
    row = passage_row(workload.document(number).passages[0], (), indexed_at=workload.AT)
    fields = {"row_id": [f"document-{number}#0"], "kept": [_column(row.body["kept"])]}
    return _ranked(index, fields, rank, cosine=PASSAGE_COSINE, queries=(LEXICAL,))


def _title_hit(index: str, number: int, rank: int) -> dict[str, Any]:
    fields = {"row_id": [row_id(f"document-{number}", "title", 0)]}
    return _ranked(index, fields, rank, cosine=TITLE_COSINE, queries=(TITLE, TEXT))


def _ranked(
    index: str, fields: dict[str, list[str]], rank: int, *, cosine: str, queries: Sequence[str]
) -> dict[str, Any]:
    falls = 1.0 - rank / (4 * _LEG)
    hit: dict[str, Any] = {"_index": index, "fields": fields | {cosine: [_BEST_COSINE * falls]}}
    return hit | ({"matched_queries": dict.fromkeys(queries, _BEST_BM25 * falls)} if rank < _LEG else {})


def _column(packed: str) -> str:
    """Return a binary column as the node gives it back: base64 for URLs, without padding."""
    return packed.replace("+", "-").replace("/", "_").rstrip("=")


# --- S3 -------------------------------------------------------------------------------------------------


_KEY = re.compile(r"/load-documents/.*([0-9a-f]{64})/(document|parsed)")


@cache
def stored_objects() -> dict[tuple[str, str], Response]:
    """Return canonical document and parsed text of every document that a source shows."""
    objects: dict[tuple[str, str], Response] = {}
    for number in range(workload.READ_DOCUMENTS):
        made = workload.made_document(number)
        name = hashlib.sha256(made.document_id.encode()).hexdigest()
        contents = {"document": made.model_dump(mode="json"), "parsed": asdict(parse_document(made))}
        for kind, fields in contents.items():
            content = orjson.dumps(fields)
            checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
            objects[name, kind] = _json(content, headers={"x-amz-checksum-sha256": checksum})
    return objects


# --- SageMaker ------------------------------------------------------------------------------------------


DIMENSIONS = 384
_CHUNK = {
    "id": "chatcmpl-7f1d2c3b4a5968778695a4b3c2d1e0f1",
    "object": "chat.completion.chunk",
    "created": 1_790_000_000,
    "model": "load",
}


def sse_chunk(text: str | None, *, finish_reason: str | None = None) -> bytes:
    """Return one server-sent event of a streamed chat completion."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return b"data: " + orjson.dumps(_CHUNK | {"choices": [choice]}) + b"\n\n"


def framed(events: bytes, *, cutter: ResponseCutter) -> bytes:
    """Return server-sent events in payload parts, cut at random bytes: one to three."""
    return b"".join(map(payload_part, cutter.cut(events)))


class AnswerFrames:
    """The framed tokens of every variant of an answer, by its length."""

    def __init__(self, *, seed: int = 0) -> None:
        self._cutter = ResponseCutter(seed)
        self._frames: dict[tuple[int, int], list[bytes]] = {}

    def of(self, tag: str, *, tokens: int) -> list[bytes]:
        """Return an answer's pieces as they are sent one after the other: the last one ends the stream."""
        key = workload.variant_of(tag), tokens - 1
        if key not in self._frames:
            *pieces, last = map(sse_chunk, workload.later_pieces(*key))
            self._frames[key] = [self._framed(piece) for piece in (*pieces, last + _tail(tokens))]
        return [self._framed(sse_chunk(workload.first_piece(tag))), *self._frames[key]]

    def _framed(self, events: bytes) -> bytes:
        return framed(events, cutter=self._cutter)


def _tail(tokens: int) -> bytes:
    """Return what follows the last token: why it ended, what it used, the end mark."""
    usage = {"prompt_tokens": 600, "completion_tokens": tokens, "total_tokens": 600 + tokens}
    last = orjson.dumps(_CHUNK | {"choices": [], "usage": usage})
    return sse_chunk(None, finish_reason="stop") + b"data: " + last + b"\n\ndata: [DONE]\n\n"


@cache
def unit_vector(number: int) -> list[float]:
    """Return a unit vector, shape (384,)."""
    chosen = random.Random(number)
    values = [chosen.gauss(0.0, 1.0) for _ in range(DIMENSIONS)]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


# --- DynamoDB -------------------------------------------------------------------------------------------
#
# It knows the calls that an answer makes, and no others. Tables are in memory. Another operation, condition
# or field raises UnknownCallError: then this module must learn it, or the adapter is wrong. Why moto, which
# serves the tests, does not serve the load: docs/decisions/0066-one-load-generator.md.


_FREE = "attribute_not_exists(pk)"
_COUNTED = "ADD readers :value SET expires_at = :expiry"
_KEY_CONDITIONS: Mapping[str, Callable[[Item, Mapping[str, str]], bool]] = {
    "pk = :pk": lambda _, __: True,
    "listed = :kind": lambda item, values: item.get("listed", {}).get("S") == values[":kind"],
    "pk = :pk AND begins_with(sk, :prefix)": lambda item, values: item["sk"]["S"].startswith(
        values[":prefix"]
    ),
    "pk = :pk AND sk BETWEEN :first AND :head": lambda item, values: (
        values[":first"] <= item["sk"]["S"] <= values[":head"]
    ),
    "#state = :state AND sk BETWEEN :after AND :until": lambda item, values: (
        item["state"]["S"] == values[":state"] and values[":after"] <= item["sk"]["S"] <= values[":until"]
    ),
}
_QUERY_FIELDS = {
    *("TableName", "KeyConditionExpression", "ExpressionAttributeNames", "ExpressionAttributeValues"),
    *("IndexName", "Select", "ConsistentRead", "ScanIndexForward", "Limit"),
}
_PUT_FIELDS = {"TableName", "Item", "ConditionExpression"}
Body = Mapping[str, Any]


class UnknownCallError(Exception):
    """A call that this stand-in does not know."""


class RefusedError(Exception):
    """DynamoDB refuses the call; the message is its error's code, ``fields`` the rest of its body."""

    def __init__(self, code: str, **fields: Any) -> None:
        super().__init__(code)
        self.fields = fields


class Tables:
    """All tables of the account; one is made when it is first named."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, dict[str, Item]]] = defaultdict(lambda: defaultdict(dict))
        """By table, partition key and sort key."""
        self._done: set[str] = set()
        self._operations: Mapping[str, Callable[[Body], Body]] = {
            "PutItem": self._put,
            "GetItem": lambda call: _found("Item", self._get(call["TableName"], call["Key"])),
            "UpdateItem": self._count,
            "Query": self._query,
            "BatchGetItem": self._batch_get,
            "BatchWriteItem": self._batch_write,
            "TransactWriteItems": self._transact,
        }

    def apply(self, operation: str, call: Body) -> Body:
        """Return the response's fields. Raises RefusedError, UnknownCallError."""
        if operation not in self._operations:
            raise UnknownCallError(operation)
        return self._operations[operation](call)

    def count(self, table: str, *, sort: str) -> int:
        """Return how many items of a table have this sort key."""
        return sum(sort in partition for partition in self.items[table].values())

    def _get(self, table: str, key: Item) -> Item | None:
        partition, sort = key_of(key)
        return self.items[table][partition].get(sort)

    def _keep(self, table: str, item: Item) -> None:
        partition, sort = key_of(item)
        self.items[table][partition][sort] = item

    def _may_put(self, put: Body) -> bool:
        _know(put, _PUT_FIELDS)
        if put.get("ConditionExpression", _FREE) != _FREE:
            raise UnknownCallError(put["ConditionExpression"])
        return "ConditionExpression" not in put or self._get(put["TableName"], put["Item"]) is None

    def _put(self, call: Body) -> Body:
        if not self._may_put(call):
            raise RefusedError("ConditionalCheckFailedException")
        self._keep(call["TableName"], call["Item"])
        return {}

    def _count(self, call: Body) -> Body:
        if call["UpdateExpression"] != _COUNTED:
            raise UnknownCallError(call["UpdateExpression"])
        values = call["ExpressionAttributeValues"]
        item = self._get(call["TableName"], call["Key"]) or {}
        readers = int(item.get("readers", {"N": "0"})["N"]) + int(values[":value"]["N"])
        changed = {"readers": {"N": str(readers)}, "expires_at": values[":expiry"]}
        self._keep(call["TableName"], {**call["Key"], **item, **changed})
        return {}

    def _query(self, call: Body) -> Body:
        _know(call, _QUERY_FIELDS)
        if (condition := call["KeyConditionExpression"]) not in _KEY_CONDITIONS:
            raise UnknownCallError(condition)
        values = {name: value["S"] for name, value in call["ExpressionAttributeValues"].items()}
        table, matches = self.items[call["TableName"]], _KEY_CONDITIONS[condition]
        partitions = [table[values[":pk"]]] if ":pk" in values else [*table.values()]
        items = [item for partition in partitions for item in partition.values() if matches(item, values)]
        items = sorted(items, key=key_of, reverse=not call.get("ScanIndexForward", True))[: call.get("Limit")]
        return {"Items": items, "Count": len(items)}

    def _batch_get(self, call: Body) -> Body:
        responses: dict[str, list[Item]] = {}
        for table, wanted in call["RequestItems"].items():
            items = [self._get(table, key) for key in wanted["Keys"]]
            responses[table] = [item for item in items if item is not None]
        return {"Responses": responses, "UnprocessedKeys": {}}

    def _batch_write(self, call: Body) -> Body:
        for table, writes in call["RequestItems"].items():
            for write in writes:
                _know(write, {"PutRequest"})
                self._keep(table, write["PutRequest"]["Item"])
        return {"UnprocessedItems": {}}

    def _transact(self, call: Body) -> Body:
        """Put all items or none. The same token twice is one transaction."""
        if call["ClientRequestToken"] in self._done:
            return {}
        puts: list[Body] = []
        for action in call["TransactItems"]:
            _know(action, {"Put"})
            puts.append(action["Put"])
        keys: list[Key] = [key_of(put["Item"]) for put in puts]
        if len(set(keys)) < len(keys):
            raise RefusedError("ValidationException")
        allowed = [self._may_put(put) for put in puts]
        if not all(allowed):
            reasons = [{"Code": "None" if may else "ConditionalCheckFailed"} for may in allowed]
            raise RefusedError("TransactionCanceledException", CancellationReasons=reasons)
        for put in puts:
            self._keep(put["TableName"], put["Item"])
        self._done.add(call["ClientRequestToken"])
        return {}


def _found(name: str, value: Item | None) -> Body:
    return {} if value is None else {name: value}


def _know(call: Body, fields: set[str]) -> None:
    if unknown := set(call) - fields:
        raise UnknownCallError(f"the fields {sorted(unknown)}")


# --- all of them on one port ----------------------------------------------------------------------------


class StandIns:
    """The ASGI application of all stand-ins."""

    def __init__(self, *, jwks: dict[str, Any], index: str) -> None:
        self.delayed, self.tokens = True, workload.ANSWER_TOKENS
        self.tables = Tables()
        self.unknown: Counter[str] = Counter()
        """Calls that nothing here knows, and how often they came."""
        self._jwks = jwks
        self._index = index
        self._frames = AnswerFrames()
        self._searches = 0
        self._embeddings = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive, limit_bytes=_LARGEST_BODY_BYTES)
        if body is None:
            return
        path, target = str(scope["path"]), Headers(scope=scope).get("x-amz-target", "")
        if path.endswith("/invocations-response-stream"):
            await self._stream(body, send)
            return
        try:
            delay_s, response = self._response(path, target, body)
        except (KeyError, ValueError, UnknownCallError) as error:
            self.unknown[f"{target or path}: {type(error).__name__} {error}"] += 1
            delay_s, response = 0.0, Response(status_code=501)
        if self.delayed and delay_s:
            await asyncio.sleep(delay_s)
        await send_response(response, send)

    def _response(self, path: str, target: str, body: bytes) -> tuple[float, Response]:
        """Return a response and how long it takes. Raises UnknownCallError, KeyError, ValueError."""
        if path.endswith("/invocations"):
            texts = orjson.loads(body)["inputs"]
            self._embeddings += 1
            return EMBEDDING_S, _json([unit_vector(self._embeddings % 16)] * len(texts))
        if path.endswith("/_search"):
            return SEARCH_S, _json(self._found(body))
        if path.endswith("/_mapping"):
            return SEARCH_S, _json({self._index: {}})
        if target.startswith("DynamoDB"):
            return STORE_S, self._stored(target.rpartition(".")[2], body)
        if key := _KEY.match(path):
            return STORE_S, stored_objects()[key[1], key[2]]
        if path == "/jwks.json":
            return 0.0, _json(self._jwks)
        if path == "/control":
            return 0.0, self._control(body)
        raise UnknownCallError(path)

    def _found(self, body: bytes) -> bytes:
        if b'"aggs"' in body:  # the abbreviations, which are read beside the questions
            return b'{"timed_out":false,"aggregations":{"values":{"buckets":[]}}}'
        if b'"hybrid"' in body:
            self._searches += 1
            hits = hybrid_hits(self._index, seed=self._searches % _ANSWERS)
        else:
            clauses = orjson.loads(body)["query"]["bool"]["filter"]
            hits = b",".join(stored_hits(self._index, name) for name in clauses[0]["terms"]["document_id"])
        return b'{"timed_out":false,"hits":{"hits":[%s]}}' % hits

    def _stored(self, operation: str, body: bytes) -> Response:
        status = 200
        try:
            fields = self.tables.apply(operation, orjson.loads(body))
        except RefusedError as error:
            fields = {"__type": f"com.amazonaws.dynamodb.v20120810#{error}", "message": "", **error.fields}
            status = 400
        content = orjson.dumps(fields)
        return _json(content, status=status, headers={"x-amz-crc32": str(zlib.crc32(content))})

    def _control(self, body: bytes) -> Response:
        """Switch delays and length of answers where asked; return what was done and kept."""
        if body:
            wanted = orjson.loads(body)
            self.delayed, self.tokens = bool(wanted["delayed"]), int(wanted["tokens"])
        records = self.tables.count(RECORDS_TABLE, sort="answer")
        return _json({"records": records, "unknown": dict(self.unknown)})

    async def _stream(self, body: bytes, send: Send) -> None:
        """Send the answer, token after token, against an absolute schedule where there are delays."""
        frames = self._frames.of(workload.tag_in(body), tokens=self.tokens)
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"x-amzn-invoked-production-variant", b"AllTraffic"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        due_s = asyncio.get_running_loop().time() + FIRST_TOKEN_S
        for place, frame in enumerate(frames):
            left_s = due_s + place * TOKEN_S - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, left_s) if self.delayed else 0.0)
            more = place + 1 < len(frames)
            await send({"type": "http.response.body", "body": frame, "more_body": more})


def _json(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return Response(body, status, headers, "application/json")


async def main(plan: dict[str, Any]) -> None:
    app = StandIns(jwks=plan["jwks"], index=plan["index"])
    listener = open_socket("127.0.0.1", 0)
    await serve(app, listener, shutdown_timeout_s=1, most_connections=_MOST_CONNECTIONS)


if __name__ == "__main__":
    run_child(main(read_plan()))
