"""Event logs of one tenant's answers, and live values of sent texts, in DynamoDB: what expires.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``log#ANSWER`` | ``batch#NUMBER`` | a batch of events |
| ``log#ANSWER`` | ``head`` | the opening; sorts after the batches, so one query reads both |
| ``log#ANSWER`` | ``part#HASH#N`` | parts of a body that is too large for one item |
| ``log#ANSWER`` | ``signals`` | cancellation and readers, for the answer's owner |
| ``unsettled`` | ``ANSWER`` | an opened answer of which nobody has said that it is on record |
| ``key#HASH`` | ``key`` | the answer that holds an agent's idempotency key |
| ``context#HASH`` | ``context`` | the answer that a context token is counted for |
| ``values#ANSWER`` | ``SEND`` | live values of a sent text |

Every item has ``expires_at``, epoch seconds. DynamoDB deletes expired items within days, so readers check it.
The table has no point-in-time recovery, so no copy is left then.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson

from assistant.answering.ports import (
    LOG_EXPIRES_AFTER_S,
    LogBatch,
    LogOpening,
    LogReading,
    LogSignals,
    ValuesOfSent,
)
from assistant.aws.dynamodb import (
    DynamoDbStore,
    Item,
    Key,
    StoredBody,
    partition_query,
    prefix_query,
    store_bytes,
    store_text,
    typed_key,
)
from assistant.domain.errors import RecordsUnavailableError
from assistant.twins import decode_log_batch, encode_log_batch

_HEAD = "head"
_SIGNALS = "signals"
_UNSETTLED = "unsettled"
_CLAIMS = 3
"""Attempts to take a key that others release or take over at the same moment."""


class DynamoDbAnswerLog(DynamoDbStore):
    """``AnswerLog`` in ``table``; ``client`` is an aiobotocore DynamoDB client."""

    async def open(self, opening: LogOpening) -> LogOpening:
        # Write the head before the key, so that a process that finds the key finds the log.
        unsettled = self._with_expiry(typed_key((_UNSETTLED, opening.answer_id)))
        body = store_text(orjson.dumps(asdict(opening)).decode())
        head = self._put((_log(opening.answer_id), _HEAD), body)
        await asyncio.gather(self._table.puts.write(unsettled), head)
        if opening.key is None:
            return opening
        holder = await self._claim(opening)
        if holder.answer_id != opening.answer_id:
            # A head that is not deleted is unreachable, and expires.
            with contextlib.suppress(RecordsUnavailableError):
                await self._delete((_log(opening.answer_id), _HEAD))
                await self.settled(opening.answer_id)
        return holder

    async def release(self, opening: LogOpening) -> None:
        async for _ in self._table.query(prefix_query(_log(opening.answer_id), prefix="batch#"), limit=1):
            return
        await self.free_key(opening)
        await self._delete((_log(opening.answer_id), _HEAD))
        await self.settled(opening.answer_id)

    async def unsettled(self) -> Sequence[str]:
        items = [item async for item in self._table.query(partition_query("pk = :pk", pk=_UNSETTLED))]
        return [item["sk"]["S"] for item in items if not self._has_expired(item)]

    async def settled(self, answer_id: str) -> None:
        await self._delete((_UNSETTLED, answer_id))

    async def free_key(self, opening: LogOpening) -> None:
        if opening.key is not None:
            await self._delete(_key_of(opening), held_by=opening.answer_id)

    async def count_context(self, token_id: str, *, answer_id: str, key: str | None) -> bool:
        place = _context(token_id)
        mine = {"answer_id": {"S": answer_id}} | ({} if key is None else {"key": {"S": key}})
        condition = {
            "condition": "attribute_not_exists(pk) OR expires_at <= :now",
            "values": {":now": {"N": str(int(self._clock.now().timestamp()))}},
        }
        if await self._table.put_if(self._with_expiry(typed_key(place) | mine), **condition):
            return True
        # A put that is repeated after a lost response finds its own item.
        kept = await self._table.get(place) or {}
        return any(name in kept and kept[name] == value for name, value in mine.items())

    async def uncount_context(self, token_id: str, *, answer_id: str) -> None:
        await self._delete(_context(token_id), held_by=answer_id)

    async def append(self, answer_id: str, batch: LogBatch) -> None:
        # Readers are a second behind anyway: only the start and the end of a stream are urgent.
        urgent = batch.ended or batch.urgent
        body = store_bytes(encode_log_batch(batch))
        await self._put((_log(answer_id), _batch_name(batch.number)), body, urgent=urgent)

    async def read(self, answer_id: str, *, after_batch: int = 0) -> LogReading | None:
        request = partition_query(
            "pk = :pk AND sk BETWEEN :first AND :head",
            pk=_log(answer_id),
            first=_batch_name(after_batch + 1),
            head=_HEAD,
        )
        items = [item async for item in self._table.query(request)]
        if not items or items[-1]["sk"]["S"] != _HEAD or self._has_expired(items[-1]):
            return None
        *batches, head = await self._table.bodies(items)
        numbers = [int(item["sk"]["S"].partition("#")[2]) for item in items[:-1]]
        return LogReading(
            LogOpening(**orjson.loads(head)),
            tuple(
                decode_log_batch(number, body)
                for expected, (number, body) in enumerate(
                    zip(numbers, batches, strict=True), start=after_batch + 1
                )
                if number == expected  # a batch after a missing one waits for it
            ),
        )

    async def signal_cancel(self, answer_id: str) -> None:
        await self._signal(answer_id, "SET cancelled = :value, expires_at = :expiry", {"BOOL": True})

    async def signal_reader(self, answer_id: str) -> None:
        # A retry after a lost response counts one reader twice: the number need only grow.
        await self._signal(answer_id, "ADD readers :value SET expires_at = :expiry", {"N": "1"})

    async def signals(self, answer_ids: Sequence[str]) -> Mapping[str, LogSignals]:
        rows = await self._table.get_many([(_log(answer_id), _SIGNALS) for answer_id in answer_ids])
        return {
            partition.removeprefix("log#"): LogSignals(
                cancelled=item.get("cancelled", {}).get("BOOL", False),
                readers=int(item.get("readers", {}).get("N", "0")),
            )
            for (partition, _), item in rows.items()
            if not self._has_expired(item)
        }

    async def _claim(self, opening: LogOpening) -> LogOpening:
        """Take the key, or return the opening that holds it."""
        key = _key_of(opening)
        item = self._with_expiry(typed_key(key) | {"answer_id": {"S": opening.answer_id}})
        condition: dict[str, Any] = {}
        for _ in range(_CLAIMS):
            if await self._table.put_if(item, **condition):
                return opening
            row = await self._table.get(key)
            if row is not None and (holder := await self._holder(row)) is not None:
                return holder
            condition = {} if row is None else _is_unchanged(row)
        raise RecordsUnavailableError("This key was used several times at once. Retry.")

    async def _holder(self, row: Item) -> LogOpening | None:
        """Return the opening of a key's item; None when it expired or its log was released."""
        if self._has_expired(row):
            return None
        head = await self._table.get((_log(row["answer_id"]["S"]), _HEAD))
        if head is None or self._has_expired(head):
            return None
        (body,) = await self._table.bodies([head])
        return LogOpening(**orjson.loads(body))

    async def _delete(self, key: Key, *, held_by: str | None = None) -> None:
        request = self._table.at(key)
        if held_by is not None:
            request["ConditionExpression"] = "answer_id = :answer"
            request["ExpressionAttributeValues"] = {":answer": {"S": held_by}}
        await self._table.calls.call_if("DeleteItem", request)

    async def _signal(self, answer_id: str, update: str, value: Mapping[str, Any]) -> None:
        await self._table.calls.ask(
            "UpdateItem",
            self._table.at((_log(answer_id), _SIGNALS))
            | {
                "UpdateExpression": update,
                "ExpressionAttributeValues": {":value": value, ":expiry": self._expiry()},
            },
        )

    async def _put(self, key: Key, body: StoredBody, *, urgent: bool = True) -> None:
        """Write an item after its parts.

        One task writes a log, and repeats a batch unchanged, so no condition is needed.
        """
        parts = [self._with_expiry(typed_key((key[0], name)) | part) for name, part in body.parts]
        await asyncio.gather(*(self._table.puts.write(part) for part in parts))
        await self._table.puts.write(self._with_expiry(typed_key(key) | body.attributes), urgent=urgent)

    def _with_expiry(self, item: Item) -> Item:
        return item | {"expires_at": self._expiry()}

    def _expiry(self) -> dict[str, str]:
        return {"N": str(int(self._clock.now().timestamp()) + LOG_EXPIRES_AFTER_S)}

    def _has_expired(self, item: Item) -> bool:
        return int(item["expires_at"]["N"]) <= self._clock.now().timestamp()


