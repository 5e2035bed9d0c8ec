"""One SQLite file, used from asyncio: a transaction is one function that runs in the file's own thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from assistant.domain.errors import DependencyError

Result = TypeVar("Result")

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process's write lock."""
CALL_TIMEOUT_S = 30.0
"""Bound of one call: its turn in the thread, the lock, and the work."""
MAX_PENDING_CALLS = 1000


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
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{path.stem}")
        self._pending = 0

    async def write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run ``work`` in one write transaction: all of it is kept or nothing.

        Raises the error given as ``unavailable`` when the file is locked for too long or damaged.
        """
        return await self._submit(work, "BEGIN IMMEDIATE")

    async def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run ``work`` on one snapshot. Raises as ``write``."""
        return await self._submit(work, "BEGIN")

    async def close(self) -> None:
        """Finish what runs and close the file."""
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
            self._connection = None
        self._thread.shutdown(wait=False)

    async def _submit(self, work: Callable[[sqlite3.Connection], Result], begin: str) -> Result:
        if self._pending >= MAX_PENDING_CALLS:
            raise self._unavailable(f"{self._path.name}: too many calls wait for this store; try again.")
        self._pending += 1
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work, begin)
            return await asyncio.wait_for(future, CALL_TIMEOUT_S)
        except TimeoutError:
            raise self._unavailable(
                f"{self._path.name} did not answer within {CALL_TIMEOUT_S:.0f} s."
            ) from None
        except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise self._unavailable(f"{self._path.name}: {error}.") from error
        finally:
            self._pending -= 1

    def _transact(self, work: Callable[[sqlite3.Connection], Result], begin: str) -> Result:
        connection = self._connection or self._open()
        connection.execute(begin)
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = open_connection(self._path, pragmas=self._pragmas)
        connection.executescript(self._schema)
        self._connection = connection
        return connection


def open_connection(
    path: Path, *, pragmas: tuple[str, ...] = (), page_size_bytes: int = 4096
) -> sqlite3.Connection:
    """Open a file in WAL mode, transactions by hand. It may move between threads, one at a time.

    ``page_size_bytes`` is of a file that is made now; one that is there keeps its own.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    for pragma in (f"page_size = {page_size_bytes}", "journal_mode = WAL", *pragmas):
        connection.execute(f"PRAGMA {pragma}")
    return connection
