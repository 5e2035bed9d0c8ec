"""What one tenant keeps in files: SQLite databases, documents, feedback, switches and secrets.

A SQLite file is used from asyncio: a transaction is one function that runs in the file's own thread. A
``sqlite3.Cursor`` must be freed in the thread that made it: freed in another thread it resets a cached
statement while that statement runs again, and a write then fails with ``sqlite3.InterfaceError``. So a
transaction's function gets no cursor: each statement returns its whole result (``Rows``). SQLite is imported
on first use.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import orjson

from assistant.domain.documents import ORIGINAL_PART_BYTES, Document, OriginalFile, ParsedDocument
from assistant.domain.errors import ConfigurationError, DependencyError
from assistant.process.private_files import (
    make_private_file,
    make_private_folder,
    replace_private,
)
from assistant.stores.documents_ports import MOST_CONTENTS, StoredContent
from assistant.stores.encoding import decode_document, decode_parsed, encode_document, encode_parsed
from assistant.stores.formats import FIRST, StoreFormat
from assistant.stores.ports import RawCapture

if TYPE_CHECKING:
    import sqlite3

Result = TypeVar("Result")

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process's write lock."""
_SWITCH_AGAIN_S = 0.005
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
        """Run ``work`` after the pending calls, and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._thread.shutdown(wait=False)


def run_in_its_thread(work: Callable[[], Result]) -> Result:
    """Return the result of ``work``; call it in the thread of an engine. No cursor leaves the thread in the
    frames of an error."""
    try:
        return work()
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise


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
        move: Callable[[sqlite3.Connection], bool] | None = None,
    ) -> None:
        """``move``: takes over tables of releases before, in one
        transaction with the stamp."""
        self._path = path
        self._schema = schema
        self._move = move
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

    async def truncate_log(self) -> None:
        """Move the write-ahead log into the file and empty it, so that it holds no overwritten value.

        While another process reads the file, the log stays as it is, for the next call. Raises as ``write``.
        """
        import sqlite3

        try:
            await self._thread.run(self._truncate_log, timeout_s=CALL_TIMEOUT_S)
        except sqlite3.DatabaseError as error:
            raise self._unavailable(f"{self._path.name}: {error}.") from error

    def _truncate_log(self) -> None:
        connection = self._connection or self._open()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _submit(self, work: Callable[[Transaction], Result], begin: str) -> Result:
        import sqlite3

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
        found = read_format(connection)
        if found is not None:
            _refuse_file(found, path=self._path)
            connection.executescript(self._schema)
        else:
            connection.executescript(f"BEGIN IMMEDIATE;{_STAMPS}{self._schema};{_STAMP};COMMIT;")
        if self._move is not None:
            connection.execute("BEGIN IMMEDIATE")
            if self._move(connection) or found != FILE_FORMAT:
                connection.execute(_STAMPS)
                connection.execute(_STAMP)
            connection.execute("COMMIT")
        self._connection = connection
        return connection


FILE_FORMAT = StoreFormat(number=3, readable_from=3)
"""Of a file with items: releases of format 2 keep each store in tables of its own."""
_STAMPS = """CREATE TABLE IF NOT EXISTS store_format (
    only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL, readable_from INTEGER NOT NULL
);
"""
_NUMBERS = f"{FILE_FORMAT.number}, {FILE_FORMAT.readable_from}"
_STAMP = f"INSERT OR REPLACE INTO store_format VALUES (1, {_NUMBERS})"  # noqa: S608 (numbers)
_LOST_WITHOUT_A_COPY = {
    "records.sqlite": "answers, verdicts and reads",
    "desk.sqlite": "cases and approved answers",
    "queue.sqlite": "states of documents, until assistant knowledge add --tenant {tenant} loads them again",
    "events.sqlite": "which keys and contexts were used in the last 15 minutes",
    "erasure.sqlite": "every sealed text in feedback",
}


def refuse_files(folder: Path) -> None:
    """Raise ConfigurationError where a file of the folder is damaged, or of a newer release."""
    for path in sorted(folder.glob("*.sqlite")):
        found = _format_of_file(path)
        if found is not None:
            _refuse_file(found, path=path)


def _format_of_file(path: Path) -> StoreFormat | None:
    """Return the stamp of a file as ``read_format`` does. Raises ConfigurationError for a damaged file."""
    import sqlite3

    try:
        with closing(open_connection(path)) as connection:
            return read_format(connection)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise
        lost = _LOST_WITHOUT_A_COPY.get(path.name, "what it holds").format(tenant=path.parent.name)
        raise ConfigurationError(
            f"{path} is damaged ({error}), so {path.parent.name} is not served. Run assistant tenant down, "
            f"put your copy of the file in its place, and start again. Without a copy, mv {path} "
            f"{path}.damaged begins a new one; that loses {lost}."
        ) from None


def read_format(connection: sqlite3.Connection) -> StoreFormat | None:
    """Return the stamp of a file; None where nothing was written yet."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "store_format" not in tables:
        return FIRST if tables else None
    row = connection.execute("SELECT number, readable_from FROM store_format").fetchone()
    return StoreFormat(*row)


