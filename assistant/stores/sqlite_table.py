"""``Table`` in a SQLite file. ``table.py`` says what the methods do; ``DynamoDbTable`` does the same on AWS.

A row is an item: its keys ``pk`` and ``sk``, a column for each attribute that items are found by, and all
other attributes as JSON in the column ``item``. The item

    {"pk": "answer#1", "sk": "0", "state": "open", "text": "Yes", "digest": b"\\x01"}

has the row ("answer#1", "0", '{"text":"Yes","digest":{"B":"AQ=="}}', NULL, NULL, "open", NULL).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import orjson
import structlog

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import DependencyError, RecordsUnavailableError
from assistant.stores.group_commit import GroupCommit, Outcome
from assistant.stores.sqlite_file import SqliteFile, Transaction
from assistant.stores.table import ABSENT, EXPIRES_AT, Condition, Item, Key, Range, key_of, keyed

_log = structlog.get_logger(__name__)
_INDEXED = ("listed", "listed_at", "state", EXPIRES_AT)
"""Attributes with a column, by which items are found; all others are in ``item``. ``expires_at`` is a time in
seconds since 1970, after which the item is deleted."""
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
"""Refuses each change of an item but that of the columns by which it is found, and each deletion."""
_FIELDS = f"pk, sk, item, {', '.join(_INDEXED)}"
_SELECT = f"SELECT {_FIELDS} FROM items"  # noqa: S608 (our own names)
_GET = f"{_SELECT} WHERE pk = ? AND sk = ?"
_GET_MANY = f"""{_SELECT} WHERE (pk, sk) IN
    (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"""  # noqa: S608
_PAGE = f"{_SELECT} WHERE (pk, sk) > (?, ?) ORDER BY pk, sk LIMIT 500"
_INSERT = f"INSERT OR IGNORE INTO items ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_PUT = f"""INSERT INTO items ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (pk, sk) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in ("item", *_INDEXED))}"""  # noqa: S608
_DELETE = "DELETE FROM items WHERE pk = ? AND sk = ?"
_EXPIRED = f"SELECT rowid FROM items WHERE {EXPIRES_AT} <= ? LIMIT 500"  # noqa: S608
"""Expired items that one transaction deletes. No more than 500, so that other writes do not wait long."""
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
        """``unavailable``: what all methods raise when the file cannot be used.
        ``append_only``: no item is deleted, and only its attributes in columns (``_INDEXED``) may change.
        ``overwrites``: bytes that a write replaces are gone from the disk when it ends, also from the log.
        ``synced``: every write is on the disk when it ends, else a crash of the machine may lose the last.
        """
        self._file = SqliteFile(
            path,
            schema=_TABLE + (_APPEND_ONLY if append_only else ""),
            unavailable=unavailable,
            pragmas=(f"synchronous = {'FULL' if synced else 'NORMAL'}",),
        )
        self._inserts = GroupCommit(self._insert_group, unavailable=unavailable)
        self._overwrites = overwrites
        self._clock = clock or SystemClock()
        self._sweep_every_s = sweep_every_s
        self._sweeping: asyncio.Task[None] | None = None
        self._may_be_in_log = True
        """Whether the write-ahead log may still hold items that were deleted. True at first: a process that
        stopped may have left some."""

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})
        await self._inserts.close()
        await self._file.close()

    async def now(self) -> datetime:
        ((now,),) = await self._file.query("SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')")
        return datetime.fromisoformat(now)

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

    async def pages(self) -> AsyncIterator[list[Item]]:
        last: Key = ("", "")
        while page := [_item(row) for row in await self._file.query(_PAGE, last)]:
            yield page
            last = key_of(page[-1])

    async def insert(self, *items: Item) -> bool:
        """Write new items, in one transaction with others that are inserted at the same time."""
        return await self._inserts.write(*items)

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
            transaction.executemany(_PUT, [_row(item) for item, _ in puts])
            return True

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
        """Do the work in one transaction, and return its result."""
        result = await self._file.write(work)
        if self._overwrites:
            await self._file.truncate_log()
        return result

    async def _insert_group(self, writes: Sequence[Sequence[Item]]) -> Sequence[Outcome]:
        """Do the inserts that came at the same time; return for each whether its keys were free. What is
        inserted replaces nothing, so the log needs no emptying."""

        def insert(transaction: Transaction, items: Sequence[Item]) -> Outcome:
            if len(items) > 1 and any(_get(transaction, key_of(item)) for item in items):
                return Outcome.PRESENT
            count = sum(transaction.execute(_INSERT, _row(item)).rowcount for item in items)
            return Outcome.WRITTEN if count else Outcome.PRESENT

        return await self._file.write(lambda transaction: [insert(transaction, items) for items in writes])

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
        """Delete expired items, and empty the log of them in this round and the next: in this one another
        process may still have been reading the file, which keeps the log as it is."""
        now_s, deleted = (self._clock.now().timestamp(),), False
        while await self._file.query(_EXPIRED, now_s):
            await self._file.execute(f"DELETE FROM items WHERE rowid IN ({_EXPIRED})", now_s)  # noqa: S608
            deleted = True
        if deleted or self._may_be_in_log:
            await self._file.truncate_log()
        self._may_be_in_log = deleted


def _where(wanted: Range) -> tuple[str, tuple[str, str, str], str]:
    """Return the WHERE clause of a range with its values, and the column that sorts it.

    Range("answer#1", "0", "9") -> "WHERE pk = ? AND sk BETWEEN ? AND ?", ("answer#1", "0", "9"), "sk"
    """
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
    """Write an item over the one of its key; return False where the condition does not hold."""
    if when is not None and not _holds(when, _get(transaction, key_of(item))):
        return False
    transaction.execute(_PUT, _row(item))
    return True


def _holds(when: Condition, stored: Item | None) -> bool:
    """Return whether the stored item meets one of the condition's alternatives, of which all comparisons
    must hold. The one without comparisons (``ABSENT``) is met when no item is stored: ``stored`` is None."""
    if stored is None:
        return ABSENT[0] in when
    return any(
        comparisons and all(_compares(stored.get(name), op, value) for name, op, value in comparisons)
        for comparisons in when
    )


def _compares(stored: Any, op: str, value: Any) -> bool:
    """Return whether ``stored op value`` holds; ``op`` is "=", "<=" or "<>". ``stored`` is None for an
    attribute that the item does not have."""
    if op == "<=":
        return stored is not None and stored <= value
    return (stored == value) is (op == "=")


def _row(item: Item) -> tuple[object, ...]:
    """Return the values of ``_FIELDS`` of an item; ``_item`` is the reverse."""
    others = {name: value for name, value in item.items() if name not in ("pk", "sk", *_INDEXED)}
    return (
        *key_of(item),
        orjson.dumps(others, default=_as_json).decode(),
        *(item.get(name) for name in _INDEXED),
    )


def _item(row: Sequence[Any]) -> Item:
    pk, sk, others, *columns = row
    indexed = {name: value for name, value in zip(_INDEXED, columns, strict=True) if value is not None}
    return {"pk": pk, "sk": sk, **_with_bytes(orjson.loads(others)), **indexed}


def _as_json(content: object) -> Mapping[str, str]:
    """Return bytes as {"B": base64}. No attribute of an item is an object, so none is mistaken for bytes."""
    if not isinstance(content, bytes):
        raise TypeError
    return {"B": base64.b64encode(content).decode()}


def _with_bytes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with bytes in place of each {"B": base64}."""
    return {
        name: base64.b64decode(cast("dict[str, str]", value)["B"]) if isinstance(value, dict) else value
        for name, value in values.items()
    }
