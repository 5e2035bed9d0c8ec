"""What the mover of feedback needs of DynamoDB: the outbox in the table of records, and keys of erasure.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``erasure#SUBJECT`` | ``key`` | ``key``: 32 bytes; after its destruction ``destroyed_at`` alone |

Keys are in the table of events: it has no point-in-time recovery, from which a destroyed key would come back
(docs/decisions/0044-signals-that-leave.md).
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from assistant.aws.dynamodb import DynamoDbStore, Item, Key, key_of, typed_key
from assistant.aws.dynamodb_records import listed_query
from assistant.domain.answers import StoredSent, StoredVerdict
from assistant.domain.clock import Clock
from assistant.domain.feedback import StoredAct
from assistant.learning.ports import KEY_BYTES, OutboxKind, OutboxRow
from assistant.settings.deployed_names import OUTBOX

_UPDATES_AT_ONCE = 16
_KIND_OF: Mapping[str, OutboxKind] = {"answer": "answer", "verdict": "verdict", "sent": "sent", "act": "act"}
_MODEL_OF = {"verdict": StoredVerdict, "sent": StoredSent, "act": StoredAct}
_SEPARATOR = "|"


class DynamoDbFeedbackOutbox(DynamoDbStore):
    """``FeedbackOutbox`` over the table of records; ``client`` is an aiobotocore DynamoDB client.

    The index may lag by a moment: a row that was just confirmed may be pending once more.
    """

    def __init__(self, client: Any, *, table: str, clock: Clock | None = None) -> None:
        super().__init__(client, table=table, clock=clock)
        self._updates = asyncio.Semaphore(_UPDATES_AT_ONCE)

    async def pending(self, *, limit: int = 500) -> list[OutboxRow]:
        items = [item async for item in self._table.query(listed_query(OUTBOX), limit=limit)]
        acted = [item for item in items if _kind(item) != "answer"]
        bodies = dict(zip(map(key_of, acted), await self._table.bodies(acted), strict=True))
        return [_row(item, bodies.get(key_of(item))) for item in items]

    async def confirm(self, rows: Sequence[OutboxRow]) -> None:
        await asyncio.gather(*(self._confirm(row) for row in rows))

    async def _confirm(self, row: OutboxRow) -> None:
        partition, _, sort = row.row_id.rpartition(_SEPARATOR)
        values: Item = {":outbox": {"S": OUTBOX}}
        change = "REMOVE listed, listed_at"
        if row.kind != "answer":
            change, values[":kind"] = "SET listed = :kind", {"S": row.kind}
        request = self._table.at((partition, sort)) | {
            "UpdateExpression": change,
            "ConditionExpression": "listed = :outbox",
            "ExpressionAttributeValues": values,
        }
        async with self._updates:
            await self._table.calls.call_if("UpdateItem", request)


def _kind(item: Item) -> OutboxKind:
    return _KIND_OF[item["pk"]["S"].partition("#")[0]]


def _row(item: Item, body: bytes | None) -> OutboxRow:
    kind, (partition, sort) = _kind(item), key_of(item)
    stored = None if body is None else _MODEL_OF[kind].model_validate_json(body)
    answer_id = partition.partition("#")[2] if stored is None else stored.answer_id
    return OutboxRow(f"{partition}{_SEPARATOR}{sort}", kind, answer_id, stored)


class DynamoDbErasureKeys(DynamoDbStore):
    """``ErasureKeys`` in ``table``; ``client`` is an aiobotocore DynamoDB client."""

    async def keys_of(self, subjects: Collection[str], *, create: bool) -> dict[str, bytes]:
        rows = await self._items(subjects)
        if create:
            missing = [subject for subject in dict.fromkeys(subjects) if subject not in rows]
            await asyncio.gather(*(self._create(subject) for subject in missing))
            rows |= await self._items(missing)
        return {name: base64.b64decode(item["key"]["B"]) for name, item in rows.items() if "key" in item}

    async def destroy(self, subject: str) -> bool:
        request = self._table.at(_key(subject)) | {
            "UpdateExpression": "REMOVE #key SET destroyed_at = :now",
            "ExpressionAttributeNames": {"#key": "key"},
            "ExpressionAttributeValues": {":now": {"S": self._clock.now().astimezone(UTC).isoformat()}},
            "ReturnValues": "ALL_OLD",
        }
        before = await self._table.calls.ask("UpdateItem", request)
        return "key" in before.get("Attributes", {})

    async def destroyed(self, subjects: Collection[str]) -> dict[str, datetime]:
        return {
            name: datetime.fromisoformat(item["destroyed_at"]["S"])
            for name, item in (await self._items(subjects)).items()
            if "destroyed_at" in item
        }

    async def _items(self, subjects: Collection[str]) -> dict[str, Item]:
        items = await self._table.get_many([_key(subject) for subject in subjects])
        return {key[0].partition("#")[2]: item for key, item in items.items()}

    async def _create(self, subject: str) -> None:
        """Write a new key unless there is one, or was one."""
        key = {"B": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}
        await self._table.put_if(typed_key(_key(subject)) | {"key": key})


def _key(subject: str) -> Key:
    return f"erasure#{subject}", "key"
