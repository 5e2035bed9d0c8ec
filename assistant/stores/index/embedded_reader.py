"""The reading side of the embedded index: its view in memory, kept up to date, and searches over it.

Each refresh first asks SQLite whether anything was committed (``PRAGMA data_version``, about ten
microseconds). Only then it reads the counters and refreshes what changed: the documents' rows of the vector
matrices, tantivy's segments, or tantivy's folder. No query parser reads a question: its
analyzed tokens become term queries. Imports the engines: import it only where it is used.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import tantivy
from numpy.typing import NDArray
from tantivy import FieldType, Occur, Query

from assistant.domain.documents import PassageQuery, Retrieved, StoredDocument, id_prefix_of
from assistant.stores.index import embedded_files as rows
from assistant.stores.index.embedded_writer import ANALYZER, LEG_FIELDS, LexicalLeg, lexical_analyzer
from assistant.stores.index.rows import UNLABELLED, Leg, label_terms, microseconds, retrieved
from assistant.stores.sqlite_file import open_connection

COSINE_DECIMALS = 6
"""float32 sums differ in the last bits with a vector's place in the matrix; rounded, equal texts tie."""
SCORE_DECIMALS = 5
LEAST_FOR_ONE_PRODUCT = 3
"""The matrix does not fit into a processor's cache, so reading it takes the time: from three questions on,
one product of matrices, which reads it once, beats a product for each (2.5 times faster for eight)."""
LEXICAL_MARGIN = 2
"""Tantivy returns this many times the leg: ties at its end are then ordered by passage id, and rows that a
write in progress removed do not shorten the leg."""
MOST_QUERY_TERMS = 256
"""Terms of a question beyond these are left out (Lucene's own bound is 1,024 clauses)."""
OPEN_ATTEMPTS = 5
"""A folder may be replaced between reading its name and opening it; the next read gives the new name."""
_COUNTS = 5
"""A writer may commit between the reading of vectors and the counting of passages."""
_CODED = ("source", "type", "document_id", "id_prefix", "labels")
_COLUMNS = ("row", "updated_at_us", *_CODED)


_Cosines = NDArray[np.float32]


class VectorMatrix:
    """Vectors and filter columns of all passages, or of all titles, with exact cosines. For one thread."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._vectors: NDArray[np.float32] = np.zeros((0, dimensions), dtype=np.float32)
        self._columns: NDArray[np.int64] = np.zeros((0, len(_COLUMNS)), dtype=np.int64)
        """Row, time and codes of each vector, shape (rows, len(_COLUMNS))."""
        self._codes: dict[str, dict[Any, int]] = {name: {} for name in _CODED}
        """Numbers for the values of a column, so that a filter compares integers."""
        self._numbers = count()
        self._names: list[str] = []
        self._slots: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, row: object) -> bool:
        return row in self._slots

    def name(self, row: int) -> str:
        return self._names[self._slots[row]]

    def replace(self, document_ids: Iterable[str] | None, entries: Iterable[rows.VectorRow]) -> None:
        """Remove all rows of the documents, or of all, then add ``entries``. Takes 40 ms of 30,000 rows."""
        kept = np.zeros(0, dtype=np.int64)
        if document_ids is not None:
            gone = [self._codes["document_id"].pop(document_id, -1) for document_id in document_ids]
            kept = np.flatnonzero(~np.isin(self._column("document_id"), gone))
        names = [self._names[slot] for slot in kept.tolist()]
        vectors, columns = bytearray(), list[list[int]]()
        for entry in entries:
            names.append(entry.name)
            vectors += entry.vector
            columns.append(self._coded(entry))
        added = np.frombuffer(vectors, dtype="<f4").reshape(-1, self._dimensions)
        self._vectors = np.concatenate([self._vectors[kept], added])
        added = np.array(columns, dtype=np.int64).reshape(-1, len(_COLUMNS))
        self._columns = np.concatenate([self._columns[kept], added])
        self._names = names
        self._slots = {row: slot for slot, row in enumerate(self._column("row").tolist())}

    def cosines(self, vectors: Sequence[Sequence[float]]) -> NDArray[np.float32]:
        """Return the raw cosines of each question with every row, shape (questions, rows)."""
        questions = np.asarray(vectors, dtype=np.float32)
        if len(questions) < LEAST_FOR_ONE_PRODUCT:
            products = np.stack([self._vectors @ question for question in questions])
        else:
            products = np.ascontiguousarray((self._vectors @ questions.T).T)
        return np.round(products, COSINE_DECIMALS, out=products)

    def best(self, cosines: _Cosines, query: PassageQuery) -> list[tuple[int, float]]:
        """Return the best (row, cosine) of the rows that pass the query's filters, ties by name."""
        allowed = self._allowed(query)
        slots = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        limit = query.leg_size
        if len(slots) > limit:
            kept = cosines[slots]
            worst = np.partition(kept, len(kept) - limit)[len(kept) - limit]
            slots = slots[kept >= worst]  # every tie at the border, so that the name decides
        best = sorted((-float(cosines[slot]), self._names[slot], slot) for slot in slots.tolist())
        return [(int(self._column("row")[slot]), _decimal(-negative)) for negative, _, slot in best[:limit]]

    def at(self, cosines: _Cosines, row: int) -> float:
        return _decimal(float(cosines[self._slots[row]]))

    def _allowed(self, query: PassageQuery) -> NDArray[np.bool_] | None:
        masks: list[NDArray[np.bool_]] = []
        if query.ids is not None:
            masks.append(self._column("id_prefix") == self._codes["id_prefix"].get(query.ids.prefix, -1))
        label_sets = self._codes["labels"].items()
        visible = [code for value, code in label_sets if not value or query.labels.intersection(value)]
        if len(visible) < len(label_sets):
            masks.append(np.isin(self._column("labels"), visible))
        for name in ("source", "type", "document_id"):
            wanted: tuple[str, ...] = getattr(query.filters, name)
            if wanted:
                codes = self._codes[name]
                known = [codes[value] for value in wanted if value in codes]
                masks.append(np.isin(self._column(name), known))
        if query.filters.updated_after is not None:
            masks.append(self._column("updated_at_us") > microseconds(query.filters.updated_after))
        return np.logical_and.reduce(masks) if masks else None

    def _column(self, name: str) -> NDArray[np.int64]:
        return self._columns[:, _COLUMNS.index(name)]

    def _coded(self, entry: rows.VectorRow) -> list[int]:
        """Return an entry's columns, with a new code for each new value."""
        codes = [
            codes.setdefault(_value(entry, name), next(self._numbers)) for name, codes in self._codes.items()
        ]
        return [entry.row, entry.updated_at_us, *codes]


