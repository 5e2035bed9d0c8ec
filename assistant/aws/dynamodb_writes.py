"""Group commit: writes that wait at the same time go out in one call, each with its own result.

Many answers then share a call's CPU (docs/decisions/0010-lean-dynamodb-calls.md has the figures).
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from assistant.aws.dynamodb import (
    ITEMS_A_CALL,
    TRANSIENT,
    DynamoDbRefusal,
    DynamoDbTable,
    Item,
    back_off,
    key_of,
)
from assistant.domain.errors import DependencyError

_CALL_BYTES = 1024 * 1024
"""Of one call's attributes: below every limit of DynamoDB, and sent well within an attempt's time."""
_CALLS_IN_FLIGHT = 8
_MOST_WAITING = 2000
_WAIT_BEHIND_CALL_S = 0.005
"""The longest wait of a write for a call in flight: a slow call delays only its own writes."""
_LINGER_S = 0.05
"""The longest wait of a write that is not urgent for others to join it. A follower of an answer is at most
1.5 s behind; of the 0.2 s to spare this takes twice itself, because the next batch waits for it too."""
_ATTEMPTS = 4
"""For writes of a call that DynamoDB throttles one by one."""
_CLOSING_S = 5.0


class Outcome(Enum):
    WRITTEN = auto()
    PRESENT = auto()
    """An item has this key; nothing was written."""
    RETRY = auto()
    """Throttled, or cancelled because of another write of the same call."""
    REFUSED = auto()


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
    a full call, or for 5 ms. A write that is not urgent waits for others up to 50 ms.
    """

    def __init__(self, write_items: WriteItems, *, unavailable: type[DependencyError]) -> None:
        self._write_items = write_items
        self._unavailable = unavailable
        self._waiting: deque[_Waiting] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._due_s = math.inf
        """When the waiting writes go out, on the loop's clock."""
        self._urgent = False

    async def close(self) -> None:
        """Refuse waiting writes and wait up to 5 s for the calls in flight."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _fail(self._waiting, self._unavailable("The store is closing."))
        self._waiting.clear()
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=_CLOSING_S)

    async def write(self, item: Item, *, urgent: bool = True) -> bool:
        """Write ``item``; return False when another item has its key. Raises ``unavailable``."""
        if len(self._waiting) >= _MOST_WAITING:
            raise self._unavailable("Too many writes wait for DynamoDB. Retry.")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(item, _size_bytes(item), loop.create_future())
        self._waiting.append(waiting)
        self._urgent = self._urgent or urgent
        wait_s = _WAIT_BEHIND_CALL_S if self._in_flight else 0.0
        if len(self._waiting) >= ITEMS_A_CALL:
            wait_s = 0.0
        elif not urgent:
            wait_s = _LINGER_S
        self._send_within(wait_s, loop)
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
        if not self._waiting:
            self._urgent = False

    def _call_ended(self, ended: asyncio.Task[None]) -> None:
        self._in_flight.discard(ended)
        if self._waiting and (self._urgent or self._timer is None):
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
            for attempt in range(_ATTEMPTS):
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
            elif outcome is Outcome.REFUSED:
                _fail([entry], self._unavailable("DynamoDB refused a write."))
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


def group_puts(table: DynamoDbTable) -> GroupCommit:
    """Return a group commit that overwrites: for keys with one writer, and for repeated content."""

    async def put(items: Sequence[Item]) -> Sequence[Outcome]:
        requests = [{"PutRequest": {"Item": item}} for item in items]
        response = await table.calls.call("BatchWriteItem", {"RequestItems": {table.name: requests}})
        left: list[dict[str, Any]] = response.get("UnprocessedItems", {}).get(table.name, [])
        unprocessed = {key_of(request["PutRequest"]["Item"]) for request in left}
        return [Outcome.RETRY if key_of(item) in unprocessed else Outcome.WRITTEN for item in items]

    return GroupCommit(put, unavailable=table.unavailable)


def group_inserts(table: DynamoDbTable) -> GroupCommit:
    """Return a group commit that writes an item only where none is: one by a conditional put, several by one
    transaction.

    A transaction is all or nothing: an item that is present cancels the others, which go into the next call.
    It costs twice the write units; a process that inserts seldom makes few of them.
    """

    async def insert(items: Sequence[Item]) -> Sequence[Outcome]:
        puts = [
            {"TableName": table.name, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
            for item in items
        ]
        try:
            if len(puts) == 1:
                await table.calls.call("PutItem", puts[0])
            else:
                # The token makes a retry after a lost response the same transaction.
                request = {
                    "TransactItems": [{"Put": put} for put in puts],
                    "ClientRequestToken": uuid.uuid4().hex,
                }
                await table.calls.call("TransactWriteItems", request)
        except DynamoDbRefusal as refusal:
            return _outcomes(refusal, len(puts))
        return [Outcome.WRITTEN] * len(items)

    return GroupCommit(insert, unavailable=table.unavailable)


def _outcomes(refusal: DynamoDbRefusal, count: int) -> list[Outcome]:
    if refusal.code == "ConditionalCheckFailedException":
        return [Outcome.PRESENT]
    reasons: list[dict[str, Any]] = refusal.fields.get("CancellationReasons", [])
    if refusal.code != "TransactionCanceledException" or len(reasons) != count:
        raise refusal
    return [_outcome(str(reason.get("Code", "None"))) for reason in reasons]


def _outcome(code: str) -> Outcome:
    if code == "ConditionalCheckFailed":
        return Outcome.PRESENT
    if code in TRANSIENT or code in ("None", "TransactionConflict"):
        return Outcome.RETRY
    return Outcome.REFUSED
