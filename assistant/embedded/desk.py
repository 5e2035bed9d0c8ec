"""The review desk of one tenant in the file ``desk.sqlite``: revisions are only added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assistant.domain.desk import DeskItem, DeskKind
from assistant.domain.errors import RecordsUnavailableError
from assistant.embedded.files import SqliteFile, Transaction
from assistant.twins import follows_newest

_TABLES = """
CREATE TABLE IF NOT EXISTS revisions (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, item_id TEXT NOT NULL, revision INTEGER NOT NULL,
    body TEXT NOT NULL, UNIQUE (kind, item_id, revision)
);
CREATE INDEX IF NOT EXISTS revisions_by_kind ON revisions (kind, number);
CREATE TRIGGER IF NOT EXISTS revisions_no_update BEFORE UPDATE ON revisions
    BEGIN SELECT RAISE(ABORT, 'revisions is append-only'); END;
CREATE TRIGGER IF NOT EXISTS revisions_no_delete BEFORE DELETE ON revisions
    BEGIN SELECT RAISE(ABORT, 'revisions is append-only'); END;
"""
_NEWEST = "SELECT body FROM revisions WHERE kind = ? AND item_id = ? ORDER BY revision DESC LIMIT 1"
_ONE = "SELECT body FROM revisions WHERE kind = ? AND item_id = ? AND revision = ?"
_ALL = "SELECT body FROM revisions WHERE kind = ? AND item_id = ? ORDER BY revision"
_INSERT = "INSERT INTO revisions (kind, item_id, revision, body) VALUES (?, ?, ?, ?)"
_LIST = """SELECT body FROM revisions AS one WHERE kind = ? AND NOT EXISTS (
    SELECT 1 FROM revisions AS later
    WHERE later.kind = one.kind AND later.item_id = one.item_id AND later.revision > one.revision
) ORDER BY number DESC LIMIT ?"""
_VERSION = "SELECT coalesce(max(number), 0) FROM revisions WHERE kind = ?"


class SqliteDeskStore:
    """``DeskStore`` in the file ``path``. Several processes may use one file."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, schema=_TABLES, unavailable=RecordsUnavailableError)

    async def close(self) -> None:
        await self._file.close()

    async def version(self) -> int:
        served = [kind.value for kind in DeskKind if kind is not DeskKind.CASE]

        def work(connection: Transaction) -> int:
            return sum(int(connection.execute(_VERSION, (kind,)).fetchone()[0]) for kind in served)

        return await self._file.read(work)

    async def put(self, item: DeskItem) -> None:
        key, body = (item.kind.value, item.item_id), item.model_dump_json()

        def work(connection: Transaction) -> None:
            same = _item(connection.execute(_ONE, (*key, item.revision)).fetchone())
            newest = _item(connection.execute(_NEWEST, key).fetchone())
            if follows_newest(item, same=same, newest=newest):
                connection.execute(_INSERT, (*key, item.revision, body))

        await self._file.write(work)

    async def get(self, kind: DeskKind, item_id: str) -> DeskItem | None:
        rows = await self._file.query(_NEWEST, (kind.value, item_id))
        return _item(rows[0] if rows else None)

    async def list(self, kind: DeskKind, *, limit: int = 5_000) -> list[DeskItem]:
        rows = await self._file.query(_LIST, (kind.value, limit))
        return [DeskItem.model_validate_json(body) for (body,) in rows]

    async def history(self, kind: DeskKind, item_id: str) -> list[DeskItem]:
        rows = await self._file.query(_ALL, (kind.value, item_id))
        return [DeskItem.model_validate_json(body) for (body,) in rows]


def _item(row: tuple[Any, ...] | None) -> DeskItem | None:
    return None if row is None else DeskItem.model_validate_json(row[0])
