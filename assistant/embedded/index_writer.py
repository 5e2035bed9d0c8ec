"""The writing side of the embedded index: SQLite first, then tantivy.

A write is one SQLite transaction that also lists its documents as pending; then tantivy commits; then
the list is cleared. A writer that was killed in between finds the list when it opens the index, and writes
those documents' postings again from SQLite, which is idempotent.

Deleted text also leaves the disk: SQLite overwrites freed content (``secure_delete``) and its log is
truncated. Tantivy keeps deleted postings until a merge that its Python package cannot start, so its folder is
rebuilt from SQLite (about three seconds for 30,000 passages) and the old one removed.

Imports the engine: import it only where it is used.
"""

from __future__ import annotations

import math
import secrets
import shutil
from array import array
from collections.abc import Generator, Iterable, Mapping, Sequence
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
"""How long a writer waits for an earlier one to release the lock."""


class IndexWriter:
    """The only writer of a version's folder, from ``open`` to ``close``. For one thread."""

    def __init__(self, folder: Path, *, dimensions: int, clock: Clock) -> None:
        self._folder = folder
        self._dimensions = dimensions
        self._clock = clock
        self._lock = FileLock(folder / "writer.lock", thread_local=False, mode=FILE_MODE)
        self._lexical: LexicalWriter | None = None

    def open(self) -> None:
        """Take the lock, open both stores, remove other versions, and finish an interrupted write.

        Raises LocalRuntimeError while another process writes.
        """
        make_private_folder(self._folder)
        try:
            self._lock.acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout:
            advice = "Stop it or wait for it."
            raise LocalRuntimeError(f"Another worker writes the index {self._folder}. {advice}") from None
        for other in self._folder.parent.iterdir():
            if other.is_dir() and other != self._folder:  # an older version would keep withdrawn text
                shutil.rmtree(other)
        path, pragmas = self._folder / rows.PASSAGES_FILE, ("synchronous = FULL",)
        self._connection = open_connection(path, pragmas=pragmas, page_size_bytes=PAGE_SIZE_BYTES)
        self._connection.executescript(rows.INDEX_SCHEMA)
        self._open_lexical()

    def close(self) -> None:
        if self._lexical is not None:
            self._lexical.close()
        self._connection.close()
        self._lock.release()

    def replace(self, documents: Sequence[IndexedDocument]) -> None:
        """Write the documents; one without passages is removed.

        Raises ConfigurationError when a vector does not have the index's dimensions.
        """
        packed = {each.card.document_id: self._packed(each) if each.passages else None for each in documents}
        self._replace_rows(packed)
        self._write_pending()

    def delete(self, document_ids: Iterable[str]) -> None:
        """Remove the documents: from searches of every process by the first commit, then from the disk."""
        self._replace_rows(dict.fromkeys(document_ids))
        self.purge()

    def _replace_rows(self, documents: Mapping[str, rows.PackedDocument | None]) -> None:
        with self._transaction():
            rows.replace_rows(self._connection, documents, now=self._clock.now())

    def purge(self) -> None:
        """Remove replaced and deleted text from the disk."""
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
            problem = f"{self._dimensions} finite numbers, the embedding endpoint returned {len(vector)}"
            advice = "Set embedding.model and embedding.dimensions to what it serves."
            raise ConfigurationError(f"The index holds vectors of {problem}. {advice}")
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
            if folder.name != named:  # of a writer that was killed meanwhile
                shutil.rmtree(folder)
        if named and is_whole(self._folder / named):
            self._lexical = LexicalWriter(self._folder / named)
            self._write_pending()
        else:
            self._rebuild_lexical()

    def _write_pending(self) -> None:
        """Write the postings of pending documents, and announce them to readers."""
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
            shutil.rmtree(self._folder / before, ignore_errors=True)  # the next opening removes what is left
        self._lexical = lexical
        return lexical

    def _announce(self, lexical_folder: str) -> None:
        commit = rows.read_meta(self._connection).lexical_commit + 1
        self._connection.execute("DELETE FROM pending")
        rows.write_meta(self._connection, lexical_folder=lexical_folder, lexical_commit=str(commit))

    def _truncate_log(self) -> bool:
        """Empty the write-ahead log, which holds old pages; return False when a reader uses it."""
        return self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
