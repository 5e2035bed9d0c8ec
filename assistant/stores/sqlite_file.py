"""SQLite files of a tenant, for tables, queues and the index.

A file is used from asyncio: a transaction is one function that runs in the file's own thread. Example::

    file = SqliteFile(path, schema="CREATE TABLE IF NOT EXISTS counts (n INTEGER)")
    rows = await file.query("SELECT n FROM counts WHERE n > ?", (3,))
await file.write(lambda transaction: transaction.executemany("INSERT INTO counts VALUES (?)", [(1,), (2,)]))

A ``sqlite3.Cursor`` must be freed in the thread that made it: freed in another thread it resets a cached
statement while that statement runs again, and a write then fails with ``sqlite3.InterfaceError``. So a
transaction's function gets no cursor: each statement returns its whole result (``Rows``). SQLite is imported
on first use.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from assistant.domain.errors import ConfigurationError, DependencyError
from assistant.process.private_files import make_private_file, make_private_folder
from assistant.stores.formats import FIRST, StoreFormat

if TYPE_CHECKING:
    import sqlite3

Result = TypeVar("Result")

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process's write lock."""
_SWITCH_AGAIN_S = 0.005
"""Pause between attempts to switch a new file to WAL mode."""
CALL_TIMEOUT_S = 30.0
"""Limit of one call: the wait for the thread, the lock, and the work."""
MAX_PENDING_CALLS = 1000
"""Most calls that wait for a file's thread; a further one is refused at once."""


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
    """The open transaction of a file. Only the function that got it may use it, and only until it returns."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[object] = ()) -> Rows:
        cursor = self._connection.execute(statement, values)
        return Rows(cursor.fetchall(), cursor.rowcount)

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> int:
        """Return how many rows were changed over all of ``rows``."""
        return self._connection.executemany(statement, rows).rowcount


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
            async with asyncio.timeout(timeout_s):  # wait_for of Python 3.11 may lose a cancellation
                return await future
        except TimeoutError:
            late = f"{self._name} did not respond within {timeout_s:.0f} s. Retry."
            raise self._unavailable(late) from None
        finally:
            self._pending -= 1

    async def close(self, work: Callable[[], None]) -> None:
        """Run ``work`` in the thread after the pending calls, and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._thread.shutdown(wait=False)


def run_in_its_thread(work: Callable[[], Result]) -> Result:
    """Return the result of ``work``; called in the thread of an engine. It clears the frames of an error, so
    that no cursor in them is freed in another thread."""
    try:
        return work()
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise


