"""The lexical leg: BM25 (k1 1.2, b 0.75) by tantivy. Imports the engine: load it only where it is used.

tantivy holds postings only, no text; a hit is a row number of the passages' table. The question never
goes through a query parser: its analyzed tokens become term queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import tantivy
from tantivy import FieldType, Filter, Occur, Query, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

from assistant.adapters.embedded.passage_rows import microseconds
from assistant.domain.documents import Passage
from assistant.domain.retrieval import SearchFilters

WRITER_HEAP_BYTES = 30_000_000
LONGEST_TOKEN_CHARS = 80
MOST_QUERY_TERMS = 256
"""Terms of a question beyond these are left out (Lucene's own bound is 1,024 clauses)."""
FIELD_BOOSTS = {"title": 0.75, "heading": 0.75, "body": 1.0}
"""Chosen on the tuning split of both tenants' evaluation questions; anything from 0.25 to 0.75 is within its
noise, and over 1 the lexical leg gets worse."""
STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these "
    "they this to was will with"
)
"""Lucene's ``EnglishAnalyzer.ENGLISH_STOP_WORDS_SET``, as the production engine has them."""
_ANALYZER = "english"
_UNLABELLED = "*"


def build_schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for name in FIELD_BOOSTS:
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


class LexicalWriter:
    """The one writer of a folder. Nothing is seen before ``commit``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        index = tantivy.Index(build_schema(), path=str(folder))
        index.register_tokenizer(_ANALYZER, build_analyzer())
        self._writer = index.writer(WRITER_HEAP_BYTES, num_threads=1)

    def remove(self, document_id: str) -> None:
        self._writer.delete_documents_by_term("document_id", document_id)

    def add(self, row: int, passage: Passage) -> None:
        document = tantivy.Document()
        document.add_text("title", passage.title)
        document.add_text("heading", passage.heading)
        document.add_text("body", passage.text)
        document.add_text("document_id", passage.document_id)
        document.add_text("source", passage.source)
        document.add_text("type", passage.type)
        for label in _visibility_terms(passage.labels) if passage.labels else (_UNLABELLED,):
            document.add_text("visible_to", label)
        document.add_integer("updated_at_us", microseconds(passage.updated_at))
        document.add_unsigned("row", row)
        self._writer.add_document(document)

    def commit(self) -> None:
        self._writer.commit()

    def close(self) -> None:
        """Wait for merges and let go of the folder. The writer is of no use after it."""
        self._writer.wait_merging_threads()


class LexicalReader:
    """Searches of one folder as of the last ``reload``. Raises ValueError when the folder is gone."""

    def __init__(self, folder: Path) -> None:
        self._analyzer = build_analyzer()
        self._index = tantivy.Index.open(str(folder))
        self._index.register_tokenizer(_ANALYZER, self._analyzer)
        self._index.config_reader(reload_policy="manual")
        self._schema = self._index.schema
        self.reload()

    def reload(self) -> None:
        self._index.reload()
        self._searcher = self._index.searcher()

    def search(
        self, text: str, *, filters: SearchFilters, labels: frozenset[str], limit: int
    ) -> list[tuple[int, float]]:
        """Return at most ``limit`` (row, BM25 score), best first; the filter is part of the query."""
        terms = self._term_queries(text)
        if not terms:
            return []
        clauses = [(Occur.Must, Query.boolean_query(terms))]
        clauses += [
            (Occur.Must, Query.const_score_query(query, 0.0)) for query in self._filters(filters, labels)
        ]
        hits = self._searcher.search(Query.boolean_query(clauses), limit, count=False).hits
        rows = self._searcher.fast_field_values("row", [address for _, address in hits])
        return [
            (int(row), float(score)) for row, (score, _) in zip(rows, hits, strict=True) if row is not None
        ]

    def _term_queries(self, text: str) -> list[tuple[Occur, Query]]:
        terms = Counter(self._analyzer.analyze(text)).most_common(MOST_QUERY_TERMS)
        return [
            (
                Occur.Should,
                Query.boost_query(
                    Query.term_query(self._schema, field, term, index_option="freq"), boost * occurrences
                ),
            )
            for term, occurrences in terms
            for field, boost in FIELD_BOOSTS.items()
        ]

    def _filters(self, filters: SearchFilters, labels: frozenset[str]) -> Iterable[Query]:
        yield self._any_of("visible_to", (_UNLABELLED, *_visibility_terms(labels)))
        for field in ("source", "type", "document_id"):
            values: tuple[str, ...] = getattr(filters, field)
            if values:
                yield self._any_of(field, values)
        if filters.updated_after is not None:
            after_us = microseconds(filters.updated_after)
            yield Query.range_query(
                self._schema, "updated_at_us", FieldType.Integer, lower_bound=after_us, include_lower=False
            )

    def _any_of(self, field: str, values: Iterable[str]) -> Query:
        return Query.boolean_query(
            [(Occur.Should, Query.term_query(self._schema, field, v, index_option="basic")) for v in values]
        )


def _visibility_terms(labels: Iterable[str]) -> tuple[str, ...]:
    # A prefix keeps any label, even "*" or the empty one, apart from the mark of an unlabelled passage.
    return tuple(f"={label}" for label in labels)