class DynamoDbSentValues(DynamoDbStore):
    """``SentValues`` in ``table``; ``client`` is an aiobotocore DynamoDB client."""

    async def keep(self, values: ValuesOfSent) -> ValuesOfSent:
        item = typed_key((_values(values.answer_id), values.send_id)) | {
            "values": {"L": [{"S": value} for value in values.values]},
            "expires_at": {"N": str(int(values.expires_at.timestamp()))},
        }
        if await self._table.put_if(item):
            return values
        return (await self.of(values.answer_id)).get(values.send_id, values)

    async def of(self, answer_id: str) -> Mapping[str, ValuesOfSent]:
        now_s = self._clock.now().timestamp()
        found: dict[str, ValuesOfSent] = {}
        async for item in self._table.query(partition_query("pk = :pk", pk=_values(answer_id))):
            expires_s, send_id = int(item["expires_at"]["N"]), item["sk"]["S"]
            if expires_s > now_s:
                values = tuple(str(value["S"]) for value in item["values"]["L"])
                found[send_id] = ValuesOfSent(
                    answer_id, send_id, values, datetime.fromtimestamp(expires_s, UTC)
                )
        return found


def _values(answer_id: str) -> str:
    return f"values#{answer_id}"


def _log(answer_id: str) -> str:
    return f"log#{answer_id}"


def _batch_name(number: int) -> str:
    return f"batch#{number:010d}"


def _key_of(opening: LogOpening) -> Key:
    """Return the key of the idempotency key's item. It is hashed: agent and key may be long and any text."""
    digest = hashlib.sha256(orjson.dumps([opening.agent, opening.key])).hexdigest()
    return f"key#{digest}", "key"


def _context(token_id: str) -> Key:
    return f"context#{token_id}", "context"


def _is_unchanged(row: Item) -> dict[str, Any]:
    """Return the condition that nobody else has taken over the key since it was read."""
    return {
        "condition": "answer_id = :answer AND expires_at = :expiry",
        "values": {":answer": row["answer_id"], ":expiry": row["expires_at"]},
    }
