"""The reading side of the embedded index: a view of it in memory, kept up to date, and searches over it.

A version's folder holds a SQLite file, which is the source of truth (``embedded_files.py`` has its tables),
and tantivy's folder of postings, which a writer in another process derives from it (``embedded_writer.py``).
Before each search ``IndexReader`` asks SQLite whether anything was committed (``PRAGMA data_version``, about
ten microseconds). Only then it reads the counters and refreshes what they say has changed: the documents'
rows of the vector matrices, tantivy's segments, or tantivy's folder.

Three words for the same passage or title: its *row* is its key in SQLite and tantivy, its *slot* the place in
a matrix, its *name* ``<document_id>#<ordinal>``, which every index of the product has and which orders ties.

Importing this module loads numpy and tantivy: only ``EmbeddedPassageSearch`` does, when it opens a folder.
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
from assistant.stores.index import embedded_files as files
from assistant.stores.index.embedded_writer import (
    ANALYZER,
    CODES,
    LEG_FIELDS,
    LEXICAL_PREFIX,
    LexicalLeg,
    lexical_analyzer,
)
from assistant.stores.index.rows import UNLABELLED, Leg, label_terms, microseconds, retrieved
from assistant.stores.sqlite_file import open_connection
from assistant.text.caches import remember_texts
from assistant.text.codes import codes_asked

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
_DOCUMENTS_KEPT = 300
"""Documents that were read, as of one generation of the index."""
_COUNT_ATTEMPTS = 5
"""A writer may commit between the reading of vectors and the counting of passages."""
_CODED = ("source", "type", "document_id", "id_prefix", "labels")
"""Columns of the matrix that hold a code of a value: any number that no other value of the column has."""
_COLUMNS = ("row", "updated_at_us", *_CODED)

_Cosines = NDArray[np.float32]
"""The cosine of one question with every slot of a matrix."""
Terms = tuple[Sequence[tuple[str, int]], Sequence[str]]
_RowScores = list[tuple[int, float]]
"""(row, score) of a leg, best first."""


class VectorMatrix:
    """Vectors and filter columns of all passages, or of all titles, with exact cosines. For one thread.

    Example::

        matrix = VectorMatrix(384)
        matrix.replace(None, vector_rows(connection, PASSAGE_VECTORS, None))  # two passages, rows 7 and 8
        [cosines] = matrix.cosines([query.vector])  # array([0.71, 0.83]): by slot
        matrix.best(cosines, query)  # [(8, 0.83), (7, 0.71)]: by row
        matrix.name(8)  # "refill#1"
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._vectors: NDArray[np.float32] = np.zeros((0, dimensions), dtype=np.float32)
        self._columns: NDArray[np.int64] = np.zeros((0, len(_COLUMNS)), dtype=np.int64)
        """Row, time and codes of each vector, shape (rows, len(_COLUMNS))."""
        self._codes: dict[str, dict[Any, int]] = {name: {} for name in _CODED}
        """By column, the code of each value: ``{"type": {"policy": 3}, …}``. A filter compares integers."""
        self._new_codes = count()
        self._names: list[str] = []
        """By slot."""
        self._rows = list[int]()
        """By slot."""
        self._slots: dict[int, int] = {}
        """By row."""

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, row: object) -> bool:
        return row in self._slots

    def name(self, row: int) -> str:
        return self._names[self._slots[row]]

    def replace(self, document_ids: Iterable[str] | None, entries: Iterable[files.VectorRow]) -> None:
        """Remove all rows of the documents, then add ``entries``. None: of all documents.

        Makes new arrays: slots change. Takes 40 ms for 30,000 rows.
        """
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
        self._rows = self._column("row").tolist()
        self._slots = {row: slot for slot, row in enumerate(self._rows)}

    def cosines(self, vectors: Sequence[Sequence[float]]) -> NDArray[np.float32]:
        """Return the raw cosines of each question with every row, shape (questions, rows)."""
        questions = np.asarray(vectors, dtype=np.float32)
        if len(questions) < LEAST_FOR_ONE_PRODUCT:
            products = np.stack([self._vectors @ question for question in questions])
        else:
            products = np.ascontiguousarray((self._vectors @ questions.T).T)
        return np.round(products, COSINE_DECIMALS, out=products)

    def best(self, cosines: _Cosines, query: PassageQuery) -> _RowScores:
        """Return the best of the rows that pass the query's filters: ``leg_size`` of them, ties by name."""
        allowed = self._allowed(query)
        slots = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        limit = query.leg_size
        if len(slots) > limit:
            allowed_cosines = cosines[slots]
            worst = np.partition(allowed_cosines, len(slots) - limit)[len(slots) - limit]
            slots = slots[allowed_cosines >= worst]  # every tie at the border, so that the name decides
        names, places = self._names, slots.tolist()
        best = sorted(
            (-value, names[slot], slot) for value, slot in zip(cosines[slots].tolist(), places, strict=True)
        )
        return [(self._rows[slot], _decimal(-negative)) for negative, _, slot in best[:limit]]

    def at(self, cosines: _Cosines, row: int) -> float:
        """Return the cosine of a row."""
        return _decimal(float(cosines[self._slots[row]]))

    def _allowed(self, query: PassageQuery) -> NDArray[np.bool_] | None:
        """Return whether each slot passes the query's filters; None where all do."""
        masks: list[NDArray[np.bool_]] = []
        if query.ids is not None:
            masks.append(self._column("id_prefix") == self._codes["id_prefix"].get(query.ids.prefix, -1))
        label_sets = self._codes["labels"].items()
        visible = [code for labels, code in label_sets if not labels or query.labels.intersection(labels)]
        if len(visible) < len(label_sets):
            masks.append(np.isin(self._column("labels"), visible))
        for name in ("source", "type", "document_id"):
            wanted: tuple[str, ...] = getattr(query.filters, name)
            if wanted:
                codes = self._codes[name]
                known = [codes[value] for value in wanted if value in codes]
                masks.append(np.isin(self._column(name), known))
        if query.without:
            gone = [self._codes["document_id"].get(name, -1) for name in query.without]
            masks.append(~np.isin(self._column("document_id"), gone))
        if query.filters.updated_after is not None:
            masks.append(self._column("updated_at_us") > microseconds(query.filters.updated_after))
        return np.logical_and.reduce(masks) if masks else None

    def _column(self, name: str) -> NDArray[np.int64]:
        return self._columns[:, _COLUMNS.index(name)]

    def _coded(self, entry: files.VectorRow) -> list[int]:
        """Return an entry's columns, with a new code for each new value."""
        coded = [
            codes.setdefault(_value(entry, name), next(self._new_codes))
            for name, codes in self._codes.items()
        ]
        return [entry.row, entry.updated_at_us, *coded]


