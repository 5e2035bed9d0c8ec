"""Rows of a database as documents, by SQLAlchemy: any URL whose driver is installed (pg8000, SQLite).

A cursor is JSON of a place in the order by (changed, key); a type that JSON does not have goes with its name:

    [["datetime", "2026-11-20T09:00:00"], 17]      after the row 17 of this time
    [["datetime", "2026-11-20T09:00:00"], null]    from this time on, with all its rows
    [null, 17]                                     of ``all_ids``: after the row 17
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import orjson
import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    ConfigurationError,
    DeadlineExceededError,
    DependencyError,
    DocumentInvalidError,
)
from assistant.options.sources.connector import ChangedItem, ChangePage, FetchedItem, limiter
from assistant.options.sources.section import SqlConnector, filled

_SOCKET_TIMEOUT_S = 60
"""Limit of one query."""
_TAKE_TIMEOUT = frozenset({"pg8000", "pysqlite"})
"""Drivers with the argument ``timeout``, in seconds."""
# Hosts on this machine, to which a connection needs no TLS.
_HERE = frozenset({None, "", "localhost", "127.0.0.1", "::1"})
_READ: Mapping[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "Decimal": Decimal,
    "UUID": UUID,
}
"""Types of a cursor's values that JSON does not have = the function that reads one from text."""
Row = Mapping[str, Any]
Result = TypeVar("Result")


