"""Two ways of writing several items by one call, each item with an outcome of its own."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from assistant.aws.dynamodb import TRANSIENT, DynamoDbCalls, DynamoDbRefusal, Item, back_off
from assistant.domain.errors import DependencyError


class Outcome(Enum):
    WRITTEN = auto()
    PRESENT = auto()
    """An item has this key; nothing was written."""
    AGAIN = auto()
    """Not now: throttled, or held up by another write of the same call."""
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Write:
    table: str
    item: Item

    @property
    def key(self) -> tuple[str, str, str]:
        return self.table, self.item["pk"]["S"], self.item["sk"]["S"]


class Writes(Protocol):
    most: int
    """Writes that one call may carry, none of them with the same key."""

    async def execute(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """Write, and return each write's outcome. Raises as ``DynamoDbCalls.call``."""
        ...


class Puts:
    """Overwrites what is there: for items whose key is used by one writer, and for the same content."""

    most = 25

    def __init__(self, calls: DynamoDbCalls) -> None:
        self._calls = calls

    async def execute(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        requests: dict[str, list[dict[str, Any]]] = {}
        for write in writes:
            requests.setdefault(write.table, []).append({"PutRequest": {"Item": write.item}})
        response = await self._calls.call("BatchWriteItem", {"RequestItems": requests})
        unprocessed: dict[str, list[dict[str, Any]]] = response.get("UnprocessedItems", {})
        left = {
            Write(table, request["PutRequest"]["Item"]).key
            for table, of_table in unprocessed.items()
            for request in of_table
        }
        return [Outcome.AGAIN if write.key in left else Outcome.WRITTEN for write in writes]


class Inserts:
    """Writes an item only where there is none: one by a conditional put, several by one transaction.

    A transaction is all or nothing: one item that is present holds up the others, which go into the next.
    It costs twice the write units; a process whose inserts seldom meet seldom makes one.
    """

    most = 25

    def __init__(self, calls: DynamoDbCalls) -> None:
        self._calls = calls

    async def execute(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        puts = [
            {"TableName": write.table, "Item": write.item, "ConditionExpression": "attribute_not_exists(pk)"}
            for write in writes
        ]
        try:
            if len(puts) == 1:
                await self._calls.call("PutItem", puts[0])
            else:
                # The token makes a repetition after a lost answer the same transaction.
                token = uuid.uuid4().hex
                actions = [{"Put": put} for put in puts]
                await self._calls.call(
                    "TransactWriteItems", {"TransactItems": actions, "ClientRequestToken": token}
                )
        except DynamoDbRefusal as refusal:
            return _outcomes(refusal, len(puts))
        return [Outcome.WRITTEN] * len(writes)


def _outcomes(refusal: DynamoDbRefusal, count: int) -> list[Outcome]:
    if refusal.code == "ConditionalCheckFailedException":
        return [Outcome.PRESENT]
    if refusal.code != "TransactionCanceledException":
        raise refusal
    reasons: list[dict[str, Any]] = refusal.fields.get("CancellationReasons", [])
    codes = [str(reason.get("Code", "None")) for reason in reasons]
    if len(codes) != count:
        raise refusal
    return [_outcome(code) for code in codes]


def _outcome(code: str) -> Outcome:
    if code == "ConditionalCheckFailed":
        return Outcome.PRESENT
    if code in TRANSIENT or code in ("None", "TransactionConflict"):
        return Outcome.AGAIN
    return Outcome.REFUSED


# Writes that wait at the same time go out in one call, each with a result of its own.


_MOST_BYTES = 1024 * 1024
"""Of one call's attributes: below every limit of DynamoDB's, and sent well within an attempt's time."""
_MOST_CALLS = 8
_MOST_WAITING = 2000
_BEHIND_CALL_S = 0.005
"""A write waits no longer for a call in flight to end, so that a slow call holds up only its own."""
_LINGER_S = 0.05
"""What a write that nobody waits for may wait for others to join it. A follower of an answer is at most
1.5 s behind: of the 0.2 s to spare this takes twice itself, for the next batch waits for it too."""
_ATTEMPTS = 4
"""For the writes of a call that DynamoDB throttles one by one."""
_CLOSING_S = 5.0


@dataclass(slots=True, eq=False)
class _Waiting:
    write: Write
    size_bytes: int
    done: asyncio.Future[Outcome]


class GroupCommit:
    """Writes items by ``writes``, together where they wait together.

    With no call in flight a write goes out in this turn of the loop; else it waits for a call to end, for
    a full call to have gathered, or for 5 ms. One that is not urgent waits for others up to 50 ms.
    """

    def __init__(self, writes: Writes, *, unavailable: type[DependencyError]) -> None:
        self._writes = writes
        self._unavailable = unavailable
        self._waiting: deque[_Waiting] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._wake: asyncio.Handle | None = None
        self._due_s = math.inf
        """When what waits goes out, on the loop's clock."""
        self._urgent = False

    async def close(self) -> None:
        """Refuse what still waits and let the calls in flight end, within 5 s."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        _fail(self._waiting, self._unavailable("The store is closing."))
        self._waiting.clear()
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=_CLOSING_S)

    async def write(self, table: str, item: Item, *, urgent: bool = True) -> bool:
        """Write ``item``; False when an item is there already. Raises ``unavailable``."""
        if len(self._waiting) >= _MOST_WAITING:
            raise self._unavailable("Too many writes wait for DynamoDB. Try again.")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(Write(table, item), _size_bytes(item), loop.create_future())
        self._waiting.append(waiting)
        self._urgent = self._urgent or urgent
        wait_s = _BEHIND_CALL_S if self._in_flight else 0.0
        if len(self._waiting) >= self._writes.most:
            wait_s = 0.0
        elif not urgent:
            wait_s = _LINGER_S
        self._send_within(wait_s, loop)
        return await waiting.done is Outcome.WRITTEN

    def _send_within(self, wait_s: float, loop: asyncio.AbstractEventLoop) -> None:
        due_s = loop.time() + wait_s
        if self._wake is not None and self._due_s <= due_s:
            return
        if self._wake is not None:
            self._wake.cancel()
        self._due_s = due_s
        self._wake = loop.call_later(wait_s, self._send, loop) if wait_s else loop.call_soon(self._send, loop)

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send what waits, as far as calls may be in flight; the end of one of them sends the rest."""
        self._wake = None
        while self._waiting and len(self._in_flight) < _MOST_CALLS:
            task = loop.create_task(self._write(self._take_group()))
            self._in_flight.add(task)
            task.add_done_callback(self._call_ended)
        if not self._waiting:
            self._urgent = False

    def _call_ended(self, ended: asyncio.Task[None]) -> None:
        self._in_flight.discard(ended)
        if self._waiting and (self._urgent or self._wake is None):
            self._send_within(0.0, ended.get_loop())

    def _take_group(self) -> list[_Waiting]:
        """Take from the front what one call may carry: no key twice in it."""
        group: list[_Waiting] = []
        keys: set[tuple[str, str, str]] = set()
        size_bytes = 0
        while self._waiting and len(group) < self._writes.most:
            first = self._waiting[0]
            size_bytes += first.size_bytes
            if group and (first.write.key in keys or size_bytes > _MOST_BYTES):
                break
            keys.add(first.write.key)
            group.append(self._waiting.popleft())
        return group

    async def _write(self, group: Sequence[_Waiting]) -> None:
        """Settle every write of ``group``."""
        try:
            for attempt in range(_ATTEMPTS):
                if attempt:
                    await back_off(attempt)
                group = self._settle(group, await self._writes.execute([entry.write for entry in group]))
                if not group:
                    return
            _fail(group, self._unavailable("DynamoDB throttles writes. Try again."))
        except DependencyError as error:
            _fail(group, error)
        except DynamoDbRefusal as refusal:
            if len(group) == 1:
                _fail(group, self._unavailable(f"DynamoDB refused a write ({refusal.code})."))
            else:  # one bad write refuses the call: let it fail alone
                await asyncio.gather(*(self._write([entry]) for entry in group))

    def _settle(self, group: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> list[_Waiting]:
        """Tell each its outcome and return those that are worth another attempt."""
        again: list[_Waiting] = []
        for entry, outcome in zip(group, outcomes, strict=True):
            if outcome is Outcome.AGAIN:
                again.append(entry)
            elif outcome is Outcome.REFUSED:
                _fail([entry], self._unavailable("DynamoDB refused a write."))
            elif not entry.done.done():  # else whoever waited was cancelled
                entry.done.set_result(outcome)
        return again


def _fail(entries: Iterable[_Waiting], error: DependencyError) -> None:
    for entry in entries:
        if not entry.done.done():
            entry.done.set_exception(error)


def _size_bytes(item: Item) -> int:
    """Return the size of the values in the request, near enough: lists hold short names only."""
    return sum(len(value) for typed in item.values() for value in typed.values() if isinstance(value, str))
