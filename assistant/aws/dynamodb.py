"""DynamoDB's JSON protocol, signed and sent without botocore, and whole reads of one table.

For the calls that every answer makes: botocore's serializers, parsers, hooks and retry handlers cost several
times what a call itself costs. Together with the SageMaker client this saves 3.6 ms of CPU an answer
(docs/decisions/0010-lean-dynamodb-calls.md). Credentials and endpoint come from the aiobotocore client.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import orjson

from assistant.aws.signing import POST_ERRORS, SignedPosts
from assistant.domain.errors import DependencyError

_ATTEMPTS = 3
_FIRST_WAIT_S = 0.05
"""The longest wait before the second attempt; it doubles with each further one. Half of it is random."""
_LONGEST_WAIT_S = 1.0
_ATTEMPT_TIMEOUT_S = 1.5
"""DynamoDB answers in milliseconds; all attempts together stay below 5 s."""
_KEEP_ALIVE_S = 30.0
_CONNECTIONS = 64
_CONTENT_TYPE = "application/x-amz-json-1.0"
_KEYS_A_CALL = 100
"""Limit of BatchGetItem."""
_GET_ATTEMPTS = 4
ITEMS_A_CALL = 25
"""Limit of BatchWriteItem; TransactWriteItems takes more."""
_COMPRESSED_ABOVE_BYTES = 32 * 1024
"""Below it, compressing costs more CPU than the saved write units are worth."""
_PART_BYTES = 350 * 1024
"""Leaves room for keys and attributes: an item may have 400 KB (409,600 bytes), its names included."""

Item = dict[str, dict[str, Any]]
"""Attributes with their types, as DynamoDB's JSON has them: ``{"pk": {"S": "…"}, "n": {"N": "7"}}``."""
Key = tuple[str, str]
"""Values of ``pk`` and ``sk``."""

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
    """DynamoDB refused a call. ``code`` is DynamoDB's, without the name space."""

    def __init__(self, code: str, *, fields: Mapping[str, Any], server_date: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.fields = fields
        """The response's other fields, e.g. ``CancellationReasons``."""
        self.server_date = server_date
        """The response's ``Date`` header."""


class _NoResponseError(Exception):
    """No usable response came: DynamoDB may have done the call or not."""


class DynamoDbCalls:
    """Calls to the endpoint, and with the credentials, of an aiobotocore DynamoDB client.

    Every call must be safe to repeat: it is made up to three times when DynamoDB throttles, fails or does not
    respond. Then it raises ``unavailable``; any other refusal is a DynamoDbRefusal.
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
        """Return the response's fields. ``operation`` is DynamoDB's name, e.g. ``GetItem``."""
        body = orjson.dumps(request)
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await back_off(attempt)
            try:
                return await self._attempt(operation, body)
            except _NoResponseError as error:
                reason = str(error)
            except DynamoDbRefusal as refusal:
                if refusal.code not in TRANSIENT and not self._posts.learn_skew(
                    refusal.code, refusal.server_date
                ):
                    raise
                reason = refusal.code
        raise self._unavailable(f"DynamoDB {operation} failed ({reason}). Retry.")

    async def ask(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response of a call without a condition: every refusal is ``unavailable``."""
        try:
            return await self.call(operation, request)
        except DynamoDbRefusal as refusal:
            raise self._unavailable(f"DynamoDB refused {operation} ({refusal.code}).") from refusal

    async def call_if(self, operation: str, request: Mapping[str, Any]) -> bool:
        """Make a write with a condition; return False when the condition does not hold."""
        try:
            await self.call(operation, request)
        except DynamoDbRefusal as refusal:
            if refusal.code == "ConditionalCheckFailedException":
                return False
            raise self._unavailable(f"DynamoDB refused {operation} ({refusal.code}).") from refusal
        return True

    async def _attempt(self, operation: str, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": _CONTENT_TYPE, "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
        try:
            async with await self._posts.send("/", body=body, headers=headers) as response:
                content = await response.read()
        except POST_ERRORS as error:
            raise _NoResponseError(type(error).__name__) from error
        return _parse(response, content)


async def back_off(attempt: int) -> None:
    """Wait before retry 1, 2, …, with jitter."""
    longest_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt - 1))
    await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)


def _parse(response: aiohttp.ClientResponse, content: bytes) -> dict[str, Any]:
    checksum = response.headers.get("x-amz-crc32")
    if checksum is not None and checksum != str(zlib.crc32(content)):
        raise _NoResponseError("wrong checksum")
    try:
        fields = cast("dict[str, Any]", orjson.loads(content))
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        raise _NoResponseError(f"status {response.status}, no JSON object")
    if response.status == 200:
        return fields
    code = str(fields.get("__type", "")).rpartition("#")[2]
    if response.status >= 500 or not code:
        raise _NoResponseError(f"status {response.status}")
    raise DynamoDbRefusal(code, fields=fields, server_date=response.headers.get("Date"))