def _refuse_file(found: StoreFormat, *, path: Path) -> None:
    """Raise ConfigurationError for a file that a newer release wrote."""
    if found.readable_from > FILE_FORMAT.number:
        raise ConfigurationError(
            f"{path} has format {found.number}, and this release reads format {FILE_FORMAT.number}. Use the "
            "release that wrote it."
        )


def json_array(values: Iterable[object]) -> str:
    """Return the values as JSON, for ``json_each`` in a statement."""
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


# Documents, feedback, switches and secrets


READABLE_NAME_CHARS = 100
"""A file name has at most 255 bytes; the hash after the readable part makes names unique."""
_DIGEST_DIGITS = 32
_LARGEST_SECRET_BYTES = 64 * 1024


class FileDocumentStore:
    """A ``DocumentStore`` on a folder that belongs to one tenant.

    ``<directory>/<2 hex>/<name>.json`` is the canonical document, ``<name>.<content hash>.parsed.json`` the
    parsed text of one content, ``<name>.<SHA-256>.original`` a file that a content was converted from. A file
    is written under another name and renamed, so a reader sees the old file or the new one, never half of
    one. It is not fsynced: a document can be added again from its source,
    one fsync a document would make a load of 16,000 take minutes on a laptop's disk, and a file that a power
    cut damaged does not parse, which is reported.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, document: Document) -> None:
        path = self._document_path(document.document_id)
        await asyncio.to_thread(_put, path, encode_document(document))

    async def get(self, document_id: str) -> Document | None:
        content = await asyncio.to_thread(_read, self._document_path(document_id))
        return decode_document(content, document_id=document_id)

    async def contents(self, document_id: str) -> Sequence[StoredContent]:
        return await asyncio.to_thread(_contents, self._document_path(document_id), document_id)

    async def put_parsed(self, document_id: str, content_hash: str, parsed: ParsedDocument) -> None:
        path = self._parsed_path(document_id, content_hash)
        await asyncio.to_thread(_write, path, encode_parsed(parsed))

    async def get_parsed(self, document_id: str, content_hash: str) -> ParsedDocument | None:
        content = await asyncio.to_thread(_read, self._parsed_path(document_id, content_hash))
        return decode_parsed(content, document_id=document_id)

    async def put_original(self, document_id: str, original: OriginalFile, content: bytes) -> None:
        await asyncio.to_thread(_write, self._original_path(document_id, original), content)

    async def read_original(self, document_id: str, original: OriginalFile, *, start: int) -> bytes | None:
        path = self._original_path(document_id, original)
        return await asyncio.to_thread(_read, path, start=start, most_bytes=ORIGINAL_PART_BYTES)

    async def delete(self, document_id: str) -> None:
        await asyncio.to_thread(_delete, self._document_path(document_id))

    async def holdings(self, document_id: str) -> int:
        return await asyncio.to_thread(_files_of, self._document_path(document_id))

    def _document_path(self, document_id: str) -> Path:
        digest = hashlib.sha256(document_id.encode()).hexdigest()
        readable = quote(document_id, safe="")[:READABLE_NAME_CHARS]
        return self._directory / digest[:2] / f"{readable}-{digest[:_DIGEST_DIGITS]}.json"

    def _parsed_path(self, document_id: str, content_hash: str) -> Path:
        return self._document_path(document_id).with_suffix(f".{quote(content_hash, safe='')}.parsed.json")

    def _original_path(self, document_id: str, original: OriginalFile) -> Path:
        return self._document_path(document_id).with_suffix(f".{original.sha256}.original")


def _put(path: Path, content: bytes) -> None:
    """Write the newest content, and keep what it replaces as ``<name>.<time, ns>.before.json``."""
    before = _read(path)
    if before is not None and before != content:
        written_ns = path.stat().st_mtime_ns
        _write(path.with_suffix(f".{written_ns:020}.before.json"), before)
        for old in sorted(path.parent.glob(f"{path.stem}.*.before.json"))[: -(MOST_CONTENTS - 1)]:
            old.unlink(missing_ok=True)
    _write(path, content)


def _contents(path: Path, document_id: str) -> list[StoredContent]:
    kept: list[StoredContent] = []
    for file in (path, *sorted(path.parent.glob(f"{path.stem}.*.before.json"), reverse=True)):
        document = decode_document(_read(file), document_id=document_id)
        if document is not None:
            at_ns = file.stat().st_mtime_ns if file == path else int(file.name.split(".")[-3])
            kept.append(StoredContent(document, datetime.fromtimestamp(at_ns / 1e9, UTC)))
    return kept


def _write(path: Path, content: bytes) -> None:
    try:
        make_private_folder(path.parent)
        replace_private(path, content)
    except OSError as error:
        raise DependencyError(f"The document store cannot write: {error.strerror}.") from error


def _read(path: Path, *, start: int = 0, most_bytes: int = -1) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(most_bytes)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DependencyError(f"The document store cannot read: {error.strerror}.") from error


def _files_of(path: Path) -> int:
    """Return how many files have the document's digest in their name, whatever kind they are."""
    try:
        return sum(1 for _ in path.parent.glob(f"*{path.stem[-_DIGEST_DIGITS:]}*"))
    except OSError as error:
        raise DependencyError(f"The document store cannot read: {error.strerror}.") from error


