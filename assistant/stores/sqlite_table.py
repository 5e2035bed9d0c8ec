"""``Table`` in a SQLite file."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import orjson
import structlog

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import DependencyError, RecordsUnavailableError
from assistant.stores.earlier_files import move_tables
from assistant.stores.group_commit import GroupCommit, Outcome
from assistant.stores.sqlite_file import SqliteFile, Transaction
from assistant.stores.table import ABSENT, EXPIRES_AT, Condition, Item, Key, Range, key_of, keyed

_log = structlog.get_logger(__name__)
_INDEXED = ("listed", "listed_at", "state", EXPIRES_AT)
"""Attributes with a column, by which items are found; all others are in ``item``."""
_TABLE = """CREATE TABLE IF NOT EXISTS items (
    pk TEXT NOT NULL, sk TEXT NOT NULL, item TEXT NOT NULL,
    listed TEXT, listed_at TEXT, state TEXT, expires_at REAL, PRIMARY KEY (pk, sk)
);
CREATE INDEX IF NOT EXISTS items_listed ON items (listed, listed_at) WHERE listed IS NOT NULL;
CREATE INDEX IF NOT EXISTS items_by_state ON items (state, sk) WHERE state IS NOT NULL;
CREATE INDEX IF NOT EXISTS items_by_expiry ON items (expires_at) WHERE expires_at IS NOT NULL;
"""
_APPEND_ONLY = """CREATE TRIGGER IF NOT EXISTS items_stay BEFORE UPDATE ON items
WHEN (old.pk, old.sk, old.item) IS NOT (new.pk, new.sk, new.item)
BEGIN SELECT RAISE(ABORT, 'items are append-only'); END;
CREATE TRIGGER IF NOT EXISTS items_no_delete BEFORE DELETE ON items
BEGIN SELECT RAISE(ABORT, 'items are append-only'); END;
"""
_FIELDS = f"pk, sk, item, {', '.join(_INDEXED)}"
_SELECT = f"SELECT {_FIELDS} FROM items"  # noqa: S608 (our own names)
_GET = f"{_SELECT} WHERE pk = ? AND sk = ?"
_GET_MANY = f"""{_SELECT} WHERE (pk, sk) IN
    (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"""  # noqa: S608
_INSERT = f"INSERT OR IGNORE INTO items ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_PUT = f"""INSERT INTO items ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (pk, sk) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in ("item", *_INDEXED))}"""  # noqa: S608
_DELETE = "DELETE FROM items WHERE pk = ? AND sk = ?"
_EXPIRED = f"SELECT rowid FROM items WHERE {EXPIRES_AT} <= ? LIMIT 500"  # noqa: S608
"""Those that one transaction deletes: other writes wait for no more."""
_SWEEP_EVERY_S = 30.0


class SqliteTable:
    """``Table`` in the file ``path``. Several processes may use one file.

    Expired items are deleted while a process runs that has begun to sweep: now, then every 30 s. The bytes
    go too: pages are overwritten, and the write-ahead log is emptied.
    """

    def __init__(
        self,
        path: Path,
        *,
        unavailable: type[DependencyError] = RecordsUnavailableError,
        append_only: bool = False,
        overwrites: bool = False,
        synced: bool = True,
        clock: Clock | None = None,
        sweep_every_s: float = _SWEEP_EVERY_S,
    ) -> None:
        """``append_only``: nothing but the place in the index may
        change, and nothing be deleted. ``overwrites``: what a write replaces leaves the disk at once.
        ``synced``: every write is on the disk when it ends, else a crash of the machine may lose the last.
        """
        self._file = SqliteFile(
            path,
            schema=_TABLE + (_APPEND_ONLY if append_only else ""),
            unavailable=unavailable,
            pragmas=(f"synchronous = {'FULL' if synced else 'NORMAL'}",),
            move=move_tables,
        )
        self._inserts = GroupCommit(self._insert_group, unavailable=unavailable)
        self._overwrites = overwrites
        self._clock = clock or SystemClock()
        self._sweep_every_s = sweep_every_s
        self._sweeping: asyncio.Task[None] | None = None
        self._may_be_in_log = True
        """Whether the write-ahead log may still hold items that were deleted."""

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})
        await self._inserts.close()
        await self._file.close()

    async def now(self) -> datetime:
        ((at,),) = await self._file.query("SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')")
        return datetime.fromisoformat(at)

    async def get(self, key: Key) -> Item | None:
        return await self._file.read(lambda transaction: _get(transaction, key))

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Item]:
        rows = await self._file.query(_GET_MANY, (orjson.dumps(keys).decode(),))
        return {key_of(item): item for item in map(_item, rows)}

    async def query(self, wanted: Range, *, descending: bool = False, limit: int | None = None) -> list[Item]:
        where, values, sort = _where(wanted)
        order = f"ORDER BY {sort} {'DESC' if descending else 'ASC'} LIMIT ?"
        rows = await self._file.query(f"{_SELECT} {where} {order}", (*values, -1 if limit is None else limit))
        return [_item(row) for row in rows]

    async def count(self, wanted: Range) -> int:
        where, values, _ = _where(wanted)
        rows = await self._file.query(f"SELECT count(*) FROM items {where}", values)  # noqa: S608
        return int(rows[0][0])

    async def insert(self, item: Item) -> bool:
        return await self._inserts.write(item)

    async def put(self, item: Item, *, when: Condition | None = None) -> bool:
        return await self._write(lambda transaction: _put(transaction, item, when))

    async def put_each(self, puts: Sequence[tuple[Item, Condition]]) -> list[bool]:
        return await self._write(lambda transaction: [_put(transaction, item, when) for item, when in puts])

    async def put_many(self, items: Sequence[Item]) -> None:
        rows = [_row(item) for item in items]
        await self._write(lambda transaction: transaction.executemany(_PUT, rows))

    async def transact(self, puts: Sequence[tuple[Item, Condition]]) -> bool:
        def work(transaction: Transaction) -> bool:
            if not all(_holds(when, _get(transaction, key_of(item))) for item, when in puts):
                return False
            return all(_put(transaction, item, None) for item, _ in puts)

        return await self._write(work)

    async def change(
        self, key: Key, *, put: Item | None = None, remove: Sequence[str] = (), when: Condition | None = None
    ) -> bool:
        def work(transaction: Transaction) -> bool:
            stored = _get(transaction, key)
            if when is not None and not _holds(when, stored):
                return False
            kept = {name: value for name, value in (stored or keyed(key)).items() if name not in remove}
            return _put(transaction, kept | dict(put or {}), None)

        return await self._write(work)

    async def delete(self, key: Key, *, when: Condition | None = None) -> bool:
        def work(transaction: Transaction) -> bool:
            if when is not None and not _holds(when, _get(transaction, key)):
                return False
            transaction.execute(_DELETE, key)
            return True

        return await self._write(work)

    async def _write(self, work: Callable[[Transaction], Any]) -> Any:
        done = await self._file.write(work)
        if self._overwrites:
            await self._file.truncate_log()
        return done

    async def _insert_group(self, items: Sequence[Item]) -> Sequence[Outcome]:
        rows = [_row(item) for item in items]

        def work(transaction: Transaction) -> list[Outcome]:
            counts = [transaction.execute(_INSERT, row).rowcount for row in rows]
            return [Outcome.WRITTEN if count else Outcome.PRESENT for count in counts]

        return await self._file.write(work)

    def begin_sweep(self) -> None:
        """Delete what expired, now and from now on: a process that stopped may have left items."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        while True:
            try:
                await self._delete_expired()
            except DependencyError as error:
                _log.warning("expired_items_not_deleted", reason=error.message)
            await asyncio.sleep(self._sweep_every_s)

    async def _delete_expired(self) -> None:
        now_s, deleted = (self._clock.now().timestamp(),), False
        while await self._file.query(_EXPIRED, now_s):
            await self._file.execute(f"DELETE FROM items WHERE rowid IN ({_EXPIRED})", now_s)  # noqa: S608
            deleted = True
        if deleted or self._may_be_in_log:
            await self._file.truncate_log()  # once more next time: another process may have read the file
        self._may_be_in_log = deleted


