"""What the mover of feedback needs of tables: the outbox among the records, and keys of erasure.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``erasure#SUBJECT`` | ``key`` | ``key``: 32 bytes; after its destruction ``destroyed_at`` alone |

Keys are in a table without point-in-time recovery, from which a destroyed key would come back
(docs/decisions/0044-signals-that-leave.md).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from assistant.domain.acts import StoredAct
from assistant.domain.answers import StoredSent, StoredVerdict
from assistant.domain.clock import Clock, SystemClock
from assistant.stores.bodies import bodies_of
from assistant.stores.ports import KEY_BYTES, OutboxKind, OutboxRow
from assistant.stores.records import listed
from assistant.stores.table import Item, Key, Table, equal, key_of, keyed
from assistant.tenant.deployed_names import OUTBOX

_KIND_OF: Mapping[str, OutboxKind] = {"answer": "answer", "verdict": "verdict", "sent": "sent", "act": "act"}
_MODEL_OF = {"verdict": StoredVerdict, "sent": StoredSent, "act": StoredAct}
_SEPARATOR = "|"


class StoredOutbox:
    """``FeedbackOutbox`` over the table of records.

    The index may lag by a moment: a row that was just confirmed may be pending once more.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    async def pending(self, *, limit: int = 500) -> list[OutboxRow]:
        items = await self._table.query(listed(OUTBOX), limit=limit)
        acted = [item for item in items if _kind(item) != "answer"]
        bodies = dict(zip(map(key_of, acted), await bodies_of(self._table, acted), strict=True))
        return [_row(item, bodies.get(key_of(item))) for item in items]

    async def confirm(self, rows: Sequence[OutboxRow]) -> None:
        await asyncio.gather(*(self._confirm(row) for row in rows))

    async def _confirm(self, row: OutboxRow) -> None:
        partition, _, sort = row.row_id.rpartition(_SEPARATOR)
        is_listed = equal(listed=OUTBOX)
        if row.kind == "answer":
            await self._table.change((partition, sort), remove=["listed", "listed_at"], when=is_listed)
        else:
            await self._table.change((partition, sort), put={"listed": row.kind}, when=is_listed)


def _kind(item: Item) -> OutboxKind:
    return _KIND_OF[item["pk"].partition("#")[0]]


def _row(item: Item, body: bytes | None) -> OutboxRow:
    kind, (partition, sort) = _kind(item), key_of(item)
    stored = None if body is None else _MODEL_OF[kind].model_validate_json(body)
    answer_id = partition.partition("#")[2] if stored is None else stored.answer_id
    return OutboxRow(f"{partition}{_SEPARATOR}{sort}", kind, answer_id, stored)


class StoredErasureKeys:
    """``ErasureKeys`` in a table whose overwritten values leave the disk."""

    def __init__(self, table: Table, *, clock: Clock | None = None) -> None:
        self._table = table
        self._clock = clock or SystemClock()

    async def keys_of(self, subjects: Collection[str], *, create: bool) -> dict[str, bytes]:
        rows = await self._items(subjects)
        if create:
            missing = [subject for subject in dict.fromkeys(subjects) if subject not in rows]
            await asyncio.gather(*(self._create(subject) for subject in missing))
            rows |= await self._items(missing)
        return {name: item["key"] for name, item in rows.items() if "key" in item}

    async def destroy(self, subject: str) -> bool:
        key, now = _key(subject), {"destroyed_at": self._clock.now().astimezone(UTC).isoformat()}
        stored = await self._table.get(key) or {}
        if "key" in stored:
            is_there = equal(key=stored["key"])
            if await self._table.change(key, put=now, remove=["key"], when=is_there):
                return True
        await self._table.change(key, put=now, remove=["key"])
        return False

    async def destroyed(self, subjects: Collection[str]) -> dict[str, datetime]:
        return {
            name: datetime.fromisoformat(item["destroyed_at"])
            for name, item in (await self._items(subjects)).items()
            if "destroyed_at" in item
        }

    async def _items(self, subjects: Collection[str]) -> dict[str, Item]:
        items = await self._table.get_many([_key(subject) for subject in subjects])
        return {key[0].partition("#")[2]: item for key, item in items.items()}

    async def _create(self, subject: str) -> None:
        """Write a new key unless there is one, or was one."""
        await self._table.insert(keyed(_key(subject), key=secrets.token_bytes(KEY_BYTES)))


def _key(subject: str) -> Key:
    return f"erasure#{subject}", "key"
