"""The vector legs: exact cosine over a float32 matrix in memory.

Imports numpy: load it only where it is used."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assistant.domain.documents import (
    VECTOR_LEG_WEIGHT,
    DocumentHit,
    Passage,
    PassageHit,
    PassageQuery,
    RankedPassage,
    Retrieved,
    SearchFilters,
    StoredDocument,
    reciprocal_rank_fusion,
)
from assistant.embedded import lexical
from assistant.embedded import passage_rows as rows
from assistant.embedded.lexical import LexicalReader
from assistant.embedded.passage_rows import VectorRow
from assistant.embedded.sqlite_file import open_connection
from assistant.stored_values import microseconds

COSINE_DECIMALS = 6
"""float32 sums differ in the last bits with a vector's place in the matrix; rounded, equal texts tie."""
LEAST_FOR_ONE_PRODUCT = 3
"""The matrix does not fit into a processor's cache, so reading it is what takes time: from three questions on
one product of matrices, which reads it once, beats a product for each (2.5 times faster for eight)."""
_FIRST_CAPACITY = 1024


class Codes:
    """Small numbers for strings or tuples of them, so that a filter is a comparison of integers."""

    def __init__(self) -> None:
        self._codes: dict[Any, int] = {}

    def code(self, value: object) -> int:
        return self._codes.setdefault(value, len(self._codes))

    def known(self, values: Iterable[object]) -> list[int]:
        return [self._codes[value] for value in values if value in self._codes]

    def items(self) -> Iterable[tuple[Any, int]]:
        return self._codes.items()


