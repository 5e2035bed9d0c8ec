"""The lexical legs: BM25 (k1 1.2, b 0.75) by tantivy. Imports the engine: import it only where it is used.

Tantivy holds postings only, no text; a hit is a row number of a table. No query parser reads the question:
its analyzed tokens become term queries. Each leg has its own index: tantivy counts documents and mean lengths
over a whole index, Lucene over those that have the field, so in one index titles would change the scores of
passages.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import tantivy
from tantivy import FieldType, Filter, Occur, Query, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

from assistant.domain.documents import DocumentCard, Passage, SearchFilters
from assistant.embedded.passage_rows import DocumentRows
from assistant.private_files import make_private_folder
from assistant.twins import UNLABELLED, label_terms, microseconds, visibility, whole_text

Leg = Literal["passages", "titles", "texts"]
WRITER_HEAP_BYTES = 15_000_000
"""Of each leg: tantivy's minimum."""
MOST_HEAPS = 2
_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""
LONGEST_TOKEN_CHARS = 80
MOST_QUERY_TERMS = 256
"""Terms of a question beyond these are left out (Lucene's own bound is 1,024 clauses)."""
FIELD_BOOSTS = {"title": 0.75, "heading": 0.75, "body": 1.0}
"""Chosen on the tuning split of both tenants' evaluation questions; anything from 0.25 to 0.75 is within its
noise, and over 1 the lexical leg gets worse."""
LEG_FIELDS: Mapping[Leg, Mapping[str, float]] = {
    "passages": FIELD_BOOSTS,
    "titles": {"asked": 1.0},
    "texts": {"text": 1.0},
}
STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these "
    "they this to was will with"
)
"""Lucene's ``EnglishAnalyzer.ENGLISH_STOP_WORDS_SET``, as the production engine has them."""
_ANALYZER = "english"


