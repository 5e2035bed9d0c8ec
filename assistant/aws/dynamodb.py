"""DynamoDB's JSON protocol without aiobotocore, whole reads of one table, and writes that go out together.

botocore's serializers, parsers, hooks and retry handlers cost several times what a call itself costs: without
them an answer's writes (two batches of events) take 2.3 to 5.2 ms of CPU instead of 10 to 14. Group commit
sends writes that wait at the same time in one call, each with its own result: with 50 answers at once, each
of eight batches, their writes take 6.3 to 7.0 ms an answer instead of 14 to 15. The measurement is in
docs/decisions/0010-lean-dynamodb-calls.md. botocore signs; credentials and endpoint are the client's.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import uuid
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, ClassVar, cast

import aiohttp
import orjson
from pydantic import BaseModel

from assistant.aws.signing import POST_ERRORS, SignedPosts
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import DependencyError, RecordsUnavailableError
from assistant.domain.retries import back_off_s
from assistant.store_formats import FIRST, StoreFormat, encode_row, join_row, refuse_format

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

IS_FREE = "attribute_not_exists(pk)"
"""The condition that no item has the key of a put."""
TRANSIENT = frozenset(
    {
        "InternalServerError",
        "InternalServerErrorException",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingError",
        "ThrottlingException",
        "TransactionInProgressException",
    }
)
"""Codes of refusals after which a call is repeated."""


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
    await asyncio.sleep(back_off_s(attempt - 1, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S))


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
        self.inserts = GroupCommit(self._insert_group, unavailable=unavailable)
        """Writes an item only where none is. It costs twice the write units in company; a process that
        inserts seldom makes few transactions."""

    async def close(self) -> None:
        await self.inserts.close()
        await self.calls.close()

    def at(self, key: Key) -> dict[str, Any]:
        """Return the part of a request that names an item."""
        return {"TableName": self.name, "Key": typed_key(key)}

    async def get(self, key: Key) -> Item | None:
        return (await self.calls.ask("GetItem", self.at(key) | {"ConsistentRead": True})).get("Item")

    def put_of(
        self,
        item: Item,
        *,
        condition: str = IS_FREE,
        names: Mapping[str, str] | None = None,
        values: Item | None = None,
    ) -> dict[str, Any]:
        """Return the request of a put on a condition; ``names`` and ``values`` fill its placeholders."""
        request: dict[str, Any] = {"TableName": self.name, "Item": item, "ConditionExpression": condition}
        if names:
            request["ExpressionAttributeNames"] = names
        if values:
            request["ExpressionAttributeValues"] = values
        return request

    async def put_if(self, item: Item, **condition: Any) -> bool:
        """Put an item on a condition of ``put_of``; return False when it does not hold."""
        return await self.calls.call_if("PutItem", self.put_of(item, **condition))

    async def transact(self, puts: Sequence[dict[str, Any]]) -> list[Outcome]:
        """Write all requests of ``put_of`` or none; return the outcome of each.

        Raises DynamoDbRefusal, also where one of them is invalid.
        """
        # The token makes a retry after a lost response the same transaction.
        request = {"TransactItems": [{"Put": put} for put in puts], "ClientRequestToken": uuid.uuid4().hex}
        try:
            await self.calls.call("TransactWriteItems", request)
        except DynamoDbRefusal as refusal:
            return _outcomes(refusal, len(puts))
        return [Outcome.WRITTEN] * len(puts)

    async def _insert_group(self, items: Sequence[Item]) -> Sequence[Outcome]:
        """Insert one item by a conditional put, several by one transaction, which is all or nothing: an item
        that is present cancels the others, which go into the next call."""
        if len(items) > 1:
            return await self.transact([self.put_of(item) for item in items])
        return [Outcome.WRITTEN if await self.put_if(items[0]) else Outcome.PRESENT]

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Return the items that exist. Raises ``unavailable`` when keys stay unprocessed."""
        distinct = list(dict.fromkeys(keys))
        chunks = [distinct[start : start + _KEYS_A_CALL] for start in range(0, len(distinct), _KEYS_A_CALL)]
        rows: dict[Key, Item] = {}
        for items in await asyncio.gather(*(self._get_chunk(chunk) for chunk in chunks)):
            rows |= {key_of(item): item for item in items}
        return rows

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


