"""The files of the embedded index: its versions, and the SQLite tables of each version.

::

    <index>/versions.json                   {"live": "v2-bge-small-384-1a2b3c4d", "kept": […]}
    <index>/turn.lock                       held by the process that writes (``FileTurn``)
    <index>/v2-bge-small-384-1a2b3c4d/      one version (``index_version``)
        writer.lock                         held by the version's writer (``IndexWriter``)
        passages.sqlite                     the tables of INDEX_SCHEMA
        lexical-3-9f86d081/                 tantivy's postings (``embedded_writer.py``)

``<index>/versions.json`` names the versions that are kept, and the live one; a version is a folder beside it.
The file is replaced in one step, so a reader sees the version before or the one after, never both. Without
it the version of the process's own model is live, and the only one.

Passages, titles, cards and their vectors in SQLite are the source of truth of a version. A title row is a
document's title or one of its questions. Everything else (tantivy's postings, the vector matrices in memory)
is derived from these tables. Readers in other processes refresh by two counters: ``generation`` grows with
each write, and ``changes`` has the generation of each document's last write; ``lexical_commit`` grows when
tantivy has caught up, and ``lexical_folder`` names its current folder. ``pending`` lists the documents whose
postings may be out of date.
"""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import sqlite3
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout
from pydantic import ValidationError

from assistant.domain.documents import (
    DocumentCard,
    HeldContent,
    IndexedDocument,
    IndexModel,
    KnownItem,
    KnownWords,
    Passage,
    SourceIds,
    StoredDocument,
    id_prefix_of,
)
from assistant.domain.errors import ConfigurationError, ConflictError, DependencyError, SearchUnavailableError
from assistant.domain.public import PublicModel
from assistant.process.private_files import FILE_MODE, make_private_folder, replace_private
from assistant.stores.index.rows import (
    card_from,
    card_values,
    known_item,
    known_words_of,
    microseconds,
    passage_from,
    passage_values,
)
from assistant.stores.sqlite_file import json_array, open_connection
from assistant.text.caches import remember_texts

PASSAGES_FILE = "passages.sqlite"
_PASSAGES_KEPT = 1_000
"""Most unpacked passages in a cache, by their columns: about 15 MiB (``opensearch_search.py`` has the same).
Answers in progress share them. Which passages exist, and who may see them, is read again for each
question."""
SCHEMA_VERSION = 2
"""Increase it when the tables, the analyzer or the fields change: the index is then rebuilt."""

