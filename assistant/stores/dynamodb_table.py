"""``Table`` on one DynamoDB table, by DynamoDB's JSON protocol without aiobotocore.

botocore's serializers, parsers, hooks and retry handlers cost several times what a call itself costs: without
them an answer's writes (two batches of events) take 2.3 to 5.2 ms of CPU instead of 10 to 14. The measurement
is in docs/decisions/0010-lean-dynamodb-calls.md. botocore signs; credentials and endpoint are the client's.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import aiohttp
import orjson

from assistant.domain.errors import DependencyError, RecordsUnavailableError
from assistant.process.aws import POST_ERRORS, SignedPosts, parsed_date
from assistant.stores.formats import FIRST, StoreFormat, refuse_format
from assistant.stores.group_commit import ITEMS_A_CALL, GroupCommit, Outcome, WriteRefusedError, back_off
from assistant.stores.table import ABSENT, LAST, LOWEST, Condition, Item, Key, Range, Value, key_of, keyed

_ATTEMPTS = 3
_ATTEMPT_TIMEOUT_S = 1.5
"""DynamoDB answers in milliseconds; all attempts together stay below 5 s."""
_SCAN_TIMEOUT_S = 15.0
"""A page of a scan has up to 1 MB, and no answer waits for one."""
_KEEP_ALIVE_S = 30.0
_CONNECTIONS = 64
"""Most connections to the endpoint at once; further calls wait."""
_CONTENT_TYPE = "application/x-amz-json-1.0"
_KEYS_A_CALL = 100
"""Limit of BatchGetItem."""
_GET_ATTEMPTS = 4
_PUT_ATTEMPTS = 8
"""Fruitless calls in a row before a batch fails. Eight take about 3 s with the waits between them: throttling
of an on-demand table passes."""
_CALLS_AT_ONCE = 16
"""Most ``put`` and ``change`` calls in flight: one item each, for a condition cannot go into a batch."""
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
_OUTCOMES = dict.fromkeys((*TRANSIENT, "None", "TransactionConflict"), Outcome.RETRY) | {
    "ConditionalCheckFailed": Outcome.PRESENT
}
"""What became of one item of a cancelled transaction, by its reason's code: "None" is an item that was fine,
so it is written again without the others. An item with any other code is invalid."""
_Typed = dict[str, dict[str, Any]]
"""An item as DynamoDB's JSON writes it, each value by its type: ``{"pk": {"S": "…"}, "n": {"N": "7"}}``."""


class DynamoDbRefusal(WriteRefusedError):
    """DynamoDB refused a call. ``code`` is DynamoDB's, without the name space."""

    def __init__(self, code: str, *, fields: Mapping[str, Any], server_date: str | None = None) -> None:
        super().__init__(code)
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
        self.date: str | None = None
        """The ``Date`` header of the latest response: the store's own time."""
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
                # learn_skew: the refusal was for a wrong clock, and the next attempt is signed with the right
                # one.
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
            timeout_s = _SCAN_TIMEOUT_S if operation == "Scan" else None
            async with await self._posts.send(
                "/", body=body, headers=headers, timeout_s=timeout_s
            ) as response:
                content = await response.read()
                self.date = response.headers.get("Date")
        except POST_ERRORS as error:
            raise _NoResponseError(type(error).__name__) from error
        return _parse(response, content)