def _value(entry: files.VectorRow, name: str) -> Any:
    return id_prefix_of(entry.document_id) if name == "id_prefix" else getattr(entry, name)


def _decimal(cosine: float) -> float:
    return round(cosine, COSINE_DECIMALS)


@dataclass(slots=True)
class IndexView:
    """Everything of an index that a search needs, as of the last refresh."""

    connection: sqlite3.Connection
    passages: VectorMatrix
    titles: VectorMatrix
    seen: files.IndexMeta
    """The counters that the view has caught up with, those of different moments: ``_refresh_rows`` sets
    those of the rows, ``_refresh_lexical`` those of tantivy. A new view has zeros."""
    lexical: LexicalReader = field(init=False)
    """Set by the first ``_refresh_lexical``, before any search."""


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file; None where there is none."""
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
    """Read the vectors of the documents that changed since the generation that the view has seen."""
    with _snapshot(view.connection):
        meta = files.read_meta(view.connection)
        if meta.generation != view.seen.generation:
            changed = None  # a new view reads all documents
            if view.seen.generation:
                changed = files.changed_documents(view.connection, after_generation=view.seen.generation)
            view.passages.replace(changed, files.vector_rows(view.connection, files.PASSAGE_VECTORS, changed))
            view.titles.replace(changed, files.vector_rows(view.connection, files.TITLE_VECTORS, changed))
        view.seen = replace(view.seen, generation=meta.generation, updated_at=meta.updated_at)


class IndexReader:
    """Opens one version's folder when it exists, keeps the view of it up to date, and searches it.

    For one thread, which is not the event loop's: every call may read files. Its states: no file, so no
    connection and no view; a file that a writer is creating, so a connection without a view; a view.

    Example::

        reader = IndexReader(Path("index/3f2a"), index_version="3f2a", dimensions=384)
        [retrieved] = reader.search([PassageQuery("refill too soon", vector, filters, labels)])
        retrieved.passages[0].passage.passage_id  # "refill#2"
        reader.read_documents(["refill"], labels=labels)["refill"].card.title  # "Refills"
    """

    def __init__(self, folder: Path, *, index_version: str, dimensions: int) -> None:
        self._folder = folder
        self._index_version = index_version
        self._path = folder / files.PASSAGES_FILE
        self._dimensions = dimensions
        self._connection: sqlite3.Connection | None = None
        self._view: IndexView | None = None
        self._document = remember_texts(_DOCUMENTS_KEPT)(self._read_document)
        self._data_version = -1
        """``PRAGMA data_version`` of the last complete refresh; SQLite never returns -1."""
        self._file: tuple[int, int] | None = None
        """``_identity`` of the file that the connection reads."""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def counts(self) -> tuple[int, int, files.IndexMeta]:
        """Return (passages, documents, counters); zeros when there is no index yet.

        Raises ValueError when there are passages without a vector, or vectors without a passage.
        """
        passages = vectors = 0
        for _ in range(_COUNT_ATTEMPTS):
            view = self._refresh()
            if view is None:
                return 0, 0, files.IndexMeta()
            passages, documents = files.count_rows(view.connection)
            vectors = len(view.passages)
            if passages == vectors:
                return passages, documents, view.seen
        raise ValueError(f"the index has {passages} passages and {vectors} vectors")

    def search(self, queries: Sequence[PassageQuery]) -> list[Retrieved]:
        """Answer several queries from one view, in their order. Queries with the same vector share its
        cosines: those of one question, one a source."""
        view = self._refresh()
        if view is None:
            nothing = Retrieved(passages=(), best_cosine=0.0, index_version=self._index_version)
            return [nothing for _ in queries]
        vectors = list(dict.fromkeys(tuple(query.vector) for query in queries))
        passages = dict(zip(vectors, view.passages.cosines(vectors), strict=True))
        titles = dict(zip(vectors, view.titles.cosines(vectors), strict=True))
        return [
            self._search_one(view, query, passages[tuple(query.vector)], titles[tuple(query.vector)])
            for query in queries
        ]

    def read_documents(
        self, document_ids: Sequence[str], *, labels: frozenset[str]
    ) -> dict[str, StoredDocument]:
        """Return the documents that ``labels`` allow, in the order of ``document_ids``."""
        view = self._refresh()
        if view is None:
            return {}
        read = ((name, self._document(name, self._file, view.seen.generation)) for name in document_ids)
        return {
            name: document
            for name, document in read
            if document is not None and (not document.card.labels or labels & {*document.card.labels})
        }

    def _read_document(self, document_id: str, *_of: object) -> StoredDocument | None:
        """Return a document as of a file and its generation; None for one that the index does not hold."""
        if self._connection is None:
            return None
        found = files.documents_of(self._connection, [document_id], unpack=files.shared_passage)
        documents = [StoredDocument(each.card, tuple(part for _, part in each.passages)) for each in found]
        return documents[0] if documents else None

    def _search_one(
        self, view: IndexView, query: PassageQuery, passage_cosines: _Cosines, title_cosines: _Cosines
    ) -> Retrieved:
        passages, titles, terms = view.passages, view.titles, view.lexical.terms(query.text)
        lexical = _lexical_leg(view, passages, "passages", query, terms)
        nearest = passages.best(passage_cosines, query)
        row_of = {passages.name(row): row for row, _ in (*lexical, *nearest)}
        near = _named(passages, nearest)
        return retrieved(
            {
                "lexical": _named(passages, lexical),
                "vector": near,
                "title": _named(titles, _lexical_leg(view, titles, "titles", query, terms)),
                "text": _named(titles, _lexical_leg(view, titles, "texts", query, terms)),
                "title_vector": _named(titles, titles.best(title_cosines, query)),
            },
            size=query.size,
            index_version=self._index_version,
            cosines={
                name: near[name] if name in near else passages.at(passage_cosines, row)
                for name, row in row_of.items()
            },
            passages=lambda names: files.passages_at(view.connection, [row_of[name] for name in names]),
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
        # Read before the rows: a commit after this line changes it again, and the next call sees that.
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if self._view is None:
            self._view = self._open_view(self._connection)
        if self._view is not None and version != self._data_version:
            _refresh_rows(self._view)
            self._refresh_lexical(self._view)
            self._data_version = version
        return self._view

    def _close_replaced(self) -> None:
        """Close a file that was replaced or deleted: an open connection would read the old one for ever.

        Raises FileNotFoundError when it was deleted.
        """
        if self._connection is None or self._file == _identity(self._path):
            return
        self._connection.close()
        self._connection = self._view = None
        self._data_version = -1
        if not self._path.exists():
            raise FileNotFoundError(f"{files.PASSAGES_FILE} is gone from {self._folder.name}")

    def _open_view(self, connection: sqlite3.Connection) -> IndexView | None:
        """Return a view that the next refresh fills; None as long as the index has no postings.

        Raises ValueError when it has passages and no counters. ``pending`` is the last table that a writer
        creates, and ``lexical_folder`` is set before the first passage.
        """
        if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'pending'").fetchone()[0] == 0:
            return None  # its writer is creating it
        with _snapshot(connection):  # the writer may add its first document between two reads
            meta = files.read_meta(connection)
            passages = 0 if meta.lexical_folder else files.count_rows(connection)[0]
        if not meta.lexical_folder:
            if passages:
                raise ValueError("the index holds passages, and its counters are gone")
            return None
        dimensions = self._dimensions
        return IndexView(connection, VectorMatrix(dimensions), VectorMatrix(dimensions), files.IndexMeta())

    def _refresh_lexical(self, view: IndexView) -> None:
        """Open tantivy's current folder, or its last commit, where the view has another."""
        for attempt in range(1, OPEN_ATTEMPTS + 1):
            meta = files.read_meta(view.connection)
            try:
                if meta.lexical_folder != view.seen.lexical_folder:
                    view.lexical = LexicalReader(self._folder / meta.lexical_folder)
                elif meta.lexical_commit != view.seen.lexical_commit:
                    view.lexical.reload()
            except ValueError:  # tantivy raises it when the folder is removed meanwhile
                if attempt == OPEN_ATTEMPTS:
                    raise
                continue
            # Not the generation: more rows may have been written after _refresh_rows read them.
            folder, commit = meta.lexical_folder, meta.lexical_commit
            view.seen = replace(view.seen, lexical_folder=folder, lexical_commit=commit)
            return