class DynamoDbStore:
    """An adapter of one table; ``client`` is an aiobotocore DynamoDB client.

    Without ``clock`` times are the system's; an adapter whose rows bring their own times ignores it.
    """

    unavailable: ClassVar[type[DependencyError]] = RecordsUnavailableError

    def __init__(self, client: Any, *, table: str, clock: Clock | None = None) -> None:
        self._table = DynamoDbTable(client, name=table, unavailable=self.unavailable)
        self._clock = clock or SystemClock()

    async def close(self) -> None:
        await self._table.close()

    async def refuse_format(self, store: str) -> None:
        """Raise ConfigurationError where the table has rows of a newer release that this one cannot read."""
        found = format_of_row(await self._table.get(FORMAT_KEY))
        refuse_format(found, store=store, place=self._table.name, command="assistant aws upgrade")


FORMAT_KEY: Key = ("format", "format")
"""Of the stamp in each table."""


def format_of_row(row: Item | None) -> StoreFormat:
    """Return the stamp that a table has."""
    return StoreFormat(int(row["number"]["N"]), int(row["readable_from"]["N"])) if row else FIRST


def format_row(form: StoreFormat) -> Item:
    numbers = {"number": form.number, "readable_from": form.readable_from}
    return typed_key(FORMAT_KEY) | {name: {"N": str(number)} for name, number in numbers.items()}


def typed_key(key: Key) -> Item:
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}


def key_of(item: Item) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


def sortable(at: datetime) -> str:
    """Return a time that sorts as text."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


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


def store_row(row: BaseModel) -> StoredBody:
    """Keep a row as ``store_formats`` writes it."""
    text, newer = encode_row(row)
    body = store_text(text)
    if newer is None:
        return body
    content = newer.encode()
    packed = {"S": newer} if len(content) <= _COMPRESSED_ABOVE_BYTES else _binary(zlib.compress(content))
    return replace(body, attributes=body.attributes | {"newer": packed})


def part_names(item: Item) -> list[str]:
    """Return the sort keys of the items that hold the body's parts; none for a body in one piece."""
    listed: list[dict[str, Any]] = item["parts"]["L"] if "parts" in item else []
    return [str(name["S"]) for name in listed]


def load_body(item: Item, parts: Sequence[Item] = ()) -> bytes:
    """Return the body of an item; ``parts`` in the order of ``part_names``."""
    newer = item.get("newer", {})
    rest = zlib.decompress(base64.b64decode(newer["B"])) if "B" in newer else newer.get("S")
    joined = join_row(_load_body(item, parts), rest)
    return joined.encode() if isinstance(joined, str) else joined


def _load_body(item: Item, parts: Sequence[Item]) -> bytes:
    if "body" in item:
        return str(item["body"]["S"]).encode()
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


_CALL_BYTES = 1024 * 1024
"""Of one call's attributes: below every limit of DynamoDB, and sent well within an attempt's time."""
_CALLS_IN_FLIGHT = 8
_MOST_WAITING = 2000
_WAIT_BEHIND_CALL_S = 0.005
"""The longest wait of a write for a call in flight: a slow call delays only its own writes."""
_GROUP_ATTEMPTS = 4
"""For writes of a call that DynamoDB throttles one by one."""
_CLOSING_S = 5.0


class Outcome(Enum):
    WRITTEN = auto()
    PRESENT = auto()
    """An item has this key; nothing was written."""
    RETRY = auto()
    """Throttled, or cancelled because of another write of the same call."""


_OUTCOMES = dict.fromkeys((*TRANSIENT, "None", "TransactionConflict"), Outcome.RETRY) | {
    "ConditionalCheckFailed": Outcome.PRESENT
}
"""By the reason for which a transaction was cancelled; by any other reason a write is invalid."""


WriteItems = Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]]
"""Writes at most 25 items with different keys by one call. Raises as ``DynamoDbCalls.call``."""


@dataclass(slots=True, eq=False)
class _Waiting:
    item: Item
    size_bytes: int
    done: asyncio.Future[Outcome]


