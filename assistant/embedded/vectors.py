"""The vector legs: exact cosine over a float32 matrix in memory.

Imports numpy: load it only where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assistant.adapters.index_values import microseconds
from assistant.domain.documents import SearchFilters
from assistant.embedded.passage_rows import VectorRow

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
