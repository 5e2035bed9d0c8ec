"""Two ways of writing several items by one call, each item with an outcome of its own."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from assistant.aws.dynamodb_calls import TRANSIENT, DynamoDbCalls, DynamoDbRefusal, Item


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