class GroupCommit:
    """Writes items by ``write_items``, together where they wait together.

    With no call in flight a write goes out in this turn of the loop; else it waits for a call to end, for
    a full call, or for 5 ms.
    """

    def __init__(self, write_items: WriteItems, *, unavailable: type[DependencyError]) -> None:
        self._write_items = write_items
        self._unavailable = unavailable
        self._waiting: deque[_Waiting] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._due_s = math.inf
        """When the waiting writes go out, on the loop's clock."""

    async def close(self) -> None:
        """Refuse waiting writes and wait up to 5 s for the calls in flight."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _fail(self._waiting, self._unavailable("The store is closing."))
        self._waiting.clear()
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=_CLOSING_S)

    async def write(self, item: Item) -> bool:
        """Write ``item``; return False when another item has its key. Raises ``unavailable``."""
        if len(self._waiting) >= _MOST_WAITING:
            raise self._unavailable("Too many writes wait for DynamoDB. Retry.")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(item, _size_bytes(item), loop.create_future())
        self._waiting.append(waiting)
        is_full = len(self._waiting) >= ITEMS_A_CALL
        self._send_within(_WAIT_BEHIND_CALL_S if self._in_flight and not is_full else 0.0, loop)
        return await waiting.done is Outcome.WRITTEN

    def _send_within(self, wait_s: float, loop: asyncio.AbstractEventLoop) -> None:
        due_s = loop.time() + wait_s
        if self._timer is not None:
            if self._due_s <= due_s:
                return
            self._timer.cancel()
        self._due_s = due_s
        self._timer = (
            loop.call_later(wait_s, self._send, loop) if wait_s else loop.call_soon(self._send, loop)
        )

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send waiting writes up to the limit of calls; the end of a call sends the rest."""
        self._timer = None
        while self._waiting and len(self._in_flight) < _CALLS_IN_FLIGHT:
            task = loop.create_task(self._write(self._take_group()))
            self._in_flight.add(task)
            task.add_done_callback(self._call_ended)

    def _call_ended(self, ended: asyncio.Task[None]) -> None:
        self._in_flight.discard(ended)
        if self._waiting:
            self._send_within(0.0, ended.get_loop())

    def _take_group(self) -> list[_Waiting]:
        """Take from the front what one call may carry: each key once."""
        group: list[_Waiting] = []
        keys: set[tuple[str, str]] = set()
        size_bytes = 0
        while self._waiting and len(group) < ITEMS_A_CALL:
            first = self._waiting[0]
            size_bytes += first.size_bytes
            key = key_of(first.item)
            if group and (key in keys or size_bytes > _CALL_BYTES):
                break
            keys.add(key)
            group.append(self._waiting.popleft())
        return group

    async def _write(self, group: Sequence[_Waiting]) -> None:
        """Settle every write of ``group``."""
        try:
            for attempt in range(_GROUP_ATTEMPTS):
                if attempt:
                    await back_off(attempt)
                group = self._settle(group, await self._write_items([entry.item for entry in group]))
                if not group:
                    return
            _fail(group, self._unavailable("DynamoDB throttles writes. Retry."))
        except DependencyError as error:
            _fail(group, error)
        except DynamoDbRefusal as refusal:
            if len(group) == 1:
                _fail(group, self._unavailable(f"DynamoDB refused a write ({refusal.code})."))
            else:  # one invalid write refuses the whole call: write each alone
                await asyncio.gather(*(self._write([entry]) for entry in group))

    def _settle(self, group: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> list[_Waiting]:
        """Set each write's result; return the writes to retry."""
        retry: list[_Waiting] = []
        for entry, outcome in zip(group, outcomes, strict=True):
            if outcome is Outcome.RETRY:
                retry.append(entry)
            elif not entry.done.done():  # its caller may have been cancelled
                entry.done.set_result(outcome)
        return retry


def _fail(entries: Iterable[_Waiting], error: DependencyError) -> None:
    for entry in entries:
        if not entry.done.done():
            entry.done.set_exception(error)


def _size_bytes(item: Item) -> int:
    """Return the approximate size of the values in the request: lists hold short names only."""
    return sum(len(value) for typed in item.values() for value in typed.values() if isinstance(value, str))


def _outcomes(refusal: DynamoDbRefusal, count: int) -> list[Outcome]:
    reasons: list[dict[str, Any]] = refusal.fields.get("CancellationReasons", [])
    outcomes = [_OUTCOMES.get(str(reason.get("Code", "None"))) for reason in reasons]
    known = [outcome for outcome in outcomes if outcome is not None]
    if refusal.code != "TransactionCanceledException" or len(known) != count:
        raise refusal
    return known