def _value(entry: rows.VectorRow, name: str) -> Any:
    return id_prefix_of(entry.document_id) if name == "id_prefix" else getattr(entry, name)


def _decimal(cosine: float) -> float:
    return round(cosine, COSINE_DECIMALS)


@dataclass(slots=True)
class IndexView:
    """Everything of an index that a search needs, as of the last refresh."""

    connection: sqlite3.Connection
    passages: VectorMatrix
    titles: VectorMatrix
    seen: rows.IndexMeta
    lexical: LexicalReader = field(init=False)
    """Opened by the first refresh."""


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Generator[None]:
    """Read what was committed at one moment, inside the block."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _refresh_rows(view: IndexView) -> None:
    with _snapshot(view.connection):
        meta = rows.read_meta(view.connection)
        if meta.generation != view.seen.generation:
            changed = None  # at first: all of them
            if view.seen.generation:
                changed = rows.changed_documents(view.connection, after_generation=view.seen.generation)
            view.passages.replace(changed, rows.vector_rows(view.connection, rows.PASSAGE_VECTORS, changed))
            view.titles.replace(changed, rows.vector_rows(view.connection, rows.TITLE_VECTORS, changed))
        # Of these counters only those of the rows: _refresh_lexical reads tantivy's.
        view.seen = replace(view.seen, generation=meta.generation, updated_at=meta.updated_at)


class IndexReader:
    """Opens one version's folder when it exists, keeps the view of it up to date, and searches it. For one
    thread."""

    def __init__(self, folder: Path, *, index_version: str, dimensions: int) -> None:
        self._folder = folder
        self._index_version = index_version
        self._path = folder / rows.PASSAGES_FILE
        self._dimensions = dimensions
        self._connection: sqlite3.Connection | None = None
        self._view: IndexView | None = None
        self._data_version = -1
        self._file: tuple[int, int] | None = None
        """Device and inode of the open file."""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def counts(self) -> tuple[int, int, rows.IndexMeta]:
        """Return (passages, documents, counters); zeros when there is no index yet.

        Raises ValueError when there are passages without a vector, or vectors without a passage.
        """
        passages = vectors = 0
        for _ in range(_COUNTS):
            view = self._refresh()
            if view is None:
                return 0, 0, rows.IndexMeta()
            passages, documents = rows.count_rows(view.connection)
            vectors = len(view.passages)
            if passages == vectors:
                return passages, documents, view.seen
        raise ValueError(f"the index has {passages} passages and {vectors} vectors")

    def search(self, queries: Sequence[PassageQuery]) -> list[Retrieved]:
        """Answer several queries from one view. Queries with the same vector share its cosines."""
        view = self._refresh()
        if view is None:
            nothing = Retrieved(passages=(), best_cosine=0.0, index_version=self._index_version)
            return [nothing for _ in queries]
        places: dict[tuple[float, ...], int] = {}
        place_of = [places.setdefault(tuple(query.vector), len(places)) for query in queries]
        vectors = list(places)
        passages, titles = view.passages.cosines(vectors), view.titles.cosines(vectors)
        return [
            self._search_one(view, query, passages[place], titles[place])
            for query, place in zip(queries, place_of, strict=True)
        ]

    def read_documents(
        self, document_ids: Sequence[str], *, labels: frozenset[str]
    ) -> dict[str, StoredDocument]:
        """Return the documents that ``labels`` allow, in the order of ``document_ids``."""
        view = self._refresh()
        if view is None:
            return {}
        documents: dict[str, StoredDocument] = {}
        for document in rows.documents_of(view.connection, document_ids, unpack=rows.shared_passage):
            card, passages = document.card, tuple(passage for _, passage in document.passages)
            if not card.labels or labels.intersection(card.labels):
                documents[card.document_id] = StoredDocument(card, passages)
        return {
            document_id: documents[document_id] for document_id in document_ids if document_id in documents
        }

    def _search_one(
        self, view: IndexView, query: PassageQuery, passage_cosines: _Cosines, title_cosines: _Cosines
    ) -> Retrieved:
        matrix = view.passages
        words = _lexical_leg(view, matrix, "passages", query)
        nearest = matrix.best(passage_cosines, query)
        row_of = {matrix.name(row): row for row, _ in (*words, *nearest)}
        legs = {"lexical": _named(matrix, words), "vector": _named(matrix, nearest)}
        titles = view.titles
        legs["title"] = _named(titles, _lexical_leg(view, titles, "titles", query))
        legs["text"] = _named(titles, _lexical_leg(view, titles, "texts", query))
        legs["title_vector"] = _named(titles, titles.best(title_cosines, query))
        return retrieved(
            legs,
            size=query.size,
            index_version=self._index_version,
            cosines={name: matrix.at(passage_cosines, row) for name, row in row_of.items()},
            passages=lambda names: rows.passages_at(view.connection, [row_of[name] for name in names]),
        )

    def _refresh(self) -> IndexView | None:
        """Return the view with everything that was committed before the call; None when there is no index.

        Raises OSError, ValueError or sqlite3.Error when the index exists and cannot be read.
        """
        self._close_replaced()
        if self._connection is None:
            if not self._path.exists():
                return None
            self._connection = open_connection(self._path)
            self._file = _identity(self._path)
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if self._view is None:
            self._view = self._open_view(self._connection)
        if self._view is not None and version != self._data_version:
            _refresh_rows(self._view)
            self._refresh_lexical(self._view)
            self._data_version = version
        return self._view

    def _close_replaced(self) -> None:
        """Close a file that was replaced or deleted: searches would read it for ever.

        Raises FileNotFoundError when it was deleted.
        """
        if self._connection is None or self._file == _identity(self._path):
            return
        self._connection.close()
        self._connection = self._view = None
        self._data_version = -1
        if not self._path.exists():
            raise FileNotFoundError(f"{rows.PASSAGES_FILE} is gone from {self._folder.name}")

    def _open_view(self, connection: sqlite3.Connection) -> IndexView | None:
        if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'pending'").fetchone()[0] == 0:
            return None  # its writer is creating it
        with _snapshot(connection):  # the writer may add its first document between two reads
            meta = rows.read_meta(connection)
            passages = 0 if meta.lexical_folder else rows.count_rows(connection)[0]
        if not meta.lexical_folder:
            if passages:
                raise ValueError("the index holds passages, and its counters are gone")
            return None
        dimensions = self._dimensions
        return IndexView(connection, VectorMatrix(dimensions), VectorMatrix(dimensions), rows.IndexMeta())

    def _refresh_lexical(self, view: IndexView) -> None:
        for attempt in range(1, OPEN_ATTEMPTS + 1):
            meta = rows.read_meta(view.connection)
            try:
                if meta.lexical_folder != view.seen.lexical_folder:
                    view.lexical = LexicalReader(self._folder / meta.lexical_folder)
                elif meta.lexical_commit != view.seen.lexical_commit:
                    view.lexical.reload()
            except ValueError:  # tantivy raises it when the folder is removed meanwhile
                if attempt == OPEN_ATTEMPTS:
                    raise
                continue
            # Not the generation: rows may have been written since they were read.
            folder, commit = meta.lexical_folder, meta.lexical_commit
            view.seen = replace(view.seen, lexical_folder=folder, lexical_commit=commit)
            return


def _lexical_leg(
    view: IndexView, matrix: VectorMatrix, leg: LexicalLeg, query: PassageQuery
) -> list[tuple[int, float]]:
    hits = view.lexical.search(leg, query, limit=LEXICAL_MARGIN * query.leg_size)
    known = [(row, round(score, SCORE_DECIMALS)) for row, score in hits if row in matrix]
    known.sort(key=lambda hit: (-hit[1], matrix.name(hit[0])))
    return known[: query.leg_size]


def _named(matrix: VectorMatrix, leg: Iterable[tuple[int, float]]) -> Leg:
    return {matrix.name(row): score for row, score in leg}


# Words


class LexicalReader:
    """Searches of one folder as of the last ``reload``. Raises ValueError when the folder is gone."""

    def __init__(self, folder: Path) -> None:
        self._analyzer = lexical_analyzer()
        self._indexes: dict[LexicalLeg, tantivy.Index] = {}
        for leg in LEG_FIELDS:
            index = tantivy.Index.open(str(folder / leg))
            index.register_tokenizer(ANALYZER, self._analyzer)
            index.config_reader(reload_policy="manual")
            self._indexes[leg] = index
        self.reload()

    def reload(self) -> None:
        for index in self._indexes.values():
            index.reload()
        self._searchers = {leg: index.searcher() for leg, index in self._indexes.items()}

    def search(self, leg: LexicalLeg, query: PassageQuery, *, limit: int) -> list[tuple[int, float]]:
        """Return at most ``limit`` (row, BM25 score), best first; the filter is part of the query.

        Raises ValueError for a query of one source where a writer of an older release built the folder.
        """
        schema, searcher = self._indexes[leg].schema, self._searchers[leg]
        terms = self._term_queries(query.text, schema, LEG_FIELDS[leg])
        if not terms:
            return []
        filters = (Query.const_score_query(each, 0.0) for each in _filters(schema, query))
        clauses = [(Occur.Must, each) for each in (Query.boolean_query(terms), *filters)]
        hits = searcher.search(Query.boolean_query(clauses), limit, count=False).hits
        rows = zip(searcher.fast_field_values("row", [address for _, address in hits]), hits, strict=True)
        return [(int(row), float(score)) for row, (score, _) in rows if row is not None]

    def _term_queries(
        self, text: str, schema: tantivy.Schema, boosts: Mapping[str, float]
    ) -> list[tuple[Occur, Query]]:
        queries: list[tuple[Occur, Query]] = []
        for term, occurrences in Counter(self._analyzer.analyze(text)).most_common(MOST_QUERY_TERMS):
            for name, boost in boosts.items():
                query = Query.term_query(schema, name, term, index_option="freq")
                queries.append((Occur.Should, Query.boost_query(query, boost * occurrences)))
        return queries


def _filters(schema: tantivy.Schema, asked: PassageQuery) -> Iterable[Query]:
    filters = asked.filters
    yield _any_of(schema, "visible_to", (UNLABELLED, *label_terms(asked.labels)))
    if asked.ids is not None:
        yield _any_of(schema, "id_prefix", (asked.ids.prefix,))
    for name in ("source", "type", "document_id"):
        values: tuple[str, ...] = getattr(filters, name)
        if values:
            yield _any_of(schema, name, values)
    if filters.updated_after is not None:
        after_us = microseconds(filters.updated_after)
        yield Query.range_query(
            schema, "updated_at_us", FieldType.Integer, lower_bound=after_us, include_lower=False
        )


def _any_of(schema: tantivy.Schema, field: str, values: Iterable[str]) -> Query:
    terms = [Query.term_query(schema, field, value, index_option="basic") for value in values]
    return Query.boolean_query([(Occur.Should, term) for term in terms])