class DynamoDbTable:
    """One table, read consistently. ``client`` is an aiobotocore DynamoDB client.

    Its methods raise ``unavailable`` as ``DynamoDbCalls`` does.
    """

    def __init__(self, client: Any, *, name: str, unavailable: type[DependencyError]) -> None:
        self.calls = DynamoDbCalls(client, unavailable=unavailable)
        self.name = name
        self.unavailable = unavailable

    async def close(self) -> None:
        await self.calls.close()

    async def get(self, key: Key) -> Item | None:
        request = {"TableName": self.name, "Key": typed_key(key), "ConsistentRead": True}
        return (await self.calls.ask("GetItem", request)).get("Item")

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Return the items that exist. Raises ``unavailable`` when keys stay unprocessed."""
        distinct = list(dict.fromkeys(keys))
        chunks = [distinct[start : start + _KEYS_A_CALL] for start in range(0, len(distinct), _KEYS_A_CALL)]
        found: dict[Key, Item] = {}
        for items in await asyncio.gather(*(self._get_chunk(chunk) for chunk in chunks)):
            found |= {key_of(item): item for item in items}
        return found

    async def query(self, request: Mapping[str, Any], *, limit: int | None = None) -> AsyncGenerator[Item]:
        """Yield the items of a query over all its pages, ``limit`` at most.

        ``request`` has what DynamoDB's Query takes, without the table.
        """
        left = limit
        async for page in self._pages(request, limit=limit):
            items: list[Item] = page.get("Items", [])
            for item in items if left is None else items[:left]:
                yield item
            if left is not None:
                left -= len(items)
                if left <= 0:
                    return

    async def count(self, request: Mapping[str, Any]) -> int:
        """Return how many items a query has, over all its pages."""
        return sum([int(page["Count"]) async for page in self._pages({"Select": "COUNT", **request})])

    async def _pages(
        self, request: Mapping[str, Any], *, limit: int | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        query: dict[str, Any] = {"TableName": self.name, **request}
        if "IndexName" not in query:
            query["ConsistentRead"] = True
        if limit is not None:
            query["Limit"] = limit
        while True:
            page = await self.calls.ask("Query", query)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def bodies(self, items: Sequence[Item]) -> list[bytes]:
        """Return the bodies of items of this table; parts are fetched."""
        keys = [[(item["pk"]["S"], name) for name in part_names(item)] for item in items]
        parts = await self.get_many([key for of_item in keys for key in of_item])
        try:
            return [
                load_body(item, [parts[key] for key in of_item])
                for item, of_item in zip(items, keys, strict=True)
            ]
        except KeyError:
            raise self.unavailable("A part of a stored body is missing.") from None

    async def _get_chunk(self, keys: Sequence[Key]) -> list[Item]:
        items: list[Item] = []

        async def get(wanted: list[Item]) -> list[Item]:
            request = {"RequestItems": {self.name: {"Keys": wanted, "ConsistentRead": True}}}
            response = await self.calls.ask("BatchGetItem", request)
            items.extend(response.get("Responses", {}).get(self.name, []))
            return response.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])

        await self._until_processed([typed_key(key) for key in keys], get, attempts=_GET_ATTEMPTS)
        return items

    async def put_many(self, items: Sequence[Item], *, attempts: int) -> None:
        """Overwrite items with different keys. ``attempts`` bounds those in which DynamoDB writes none."""

        async def put(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
            response = await self.calls.ask("BatchWriteItem", {"RequestItems": {self.name: requests}})
            return response.get("UnprocessedItems", {}).get(self.name, [])

        requests = [{"PutRequest": {"Item": item}} for item in items]
        for start in range(0, len(requests), ITEMS_A_CALL):
            await self._until_processed(requests[start : start + ITEMS_A_CALL], put, attempts=attempts)

    async def _until_processed(
        self,
        entries: list[dict[str, Any]],
        call: Callable[[list[dict[str, Any]]], Awaitable[list[dict[str, Any]]]],
        *,
        attempts: int,
    ) -> None:
        """Repeat ``call``, which returns the unprocessed entries, until there are none."""
        fruitless = 0
        while entries:
            if fruitless:
                await back_off(fruitless)
            left = await call(entries)
            fruitless = fruitless + 1 if len(left) == len(entries) else 0
            entries = left
            if fruitless >= attempts:
                raise self.unavailable(f"DynamoDB throttles the table {self.name}. Retry.")


def typed_key(key: Key) -> Item:
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}


def key_of(item: Item) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


def partition_query(condition: str, **values: str) -> dict[str, Any]:
    """Return the query with this key condition; ``values`` fill its ``:placeholders``."""
    return {
        "KeyConditionExpression": condition,
        "ExpressionAttributeValues": {f":{name}": {"S": value} for name, value in values.items()},
    }


def prefix_query(partition: str, *, prefix: str) -> dict[str, Any]:
    """Return the query for the items of a partition whose sort key begins with ``prefix``."""
    return partition_query("pk = :pk AND begins_with(sk, :prefix)", pk=partition, prefix=prefix)


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A body of any size in items of at most 400 KB: plain while small, else compressed, else in parts."""

    attributes: Item
    """Of the item itself: the body, or the sort keys of its parts."""
    parts: tuple[tuple[str, Item], ...] = ()
    """Sort key and attributes of further items of the same partition, to be written before the item."""


def store_text(text: str) -> StoredBody:
    """Keep a small text readable in the table."""
    body = text.encode()
    if len(body) <= _COMPRESSED_ABOVE_BYTES:
        return StoredBody({"body": {"S": text}})
    return _compress(body)


def store_bytes(body: bytes) -> StoredBody:
    if len(body) <= _COMPRESSED_ABOVE_BYTES:
        return StoredBody({"body": _binary(body)})
    return _compress(body)


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


def _compress(body: bytes) -> StoredBody:
    """Compress, and cut what is still too large. The parts' sort keys hold the content's hash, so that a
    repeated write never meets other content."""
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
