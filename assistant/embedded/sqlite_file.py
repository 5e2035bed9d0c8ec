"""One SQLite file, used from asyncio: a transaction is one function that runs in the file's own thread.

A ``sqlite3.Cursor`` must be freed in the thread that made it: freed in another thread it resets a cached
statement while that statement runs again, and a write then fails with ``sqlite3.InterfaceError``. So a
transaction's function gets no cursor: each statement returns its whole result (``Rows``).
"""

from __future__ import annotations

import asyncio
import sqlite3
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from assistant.domain.errors import DependencyError
from assistant.private_files import make_private_file, make_private_folder

Result = TypeVar("Result")

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process's write lock."""
CALL_TIMEOUT_S = 30.0
"""Limit of one call: the wait for the thread, the lock, and the work."""
MAX_PENDING_CALLS = 1000


@dataclass(frozen=True, slots=True)
class Rows:
    """The whole result of one statement."""

    rows: list[tuple[Any, ...]]
    rowcount: int
    """Rows that the statement changed; -1 where it changes none."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def fetchone(self) -> Any:
        """Return the first row, or None."""
        return self.rows[0] if self.rows else None


class Transaction:
    """The open transaction of a file, for the function that it was opened for."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[object] = ()) -> Rows:
        cursor = self._connection.execute(statement, values)
        return Rows(cursor.fetchall(), cursor.rowcount)

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> int:
        """Return how many rows were changed over all of ``rows``."""
        return self._connection.executemany(statement, rows).rowcount


_BOUND_TO_THREAD = (sqlite3.Cursor, sqlite3.Connection, Transaction, Iterator)


class EngineThread:
    """One thread for an engine that blocks. ``name`` begins the messages of its errors."""

    def __init__(self, name: str, *, most_pending: int, unavailable: type[DependencyError]) -> None:
        self._name = name
        self._most_pending = most_pending
        self._unavailable = unavailable
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._pending = 0

    async def run(self, work: Callable[[], Result], *, timeout_s: float) -> Result:
        """Return the result of ``work``. Raises ``unavailable`` when it times out or too many calls wait."""
        if self._pending >= self._most_pending:
            raise self._unavailable(f"{self._name}: too many calls wait. Retry.")
        self._pending += 1
        try:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._thread, run_in_its_thread, work)
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            late = f"{self._name} did not respond within {timeout_s:.0f} s. Retry."
            raise self._unavailable(late) from None
        finally:
            self._pending -= 1

    async def close(self, work: Callable[[], None]) -> None:
        """Run ``work`` after the pending calls, and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._thread.shutdown(wait=False)


def run_in_its_thread(work: Callable[[], Result]) -> Result:
    """Return the result of ``work``; call it in the thread of an engine. No cursor leaves the thread, neither
    in the result nor in the frames of an error.

    Raises TypeError for a result that could hold a cursor.
    """
    try:
        result = work()
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    parts = cast("Sequence[object]", result) if isinstance(result, tuple | list) else (result,)
    for part in parts:
        if isinstance(part, _BOUND_TO_THREAD):
            name = type(cast(object, part)).__name__
            raise TypeError(f"A {name} must not leave its thread; return plain values.")
    return cast("Result", result)


class SqliteFile:
    """A database file in WAL mode, opened on first use, safe for several processes at once.

    Work of one file runs in one thread and inside one transaction, so that coroutines can never
    interleave their statements (with a shared connection per coroutine they could).
    """

    def __init__(
        self,
        path: Path,
        *,
        schema: str,
        unavailable: type[DependencyError] = DependencyError,
        pragmas: tuple[str, ...] = ("synchronous = FULL",),
    ) -> None:
        self._path = path
        self._schema = schema
        self._unavailable = unavailable
        self._pragmas = pragmas
        self._connection: sqlite3.Connection | None = None
        self._thread = EngineThread(path.name, most_pending=MAX_PENDING_CALLS, unavailable=unavailable)

    async def write(self, work: Callable[[Transaction], Result]) -> Result:
        """Run ``work`` in one write transaction: all of it is kept or nothing.

        Raises the error given as ``unavailable`` when the file is locked for too long or damaged.
        """
        return await self._submit(work, "BEGIN IMMEDIATE")

    async def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        """Run one statement that writes. Raises as ``write``."""
        await self.write(lambda transaction: transaction.execute(statement, values))

    async def query(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one statement that reads. Raises as ``write``."""
        return await self.read(lambda transaction: transaction.execute(statement, values).rows)

    async def read(self, work: Callable[[Transaction], Result]) -> Result:
        """Run ``work`` on one snapshot. Raises as ``write``."""
        return await self._submit(work, "BEGIN")

    async def close(self) -> None:
        """Wait for the pending calls and close the file."""
        await self._thread.close(self._close)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _submit(self, work: Callable[[Transaction], Result], begin: str) -> Result:
        try:
            return await self._thread.run(lambda: self._transact(work, begin), timeout_s=CALL_TIMEOUT_S)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise self._unavailable(f"{self._path.name}: {error}.") from error

    def _transact(self, work: Callable[[Transaction], Result], begin: str) -> Result:
        connection = self._connection or self._open()
        connection.execute(begin)
        try:
            result = work(Transaction(connection))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _open(self) -> sqlite3.Connection:
        make_private_folder(self._path.parent)
        connection = open_connection(self._path, pragmas=self._pragmas)
        connection.executescript(self._schema)
        self._connection = connection
        return connection


def open_connection(
    path: Path, *, pragmas: tuple[str, ...] = (), page_size_bytes: int = 4096
) -> sqlite3.Connection:
    """Open a file in WAL mode with explicit transactions. The connection may be used by one thread at a time.

    ``page_size_bytes`` is for a new file; an existing one keeps its own.
    """
    make_private_file(path)  # SQLite gives its -wal and -shm the mode of the file
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    for pragma in (f"page_size = {page_size_bytes}", "journal_mode = WAL", "secure_delete = ON", *pragmas):
        connection.execute(f"PRAGMA {pragma}")
    return connection
