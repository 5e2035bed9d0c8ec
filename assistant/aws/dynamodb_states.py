"""States of one tenant's documents in DynamoDB.

All rows stand in one partition, in order of document_id, so that a page is one query. A partition takes
1,000 writes a second, and DynamoDB splits a hot one; the worker writes fewer than 200."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from assistant.aws.dynamodb import (
    DynamoDbCalls,
    DynamoDbRefusal,
    DynamoDbTable,
    Item,
    Key,
    back_off,
    typed_key,
)
from assistant.domain.clock import Clock, Deadline, SystemClock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import DependencyError

_PARTITION = "documents"
_MOST_PUTS = 25
_ATTEMPTS_WITHOUT_PROGRESS = 8
"""With the pauses between them some 3 s: throttling of a table paid on demand passes."""
_WRITES_AT_ONCE = 16
_BETWEEN = "sk BETWEEN :after AND :until"
_LAST = "\U0010ffff"
"""No document's id begins with it."""


class DynamoDbDocumentStates:
    """``DocumentStates`` in ``table``; ``client`` is an aiobotocore DynamoDB client. Raises DependencyError.

    ``count_by_state`` and ``list`` of certain states go by an index that may lag behind by a moment; what
    ``list`` returns is read from the table itself.
    """

    def __init__(self, client: Any, *, table: str, clock: Clock | None = None) -> None:
        del clock  # statuses bring their own times; all adapters are made alike
        self._calls = DynamoDbCalls(client, unavailable=DependencyError)
        self._table = DynamoDbTable(self._calls, name=table, unavailable=DependencyError)
        self._name = table
        self._writers = asyncio.Semaphore(_WRITES_AT_ONCE)

    async def close(self) -> None:
        await self._calls.close()

    async def get(self, document_id: str) -> DocumentStatus | None:
        item = await self._table.get(_key(document_id))
        return None if item is None else _status(item)

    async def get_many(self, document_ids: Sequence[str]) -> Mapping[str, DocumentStatus]:
        items = await self._table.get_many([_key(document_id) for document_id in document_ids])
        return {key[1]: _status(item) for key, item in items.items()}

    async def put_many(self, statuses: Sequence[DocumentStatus]) -> None:
        newest = list({status.document_id: status for status in statuses}.values())
        puts = [{"PutRequest": {"Item": _item(status)}} for status in newest]
        for start in range(0, len(puts), _MOST_PUTS):
            await self._put(puts[start : start + _MOST_PUTS])

    async def advance_many(self, statuses: Sequence[DocumentStatus]) -> frozenset[str]:
        written = await asyncio.gather(*(self._advance(status) for status in statuses))
        return frozenset(status.document_id for status, done in zip(statuses, written, strict=True) if done)

    async def list(
        self,
        *,
        states: Sequence[DocumentState] = (),
        after: str | None = None,
        until: str | None = None,
        limit: int = 100,
    ) -> list[DocumentStatus]:
        if not states:
            request = _query(f"pk = :pk AND {_BETWEEN}", {":pk": _PARTITION, **_bounds(after, until)})
            return [_status(item) async for item in self._table.query(request, limit=limit)]
        found: list[DocumentStatus] = []
        async for document_ids in self._pages_of(states, after=after, until=until, limit=limit):
            rows = await self.get_many(document_ids)
            found += [rows[name] for name in document_ids if name in rows and rows[name].state in states]
            if len(found) >= limit:
                break
        return found[:limit]

    async def count_by_state(
        self, *, after: str | None = None, until: str | None = None
    ) -> Mapping[DocumentState, int]:
        bounds = _bounds(after, until)
        counts = await asyncio.gather(*(self._count(state, bounds) for state in DocumentState))
        return {state: count for state, count in zip(DocumentState, counts, strict=True) if count}

    async def _put(self, puts: list[dict[str, Any]]) -> None:
        fruitless = 0
        while puts and fruitless < _ATTEMPTS_WITHOUT_PROGRESS:
            if fruitless:
                await back_off(fruitless)
            response = await self._calls.ask("BatchWriteItem", {"RequestItems": {self._name: puts}})
            left: list[dict[str, Any]] = response.get("UnprocessedItems", {}).get(self._name, [])
            fruitless = fruitless + 1 if len(left) == len(puts) else 0
            puts = left
        if puts:
            raise DependencyError("DynamoDB throttles the states of documents. Try again.")

    async def _advance(self, status: DocumentStatus) -> bool:
        # Repeated after a lost answer the condition still holds: the row then is what is to be written.
        condition = "content_hash = :content AND received_at = :received"
        values: Item = {
            ":content": {"S": status.content_hash},
            ":received": {"S": status.received_at.isoformat()},
        }
        request: dict[str, Any] = {
            "TableName": self._name,
            "Item": _item(status),
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values,
        }
        if status.state is not DocumentState.WITHDRAWN:
            request["ConditionExpression"] += " AND #state <> :withdrawn"
            request["ExpressionAttributeNames"] = {"#state": "state"}
            values[":withdrawn"] = {"S": DocumentState.WITHDRAWN.value}
        try:
            async with self._writers:
                await self._calls.call("PutItem", request)
        except DynamoDbRefusal as refusal:
            if refusal.code != "ConditionalCheckFailedException":
                raise DependencyError(f"DynamoDB refused PutItem ({refusal.code}).") from refusal
            return False
        return True

    async def _pages_of(
        self, states: Sequence[DocumentState], *, after: str | None, until: str | None, limit: int
    ) -> AsyncIterator[list[str]]:
        """Yield the ids that the index has under any of the states, in order, until there are no more."""
        last = after
        while True:
            bounds = _bounds(last, until)
            legs = await asyncio.gather(*(self._ids(state, bounds, limit) for state in dict.fromkeys(states)))
            document_ids = sorted({name for leg in legs for name in leg}, key=str.encode)[:limit]
            if not document_ids:
                return
            yield document_ids
            last = document_ids[-1]

    async def _ids(self, state: DocumentState, bounds: Mapping[str, str], limit: int) -> list[str]:
        request = _by_state(f"#state = :state AND {_BETWEEN}", {":state": state.value, **bounds})
        return [str(item["sk"]["S"]) async for item in self._table.query(request, limit=limit)]

    async def _count(self, state: DocumentState, bounds: Mapping[str, str]) -> int:
        request = _by_state(f"#state = :state AND {_BETWEEN}", {":state": state.value, **bounds})
        return await self._table.count(request)