def build_schema(leg: Leg) -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for name in LEG_FIELDS[leg]:
        builder.add_text_field(name, tokenizer_name=_ANALYZER, index_option="freq")
    for name in ("document_id", "source", "type", "visible_to"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("updated_at_us", indexed=True, fast=True)
    builder.add_unsigned_field("row", fast=True)
    return builder.build()


def build_analyzer() -> TextAnalyzer:
    """Letters and digits as tokens, lower case, no accents, no stop words, English stems (Snowball)."""
    return (
        TextAnalyzerBuilder(Tokenizer.simple())
        .filter(Filter.remove_long(LONGEST_TOKEN_CHARS))
        .filter(Filter.lowercase())
        .filter(Filter.ascii_fold())
        .filter(Filter.custom_stopword([str(word) for word in STOP_WORDS.split()]))
        .filter(Filter.stemmer("english"))
        .build()
    )


def is_whole(folder: Path) -> bool:
    """Return whether the folder holds the index of each leg."""
    return all((folder / leg / "meta.json").exists() for leg in LEG_FIELDS)


class LexicalWriter:
    """The only writer of a folder. Readers see nothing before ``commit``."""

    def __init__(self, folder: Path) -> None:
        _share_heaps()
        self._writers: dict[Leg, Any] = {}
        for leg in LEG_FIELDS:
            make_private_folder(folder / leg)  # its files: by the umask of the worker
            index = tantivy.Index(build_schema(leg), path=str(folder / leg))
            index.register_tokenizer(_ANALYZER, build_analyzer())
            self._writers[leg] = index.writer(WRITER_HEAP_BYTES, num_threads=1)

    def remove(self, document_id: str) -> None:
        for writer in self._writers.values():
            writer.delete_documents_by_term("document_id", document_id)

    def add(self, document: DocumentRows) -> None:
        """Add a document to every leg. Its whole text has the row of its title."""
        card = document.card
        for row, passage in document.passages:
            texts = {"title": passage.title, "heading": passage.heading, "body": passage.text}
            self._add("passages", row, texts, passage)
        for row, title in document.titles:
            self._add("titles", row, {"asked": title}, card)
        text = whole_text(passage for _, passage in document.passages)
        self._add("texts", document.titles[0][0], {"text": text}, card)

    def _add(self, leg: Leg, row: int, texts: Mapping[str, str], filtered: Passage | DocumentCard) -> None:
        document = tantivy.Document()
        for name, text in texts.items():
            document.add_text(name, text)
        for name in ("document_id", "source", "type"):
            document.add_text(name, getattr(filtered, name))
        for label in visibility(filtered.labels):
            document.add_text("visible_to", label)
        document.add_integer("updated_at_us", microseconds(filtered.updated_at))
        document.add_unsigned("row", row)
        self._writers[leg].add_document(document)

    def commit(self) -> None:
        for writer in self._writers.values():
            writer.commit()

    def close(self) -> None:
        """Wait for merges and release the folder."""
        for writer in self._writers.values():
            writer.wait_merging_threads()


class LexicalReader:
    """Searches of one folder as of the last ``reload``. Raises ValueError when the folder is gone."""

    def __init__(self, folder: Path) -> None:
        self._analyzer = build_analyzer()
        self._indexes: dict[Leg, tantivy.Index] = {}
        for leg in LEG_FIELDS:
            index = tantivy.Index.open(str(folder / leg))
            index.register_tokenizer(_ANALYZER, self._analyzer)
            index.config_reader(reload_policy="manual")
            self._indexes[leg] = index
        self.reload()

    def reload(self) -> None:
        for index in self._indexes.values():
            index.reload()
        self._searchers = {leg: index.searcher() for leg, index in self._indexes.items()}

    def search(
        self, leg: Leg, text: str, *, filters: SearchFilters, labels: frozenset[str], limit: int
    ) -> list[tuple[int, float]]:
        """Return at most ``limit`` (row, BM25 score), best first; the filter is part of the query."""
        schema, searcher = self._indexes[leg].schema, self._searchers[leg]
        terms = self._term_queries(text, schema, LEG_FIELDS[leg])
        if not terms:
            return []
        clauses = [(Occur.Must, Query.boolean_query(terms))]
        for query in _filters(schema, filters, labels):
            clauses.append((Occur.Must, Query.const_score_query(query, 0.0)))
        hits = searcher.search(Query.boolean_query(clauses), limit, count=False).hits
        rows = zip(searcher.fast_field_values("row", [address for _, address in hits]), hits, strict=True)
        return [(int(row), float(score)) for row, (score, _) in rows if row is not None]

    def _term_queries(
        self, text: str, schema: tantivy.Schema, boosts: Mapping[str, float]
    ) -> list[tuple[Occur, Query]]:
        queries: list[tuple[Occur, Query]] = []
        for term, occurrences in Counter(self._analyzer.analyze(text)).most_common(MOST_QUERY_TERMS):
            for field, boost in boosts.items():
                query = Query.term_query(schema, field, term, index_option="freq")
                queries.append((Occur.Should, Query.boost_query(query, boost * occurrences)))
        return queries


def _filters(schema: tantivy.Schema, filters: SearchFilters, labels: frozenset[str]) -> Iterable[Query]:
    yield _any_of(schema, "visible_to", (UNLABELLED, *label_terms(labels)))
    for field in ("source", "type", "document_id"):
        values: tuple[str, ...] = getattr(filters, field)
        if values:
            yield _any_of(schema, field, values)
    if filters.updated_after is not None:
        after_us = microseconds(filters.updated_after)
        yield Query.range_query(
            schema, "updated_at_us", FieldType.Integer, lower_bound=after_us, include_lower=False
        )


def _any_of(schema: tantivy.Schema, field: str, values: Iterable[str]) -> Query:
    terms = [Query.term_query(schema, field, value, index_option="basic") for value in values]
    return Query.boolean_query([(Occur.Should, term) for term in terms])


def _share_heaps() -> None:
    """Let all threads allocate from MOST_HEAPS heaps, where the C library is glibc.

    Tantivy starts a thread a leg with each commit. With its own heap for each thread, which glibc does not
    return, 1,500 documents took 253 MiB of memory; with two heaps 129 MiB.
    """
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MOST_HEAPS)