INDEX_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS passages (
    row INTEGER PRIMARY KEY AUTOINCREMENT, document_id TEXT NOT NULL, ordinal INTEGER NOT NULL,
    content_hash TEXT NOT NULL, title TEXT NOT NULL, heading TEXT NOT NULL, text TEXT NOT NULL,
    span_start INTEGER NOT NULL, span_end INTEGER NOT NULL, token_count INTEGER NOT NULL,
    source TEXT NOT NULL, type TEXT NOT NULL, url TEXT, updated_at_us INTEGER NOT NULL,
    labels TEXT NOT NULL, units BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS passages_by_document ON passages (document_id, ordinal);
CREATE TABLE IF NOT EXISTS vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS cards (
    document_id TEXT PRIMARY KEY, source TEXT NOT NULL, type TEXT NOT NULL,
    updated_at_us INTEGER NOT NULL, labels TEXT NOT NULL, card BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS titles (
    row INTEGER PRIMARY KEY AUTOINCREMENT, document_id TEXT NOT NULL, ordinal INTEGER NOT NULL,
    text TEXT NOT NULL, vector BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS titles_by_document ON titles (document_id, ordinal);
CREATE TABLE IF NOT EXISTS changes (document_id TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS changes_by_generation ON changes (generation);
CREATE TABLE IF NOT EXISTS pending (document_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""

_PASSAGE_COLUMNS = (
    "document_id, ordinal, content_hash, title, heading, text, span_start, span_end, token_count,"
    " source, type, url, updated_at_us, labels, units"
)
# In this order rows are inserted (``_columns``) and read (``_passage``, behind the column ``row``).
_COLUMN_NAMES = _PASSAGE_COLUMNS.split(", ")
_NAMED_VALUES = ", ".join(f":{name}" for name in _COLUMN_NAMES)
_INSERT_PASSAGE = f"INSERT INTO passages ({_PASSAGE_COLUMNS}) VALUES ({_NAMED_VALUES})"  # noqa: S608 (our own names)
_SELECT_PASSAGES = f"SELECT row, {_PASSAGE_COLUMNS} FROM passages"  # noqa: S608
_OF_DOCUMENT = "WHERE document_id = ? ORDER BY ordinal"
# The columns of ``VectorRow``, in its order.
_SELECT_VECTORS = (
    "SELECT row, document_id || '#' || ordinal, document_id, source, type, updated_at_us, labels, vector"
)
_DELETE = (
    "DELETE FROM vectors WHERE row IN (SELECT row FROM passages WHERE document_id = ?)",
    "DELETE FROM titles WHERE document_id = ?",
    "DELETE FROM cards WHERE document_id = ?",
)


@dataclass(frozen=True, slots=True)
class IndexMeta:
    """The counters of the table ``meta`` at one moment; the defaults are those of a new index."""

    generation: int = 0
    """Grows with each write."""
    lexical_folder: str = ""
    """Name of tantivy's current folder."""
    lexical_commit: int = 0
    """Grows with each commit of postings."""
    purge_pending: bool = False
    """Whether replaced or deleted text may still be in tantivy's segments or in the write-ahead log."""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DocumentRows:
    """A document as read from the tables."""

    card: DocumentCard
    titles: Sequence[tuple[int, str]]
    """(row, text) of the title and of each question."""
    passages: Sequence[tuple[int, Passage]]
    """(row, passage) of each passage, in order."""


@dataclass(frozen=True, slots=True)
class VectorRow:
    """The columns of one passage or title that the vector leg and the filters use."""

    row: int
    """Key in the table of passages or titles."""
    name: str
    """``<document_id>#<ordinal>``: breaks ties."""
    document_id: str
    source: str
    type: str
    updated_at_us: int
    labels: tuple[str, ...]
    vector: bytes
    """float32, little-endian, (dimensions,)"""


def index_version(model: IndexModel) -> str:
    """Return the name of the index of this schema and model, which is its folder's:
    "v2-bge-small-384-1a2b3c4d"."""
    parts = f"{SCHEMA_VERSION}\0{model.name}\0{model.dimensions}\0{model.digest}"
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", model.name)[:60]
    return f"v{SCHEMA_VERSION}-{readable}-{model.dimensions}-{sha256(parts.encode()).hexdigest()[:8]}"


def read_meta(connection: sqlite3.Connection) -> IndexMeta:
    """Return the counters; values of the table are texts."""
    values = dict(connection.execute("SELECT key, value FROM meta"))
    updated_at = values.get("updated_at")
    return IndexMeta(
        generation=int(values.get("generation", 0)),
        lexical_folder=values.get("lexical_folder", ""),
        lexical_commit=int(values.get("lexical_commit", 0)),
        purge_pending=values.get("purge_pending") == "1",
        updated_at=datetime.fromisoformat(updated_at) if updated_at else None,
    )


def write_meta(connection: sqlite3.Connection, **values: str) -> None:
    """Set counters by the names of ``IndexMeta``, in the caller's transaction; the others stay."""
    connection.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", values.items())


def replace_rows(
    connection: sqlite3.Connection,
    documents: Mapping[str, IndexedDocument | None],
    *,
    dimensions: int,
    now: datetime,
) -> None:
    """Replace all rows of each document by id, in the caller's transaction; a document that is None is
    removed. Mark the documents as changed and pending.

    Raises ConfigurationError when a vector does not have the index's dimensions.
    """
    meta = read_meta(connection)
    removed = 0
    for document_id, document in documents.items():
        for statement in _DELETE:
            connection.execute(statement, (document_id,))
        removed += connection.execute("DELETE FROM passages WHERE document_id = ?", (document_id,)).rowcount
        if document is not None:
            _insert(connection, document, dimensions=dimensions)
    generation = meta.generation + 1
    for document_id in documents:
        changed = (document_id, generation)
        connection.execute("INSERT OR REPLACE INTO changes (document_id, generation) VALUES (?, ?)", changed)
    mark_pending(connection, documents)
    purge = "1" if removed or meta.purge_pending else "0"
    write_meta(connection, generation=str(generation), updated_at=now.isoformat(), purge_pending=purge)


def mark_pending(connection: sqlite3.Connection, document_ids: Iterable[str]) -> None:
    """List documents whose postings may be out of date."""
    ids = [(document_id,) for document_id in document_ids]
    connection.executemany("INSERT OR IGNORE INTO pending (document_id) VALUES (?)", ids)


def pending_documents(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT document_id FROM pending")]


def changed_documents(connection: sqlite3.Connection, *, after_generation: int) -> list[str]:
    """Return the documents that were written after this generation, for readers to refresh."""
    rows = connection.execute("SELECT document_id FROM changes WHERE generation > ?", (after_generation,))
    return [row[0] for row in rows]


def _insert(connection: sqlite3.Connection, document: IndexedDocument, *, dimensions: int) -> None:
    card = document.card
    updated_at_us, labels = microseconds(card.updated_at), json_array(card.labels)
    row = (card.document_id, card.source, card.type, updated_at_us, labels, _compress(card_values(card)))
    connection.execute("INSERT INTO cards VALUES (?, ?, ?, ?, ?, ?)", row)
    vectors = [_packed(vector, dimensions) for vector in document.title_vectors]
    asked = zip((card.title, *card.questions), vectors, strict=True)
    titles = [(card.document_id, ordinal, *title) for ordinal, title in enumerate(asked)]
    statement = "INSERT INTO titles (document_id, ordinal, text, vector) VALUES (?, ?, ?, ?)"
    connection.executemany(statement, titles)
    for passage, vector in document.passages:
        row = connection.execute(_INSERT_PASSAGE, _columns(passage)).lastrowid
        packed = (row, _packed(vector, dimensions))
        connection.execute("INSERT INTO vectors (row, vector) VALUES (?, ?)", packed)


def _packed(vector: Sequence[float], dimensions: int) -> bytes:
    """Return the vector as float32, little-endian. Raises ConfigurationError for another length or NaN."""
    if len(vector) != dimensions or not all(map(math.isfinite, vector)):
        problem = f"{dimensions} finite numbers, the embedding endpoint returned {len(vector)}"
        advice = "Set embedding.model and embedding.dimensions to what it serves."
        raise ConfigurationError(f"The index holds vectors of {problem}. {advice}")
    return array("f", vector).tobytes()


def passage_of(columns: tuple[Any, ...]) -> Passage:
    """Return the passage of a row of ``_SELECT_PASSAGES``, with its units."""
    return _passage(columns, units=_decompress(columns[-1]))


def _passage(columns: tuple[Any, ...], *, units: Any) -> Passage:
    """Return the passage of a row of ``_SELECT_PASSAGES``; ``units`` as ``rows.passage_from`` takes them."""
    values: dict[str, Any] = dict(zip(_COLUMN_NAMES, columns[1:], strict=True))
    values["passage_id"] = f"{values['document_id']}#{values['ordinal']}"
    values["span"] = (values["span_start"], values["span_end"])
    values["labels"] = orjson.loads(values["labels"])
    values["units"] = units
    return passage_from(values)


_without_units = partial(_passage, units=None)
shared_passage = remember_texts(_PASSAGES_KEPT)(passage_of)
"""``passage_of`` with a cache, for answers. Only for the service, which empties it regularly
(``forget_regularly``): it may hold withdrawn text."""


def documents_of(
    connection: sqlite3.Connection,
    document_ids: Iterable[str] | None,
    *,
    unpack: Callable[[tuple[Any, ...]], Passage] = _without_units,
) -> Iterator[DocumentRows]:
    """Yield those of the documents that the index holds (None: all), each with its passages in order.
    ``unpack`` makes a passage of a row; by default without units, which is faster."""
    statement, values = _of_documents("SELECT document_id, card FROM cards", document_ids)
    for document_id, card in connection.execute(statement, values):
        titles = connection.execute(f"SELECT row, text FROM titles {_OF_DOCUMENT}", (document_id,))  # noqa: S608
        rows = connection.execute(f"{_SELECT_PASSAGES} {_OF_DOCUMENT}", (document_id,))
        passages = [(row[0], unpack(row)) for row in rows]
        yield DocumentRows(card_from(_decompress(card)), titles.fetchall(), passages)


def known_words(connection: sqlite3.Connection, *, items_of: Sequence[SourceIds] = ()) -> KnownWords:
    """Return the abbreviations of all documents without labels, and the items that those of them in these
    sources describe."""
    prefixes = {ids.prefix for ids in items_of}
    items: list[KnownItem | None] = []
    definitions: Counter[tuple[str, str]] = Counter()
    for (packed,) in connection.execute("SELECT card FROM cards WHERE labels = '[]'"):
        values = _decompress(packed)
        definitions.update((short, long) for short, long in values["abbreviations"])
        if "item" in values and id_prefix_of(values["document_id"]) in prefixes:
            items.append(known_item(card_from(values)))
    return known_words_of(definitions, items=items)


def passages_at(connection: sqlite3.Connection, rows: Iterable[int]) -> dict[str, Passage]:
    """Return the passages of these rows by passage id; rows that no longer exist are left out."""
    statement = f"{_SELECT_PASSAGES} WHERE row IN (SELECT value FROM json_each(?))"  # noqa: S608
    rows_read = connection.execute(statement, (json_array(rows),))
    return {passage.passage_id: passage for passage in map(shared_passage, rows_read)}


PASSAGE_VECTORS = "passages JOIN vectors USING (row)"
TITLE_VECTORS = "titles JOIN cards USING (document_id)"
"""The tables for ``vector_rows``: vectors of passages, or of the documents' titles and questions."""


def vector_rows(
    connection: sqlite3.Connection, tables: str, document_ids: Iterable[str] | None
) -> Iterator[VectorRow]:
    """Yield the rows of the documents, or of all, in PASSAGE_VECTORS or TITLE_VECTORS."""
    statement, values = _of_documents(f"{_SELECT_VECTORS} FROM {tables}", document_ids)
    for row in connection.execute(f"{statement} ORDER BY row", values):
        yield VectorRow(*row[:6], labels=tuple(orjson.loads(row[6])), vector=row[7])


def _of_documents(statement: str, document_ids: Iterable[str] | None) -> tuple[str, tuple[str, ...]]:
    """Return the statement for these documents only (None: all), and its values."""
    if document_ids is None:
        return statement, ()
    return f"{statement} WHERE document_id IN (SELECT value FROM json_each(?))", (json_array(document_ids),)  # noqa: S608


def count_rows(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return how many passages there are, and how many documents with a card and at least one passage."""
    counts = "SELECT count(*), count(DISTINCT document_id), (SELECT count(*) FROM cards) FROM passages"
    passages, with_passages, cards = connection.execute(counts).fetchone()
    return passages, min(with_passages, cards)


def document_ids(connection: sqlite3.Connection) -> list[str]:
    """Return every document of which there is a row, in order."""
    rows_read = connection.execute(
        "SELECT document_id FROM cards UNION SELECT document_id FROM passages ORDER BY 1"
    )
    return [str(row[0]) for row in rows_read]


_ROWS_OF = """SELECT (SELECT count(*) FROM passages WHERE document_id = ?1)
    + (SELECT count(*) FROM titles WHERE document_id = ?1)
    + (SELECT count(*) FROM cards WHERE document_id = ?1)"""


def rows_of(connection: sqlite3.Connection, document_id: str) -> int:
    """Return how many rows there are of a document, in every table that has its id."""
    return int(connection.execute(_ROWS_OF, (document_id,)).fetchone()[0])


def held_contents(connection: sqlite3.Connection, document_ids: Sequence[str]) -> dict[str, HeldContent]:
    """Return by id what is held of each of the documents that has a card and at least one passage with its
    vector."""
    rows_read = connection.execute(
        "SELECT document_id, max(content_hash), count(*) FROM passages JOIN vectors USING (row)"
        " WHERE document_id IN (SELECT value FROM json_each(?))"
        " AND document_id IN (SELECT document_id FROM cards) GROUP BY document_id",
        (json_array(document_ids),),
    )
    return {str(name): HeldContent(str(content), int(count)) for name, content, count in rows_read}


def stored_documents(connection: sqlite3.Connection, document_ids: Sequence[str]) -> list[StoredDocument]:
    """Return those of the documents that are held, with all passages and units."""
    return [
        StoredDocument(document.card, tuple(passage for _, passage in document.passages))
        for document in documents_of(connection, document_ids, unpack=passage_of)
    ]


def _columns(passage: Passage) -> dict[str, Any]:
    """Return a passage's values by ``_COLUMN_NAMES``; ``_passage`` reads them."""
    values = passage_values(passage)
    start, end = values["span"]
    packed = {"labels": json_array(passage.labels), "units": _compress(values["units"])}
    return values | packed | {"span_start": start, "span_end": end, "span": None}


def _compress(values: Any) -> bytes:
    return zlib.compress(orjson.dumps(values))


def _decompress(stored: bytes) -> Any:
    return orjson.loads(zlib.decompress(stored))


# Versions


VERSIONS_FILE = "versions.json"
_TURN_POLL_S = 0.02
"""Pause between attempts to take a file's lock."""


class VersionsRecord(PublicModel):
    """The content of VERSIONS_FILE."""

    live: str
    kept: tuple[str, ...]
    """The live version too."""


def read_versions(directory: Path) -> VersionsRecord | None:
    """Return the record of an index folder; None where there is none. Raises SearchUnavailableError."""
    path = directory / VERSIONS_FILE
    try:
        return VersionsRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise SearchUnavailableError(
            f"{path} cannot be read ({type(error).__name__}). Delete it: the index of the tenant's own model "
            "is then live, and the worker writes what it lacks."
        ) from None


class FileTurn:
    """``WriteTurn`` between the processes of one machine, and between the asyncio tasks of each process.

    The lock of a process that was killed is free at once. ``late``: message of the DependencyError where the
    lock is not free within ``waits_s``.
    """

    def __init__(self, path: Path, *, late: str, waits_s: float = 60.0) -> None:
        self._path = path
        self._late = late
        self._waits_s = waits_s
        self._in_process = asyncio.Lock()
        self._file = FileLock(path, thread_local=False, mode=FILE_MODE)

    async def __aenter__(self) -> None:
        """Raises DependencyError when the turn is not free in time."""
        try:
            async with asyncio.timeout(self._waits_s):
                await self._in_process.acquire()
                try:
                    make_private_folder(self._path.parent)
                    while not self._try():  # noqa: ASYNC110 (another process frees the lock)
                        await asyncio.sleep(_TURN_POLL_S)
                except BaseException:
                    self._in_process.release()
                    raise
        except TimeoutError:
            raise DependencyError(self._late) from None

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self._file.release()
        self._in_process.release()

    def _try(self) -> bool:
        """Take the file's lock if it is free; return whether it was."""
        with suppress(Timeout):
            self._file.acquire(timeout=0)
            return True
        return False


class EmbeddedIndexVersions:
    """``IndexVersions`` in the folder ``directory``. Hold the tenant's write turn for each method that
    changes it."""

    def __init__(self, directory: Path, *, own: IndexModel) -> None:
        """``own``: the model that the process's settings name."""
        self._directory = directory
        self._own = index_version(own)

    def name_of(self, model: IndexModel) -> str:
        return index_version(model)

    async def live(self) -> str:
        return (await asyncio.to_thread(self._read)).live

    async def kept(self) -> Sequence[str]:
        record = await asyncio.to_thread(self._read)
        return [record.live, *(name for name in record.kept if name != record.live)]

    async def rows_of(self, document_id: str) -> Mapping[str, int]:
        return await asyncio.to_thread(self._rows_of, await self.live(), document_id)

    def _rows_of(self, live: str, document_id: str) -> dict[str, int]:
        """Count in every version on disk, by connections that wait for no search and no write."""
        rows = {live: 0}
        try:
            for path in sorted(self._directory.glob(f"*/{PASSAGES_FILE}")):
                with closing(open_connection(path)) as connection:
                    rows[path.parent.name] = rows_of(connection, document_id)
        except sqlite3.Error as error:
            raise SearchUnavailableError(f"The passage index failed: {error}.") from error
        return rows

    async def adopt(self) -> None:
        """Make the version of the process's own model the only one, unless it is kept already: the settings
        name another model now.

        The worker calls it before it opens the index, which then removes the folders of all other versions.
        """
        record = await asyncio.to_thread(self._read)
        if self._own not in record.kept:
            await asyncio.to_thread(self._write, VersionsRecord(live=self._own, kept=(self._own,)))

    async def create(self, model: IndexModel) -> None:
        record, name = await asyncio.to_thread(self._read), index_version(model)
        if name not in record.kept:
            kept = (*record.kept, name)
            await asyncio.to_thread(self._write, record.model_copy(update={"kept": kept}))

    async def switch(self, to: str, *, live: str) -> None:
        record = await asyncio.to_thread(self._read)
        if record.live != live or to not in record.kept:
            raise ConflictError(f"The live index is {record.live}, not {live}. Start again.")
        await asyncio.to_thread(self._write, record.model_copy(update={"live": to}))

    async def drop(self, name: str) -> None:
        record = await asyncio.to_thread(self._read)
        if record.live == name:
            raise ConflictError(f"The index {name} is live and cannot be dropped.")
        kept = tuple(version for version in record.kept if version != name)
        await asyncio.to_thread(self._write, record.model_copy(update={"kept": kept}))
        await asyncio.to_thread(shutil.rmtree, self._directory / name, ignore_errors=True)

    def _read(self) -> VersionsRecord:
        """Return the record; where there is none, only the version of the own model is kept."""
        return read_versions(self._directory) or VersionsRecord(live=self._own, kept=(self._own,))

    def _write(self, record: VersionsRecord) -> None:
        """Replace the file in one step, durably. Raises SearchUnavailableError."""
        path = self._directory / VERSIONS_FILE
        try:
            make_private_folder(self._directory)
            replace_private(path, record.model_dump_json().encode(), synced=True)
        except OSError as error:
            raise SearchUnavailableError(f"Cannot write {path}: {error}. Nothing was switched.") from None
