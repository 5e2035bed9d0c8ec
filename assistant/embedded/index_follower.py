"""Keeps one process's view of the embedded index up to date with what its writer commits.

Each refresh first asks SQLite whether anything was committed (``PRAGMA data_version``, some ten
microseconds); only then it reads the counters, and refreshes what they say: the changed documents' rows of
the matrices, tantivy's segments, or tantivy's folder.

Imports the engines: load it only where it is used.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

from assistant.embedded import passage_rows as rows
from assistant.embedded.lexical import LexicalReader
from assistant.embedded.sqlite_file import open_connection
from assistant.embedded.vectors import VectorMatrix

OPEN_ATTEMPTS = 5
"""A folder may be replaced between reading its name and opening it; the next read gives the new name."""


@dataclass(slots=True)
class IndexView:
    """Everything of an index that a search needs, as of the last refresh."""

    connection: sqlite3.Connection
    passages: VectorMatrix
    titles: VectorMatrix
    lexical: LexicalReader
    seen: rows.IndexMeta


class IndexFollower:
    """One version's folder, opened when it exists; not for two threads at once."""

    def __init__(self, folder: Path, *, dimensions: int) -> None:
        self._folder = folder
        self._dimensions = dimensions
        self._connection: sqlite3.Connection | None = None
        self._view: IndexView | None = None
        self._data_version = -1
        self._file: tuple[int, int] | None = None
        """Device and inode of the file that is open."""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def refresh(self) -> IndexView | None:
        """Return the view with everything that was committed before the call; None when there is no index.

        Raises OSError, ValueError or sqlite3.Error when the index was there and cannot be read.
        """
        self._leave_replaced()
        connection = self._connection or self._connect()
        if connection is None:
            return None
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if self._view is None:
            self._view = self._open_view(connection)
        if self._view is not None and version != self._data_version:
            _refresh_rows(self._view)
            self._refresh_lexical(self._view)
            self._data_version = version
        return self._view

    def _leave_replaced(self) -> None:
        """Close a file that is no longer the one at its path: an open file outlives its folder, and would be
        searched for ever. Raises FileNotFoundError when there is none in its place."""
        if self._connection is None:
            return
        if self._file == _identity(self._folder / rows.PASSAGES_FILE):
            return
        self._connection.close()
        self._connection = self._view = None
        self._data_version = -1
        if not (self._folder / rows.PASSAGES_FILE).exists():
            raise FileNotFoundError(f"{rows.PASSAGES_FILE} is gone from {self._folder.name}")

    def _connect(self) -> sqlite3.Connection | None:
        path = self._folder / rows.PASSAGES_FILE
        if path.exists():
            self._connection = open_connection(path)
            self._file = _identity(path)
        return self._connection

    def _open_view(self, connection: sqlite3.Connection) -> IndexView | None:
        if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'pending'").fetchone()[0] == 0:
            return None  # its writer is just making it
        for attempt in range(1, OPEN_ATTEMPTS + 1):
            meta = rows.read_meta(connection)
            if not meta.lexical_folder:
                if rows.count_rows(connection)[0]:
                    raise ValueError("the index holds passages, and its counters are gone")
                return None
            try:
                lexical = LexicalReader(self._folder / meta.lexical_folder)
            except ValueError:  # what tantivy raises when the folder goes away under it
                if attempt == OPEN_ATTEMPTS:
                    raise
                continue
            seen = rows.IndexMeta(lexical_folder=meta.lexical_folder, lexical_commit=meta.lexical_commit)
            passages, titles = VectorMatrix(self._dimensions), VectorMatrix(self._dimensions)
            return IndexView(connection, passages, titles, lexical, seen)
        return None

    def _refresh_lexical(self, view: IndexView) -> None:
        for attempt in range(1, OPEN_ATTEMPTS + 1):
            meta = rows.read_meta(view.connection)
            try:
                if meta.lexical_folder != view.seen.lexical_folder:
                    view.lexical = LexicalReader(self._folder / meta.lexical_folder)
                elif meta.lexical_commit != view.seen.lexical_commit:
                    view.lexical.reload()
            except ValueError:
                if attempt == OPEN_ATTEMPTS:
                    raise
                continue
            # Not the generation: rows may have been written since they were read.
            view.seen = replace(
                view.seen, lexical_folder=meta.lexical_folder, lexical_commit=meta.lexical_commit
            )
            return


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _refresh_rows(view: IndexView) -> None:
    view.connection.execute("BEGIN")
    try:
        meta = rows.read_meta(view.connection)
        if meta.generation != view.seen.generation:
            changed = None  # at first: all of them
            if view.seen.generation:
                changed = rows.changed_documents(view.connection, after_generation=view.seen.generation)
            view.passages.replace(changed, rows.passage_vectors(view.connection, changed))
            view.titles.replace(changed, rows.title_vectors(view.connection, changed))
        # Of these counters only what was read here: tantivy is followed in its own step.
        view.seen = replace(view.seen, generation=meta.generation, updated_at=meta.updated_at)
    finally:
        view.connection.execute("COMMIT")