class VectorMatrix:
    """Vectors and filter columns of all passages, or of all titles. Not for two threads at once."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._size = 0
        self._vectors: NDArray[np.float32] = np.zeros((_FIRST_CAPACITY, dimensions), dtype=np.float32)
        self._columns: dict[str, NDArray[np.int64]] = {
            name: np.zeros(_FIRST_CAPACITY, dtype=np.int64)
            for name in ("row", "source", "type", "document_id", "labels", "updated_at_us")
        }
        self._codes = {name: Codes() for name in ("source", "type", "document_id", "labels")}
        self._names: list[str] = []
        self._slots: dict[int, int] = {}
        self._rows_of_document: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return self._size

    def __contains__(self, row: object) -> bool:
        return row in self._slots

    def name(self, row: int) -> str:
        return self._names[self._slots[row]]

    def replace(self, document_ids: Iterable[str] | None, rows: Iterable[VectorRow]) -> None:
        """Take out all rows of the documents, or of all, then put ``rows`` in."""
        for document_id in list(self._rows_of_document) if document_ids is None else document_ids:
            for row in self._rows_of_document.pop(document_id, ()):
                self._remove(row)
        for entry in rows:
            self._append(entry)

    def document_id(self, row: int) -> str:
        return self._names[self._slots[row]].rpartition("#")[0]

    def cosines(self, vectors: Sequence[Sequence[float]]) -> NDArray[np.float32]:
        """Return the raw cosines of each question with every row, shape (questions, rows)."""
        rows = self._vectors[: self._size]
        questions = np.asarray(vectors, dtype=np.float32)
        if len(questions) < LEAST_FOR_ONE_PRODUCT:
            products = np.stack([rows @ question for question in questions])
        else:
            products = np.ascontiguousarray((rows @ questions.T).T)
        return np.round(products, COSINE_DECIMALS, out=products)

    def best(
        self,
        cosines: NDArray[np.float32],
        *,
        filters: SearchFilters,
        labels: frozenset[str],
        limit: int,
    ) -> list[tuple[int, float]]:
        """Return at most ``limit`` (row, cosine), best first, ties by name; the filter comes before."""
        allowed = self._allowed(filters, labels)
        slots = np.arange(self._size) if allowed is None else np.flatnonzero(allowed)
        if len(slots) > limit:
            kept = cosines[slots]
            worst = np.partition(kept, len(kept) - limit)[len(kept) - limit]
            slots = slots[kept >= worst]  # every tie at the border, so that the name decides
        best = [(-float(cosines[slot]), self._names[slot], slot) for slot in slots.tolist()]
        best.sort()
        return [(int(self._columns["row"][slot]), _decimal(-negative)) for negative, _, slot in best[:limit]]

    def at(self, cosines: NDArray[np.float32], rows: Sequence[int]) -> dict[int, float]:
        """Return the cosine of each row."""
        return {row: _decimal(float(cosines[self._slots[row]])) for row in rows}

    def best_of_documents(
        self, cosines: NDArray[np.float32], document_ids: Iterable[str]
    ) -> dict[str, float]:
        """Return the best cosine over the rows of each document; one without rows is left out."""
        best: dict[str, float] = {}
        for document_id in document_ids:
            rows = self._rows_of_document.get(document_id)
            if rows:
                best[document_id] = _decimal(max(float(cosines[self._slots[row]]) for row in rows))
        return best

    def _allowed(self, filters: SearchFilters, labels: frozenset[str]) -> NDArray[np.bool_] | None:
        masks: list[NDArray[np.bool_]] = []
        label_sets = list(self._codes["labels"].items())
        visible = [code for value, code in label_sets if not value or labels.intersection(value)]
        if len(visible) < len(label_sets):
            masks.append(np.isin(self._column("labels"), visible))
        for name in ("source", "type", "document_id"):
            wanted: tuple[str, ...] = getattr(filters, name)
            if wanted:
                masks.append(np.isin(self._column(name), self._codes[name].known(wanted)))
        if filters.updated_after is not None:
            masks.append(self._column("updated_at_us") > microseconds(filters.updated_after))
        return np.logical_and.reduce(masks) if masks else None

    def _column(self, name: str) -> NDArray[np.int64]:
        return self._columns[name][: self._size]

    def _append(self, entry: VectorRow) -> None:
        slot = self._size
        if slot == len(self._vectors):
            self._grow()
        self._vectors[slot] = np.frombuffer(entry.vector, dtype="<f4", count=self._dimensions)
        self._columns["row"][slot] = entry.row
        self._columns["updated_at_us"][slot] = entry.updated_at_us
        for name, codes in self._codes.items():
            self._columns[name][slot] = codes.code(getattr(entry, name))
        self._names.append(entry.name)
        self._slots[entry.row] = slot
        self._rows_of_document.setdefault(entry.document_id, []).append(entry.row)
        self._size += 1

    def _remove(self, row: int) -> None:
        slot, last = self._slots.pop(row), self._size - 1
        if slot != last:  # the last one moves into the hole
            self._vectors[slot] = self._vectors[last]
            for column in self._columns.values():
                column[slot] = column[last]
            self._names[slot] = self._names[last]
            self._slots[int(self._columns["row"][slot])] = slot
        self._names.pop()
        self._size = last

    def _grow(self) -> None:
        capacity = 2 * len(self._vectors)
        vectors = np.zeros((capacity, self._dimensions), dtype=np.float32)
        vectors[: self._size] = self._vectors
        self._vectors = vectors
        for name, column in self._columns.items():
            self._columns[name] = np.concatenate([column, np.zeros(capacity - len(column), dtype=np.int64)])


def _decimal(cosine: float) -> float:
    return round(cosine, COSINE_DECIMALS)


# Keeps one process's view of the embedded index up to date with what its writer commits.


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


# The reading side of the embedded index: the legs of passages and of documents under one filter.


LEXICAL_MARGIN = 2
"""tantivy is asked for this many times the leg: ties at its end are then ordered by passage id, and hits
that a write in progress took away do not shorten the leg."""
_COUNTS = 5
"""A writer may commit between the reading of vectors and the counting of passages."""
SCORE_DECIMALS = 5
Leg = list[tuple[int, float]]
"""(row, score), best first"""


class IndexReader:
    """Searches of one version's folder; not for two threads at once."""

    def __init__(self, folder: Path, *, index_version: str, dimensions: int) -> None:
        self._index_version = index_version
        self._follower = IndexFollower(folder, dimensions=dimensions)

    def close(self) -> None:
        self._follower.close()

    def counts(self) -> tuple[int, int, rows.IndexMeta]:
        """Return (passages, documents, counters); zeros when there is no index yet.

        Raises ValueError when there are passages without a vector, or vectors without a passage.
        """
        passages = vectors = 0
        for _ in range(_COUNTS):
            view = self._follower.refresh()
            if view is None:
                return 0, 0, rows.IndexMeta()
            passages, documents = rows.count_rows(view.connection)
            vectors = len(view.passages)
            if passages == vectors:
                return passages, documents, view.seen
        raise ValueError(f"the index has {passages} passages and {vectors} vectors")

    def search(self, queries: Sequence[PassageQuery]) -> list[Retrieved]:
        """Answer several queries as of one moment."""
        view = self._follower.refresh()
        if view is None:
            nothing = Retrieved(passages=(), best_cosine=0.0, index_version=self._index_version)
            return [nothing for _ in queries]
        vectors = [query.vector for query in queries]
        cosines = zip(view.passages.cosines(vectors), view.titles.cosines(vectors), strict=True)
        return [
            self._answer(view, query, of_passages, of_titles)
            for query, (of_passages, of_titles) in zip(queries, cosines, strict=True)
        ]

    def read_documents(
        self, document_ids: Sequence[str], *, labels: frozenset[str]
    ) -> dict[str, StoredDocument]:
        """Return the documents that ``labels`` let through, in the order asked for."""
        view = self._follower.refresh()
        if view is None:
            return {}
        documents = rows.documents_of(view.connection, document_ids, with_units=True)
        found = {document.card.document_id: document for document in documents}
        return {
            document_id: StoredDocument(
                card=document.card, passages=tuple(passage for _, passage in document.passages)
            )
            for document_id in document_ids
            if (document := found.get(document_id)) is not None
            and (not document.card.labels or labels.intersection(document.card.labels))
        }

    def _answer(
        self,
        view: IndexView,
        query: PassageQuery,
        passage_cosines: NDArray[np.float32],
        title_cosines: NDArray[np.float32],
    ) -> Retrieved:
        words = _lexical_leg(view, view.passages, "passages", query)
        vector = view.passages.best(
            passage_cosines, filters=query.filters, labels=query.labels, limit=query.leg_size
        )
        cosines = view.passages.at(passage_cosines, list(dict([*words, *vector])))
        hits = _passage_hits(view, dict(words), cosines)
        return Retrieved(
            passages=_ranked(view, query, words=words, vector=vector, cosines=cosines),
            best_cosine=vector[0][1] if vector else 0.0,
            index_version=self._index_version,
            hits=hits,
            documents=_document_hits(view, query, title_cosines, of_hits={hit.document_id for hit in hits}),
        )