_TIME_STEP_S = 0.1
"""More than a step of the clock that file systems write times by."""


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
        """``schema``: statements that may run at each opening. ``pragmas``: "synchronous = FULL" makes each
        write durable."""
        self._path = path
        self._written = path, path.with_name(f"{path.name}-wal")
        """The files that a commit changes."""
        self._schema = schema
        self._unavailable = unavailable
        self._pragmas = pragmas
        self._connection: sqlite3.Connection | None = None
        self._thread = EngineThread(path.name, most_pending=MAX_PENDING_CALLS, unavailable=unavailable)

    async def write(self, work: Callable[[Transaction], Result]) -> Result:
        """Run ``work`` in one write transaction and return its result: all of it is kept or nothing.

        Raises the error given as ``unavailable`` when the file is locked for too long or damaged.
        """
        return await self._run(lambda: self._transact(work, "BEGIN IMMEDIATE"))

    async def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        """Run one statement that writes. Raises as ``write``."""
        await self.write(lambda transaction: transaction.execute(statement, values))

    async def query(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one statement that reads. Raises as ``write``."""
        return await self.read(lambda transaction: transaction.execute(statement, values).rows)

    async def read(self, work: Callable[[Transaction], Result]) -> Result:
        """Run ``work`` on one snapshot and return its result. Raises as ``write``."""
        return await self._run(lambda: self._transact(work, "BEGIN"))

    def written(self) -> object:
        """Return a value that the next commit of any process changes, from the times of the files alone.

        Two commits within a step of the clock may have one time: a file that was written just now gives a
        value that equals no other, so that its caller reads it again.
        """
        found: list[tuple[int, int]] = []
        for path in self._written:
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size))
        newest_s = max(found, default=(0, 0))[0] / 1e9
        return object() if abs(time.time() - newest_s) < _TIME_STEP_S else found

    async def close(self) -> None:
        """Wait for the pending calls and close the file."""
        await self._thread.close(self._close)

    async def truncate_log(self) -> None:
        """Move the write-ahead log into the file and empty it, so that the disk has no overwritten value.

        While another process reads the file, the log stays as it is, for the next call. Raises as ``write``.
        """
        truncate = "PRAGMA wal_checkpoint(TRUNCATE)"
        await self._run(lambda: (self._connection or self._open()).execute(truncate).fetchall())

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _run(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` in the file's thread. Raises ``unavailable``, and IntegrityError."""
        import sqlite3

        try:
            return await self._thread.run(work, timeout_s=CALL_TIMEOUT_S)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise self._unavailable(f"{self._path.name}: {error}.") from error

    def _transact(self, work: Callable[[Transaction], Result], begin: str) -> Result:
        """Run ``work`` between ``begin`` and COMMIT; roll back where it raises. In the file's thread."""
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
        """Open the file, check its stamp, and apply the schema. A new file gets the stamp."""
        make_private_folder(self._path.parent)
        connection = open_connection(self._path, pragmas=self._pragmas)
        stamped = read_format(connection)
        if stamped is not None:
            _refuse_file(stamped, path=self._path)
            connection.executescript(self._schema)
        else:
            connection.executescript(f"BEGIN IMMEDIATE;{_STAMPS}{self._schema};{_STAMP};COMMIT;")
        self._connection = connection
        return connection


FILE_FORMAT = StoreFormat(number=3, readable_from=3)
"""The format of files whose rows are in one table ``items``."""
_STAMPS = """CREATE TABLE IF NOT EXISTS store_format (
    only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL, readable_from INTEGER NOT NULL
);
"""
_NUMBERS = f"{FILE_FORMAT.number}, {FILE_FORMAT.readable_from}"
_STAMP = f"INSERT OR REPLACE INTO store_format VALUES (1, {_NUMBERS})"  # noqa: S608 (numbers)
# For the message about a damaged file: what is lost where nobody has a copy of it.
_LOST_WITHOUT_A_COPY = {
    "records.sqlite": "answers, verdicts and reads",
    "desk.sqlite": "cases and approved answers",
    "queue.sqlite": "states of documents, until assistant knowledge add --tenant {tenant} loads them again",
    "events.sqlite": "which keys and contexts were used in the last 15 minutes",
    "erasure.sqlite": "every sealed text in feedback",
}


def refuse_files(folder: Path) -> None:
    """Raise ConfigurationError where a file of the folder is damaged, in use elsewhere, or of a newer
    release."""
    import sqlite3

    for path in sorted(folder.glob("*.sqlite")):
        try:
            with closing(open_connection(path)) as connection:
                stamped = read_format(connection)
        except (sqlite3.DatabaseError, TypeError) as error:
            damaged = sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT
            if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorcode not in damaged:
                raise ConfigurationError(
                    f"{path} cannot be opened ({error}), so {path.parent.name} is not served. End "
                    "the program that has it open, a backup or a database browser, and start again."
                ) from None
            lost = _LOST_WITHOUT_A_COPY.get(path.name, "what it holds").format(tenant=path.parent.name)
            raise ConfigurationError(
                f"{path} is damaged ({error}), so {path.parent.name} is not served. Run assistant tenant "
                f"down, put your copy of the file in its place, and start again. Without a copy, mv {path} "
                f"{path}.damaged begins a new one; that loses {lost}."
            ) from None
        if stamped is not None:
            _refuse_file(stamped, path=path)


def read_format(connection: sqlite3.Connection) -> StoreFormat | None:
    """Return the format in a file's stamp; FIRST for a file with tables and no stamp, None for a new file.

    Raises sqlite3.DatabaseError, TypeError (a stamp of no two numbers)."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "store_format" not in tables:
        return FIRST if tables else None
    row = connection.execute("SELECT number, readable_from FROM store_format").fetchone()
    return StoreFormat(*map(index, row))


def _refuse_file(found: StoreFormat, *, path: Path) -> None:
    """Raise ConfigurationError for a file that a newer release wrote, or one that is too old."""
    if found.number < FILE_FORMAT.number:
        raise ConfigurationError(
            f"{path} has format {found.number}, and this release reads format {FILE_FORMAT.number}. Serve it "
            "once with the release of 28 November 2026 (commit 22398e3b), which writes format 3."
        )
    if found.readable_from > FILE_FORMAT.number:
        raise ConfigurationError(
            f"{path} has format {found.number}, and this release reads format {FILE_FORMAT.number}. Use the "
            "release that wrote it."
        )


def json_array(values: Iterable[object]) -> str:
    """Return the values as JSON for ``WHERE id IN (SELECT value FROM json_each(?))``."""
    return orjson.dumps(list(values)).decode()


def open_connection(
    path: Path, *, pragmas: tuple[str, ...] = (), page_size_bytes: int = 4096
) -> sqlite3.Connection:
    """Open a file in WAL mode with explicit transactions. The connection may be used by one thread at a time.

    ``page_size_bytes`` is for a new file; an existing one keeps its own.
    """
    import sqlite3

    make_private_file(path)  # SQLite gives its -wal and -shm the mode of the file
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA page_size = {page_size_bytes}")
    _switch_to_wal(connection)
    for pragma in ("secure_delete = ON", *pragmas):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Retry the switch of a new file for BUSY_TIMEOUT_S: while another process switches or writes it, SQLite
    refuses at once and does not wait. In a file in WAL mode it does nothing."""
    import sqlite3

    until_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until_s:
                raise
        time.sleep(_SWITCH_AGAIN_S)
