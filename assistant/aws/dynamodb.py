"""DynamoDB's JSON protocol, lean: sign, send, parse. For the calls that every answer makes.

botocore's serializers, parsers, hooks and retry handlers cost several times what the call itself does
(docs/decisions/0010-lean-dynamodb-calls.md has the figures); its credential chain and its choice of endpoint
are kept: both come from the aiobotocore client that this stands on."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import zlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import orjson

from assistant.aws.signed_posts import POST_ERRORS, SignedPosts
from assistant.domain.errors import DependencyError

_ATTEMPTS = 3
_FIRST_WAIT_S = 0.05
"""Before the second attempt at most this, before the third twice it, and so on: half of it is random."""
_LONGEST_WAIT_S = 1.0
_ATTEMPT_TIMEOUT_S = 1.5
"""DynamoDB answers in milliseconds; all attempts together stay below 5 s."""
_KEEP_ALIVE_S = 30.0
_CONNECTIONS = 64
_CONTENT_TYPE = "application/x-amz-json-1.0"

Item = dict[str, dict[str, Any]]
"""Attributes with their types, as DynamoDB's JSON has them: ``{"pk": {"S": "…"}, "n": {"N": "7"}}``."""

THROTTLING = frozenset(
    {
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingError",
        "ThrottlingException",
    }
)
TRANSIENT = (
    THROTTLING
    | {"InternalServerError", "InternalServerErrorException", "ServiceUnavailable"}
    | {"TransactionInProgressException"}
)


class DynamoDbRefusal(Exception):
    """DynamoDB refused a call. ``code`` is its own, without the name space."""

    def __init__(self, code: str, *, fields: Mapping[str, Any], server_date: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.fields = fields
        """The refusal's own, e.g. ``CancellationReasons``."""
        self.server_date = server_date
        """When it was refused by the server's clock, as HTTP writes dates."""


class _Unanswered(Exception):
    """No usable answer came: what was asked may have been done or not."""


class DynamoDbCalls:
    """Calls to the endpoint, and with the credentials, of an aiobotocore DynamoDB client.

    Every call must be safe to repeat: it is made up to three times when DynamoDB throttles, fails or
    does not answer. Errors: ``unavailable`` then, DynamoDbRefusal for every other refusal.
    """

    def __init__(
        self,
        client: Any,
        *,
        unavailable: type[DependencyError],
        attempt_timeout_s: float = _ATTEMPT_TIMEOUT_S,
    ) -> None:
        self._unavailable = unavailable
        self._posts = SignedPosts(
            client,
            connections=_CONNECTIONS,
            keep_alive_s=_KEEP_ALIVE_S,
            timeout=aiohttp.ClientTimeout(total=attempt_timeout_s),
        )

    async def close(self) -> None:
        await self._posts.close()

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response's fields. ``operation`` is DynamoDB's own name, e.g. ``GetItem``."""
        body = orjson.dumps(request)
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await back_off(attempt)
            try:
                return await self._attempt(operation, body)
            except _Unanswered as error:
                reason = str(error)
            except DynamoDbRefusal as refusal:
                if refusal.code not in TRANSIENT and not self._posts.learn_skew(
                    refusal.code, refusal.server_date
                ):
                    raise
                reason = refusal.code
        raise self._unavailable(f"DynamoDB did not do {operation} ({reason}). Try again.")

    async def ask(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response of a call that has no condition: every refusal of it is ``unavailable``."""
        try:
            return await self.call(operation, request)
        except DynamoDbRefusal as refusal:
            raise self._unavailable(f"DynamoDB refused {operation} ({refusal.code}).") from refusal

    async def _attempt(self, operation: str, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": _CONTENT_TYPE, "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
        try:
            async with await self._posts.send("/", body=body, headers=headers) as response:
                content = await response.read()
        except POST_ERRORS as error:
            raise _Unanswered(type(error).__name__) from error
        return _parse(response, content)


async def back_off(attempt: int) -> None:
    """Wait before attempt 1, 2, … of those that follow the first."""
    longest_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt - 1))
    await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)


def _parse(response: aiohttp.ClientResponse, content: bytes) -> dict[str, Any]:
    checksum = response.headers.get("x-amz-crc32")
    if checksum is not None and checksum != str(zlib.crc32(content)):
        raise _Unanswered("wrong checksum")
    fields = _json_object(content)
    if fields is None:
        raise _Unanswered(f"status {response.status}, no JSON object")
    if response.status == 200:
        return fields
    code = str(fields.get("__type", "")).rpartition("#")[2]
    if response.status >= 500 or not code:
        raise _Unanswered(f"status {response.status}")
    raise DynamoDbRefusal(code, fields=fields, server_date=response.headers.get("Date"))


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        fields: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", fields) if isinstance(fields, dict) else None


# Bodies of any size in items of at most 400 KB: plain while small, packed when large, in parts when huge.


_PACKED_ABOVE_BYTES = 32 * 1024
"""Below it packing costs more CPU than the write units it saves are worth."""
_PART_BYTES = 350 * 1024
"""Leaves room for keys and attributes: an item may have 400 KB (409,600 bytes), its names included."""


@dataclass(frozen=True, slots=True)
class StoredBody:
    attributes: Item
    """For the item itself: the body, or the names of its parts."""
    parts: tuple[tuple[str, Item], ...] = ()
    """Sort key and attributes of further items of the same partition, to be written before the item."""


def store_text(text: str) -> StoredBody:
    """Keep a text; while it is small it can be read in the table as it is."""
    body = text.encode()
    if len(body) <= _PACKED_ABOVE_BYTES:
        return StoredBody({"body": {"S": text}})
    return _pack(body)