class SqlRows:
    """``Connector`` of one query. Each query runs in a thread, one at a time."""

    def __init__(self, settings: SqlConnector, *, password: str | None) -> None:
        """Raises ConfigurationError for a URL that SQLAlchemy cannot use."""
        self._settings = settings
        self._turn, self._rate = asyncio.Lock(), limiter(settings.requests_per_second)
        self._page: dict[str, Row] = {}
        """Rows by id of the last page of changes, which ``fetch`` returns without another query."""
        self._rows = sql.text(settings.query).columns(*map(sql.column, settings.columns)).subquery("items")
        self._key, self._changed = self._rows.c[settings.key], self._rows.c[settings.changed]
        try:
            url = sql.make_url(settings.url)
            url = url if password is None else url.set(password=password)
            arguments = _connect_args(url, settings.ca_pem)
            self._engine = sql.create_engine(
                url, pool_size=1, max_overflow=0, pool_pre_ping=True, connect_args=arguments
            )
        except (SQLAlchemyError, ImportError) as error:
            raise ConfigurationError(f"connector.url cannot be used: {error}.") from None

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.dispose)

    async def changes(self, cursor: str | None, *, deadline: Deadline) -> ChangePage:
        """Return rows in order of (changed, key). A new run begins with the last time again: another row may
        have the same time by now.

        On the last page the cursor has no key, so the next run reads all rows of that time again.
        """
        query = sql.select(self._rows).where(self._changed.is_not(None)).order_by(self._changed, self._key)
        start = _decoded(cursor) if cursor else None
        if start is not None:
            changed, key = start
            later = self._changed > changed
            query = query.where(
                self._changed >= changed
                if key is None
                else sql.or_(later, sql.and_(self._changed == changed, self._key > key))
            )
        rows = await self._read(query.limit(self._settings.page_size), deadline)
        self._page = {self._id(row): row for row in rows}
        is_last = len(rows) < self._settings.page_size
        if rows:
            last = rows[-1]
            cursor = _encoded(last[self._settings.changed], None if is_last else last[self._settings.key])
        elif start is not None:
            cursor = _encoded(start[0], None)
        changed_items = [ChangedItem(self._id(row), str(row[self._settings.changed])) for row in rows]
        return ChangePage(changed_items, cursor or "", is_last)

    async def fetch(self, item_id: str, *, deadline: Deadline) -> FetchedItem | None:
        kept, has_key = self._page.pop(item_id, None), sql.cast(self._key, sql.String) == item_id
        rows = [kept] if kept else await self._read(sql.select(self._rows).where(has_key).limit(2), deadline)
        if len(rows) > 1:
            raise DocumentInvalidError(f"two rows have the key {item_id:.80}; keys must be unique.")
        return self._item(rows[0]) if rows else None

    async def all_ids(self, after: str | None, *, deadline: Deadline) -> tuple[Sequence[str], str | None]:
        query = sql.select(self._key).order_by(self._key)
        if after is not None:
            query = query.where(self._key > _decoded(after)[1])
        rows = await self._read(query.limit(self._settings.page_size), deadline)
        is_last = len(rows) < self._settings.page_size
        following = None if is_last else _encoded(None, rows[-1][self._settings.key])
        return [self._id(row) for row in rows], following

    def _id(self, row: Row) -> str:
        return str(row[self._settings.key])

    def _item(self, row: Row) -> FetchedItem:
        settings, changed = self._settings, row[self._settings.changed]
        return FetchedItem(
            title=filled(settings.title, row).strip(),
            media_type=settings.media_type,
            content=filled(settings.text, row).strip(),
            url=filled(settings.link, row) if settings.link else None,
            effective_date=changed.date() if isinstance(changed, datetime) else None,
            labels=self._labels(row),
        )

    def _labels(self, row: Row) -> tuple[str, ...] | None:
        """Return the labels of the groups that may read a row, () for every agent; None where the settings
        have no column of groups. Raises DocumentInvalidError for NULL, and for groups without labels."""
        if self._settings.groups_column is None:
            return None
        named = row[self._settings.groups_column]
        if named is None:
            problem = f"{self._settings.groups_column} is NULL. Write the groups, or an empty text for all."
            raise DocumentInvalidError(f"labels: {problem}")
        groups = [group.strip() for group in str(named).split(",") if group.strip()]
        labels = self._settings.labels_of(groups)
        if groups and not labels:
            raise DocumentInvalidError(
                f"labels: only {', '.join(groups):.200} may read it, and groups maps none of them to labels."
            )
        return tuple(sorted(labels))

    async def _read(self, query: sql.Select[Any], deadline: Deadline) -> list[Row]:
        async with self._turn, self._rate:
            try:
                async with asyncio.timeout(deadline.within_s(_SOCKET_TIMEOUT_S)):
                    return await asyncio.to_thread(partial(self._rows_of, query))
            except TimeoutError:
                raise DeadlineExceededError("The database did not answer in time. Retry later.") from None
            except (SQLAlchemyError, OSError) as error:
                reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
                raise DependencyError(f"The database refused the query: {reason:.300}") from None

    def _rows_of(self, query: sql.Select[Any]) -> list[Row]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _connect_args(url: sql.URL, ca_pem: str | None) -> dict[str, Any]:
    """Return the driver's arguments: a timeout if it takes one, and TLS to another machine."""
    driver = url.get_driver_name()
    arguments: dict[str, Any] = {"timeout": _SOCKET_TIMEOUT_S} if driver in _TAKE_TIMEOUT else {}
    if driver == "pg8000" and url.host not in _HERE:
        arguments["ssl_context"] = ssl.create_default_context(cadata=ca_pem)
    return arguments


def _encoded(changed: Any, key: Any) -> str:
    """Return a cursor: see the module's examples."""
    return orjson.dumps([_typed(changed), _typed(key)]).decode()


def _typed(value: Any) -> Any:
    """Return a value as JSON has it, or [name of its type, text] for a type of ``_READ``."""
    kind = type(value).__name__
    if kind not in _READ:
        return value
    return [kind, value.isoformat() if isinstance(value, date) else str(value)]


def _decoded(cursor: str) -> tuple[Any, Any]:
    """Return the values (changed, key) of a cursor. Raises DependencyError for one of another query."""
    try:
        changed, key = (
            _READ[value[0]](value[1]) if isinstance(value, list) else value for value in orjson.loads(cursor)
        )
    except (ValueError, KeyError, TypeError):
        raise DependencyError("The kept place is not one of this query. Run with --again.") from None
    return changed, key
