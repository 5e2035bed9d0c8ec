"""The reading side of the embedded index: sees each committed write on the next search.

Each search first asks SQLite whether anything was committed (``PRAGMA data_version``, some ten
microseconds); only then it reads the counters, and refreshes what they say: the changed documents' rows
of the matrix, tantivy's segments, or tantivy's folder.

Imports the engines: load it only where it is used.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assistant.adapters.embedded import passage_rows as rows
from assistant.adapters.embedded.lexical import LexicalReader
from assistant.adapters.embedded.sqlite_file import open_connection
from assistant.adapters.embedded.vectors import PassageMatrix
from assistant.domain.retrieval import PassageQuery, RankedPassage, Retrieved, reciprocal_rank_fusion

LEXICAL_MARGIN = 2
"""tantivy is asked for this many times the leg: ties at its end are then ordered by passage id, and hits
that a write in progress took away do not shorten the leg."""
SCORE_DECIMALS = 5
OPEN_ATTEMPTS = 5
"""A folder may be replaced between reading its name and opening it; the next read gives the new name."""

Leg = list[tuple[int, float]]
"""(row, score), best first"""


class IndexReader:
    """One version's folder, opened when it exists; not for two threads at once."""

    def __init__(self, folder: Path, *, index_version: str, dimensions: int) -> None:
        self._folder = folder
        self._index_version = index_version
        self._dimensions = dimensions
        self._connection: sqlite3.Connection | None = None
        self._lexical: LexicalReader | None = None
        self._matrix = PassageMatrix(dimensions)
        self._seen = rows.IndexMeta()
        self._data_version = -1

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def counts(self) -> tuple[int, int, rows.IndexMeta]:
        """Return (passages, documents, counters); zeros when there is no index yet."""
        self._refresh()
        if self._connection is None or self._lexical is None:
            return 0, 0, rows.IndexMeta()
        return *rows.count_rows(self._connection), self._seen

    def search(self, queries: Sequence[PassageQuery]) -> list[Retrieved]:
        """Answer several queries as of one moment."""
        self._refresh()
        if self._connection is None or self._lexical is None:
            nothing = Retrieved(passages=(), best_cosine=0.0, index_version=self._index_version)
            return [nothing for _ in queries]
        cosines = self._matrix.cosines([query.vector for query in queries])
        return [self._answer(query, of_all) for query, of_all in zip(queries, cosines, strict=True)]

    def _answer(self, query: PassageQuery, cosines: NDArray[np.float32]) -> Retrieved:
        lexical = self._lexical_leg(query)
        vector = self._matrix.best(cosines, filters=query.filters, labels=query.labels, limit=query.leg_size)
        fused = reciprocal_rank_fusion([[str(row) for row, _ in leg] for leg in (lexical, vector)])
        best = [(int(row), score) for row, score in list(fused.items())[: query.size]]
        return Retrieved(
            passages=self._ranked(best, lexical, vector, self._matrix.at(cosines, [row for row, _ in best])),
            best_cosine=vector[0][1] if vector else 0.0,
            index_version=self._index_version,
        )

    def _lexical_leg(self, query: PassageQuery) -> Leg:
        assert self._lexical is not None  # noqa: S101 (for the type checker)
        hits = self._lexical.search(
            query.text, filters=query.filters, labels=query.labels, limit=LEXICAL_MARGIN * query.leg_size
        )
        known = [(row, round(score, SCORE_DECIMALS)) for row, score in hits if row in self._matrix]
        known.sort(key=lambda hit: (-hit[1], self._matrix.passage_id(hit[0])))
        return known[: query.leg_size]

    def _ranked(
        self, best: Leg, lexical: Leg, vector: Leg, cosines: Mapping[int, float]
    ) -> tuple[RankedPassage, ...]:
        assert self._connection is not None  # noqa: S101 (for the type checker)
        passages = rows.passages_at(self._connection, [row for row, _ in best])
        scores = dict(lexical)
        lexical_ranks = {row: rank for rank, (row, _) in enumerate(lexical, start=1)}
        vector_ranks = {row: rank for rank, (row, _) in enumerate(vector, start=1)}
        present = [(row, score) for row, score in best if row in passages]
        return tuple(
            RankedPassage(
                passage=passages[row],
                rank=rank,
                fused_score=score,
                lexical_rank=lexical_ranks.get(row),
                lexical_score=scores.get(row),
                vector_rank=vector_ranks.get(row),
                cosine=cosines[row],
            )
            for rank, (row, score) in enumerate(present, start=1)
        )

    def _refresh(self) -> None:
        if self._connection is None and not self._connect():
            return
        assert self._connection is not None  # noqa: S101 (for the type checker; _connect set it)
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version == self._data_version:
            return
        self._refresh_rows(self._connection)
        self._refresh_lexical(self._connection)
        self._data_version = version

    def _connect(self) -> bool:
        path = self._folder / rows.PASSAGES_FILE
        if not path.exists():
            return False
        connection = open_connection(path)
        if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'pending'").fetchone()[0] == 0:
            connection.close()  # its writer is just making it
            return False
        self._connection = connection
        return True

    def _refresh_rows(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        try:
            meta = rows.read_meta(connection)
            if meta.generation != self._seen.generation:
                changed: Sequence[str] | None = None  # the first time: all of them
                if self._seen.generation:
                    changed = rows.changed_documents(connection, after_generation=self._seen.generation)
                self._matrix.replace(changed or (), rows.vector_rows(connection, changed))
            # Of these counters only what was read here: tantivy is followed in its own step.
            self._seen = replace(self._seen, generation=meta.generation, updated_at=meta.updated_at)
        finally:
            connection.execute("COMMIT")

    def _refresh_lexical(self, connection: sqlite3.Connection) -> None:
        for attempt in range(1, OPEN_ATTEMPTS + 1):
            meta = rows.read_meta(connection)
            if not meta.lexical_folder:
                return
            try:
                self._follow(meta)
            except ValueError:  # what tantivy raises when the folder goes away under it
                if attempt == OPEN_ATTEMPTS:
                    raise
            else:
                # Not the generation: rows may have been written since they were read.
                self._seen = replace(
                    self._seen, lexical_folder=meta.lexical_folder, lexical_commit=meta.lexical_commit
                )
                return

    def _follow(self, meta: rows.IndexMeta) -> None:
        if self._lexical is None or meta.lexical_folder != self._seen.lexical_folder:
            self._lexical = LexicalReader(self._folder / meta.lexical_folder)
        elif meta.lexical_commit != self._seen.lexical_commit:
            self._lexical.reload()