def store_bytes(body: bytes) -> StoredBody:
    """Keep bytes."""
    if len(body) <= _PACKED_ABOVE_BYTES:
        return StoredBody({"body": _binary(body)})
    return _pack(body)


def part_names(item: Item) -> list[str]:
    """Return the sort keys of the items that hold the body's parts; none for a body in one piece."""
    listed: list[dict[str, Any]] = item["parts"]["L"] if "parts" in item else []
    return [str(name["S"]) for name in listed]


def load_body(item: Item, parts: Sequence[Item] = ()) -> bytes:
    """Return the body of an item; ``parts`` in the order of ``part_names``."""
    if "body" in item:
        body = item["body"]
        return str(body["S"]).encode() if "S" in body else base64.b64decode(body["B"])
    pieces = [item["packed"]] if "packed" in item else [part["piece"] for part in parts]
    return zlib.decompress(b"".join(base64.b64decode(piece["B"]) for piece in pieces))


def _pack(body: bytes) -> StoredBody:
    """Compress, and cut what is still too large. The parts' names hold the content's hash, so that they
    can be written again but never meet other content."""
    packed = zlib.compress(body, level=1)
    if len(packed) <= _PART_BYTES:
        return StoredBody({"packed": _binary(packed)})
    digest = hashlib.sha256(packed).hexdigest()
    pieces = [packed[start : start + _PART_BYTES] for start in range(0, len(packed), _PART_BYTES)]
    names = [f"part#{digest}#{number:03d}" for number in range(len(pieces))]
    return StoredBody(
        {"parts": {"L": [{"S": name} for name in names]}},
        tuple((name, {"piece": _binary(piece)}) for name, piece in zip(names, pieces, strict=True)),
    )


def _binary(content: bytes) -> dict[str, Any]:
    return {"B": base64.b64encode(content).decode()}


# Whole reads: every page of a query, every key of a batch.


Key = tuple[str, str]
"""Values of ``pk`` and ``sk``."""
_MOST_KEYS = 100
_ATTEMPTS_WITHOUT_PROGRESS = 4


class DynamoDbTable:
    """Reading one table, always consistently."""

    def __init__(self, calls: DynamoDbCalls, *, name: str, unavailable: type[DependencyError]) -> None:
        self._calls = calls
        self._name = name
        self._unavailable = unavailable

    async def get(self, key: Key) -> Item | None:
        request = {"TableName": self._name, "Key": typed_key(key), "ConsistentRead": True}
        return (await self._calls.ask("GetItem", request)).get("Item")

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Return the items that are there. Raises ``unavailable`` when DynamoDB leaves some out for long."""
        distinct = list(dict.fromkeys(keys))
        chunks = [distinct[start : start + _MOST_KEYS] for start in range(0, len(distinct), _MOST_KEYS)]
        found: dict[Key, Item] = {}
        for items in await asyncio.gather(*(self._get_chunk(chunk) for chunk in chunks)):
            found |= {(item["pk"]["S"], item["sk"]["S"]): item for item in items}
        return found

    async def query(self, request: Mapping[str, Any], *, limit: int | None = None) -> AsyncGenerator[Item]:
        """Yield the items of a query over all its pages, ``limit`` at most.

        ``request`` has what DynamoDB's Query takes, without the table.
        """
        asked: dict[str, Any] = {"TableName": self._name, **request}
        if "IndexName" not in asked:
            asked["ConsistentRead"] = True
        while limit is None or limit > 0:
            if limit is not None:
                asked["Limit"] = limit
            page = await self._calls.ask("Query", asked)
            items: list[Item] = page.get("Items", [])
            for item in items:
                yield item
            if "LastEvaluatedKey" not in page:
                return
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]
            limit = None if limit is None else limit - len(items)

    async def count(self, request: Mapping[str, Any]) -> int:
        """Return how many items a query has, over all its pages."""
        asked: dict[str, Any] = {"TableName": self._name, "Select": "COUNT", **request}
        counted = 0
        while True:
            page = await self._calls.ask("Query", asked)
            counted += int(page["Count"])
            if "LastEvaluatedKey" not in page:
                return counted
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def bodies(self, items: Sequence[Item]) -> list[bytes]:
        """Return the bodies of items of this table, parts fetched."""
        keys = [[(item["pk"]["S"], name) for name in part_names(item)] for item in items]
        parts = await self.get_many([key for of_item in keys for key in of_item])
        try:
            return [
                load_body(item, [parts[key] for key in of_item])
                for item, of_item in zip(items, keys, strict=True)
            ]
        except KeyError:
            raise self._unavailable("A part of a stored body is missing.") from None

    async def _get_chunk(self, keys: Sequence[Key]) -> list[Item]:
        wanted: list[Item] = [typed_key(key) for key in keys]
        items: list[Item] = []
        fruitless = 0
        while wanted and fruitless < _ATTEMPTS_WITHOUT_PROGRESS:
            if fruitless:
                await back_off(fruitless)
            request = {"RequestItems": {self._name: {"Keys": wanted, "ConsistentRead": True}}}
            response = await self._calls.ask("BatchGetItem", request)
            items += response.get("Responses", {}).get(self._name, [])
            left: list[Item] = response.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])
            fruitless = fruitless + 1 if len(left) == len(wanted) else 0
            wanted = left
        if wanted:
            raise self._unavailable("DynamoDB throttles reads. Try again.")
        return items


def typed_key(key: Key) -> Item:
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}


def partition_request(partition: str, *, prefix: str) -> dict[str, Any]:
    """Return the query for the items of a partition whose sort key begins with ``prefix``."""
    return {
        "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
        "ExpressionAttributeValues": {":pk": {"S": partition}, ":prefix": {"S": prefix}},
    }