def _lexical_leg(
    view: IndexView, matrix: VectorMatrix, leg: LexicalLeg, query: PassageQuery, terms: Terms
) -> _RowScores:
    """Return the best rows of one of tantivy's indexes that the matrix holds too.

    A writer commits tantivy before SQLite when it writes a document, and after it when it deletes one.
    """
    hits = view.lexical.search(leg, query, terms, limit=LEXICAL_MARGIN * query.leg_size)
    known = [(row, round(score, SCORE_DECIMALS)) for row, score in hits if row in matrix]
    known.sort(key=lambda hit: (-hit[1], matrix.name(hit[0])))
    return known[: query.leg_size]


def _named(matrix: VectorMatrix, leg: _RowScores) -> Leg:
    """Return the leg by the names of its rows."""
    return {matrix.name(row): score for row, score in leg}


# Words


class LexicalReader:
    """Searches of one of tantivy's folders, as of the last ``reload``.

    The folder has an index a leg. ``__init__`` and ``reload`` raise ValueError when it is gone.
    """

    def __init__(self, folder: Path) -> None:
        self._analyzer = lexical_analyzer()
        self._has_codes = folder.name.startswith(LEXICAL_PREFIX)
        """Not in a folder of a release before, which answers until the writer has built another."""
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

    def terms(self, text: str) -> Terms:
        """Return the terms of a text that its search asks for, and how often it repeats each; its codes."""
        words = Counter(self._analyzer.analyze(text)).most_common(MOST_QUERY_TERMS)
        return words, list(codes_asked(text)) if self._has_codes else []

    def search(self, leg: LexicalLeg, query: PassageQuery, terms: Terms, *, limit: int) -> _RowScores:
        """Return at most ``limit`` (row, BM25 score), best first.

        A row must have one of the text's ``terms``, and pass all filters, which add nothing to its score. No
        query parser reads the text: a question is no query language.

        Raises ValueError for a query of one source where a writer of an older release built the folder.
        """
        schema, searcher = self._indexes[leg].schema, self._searchers[leg]
        wanted = self._term_queries(terms, schema, LEG_FIELDS[leg])
        if not wanted:
            return []
        filters = (Query.const_score_query(condition, 0.0) for condition in _filters(schema, query))
        clauses = [(Occur.Must, clause) for clause in (Query.boolean_query(wanted), *filters)]
        if query.without:
            clauses.append((Occur.MustNot, _any_of(schema, "document_id", query.without)))
        hits = searcher.search(Query.boolean_query(clauses), limit, count=False).hits
        rows = zip(searcher.fast_field_values("row", [address for _, address in hits]), hits, strict=True)
        return [(int(row), float(score)) for row, (score, _) in rows if row is not None]

    def _term_queries(
        self, terms: Terms, schema: tantivy.Schema, boosts: Mapping[str, float]
    ) -> list[tuple[Occur, Query]]:
        """Return a query a term and field, which weighs as often as the text repeats the term, and one a
        code."""
        queries: list[tuple[Occur, Query]] = []
        words, codes = terms
        for term, occurrences in words:
            for name, boost in boosts.items():
                query = Query.term_query(schema, name, term, index_option="freq")
                queries.append((Occur.Should, Query.boost_query(query, boost * occurrences)))
        for code in codes:
            queries.append((Occur.Should, Query.term_query(schema, CODES, code, index_option="freq")))
        return queries


def _filters(schema: tantivy.Schema, query: PassageQuery) -> Iterable[Query]:
    """Yield the conditions that a row must meet: the same as in ``VectorMatrix._allowed``."""
    filters = query.filters
    yield _any_of(schema, "visible_to", (UNLABELLED, *label_terms(query.labels)))
    if query.ids is not None:
        yield _any_of(schema, "id_prefix", (query.ids.prefix,))
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