def _parse(response: aiohttp.ClientResponse, content: bytes) -> dict[str, Any]:
    """Return the fields of a successful response. Raises DynamoDbRefusal for one with a code (status 4xx),
    and _NoResponseError for any other.

    A refusal's ``__type`` is ``com.amazonaws.dynamodb.v20120810#ThrottlingException``.
    """
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
    """``Table``; ``client`` is an aiobotocore DynamoDB client. ``unavailable`` is what its methods raise.

    ``insert`` groups writes (``GroupCommit``); every other write is a call of its own.
    """

    def __init__(
        self, client: Any, *, name: str, unavailable: type[DependencyError] = RecordsUnavailableError
    ) -> None:
        self._calls = DynamoDbCalls(client, unavailable=unavailable)
        self._name = name
        self._unavailable = unavailable
        self._inserts = GroupCommit(self._insert_group, unavailable=unavailable)
        self._writers = asyncio.Semaphore(_CALLS_AT_ONCE)

    async def close(self) -> None:
        await self._inserts.close()
        await self._calls.close()

    async def refuse_format(self, store: str) -> None:
        """Raise ConfigurationError where the table has rows of a newer release that this one cannot read."""
        stamped = format_in(await self.get(FORMAT_KEY))
        refuse_format(stamped, store=store, place=self._name, command="assistant aws upgrade")

    async def now(self) -> datetime:
        await self.get(FORMAT_KEY)
        if (at := parsed_date(self._calls.date)) is None:
            raise self._unavailable("DynamoDB told no time. Retry.")
        return at

    async def get(self, key: Key) -> Item | None:
        response = await self._calls.ask("GetItem", self._at(key) | {"ConsistentRead": True})
        return plain(response["Item"]) if "Item" in response else None

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Item]:
        distinct = list(dict.fromkeys(keys))
        chunks = [distinct[start : start + _KEYS_A_CALL] for start in range(0, len(distinct), _KEYS_A_CALL)]
        results = await asyncio.gather(*(self._get_chunk(chunk) for chunk in chunks))
        return {key_of(item): item for items in results for item in items}

    async def query(self, wanted: Range, *, descending: bool = False, limit: int | None = None) -> list[Item]:
        request: dict[str, Any] = {"ScanIndexForward": False} if descending else {}
        items: list[Item] = []
        async for page in self._pages(wanted, request if limit is None else request | {"Limit": limit}):
            items += map(plain, page.get("Items", []))
            if limit is not None and len(items) >= limit:
                break
        return items[:limit]

    async def count(self, wanted: Range) -> int:
        return sum([int(page["Count"]) async for page in self._pages(wanted, {"Select": "COUNT"})])

    async def pages(self) -> AsyncGenerator[list[Item]]:
        async for page in self._paged("Scan", {"TableName": self._name}):
            yield [plain(item) for item in page["Items"]]

    async def insert(self, *items: Item) -> bool:
        """See ``Table``. Inserts at the same time go out as one transaction, which costs twice the write
        units of single puts; a process that inserts seldom makes few transactions."""
        return await self._inserts.write(*items)

    async def put(self, item: Item, *, when: Condition | None = None) -> bool:
        async with self._writers:
            return await self._calls.call_if("PutItem", self._put_of(item, when))

    async def put_each(self, puts: Sequence[tuple[Item, Condition]]) -> list[bool]:
        return await asyncio.gather(*(self.put(item, when=when) for item, when in puts))

    async def put_many(self, items: Sequence[Item]) -> None:
        async def put(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:  # returns the unprocessed
            response = await self._calls.ask("BatchWriteItem", {"RequestItems": {self._name: requests}})
            return response.get("UnprocessedItems", {}).get(self._name, [])

        requests = [{"PutRequest": {"Item": typed(item)}} for item in items]
        for start in range(0, len(requests), ITEMS_A_CALL):
            await self._until_processed(requests[start : start + ITEMS_A_CALL], put, attempts=_PUT_ATTEMPTS)

    async def transact(self, puts: Sequence[tuple[Item, Condition]]) -> bool:
        try:
            outcomes = await self._transact([self._put_of(item, when) for item, when in puts])
        except DynamoDbRefusal as refusal:
            raise self._unavailable(f"DynamoDB refused a write ({refusal.code}).") from refusal
        return set(outcomes) == {Outcome.WRITTEN}

    async def change(
        self, key: Key, *, put: Item | None = None, remove: Sequence[str] = (), when: Condition | None = None
    ) -> bool:
        expression = _Expression()
        changes = [f"REMOVE {', '.join(expression.name(name) for name in remove)}"] if remove else []
        if put:
            sets = (f"{expression.name(name)} = {expression.value(value)}" for name, value in put.items())
            changes.append(f"SET {', '.join(sets)}")
        request = self._at(key) | {"UpdateExpression": " ".join(changes)} | expression.fields(when)
        async with self._writers:
            return await self._calls.call_if("UpdateItem", request)

    async def delete(self, key: Key, *, when: Condition | None = None) -> bool:
        return await self._calls.call_if("DeleteItem", self._at(key) | _Expression().fields(when))

    def _at(self, key: Key) -> dict[str, Any]:
        """Return the part of a request that names an item."""
        return {"TableName": self._name, "Key": typed(keyed(key))}

    def _put_of(self, item: Item, when: Condition | None) -> dict[str, Any]:
        return {"TableName": self._name, "Item": typed(item)} | _Expression().fields(when)

    async def _insert_group(self, writes: Sequence[Sequence[Item]]) -> Sequence[Outcome]:
        """Insert one item by a conditional put, several by one transaction, which is all or nothing: an item
        that is present cancels the other writes, which go into the next call."""
        puts = [self._put_of(item, ABSENT) for items in writes for item in items]
        if len(puts) > 1:
            outcomes = iter(await self._transact(puts))
            of_writes = ([next(outcomes) for _ in items] for items in writes)
            return [Outcome.PRESENT if Outcome.PRESENT in each else each[0] for each in of_writes]
        return [Outcome.WRITTEN if await self._calls.call_if("PutItem", puts[0]) else Outcome.PRESENT]

    async def _transact(self, puts: Sequence[dict[str, Any]]) -> list[Outcome]:
        """Write all or none; return the outcome of each. Raises DynamoDbRefusal, also where one item is
        invalid."""
        # The token makes a retry after a lost response the same transaction.
        request = {"TransactItems": [{"Put": put} for put in puts], "ClientRequestToken": uuid.uuid4().hex}
        try:
            await self._calls.call("TransactWriteItems", request)
        except DynamoDbRefusal as refusal:
            return _outcomes(refusal, len(puts))
        return [Outcome.WRITTEN] * len(puts)

    async def _pages(self, wanted: Range, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Yield the responses of a query, page by page. ``request`` adds fields, such as a limit a page."""
        expression, index = _Expression(), wanted.index
        partition, sort = ("pk", "sk") if index is None else (index.partition, index.sort)
        condition = f"{expression.name(partition)} = {expression.value(wanted.partition)}"
        if (wanted.low, wanted.high) != (LOWEST, LAST):
            bounds = f"{expression.value(wanted.low)} AND {expression.value(wanted.high)}"
            condition += f" AND {expression.name(sort)} BETWEEN {bounds}"
        query: dict[str, Any] = {
            "TableName": self._name,
            "KeyConditionExpression": condition,
            **({"ConsistentRead": True} if index is None else {"IndexName": index.name}),
            **expression.fields(None),
            **request,
        }
        async for page in self._paged("Query", query):
            yield page

    async def _paged(self, operation: str, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Yield the responses of a Query or a Scan."""
        begin: Mapping[str, Any] = {}
        while True:
            page = await self._calls.ask(operation, {**request, **begin})
            yield page
            if "LastEvaluatedKey" not in page:
                return
            begin = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def _get_chunk(self, keys: Sequence[Key]) -> list[Item]:
        items: list[Item] = []

        async def get(wanted: list[_Typed]) -> list[_Typed]:  # returns the unprocessed keys
            request = {"RequestItems": {self._name: {"Keys": wanted, "ConsistentRead": True}}}
            response = await self._calls.ask("BatchGetItem", request)
            items.extend(map(plain, response.get("Responses", {}).get(self._name, [])))
            return response.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])

        await self._until_processed([typed(keyed(key)) for key in keys], get, attempts=_GET_ATTEMPTS)
        return items

    async def _until_processed(
        self,
        entries: list[dict[str, Any]],
        call: Callable[[list[dict[str, Any]]], Awaitable[list[dict[str, Any]]]],
        *,
        attempts: int,
    ) -> None:
        """Repeat ``call``, which returns the entries that DynamoDB did not process, until there are none.
        Give up after ``attempts`` calls in a row that process nothing."""
        fruitless = 0
        while entries:
            if fruitless:
                await back_off(fruitless)
            left = await call(entries)
            fruitless = fruitless + 1 if len(left) == len(entries) else 0
            entries = left
            if fruitless >= attempts:
                raise self._unavailable(f"DynamoDB throttles the table {self._name}. Retry.")


