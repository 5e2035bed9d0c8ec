"""What one tenant's answers keep for a time, in DynamoDB: claims of keys and contexts, cancellations, live
values of sent texts.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``key#HASH`` | ``key`` | the answer that holds an agent's idempotency key |
| ``context#HASH`` | ``context`` | the answer that a context token is counted for |
| ``log#ANSWER`` | ``signals`` | somebody asked to cancel the answer |
| ``values#ANSWER`` | ``SEND`` | live values of a sent text |

Every item has ``expires_at``, epoch seconds. DynamoDB deletes expired items within days, so readers check it.
The table has no point-in-time recovery, so no copy is left then. Other items of ``log#`` are the release
before's, whose tasks serve while a deployment replaces them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from assistant.answering.ports import CLAIM_EXPIRES_AFTER_S, Claim, ValuesOfSent
from assistant.aws.dynamodb import DynamoDbStore, Item, Key, partition_query, typed_key
from assistant.domain.errors import RecordsUnavailableError

_SIGNALS = "signals"
_CLAIMS = 3
"""Attempts to take a key that others release or take over at the same moment."""


class DynamoDbAnswerClaims(DynamoDbStore):
    """``AnswerClaims`` in ``table``; ``client`` is an aiobotocore DynamoDB client."""

    async def claim(self, claim: Claim) -> Claim:
        key = _key_of(claim)
        values = {"answer_id": {"S": claim.answer_id}, "request_hash": {"S": claim.request_hash}}
        item = typed_key(key) | values | {"expires_at": _expiry(claim.claimed_at)}
        condition: dict[str, Any] = {}
        for _ in range(_CLAIMS):
            if await self._table.put_if(item, **condition):
                return claim
            row = await self._table.get(key)
            if row is not None and not self._has_expired(row):
                return _claim_in(row, claim)
            condition = {} if row is None else _is_unchanged(row)
        raise RecordsUnavailableError("This key was used several times at once. Retry.")

    async def release(self, claim: Claim) -> None:
        await self._delete(_key_of(claim), held_by=claim.answer_id)

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

    async def cancel(self, answer_id: str) -> None:
        item = self._with_expiry(typed_key(_signals(answer_id)) | {"cancelled": {"BOOL": True}})
        await self._table.calls.ask("PutItem", {"TableName": self._table.name, "Item": item})

    async def cancelled(self, answer_ids: Sequence[str]) -> Collection[str]:
        rows = await self._table.get_many([_signals(answer_id) for answer_id in answer_ids])
        return {
            partition.removeprefix("log#")
            for (partition, _), item in rows.items()
            if item.get("cancelled", {}).get("BOOL", False) and not self._has_expired(item)
        }

    async def _delete(self, key: Key, *, held_by: str) -> None:
        condition = {
            "ConditionExpression": "answer_id = :answer",
            "ExpressionAttributeValues": {":answer": {"S": held_by}},
        }
        await self._table.calls.call_if("DeleteItem", self._table.at(key) | condition)

    def _with_expiry(self, item: Item) -> Item:
        return item | {"expires_at": _expiry(self._clock.now())}

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


def _signals(answer_id: str) -> Key:
    return f"log#{answer_id}", _SIGNALS


def _expiry(since: datetime) -> dict[str, str]:
    return {"N": str(int(since.timestamp()) + CLAIM_EXPIRES_AFTER_S)}


def _key_of(claim: Claim) -> Key:
    """Return the key of the idempotency key's item. It is hashed: agent and key may be long and any text."""
    digest = hashlib.sha256(orjson.dumps([claim.agent, claim.key])).hexdigest()
    return f"key#{digest}", "key"


def _claim_in(row: Item, asked: Claim) -> Claim:
    """Return the claim that holds the key. One of the release before says nothing of its request."""
    return Claim(
        answer_id=row["answer_id"]["S"],
        agent=asked.agent,
        key=asked.key,
        request_hash=row.get("request_hash", {"S": asked.request_hash})["S"],
        claimed_at=datetime.fromtimestamp(int(row["expires_at"]["N"]), UTC)
        - timedelta(seconds=CLAIM_EXPIRES_AFTER_S),
    )


def _context(token_id: str) -> Key:
    return f"context#{token_id}", "context"


def _is_unchanged(row: Item) -> dict[str, Any]:
    """Return the condition that nobody else has taken over the key since it was read."""
    return {
        "condition": "answer_id = :answer AND expires_at = :expiry",
        "values": {":answer": row["answer_id"], ":expiry": row["expires_at"]},
    }
