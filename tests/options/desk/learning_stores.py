"""The learning loop's stores in memory."""

from __future__ import annotations

from datetime import datetime

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.desk import NOT_SERVED, Case, DeskItem, DeskKind
from assistant.domain.errors import ConflictError
from assistant.stores.desk import StoredDesk


class MemoryDesk(StoredDesk):
    """The desk in memory, with a clock of its own."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._revisions: dict[tuple[DeskKind, str], list[DeskItem]] = {}
        self._version = 0

    async def now(self) -> datetime:
        return self._clock.now()

    async def version(self) -> int:
        return self._version

    async def put(self, *items: DeskItem) -> None:
        for item in items:
            kept = self._revisions.get((item.kind, item.item_id), [])
            if item not in kept and item.revision != len(kept) + 1:
                raise ConflictError(f"{item.item_id} has {len(kept)} revisions.")
        for item in items:
            kept = self._revisions.setdefault((item.kind, item.item_id), [])
            if item not in kept:
                kept.append(item)
                self._version += item.kind not in NOT_SERVED

    async def rewrite(self, item: DeskItem) -> None:
        kept = self._revisions.get((item.kind, item.item_id), [])
        if 0 < item.revision <= len(kept):
            kept[item.revision - 1] = item
            self._version += 1

    async def get(self, kind: DeskKind, item_id: str) -> DeskItem | None:
        kept = self._revisions.get((kind, item_id))
        return kept[-1] if kept else None

    async def list(self, kind: DeskKind, *, listed: str | None = None, limit: int = 5_000) -> list[DeskItem]:
        newest = [kept[-1] for (of, _), kept in self._revisions.items() if of is kind and kept]
        if listed is not None:
            newest = [item for item in newest if Case.model_validate_json(item.body).listed == listed]
        return sorted(newest, key=lambda item: item.at, reverse=True)[:limit]

    async def history(self, kind: DeskKind, item_id: str) -> list[DeskItem]:
        return list(self._revisions.get((kind, item_id), ()))
