"""The writing side of the embedded index: SQLite first, then tantivy, and how the two are kept together.

A write is one SQLite transaction that also notes its documents as pending; then tantivy commits; then
the note is cleared. A writer that was killed in between finds the note when it opens the index, and
writes those documents' postings again from SQLite, which may be done any number of times.

What is deleted leaves the disk too: SQLite overwrites freed content (``secure_delete``) and its log is
truncated; tantivy keeps deleted postings until a merge that its Python package has no call for, so its
folder is built anew from SQLite (some three seconds for 30,000 passages) and the old one removed.

Imports the engine: load it only where it is used.
"""

from __future__ import annotations

import math
import secrets
import shutil
from array import array
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from assistant.domain.clock import Clock
from assistant.domain.documents import IndexedDocument
from assistant.domain.errors import ConfigurationError, LocalRuntimeError
from assistant.embedded import passage_rows as rows
from assistant.embedded.lexical import LexicalWriter, is_whole
from assistant.embedded.sqlite_file import open_connection
from assistant.private_files import FILE_MODE, make_private_folder

LEXICAL_PREFIX = "lexical-"
PAGE_SIZE_BYTES = 8192
"""Holds five vectors of 384 numbers; a page of 4096 holds two and wastes a quarter."""
LOCK_TIMEOUT_S = 5.0
"""How long a writer waits for the one before it to let go."""


class IndexWriter:
    """The one writer of a version's folder, from ``open`` to ``close``; not for two threads at once."""

    def __init__(self, folder: Path, *, dimensions: int, clock: Clock) -> None:
        self._folder = folder
        self._dimensions = dimensions
        self._clock = clock
        self._lock = FileLock(folder / "writer.lock", thread_local=False, mode=FILE_MODE)
        self._lexical: LexicalWriter | None = None

    def open(self) -> None:
        """Take the lock, open both stores, remove what other versions left, and heal.

        Raises LocalRuntimeError while another process writes.
        """
        make_private_folder(self._folder)
        try:
            self._lock.acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout:
            raise LocalRuntimeError(
                f"Another worker writes the index {self._folder}; stop it or wait for it."
            ) from None
        for other in self._folder.parent.iterdir():
            if other.is_dir() and other != self._folder:  # an older version would keep withdrawn text
                shutil.rmtree(other)
        self._connection = open_connection(
            self._folder / rows.PASSAGES_FILE,
            pragmas=("synchronous = FULL", "secure_delete = ON"),
            page_size_bytes=PAGE_SIZE_BYTES,
        )
        self._connection.executescript(rows.INDEX_SCHEMA)
        self._open_lexical()

    def close(self) -> None:
        if self._lexical is not None:
            self._lexical.close()
        self._connection.close()
        self._lock.release()

    def replace(self, documents: Sequence[IndexedDocument]) -> None:
        """Write the documents; of one without passages nothing is kept.

        Raises ConfigurationError when a vector does not have the index's dimensions.
        """
        packed = {
            document.card.document_id: self._packed(document) if document.passages else None
            for document in documents
        }
        with self._transaction():
            rows.replace_rows(self._connection, packed, now=self._clock.now())
        self._write_pending()

    def delete(self, document_ids: Iterable[str]) -> None:
        """Searches in every process miss the documents from the first commit on; the rest cleans the disk."""
        with self._transaction():
            rows.replace_rows(self._connection, dict.fromkeys(document_ids), now=self._clock.now())
        self.purge()

    def purge(self) -> None:
        """Leave nothing on disk of what was replaced or deleted."""
        if rows.read_meta(self._connection).purge_pending:
            self._rebuild_lexical()
            if self._truncate_log():
                with self._transaction():
                    rows.write_meta(self._connection, purge_pending="0")

    def counts(self) -> tuple[int, int, rows.IndexMeta]:
        return *rows.count_rows(self._connection), rows.read_meta(self._connection)

    def held(self, document_ids: Sequence[str]) -> frozenset[str]:
        return rows.held_documents(self._connection, document_ids)

    def _packed(self, document: IndexedDocument) -> rows.PackedDocument:
        return rows.PackedDocument(
            card=document.card,
            title_vectors=[self._pack(vector) for vector in document.title_vectors],
            passages=[(passage, self._pack(vector)) for passage, vector in document.passages],
        )

    def _pack(self, vector: Sequence[float]) -> bytes:
        if len(vector) != self._dimensions or not all(map(math.isfinite, vector)):
            raise ConfigurationError(
                f"The index holds vectors of {self._dimensions} finite numbers, the embedding endpoint gave"
                f" {len(vector)}; set embedding.model and embedding.dimensions to what it serves."
            )
        return array("f", vector).tobytes()

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _open_lexical(self) -> None:
        named = rows.read_meta(self._connection).lexical_folder
        for folder in self._folder.glob(f"{LEXICAL_PREFIX}*"):
            if folder.name != named:  # left by a writer that was killed while it built it
                shutil.rmtree(folder)
        if named and is_whole(self._folder / named):
            self._lexical = LexicalWriter(self._folder / named)
            self._write_pending()
        else:
            self._rebuild_lexical()

    def _write_pending(self) -> None:
        """Bring tantivy up to SQLite for the noted documents, and tell the readers."""
        documents = rows.pending_documents(self._connection)
        if not documents:
            return
        lexical = self._lexical or self._rebuild_lexical()
        for document_id in documents:
            lexical.remove(document_id)
        for document in rows.documents_of(self._connection, documents, with_units=False):
            lexical.add(document)
        lexical.commit()
        with self._transaction():
            self._announce(rows.read_meta(self._connection).lexical_folder)

    def _rebuild_lexical(self) -> LexicalWriter:
        """Build a new folder from SQLite, switch the readers to it, and remove the old one."""
        before = rows.read_meta(self._connection).lexical_folder
        name = f"{LEXICAL_PREFIX}{secrets.token_hex(4)}"
        lexical = LexicalWriter(self._folder / name)
        for document in rows.documents_of(self._connection, None, with_units=False):
            lexical.add(document)
        lexical.commit()
        with self._transaction():
            self._announce(name)
        if self._lexical is not None:
            self._lexical.close()
        if before:
            shutil.rmtree(self._folder / before, ignore_errors=True)  # what is left goes at the next opening
        self._lexical = lexical
        return lexical

    def _announce(self, lexical_folder: str) -> None:
        commit = rows.read_meta(self._connection).lexical_commit + 1
        self._connection.execute("DELETE FROM pending")
        rows.write_meta(self._connection, lexical_folder=lexical_folder, lexical_commit=str(commit))

    def _truncate_log(self) -> bool:
        """Empty the write-ahead log, which still holds old pages. False when a reader kept it too long."""
        return self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