def _lexical_leg(view: IndexView, matrix: VectorMatrix, leg: lexical.Leg, query: PassageQuery) -> Leg:
    hits = view.lexical.search(
        leg, query.text, filters=query.filters, labels=query.labels, limit=LEXICAL_MARGIN * query.leg_size
    )
    known = [(row, round(score, SCORE_DECIMALS)) for row, score in hits if row in matrix]
    known.sort(key=lambda hit: (-hit[1], matrix.name(hit[0])))
    return known[: query.leg_size]


def _passage_hits(
    view: IndexView, scores: Mapping[int, float], cosines: Mapping[int, float]
) -> tuple[PassageHit, ...]:
    hits = [
        PassageHit(
            passage_id=view.passages.name(row),
            document_id=view.passages.document_id(row),
            lexical_score=scores.get(row),
            cosine=cosine,
        )
        for row, cosine in cosines.items()
    ]
    return tuple(sorted(hits, key=lambda hit: hit.passage_id))


def _document_hits(
    view: IndexView, query: PassageQuery, cosines: NDArray[np.float32], *, of_hits: set[str]
) -> tuple[DocumentHit, ...]:
    """Return the documents of the three legs of documents and those of the passages' hits."""
    titles = view.titles
    nearest = titles.best(cosines, filters=query.filters, labels=query.labels, limit=query.leg_size)
    title_scores = _best_of_documents(titles, _lexical_leg(view, titles, "titles", query))
    text_scores = _best_of_documents(titles, _lexical_leg(view, titles, "texts", query))
    listed = of_hits.union(title_scores, text_scores, _best_of_documents(titles, nearest))
    title_cosines = titles.best_of_documents(cosines, listed)
    return tuple(
        DocumentHit(
            document_id=document_id,
            title_cosine=title_cosines.get(document_id),
            title_score=title_scores.get(document_id),
            text_score=text_scores.get(document_id),
        )
        for document_id in sorted(listed)
    )


def _best_of_documents(titles: VectorMatrix, leg: Leg) -> dict[str, float]:
    """Return each document's best score: the leg is best first."""
    best: dict[str, float] = {}
    for row, score in leg:
        best.setdefault(titles.document_id(row), score)
    return best


def _ranked(
    view: IndexView, query: PassageQuery, *, words: Leg, vector: Leg, cosines: Mapping[int, float]
) -> tuple[RankedPassage, ...]:
    """Fuse the two legs of passages and return the best with the legs' ranks and scores."""
    fused = reciprocal_rank_fusion(
        [[str(row) for row, _ in leg] for leg in (words, vector)], weights=(1.0, VECTOR_LEG_WEIGHT)
    )
    best = [(int(row), score) for row, score in list(fused.items())[: query.size]]
    passages: dict[int, Passage] = rows.passages_at(view.connection, [row for row, _ in best])
    scores = dict(words)
    lexical_ranks = {row: rank for rank, (row, _) in enumerate(words, start=1)}
    vector_ranks = {row: rank for rank, (row, _) in enumerate(vector, start=1)}
    kept = [(row, score) for row, score in best if row in passages]
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
        for rank, (row, score) in enumerate(kept, start=1)
    )