def _where(wanted: Range) -> tuple[str, tuple[str, str, str], str]:
    """Return condition and values of a range, and its sort key."""
    partition, sort = ("pk", "sk") if wanted.index is None else (wanted.index.partition, wanted.index.sort)
    return (
        f"WHERE {partition} = ? AND {sort} BETWEEN ? AND ?",
        (wanted.partition, wanted.low, wanted.high),
        sort,
    )


def _get(transaction: Transaction, key: Key) -> Item | None:
    row = transaction.execute(_GET, key).fetchone()
    return None if row is None else _item(row)


def _put(transaction: Transaction, item: Item, when: Condition | None) -> bool:
    if when is not None and not _holds(when, _get(transaction, key_of(item))):
        return False
    transaction.execute(_PUT, _row(item))
    return True


def _holds(when: Condition, stored: Item | None) -> bool:
    if stored is None:
        return ABSENT[0] in when
    return any(
        each and all(_compares(stored.get(name), op, value) for name, op, value in each) for each in when
    )


def _compares(stored: Any, op: str, value: Any) -> bool:
    if op == "<=":
        return stored is not None and stored <= value
    return (stored == value) is (op == "=")


def _row(item: Item) -> tuple[object, ...]:
    rest = {name: value for name, value in item.items() if name not in ("pk", "sk", *_INDEXED)}
    return (
        *key_of(item),
        orjson.dumps(rest, default=_binary).decode(),
        *(item.get(name) for name in _INDEXED),
    )


def _item(row: Sequence[Any]) -> Item:
    pk, sk, rest, *indexed = row
    found = {name: value for name, value in zip(_INDEXED, indexed, strict=True) if value is not None}
    return {"pk": pk, "sk": sk, **_plain(orjson.loads(rest)), **found}


def _binary(content: object) -> Mapping[str, str]:
    if not isinstance(content, bytes):
        raise TypeError
    return {"B": base64.b64encode(content).decode()}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: base64.b64decode(cast("dict[str, str]", value)["B"]) if isinstance(value, dict) else value
        for name, value in values.items()
    }