FORMAT_KEY: Key = ("format", "format")
"""The key of the item that says which format a table has."""


def format_in(stamp: Item | None) -> StoreFormat:
    """Return the format that the item of ``FORMAT_KEY`` says; without one the first."""
    return FIRST if stamp is None else StoreFormat(stamp["number"], stamp["readable_from"])


def format_item(form: StoreFormat) -> Item:
    return keyed(FORMAT_KEY, number=form.number, readable_from=form.readable_from)


class _Expression:
    """Placeholders of one request's expressions, with the names and values that they stand for.

    For the condition ``equal(revision=3)``, ``fields`` returns ``ConditionExpression`` "(#revision = :0)",
    ``ExpressionAttributeNames`` {"#revision": "revision"} and ``ExpressionAttributeValues`` {":0": {"N":
    "3"}}.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values: _Typed = {}

    def name(self, attribute: str) -> str:
        """Return the placeholder of an attribute's name; a name may be a reserved word of DynamoDB."""
        self._names[f"#{attribute}"] = attribute
        return f"#{attribute}"

    def value(self, value: Value) -> str:
        placeholder = f":{len(self._values)}"
        self._values[placeholder] = _typed_value(value)
        return placeholder

    def fields(self, when: Condition | None) -> dict[str, Any]:
        """Return the fields of a request for this condition and all placeholders. Call it last."""
        fields: dict[str, Any] = {}
        if when is not None:
            alternatives = (
                " AND ".join(f"{self.name(name)} {op} {self.value(value)}" for name, op, value in comparisons)
                for comparisons in when
            )
            fields["ConditionExpression"] = " OR ".join(
                f"({text})" if text else "attribute_not_exists(pk)" for text in alternatives
            )
        if self._names:
            fields["ExpressionAttributeNames"] = self._names
        if self._values:
            fields["ExpressionAttributeValues"] = self._values
        return fields