def _delete(path: Path) -> None:
    # The name ends with a hash and quote() leaves no wildcard: the patterns match this document alone.
    parsed, drafts = f"{path.stem}.*.json", f".{path.stem}.*"  # parsed texts, contents before, killed drafts
    originals = f"{path.stem}.*.original"
    drafts_before = f".{path.stem[-_DIGEST_DIGITS:]}.*.tmp"  # of earlier releases
    folder = path.parent
    try:
        for file in (
            path,
            *chain.from_iterable(map(folder.glob, (parsed, originals, drafts, drafts_before))),
        ):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise DependencyError(f"The document store cannot delete: {error.strerror}.") from error


class FolderFeedbackFiles:
    """``FeedbackFiles`` below a folder. A file is synced and renamed: after a crash it is whole or absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, key: str, content: bytes) -> None:
        try:
            await asyncio.to_thread(_put_synced, self._folder / key, content)
        except OSError as error:
            raise DependencyError(f"The feedback store cannot write: {error.strerror}.") from error

    async def get(self, key: str) -> bytes | None:
        try:
            return await asyncio.to_thread((self._folder / key).read_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DependencyError(f"The feedback store cannot read: {error.strerror}.") from error

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(self._list, prefix):
            yield key

    def _list(self, prefix: str) -> list[str]:
        paths = (self._folder / prefix).rglob("[!.]*.json*")
        return [path.relative_to(self._folder).as_posix() for path in paths]


class FolderCaptureStore:
    """``CaptureStore`` and ``CleanCapture`` below a folder: ``raw``, where the service writes, ``clean``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._raw, self._clean = folder / "raw", FolderFeedbackFiles(folder / "clean")

    async def read_raw(self, key: str) -> bytes | None:
        return await FolderFeedbackFiles(self._raw).get(key)

    async def put_clean(self, key: str, content: bytes) -> None:
        await self._clean.put(key, content)

    async def delete_raw(self, key: str) -> None:
        await asyncio.to_thread((self._raw / key).unlink, missing_ok=True)

    async def raw_objects(self) -> AsyncIterator[RawCapture]:
        async for key in FolderFeedbackFiles(self._raw).keys(""):
            with suppress(FileNotFoundError):
                written = await asyncio.to_thread((self._raw / key).stat)
                yield RawCapture(key, datetime.fromtimestamp(written.st_mtime, UTC))

    async def delete_clean(self, *, before: datetime) -> None:
        """Delete the copies that were written before then."""
        async for key in self.clean_keys():
            path = self._folder / "clean" / key
            with suppress(FileNotFoundError):
                if (await asyncio.to_thread(path.stat)).st_mtime < before.timestamp():
                    await asyncio.to_thread(path.unlink)

    def clean_keys(self) -> AsyncIterator[str]:
        return self._clean.keys("")

    async def read_clean(self, key: str) -> bytes | None:
        return await self._clean.get(key)


def _put_synced(path: Path, content: bytes) -> None:
    if path.exists():
        return
    make_private_folder(path.parent)
    replace_private(path, content, synced=True)


async def file_secret(path: Path) -> bytes:
    """Return what the file holds, without white space around it. Raises ConfigurationError."""

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(_LARGEST_SECRET_BYTES).strip()

    try:
        secret = await asyncio.to_thread(read)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    if not secret:
        raise ConfigurationError(f"{path} is empty.")
    return secret
