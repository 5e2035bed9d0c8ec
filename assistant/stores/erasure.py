"""Keys of erasure: what is sealed with a key is lost with it, in every copy.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``erasure#SUBJECT`` | ``key`` | ``key``: 32 bytes; after its destruction ``destroyed_at`` alone |

Keys are in a table without point-in-time recovery, from which a destroyed key would come back
(docs/decisions/0044-signals-that-leave.md).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection
from datetime import UTC, datetime

from assistant.domain.clock import Clock, SystemClock
from assistant.stores.ports import KEY_BYTES
from assistant.stores.store import Store, TableOf
from assistant.stores.table import Item, Key, Table, equal, keyed


class StoredErasureKeys:
    """One random key of 32 bytes for each subject of texts, in a table whose overwritten values leave the
    disk. All methods raise RecordsUnavailableError."""

    def __init__(self, table: Table, *, clock: Clock | None = None) -> None:
        self._table = table
        self._clock = clock or SystemClock()

    async def keys_of(self, subjects: Collection[str], *, create: bool) -> dict[str, bytes]:
        """Return the keys by subject; a missing one is made if ``create``, unless it was destroyed."""
        rows = await self._items(subjects)
        if create:
            missing = [subject for subject in dict.fromkeys(subjects) if subject not in rows]
            await asyncio.gather(*(self._create(subject) for subject in missing))
            rows |= await self._items(missing)
        return {name: item["key"] for name, item in rows.items() if "key" in item}

    async def destroy(self, subject: str) -> bool:
        """Destroy a key for good; return whether there was one. No new key is ever made for the subject."""
        key, now = _key(subject), {"destroyed_at": self._clock.now().astimezone(UTC).isoformat()}
        stored = await self._table.get(key) or {}
        if "key" in stored:
            is_there = equal(key=stored["key"])
            if await self._table.change(key, put=now, remove=["key"], when=is_there):
                return True
        await self._table.change(key, put=now, remove=["key"])
        return False

    async def destroyed(self, subjects: Collection[str]) -> dict[str, datetime]:
        """Return when each subject's key was destroyed, the last time, of those that were."""
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


ERASURE_KEYS = Store(
    TableOf("erasure.sqlite", "events_table", overwrites=True),
    lambda table, clock: StoredErasureKeys(table, clock=clock),
)