def typed(item: Item) -> _Typed:
    """Return the item as DynamoDB's JSON: a sequence is a list of texts."""
    return {name: _typed_value(value) for name, value in item.items()}


def _typed_value(value: Value) -> dict[str, Any]:
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float):
        return {"N": str(value)}
    if isinstance(value, bytes):
        return {"B": base64.b64encode(value).decode()}
    return {"L": [{"S": text} for text in value]}


def plain(item: _Typed) -> Item:
    """Return the item without types. It empties the given one, which is no longer needed."""
    return {name: _plain_value(*by_type.popitem()) for name, by_type in item.items()}


def _plain_value(kind: str, value: Any) -> Any:
    if kind == "N":
        return float(value) if set(value) & set(".eE") else int(value)
    if kind == "B":
        return base64.b64decode(value)
    return [element["S"] for element in value] if kind == "L" else value


def _outcomes(refusal: DynamoDbRefusal, count: int) -> list[Outcome]:
    """Return the outcome of each of the ``count`` items of a cancelled transaction, in order. Raises the
    refusal where it is another one, or an item is invalid."""
    reasons: list[dict[str, Any]] = refusal.fields.get("CancellationReasons", [])
    outcomes = [_OUTCOMES.get(str(reason.get("Code", "None"))) for reason in reasons]
    known = [outcome for outcome in outcomes if outcome is not None]
    if refusal.code != "TransactionCanceledException" or len(known) != count:
        raise refusal
    return known