def _query(condition: str, values: Mapping[str, str]) -> dict[str, Any]:
    return {
        "KeyConditionExpression": condition,
        "ExpressionAttributeValues": {name: {"S": value} for name, value in values.items()},
    }


def _bounds(after: str | None, until: str | None) -> dict[str, str]:
    """Return bounds that DynamoDB includes; no id holds a NUL."""
    return {":after": f"{after}\0" if after else " ", ":until": until or _LAST}


def _by_state(condition: str, values: Mapping[str, str]) -> dict[str, Any]:
    return _query(condition, values) | {
        "IndexName": "by_state",
        "ExpressionAttributeNames": {"#state": "state"},
    }


def _key(document_id: str) -> Key:
    return _PARTITION, document_id


def _item(status: DocumentStatus) -> Item:
    return typed_key(_key(status.document_id)) | {
        "state": {"S": status.state.value},
        "content_hash": {"S": status.content_hash},
        "received_at": {"S": status.received_at.isoformat()},
        "body": {"S": status.model_dump_json()},
    }


def _status(item: Item) -> DocumentStatus:
    return DocumentStatus.model_validate_json(item["body"]["S"])


# The turn to write a tenant's index, kept in the table of states: functions that ingest and withdraw run at


_KEY = ("write-turn", "index")
_MARGIN_S = 15.0
"""Between the end of a holder's time and that of its turn: for clocks that differ and calls on their way."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5


class DynamoDbWriteTurn:
    """One ``WriteTurn`` in ``table``; ``client`` is an aiobotocore client of DynamoDB."""

    def __init__(
        self,
        client: Any,
        *,
        table: str,
        clock: Clock | None = None,
        lasts_s: float = 90.0,
        waits_s: float = 60.0,
    ) -> None:
        self._calls = DynamoDbCalls(client, unavailable=DependencyError)
        self._table = table
        self._clock = clock or SystemClock()
        self._lasts_s = lasts_s
        self._waits_s = waits_s
        self._owner = uuid.uuid4().hex
        self._here = asyncio.Lock()
        self._time_left: asyncio.Timeout | None = None

    async def close(self) -> None:
        await self._calls.close()

    async def __aenter__(self) -> None:
        await self._here.acquire()
        try:
            await self._take()
        except BaseException:
            self._here.release()
            raise
        self._time_left = asyncio.timeout(self._lasts_s - _MARGIN_S)
        await self._time_left.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        assert self._time_left is not None  # noqa: S101 (for the type checker)
        try:
            await self._time_left.__aexit__(kind, error, trace)
        except TimeoutError:
            raise DependencyError("The passage index took too long to be written; try again.") from None
        finally:
            try:
                await self._give_back()
            finally:
                self._here.release()

    async def _take(self) -> None:
        deadline = Deadline.after(self._waits_s, clock=self._clock)
        pause_s = _FIRST_PAUSE_S
        while not await self._put(until_s=self._now_s() + self._lasts_s):
            if deadline.remaining_s() <= pause_s:
                raise DependencyError("The passage index is being written by others; try again.")
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _give_back(self) -> None:
        """End the turn at once. One that was lost is somebody else's, and stays."""
        await self._put(until_s=0.0)

    async def _put(self, *, until_s: float) -> bool:
        request: dict[str, Any] = {
            "TableName": self._table,
            "Item": typed_key(_KEY) | {"owner": {"S": self._owner}, "until_ms": _milliseconds(until_s)},
            "ConditionExpression": "attribute_not_exists(pk) OR until_ms < :now OR #owner = :me",
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": {":now": _milliseconds(self._now_s()), ":me": {"S": self._owner}},
        }
        try:
            await self._calls.call("PutItem", request)
        except DynamoDbRefusal as refusal:
            if refusal.code != "ConditionalCheckFailedException":
                raise DependencyError(f"DynamoDB refused PutItem ({refusal.code}).") from refusal
            return False
        return True

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _milliseconds(seconds: float) -> dict[str, str]:
    return {"N": str(int(seconds * 1000))}
