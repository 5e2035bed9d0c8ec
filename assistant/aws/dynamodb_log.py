"""Event logs of one tenant's answers in DynamoDB.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``log#ANSWER`` | ``batch#NUMBER`` | a batch of events |
| ``log#ANSWER`` | ``head`` | the opening; sorts behind the batches, so one query reads both |
| ``log#ANSWER`` | ``part#HASH#N`` | parts of a body that is too large for one item |
| ``log#ANSWER`` | ``signals`` | what others tell the owner |
| ``key#HASH`` | ``key`` | which answer an agent's idempotency key stands for |

Every item has ``expires_at``, epoch seconds. DynamoDB deletes the expired within days, so readers judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from assistant.answering.ports import LOG_EXPIRES_AFTER_S, LogBatch, LogOpening, LogReading, LogSignals
from assistant.aws.dynamodb import (
    DynamoDbCalls,
    DynamoDbRefusal,
    DynamoDbTable,
    Item,
    Key,
    StoredBody,
    partition_request,
    store_bytes,
    store_text,
    typed_key,
)
from assistant.aws.dynamodb_writes import GroupCommit, Puts
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import RecordsUnavailableError
from assistant.stored_values import decode_log_batch, encode_log_batch

_HEAD = "head"
_SIGNALS = "signals"
_CLAIMS = 3
"""How often a key that is let go, or taken over, at the same moment is asked for again."""


class DynamoDbAnswerLog:
    """``AnswerLog`` in ``table``; ``client`` is an aiobotocore DynamoDB client."""

    def __init__(self, client: Any, *, table: str, clock: Clock | None = None) -> None:
        self._calls = DynamoDbCalls(client, unavailable=RecordsUnavailableError)
        # One task writes a log, and repeats a batch as it was: no condition is needed, so no transaction.
        self._puts = GroupCommit(Puts(self._calls), unavailable=RecordsUnavailableError)
        self._table = DynamoDbTable(self._calls, name=table, unavailable=RecordsUnavailableError)
        self._name = table
        self._clock = clock or SystemClock()

    async def close(self) -> None:
        await self._puts.close()
        await self._calls.close()

    async def open(self, opening: LogOpening) -> LogOpening:
        # The head before the key: whoever finds the key finds the log.
        await self._put((_log(opening.answer_id), _HEAD), store_text(orjson.dumps(asdict(opening)).decode()))
        if opening.key is None:
            return opening
        holder = await self._claim(opening)
        if holder.answer_id != opening.answer_id:
            # A head that stays is known to nobody, and expires.
            with contextlib.suppress(RecordsUnavailableError):
                await self._delete((_log(opening.answer_id), _HEAD))
        return holder

    async def release(self, opening: LogOpening) -> None:
        request = partition_request(_log(opening.answer_id), prefix="batch#")
        async for _ in self._table.query(request, limit=1):
            return
        await self.free_key(opening)
        await self._delete((_log(opening.answer_id), _HEAD))

    async def free_key(self, opening: LogOpening) -> None:
        if opening.key is not None:
            await self._delete(_key_of(opening), held_by=opening.answer_id)

    async def append(self, answer_id: str, batch: LogBatch) -> None:
        # Readers are a second behind anyway: only what begins or ends a stream is urgent.
        urgent = batch.ended or batch.urgent
        body = store_bytes(encode_log_batch(batch))
        await self._put((_log(answer_id), _batch_name(batch.number)), body, urgent=urgent)

    async def read(self, answer_id: str, *, after_batch: int = 0) -> LogReading | None:
        request = {
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :first AND :head",
            "ExpressionAttributeValues": {
                ":pk": {"S": _log(answer_id)},
                ":first": {"S": _batch_name(after_batch + 1)},
                ":head": {"S": _HEAD},
            },
        }
        items = [item async for item in self._table.query(request)]
        if not items or items[-1]["sk"]["S"] != _HEAD or self._has_expired(items[-1]):
            return None
        *batches, head = await self._table.bodies(items)
        numbers = [int(item["sk"]["S"].partition("#")[2]) for item in items[:-1]]
        return LogReading(
            LogOpening(**orjson.loads(head)),
            tuple(
                decode_log_batch(number, body)
                for expected, number, body in zip(_after(after_batch, numbers), numbers, batches, strict=True)
                if number == expected
            ),
        )

    async def signal_cancel(self, answer_id: str) -> None:
        await self._signal(answer_id, "SET cancelled = :told, expires_at = :expiry", {"BOOL": True})

    async def signal_reader(self, answer_id: str) -> None:
        # Repeated after a lost answer it counts one reader twice: the number need only grow.
        await self._signal(answer_id, "ADD readers :told SET expires_at = :expiry", {"N": "1"})

    async def signals(self, answer_ids: Sequence[str]) -> Mapping[str, LogSignals]:
        found = await self._table.get_many([(_log(answer_id), _SIGNALS) for answer_id in answer_ids])
        return {
            partition.removeprefix("log#"): LogSignals(
                cancelled=item.get("cancelled", {}).get("BOOL", False),
                readers=int(item.get("readers", {}).get("N", "0")),
            )
            for (partition, _), item in found.items()
            if not self._has_expired(item)
        }

    async def _claim(self, opening: LogOpening) -> LogOpening:
        """Take the key, or return the opening that holds it."""
        mine = self._with_expiry(typed_key(_key_of(opening)) | {"answer_id": {"S": opening.answer_id}})
        take: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        for _ in range(_CLAIMS):
            if await self._if_so("PutItem", {"TableName": self._name, "Item": mine, **take}):
                return opening
            found = await self._table.get(_key_of(opening))
            if found is not None:
                holder = await self._holder(found)
                if holder is not None:
                    return holder
                take = _if_still(found)
            else:  # released just now
                take = {"ConditionExpression": "attribute_not_exists(pk)"}
        raise RecordsUnavailableError("This key was used several times at once. Try again.")

    async def _holder(self, found: Item) -> LogOpening | None:
        """Return the opening that a key stands for; None when it expired or its log was released."""
        if self._has_expired(found):
            return None
        head = await self._table.get((_log(found["answer_id"]["S"]), _HEAD))
        if head is None or self._has_expired(head):
            return None
        (body,) = await self._table.bodies([head])
        return LogOpening(**orjson.loads(body))

    async def _delete(self, key: Key, *, held_by: str | None = None) -> None:
        request: dict[str, Any] = {"TableName": self._name, "Key": typed_key(key)}
        if held_by is not None:
            request["ConditionExpression"] = "answer_id = :answer"
            request["ExpressionAttributeValues"] = {":answer": {"S": held_by}}
        await self._if_so("DeleteItem", request)

    async def _if_so(self, operation: str, request: Mapping[str, Any]) -> bool:
        """Make a conditional write; False when its condition does not hold."""
        try:
            await self._calls.call(operation, request)
        except DynamoDbRefusal as refusal:
            if refusal.code != "ConditionalCheckFailedException":
                raise RecordsUnavailableError(f"DynamoDB refused {operation} ({refusal.code}).") from refusal
            return False
        return True

    async def _signal(self, answer_id: str, update: str, told: Mapping[str, Any]) -> None:
        values = {":told": told, ":expiry": self._expiry()}
        await self._calls.ask(
            "UpdateItem",
            {
                "TableName": self._name,
                "Key": typed_key((_log(answer_id), _SIGNALS)),
                "UpdateExpression": update,
                "ExpressionAttributeValues": values,
            },
        )

    async def _put(self, key: Key, body: StoredBody, *, urgent: bool = True) -> None:
        """Write an item after its parts."""
        parts = [self._with_expiry(typed_key((key[0], name)) | part) for name, part in body.parts]
        await asyncio.gather(*(self._puts.write(self._name, part) for part in parts))
        item = self._with_expiry(typed_key(key) | body.attributes)
        await self._puts.write(self._name, item, urgent=urgent)

    def _with_expiry(self, item: Item) -> Item:
        return item | {"expires_at": self._expiry()}

    def _expiry(self) -> dict[str, str]:
        return {"N": str(int(self._clock.now().timestamp()) + LOG_EXPIRES_AFTER_S)}

    def _has_expired(self, item: Item) -> bool:
        return int(item["expires_at"]["N"]) <= self._clock.now().timestamp()


def _log(answer_id: str) -> str:
    return f"log#{answer_id}"


def _batch_name(number: int) -> str:
    return f"batch#{number:010d}"


def _key_of(opening: LogOpening) -> Key:
    """Return the item of the opening's key. Agent and key are hashed: they may be long and hold any text."""
    digest = hashlib.sha256(orjson.dumps([opening.agent, opening.key])).hexdigest()
    return f"key#{digest}", "key"


def _if_still(found: Item) -> dict[str, Any]:
    """Return the condition that a key is as it was found: somebody else may take it over too."""
    return {
        "ConditionExpression": "answer_id = :answer AND expires_at = :expiry",
        "ExpressionAttributeValues": {":answer": found["answer_id"], ":expiry": found["expires_at"]},
    }


def _after(number: int, found: Sequence[int]) -> range:
    """Return the numbers that follow without a gap, as many as were found."""
    return range(number + 1, number + 1 + len(found))
