"""The writing side of the embedded index: SQLite first, then tantivy.

A write has two SQLite transactions. The first lists its documents as pending. The second writes their rows,
commits tantivy's postings, and empties the list, so that a search finds a document by its old words or by its
new ones, and never by none. If the writer is killed in between, the next one finds the list when it opens the
index, and writes those documents' postings again from SQLite, which is idempotent. A deletion commits the
rows first, so that it shows at once, and then rebuilds the postings.

Deleted text also leaves the disk: SQLite overwrites freed content (``secure_delete``) and its log is
truncated. Tantivy keeps deleted postings until a merge that its Python package cannot start, so its folder is
rebuilt from SQLite (about three seconds for 30,000 passages) and the old one removed.

Tantivy holds postings only, no text; a hit is a row number of a table. Each lexical leg (``LexicalLeg``;
BM25, k1 1.2 and b 0.75) has its own index: tantivy counts documents and mean lengths over a whole index,
Lucene over those that have the field, so in one index titles would change the scores of passages.

Imports the engine: import it only where it is used.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import tantivy
from filelock import FileLock, Timeout
from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

from assistant.domain.clock import Clock
from assistant.domain.documents import DocumentCard, IndexedDocument, Passage, id_prefix_of
from assistant.domain.errors import LocalRuntimeError
from assistant.process.private_files import FILE_MODE, make_private_folder
from assistant.stores.index import embedded_files as files
from assistant.stores.index.embedded_files import read_versions
from assistant.stores.index.rows import microseconds, visibility, whole_text
from assistant.stores.sqlite_file import open_connection
from assistant.text.codes import codes_in

LexicalLeg = Literal["passages", "titles", "texts"]
"""Searches passages, titles with questions, or whole texts of documents."""
WRITER_HEAP_BYTES = 15_000_000
"""Memory of the writer of each leg: tantivy's minimum."""
LONGEST_TOKEN_CHARS = 80
"""Tantivy indexes tokens below this length, so at most 79 characters, as OpenSearch does."""
FIELD_BOOSTS = {"title": 0.75, "heading": 0.75, "body": 1.0}
"""Chosen on the tuning split of both tenants' evaluation questions; anything from 0.25 to 0.75 is within its
noise, and over 1 the lexical leg gets worse."""
# By leg, the text fields that it searches, with their boosts.
LEG_FIELDS: Mapping[LexicalLeg, Mapping[str, float]] = {
    "passages": FIELD_BOOSTS,
    "titles": {"asked": 1.0},
    "texts": {"text": 1.0},
}
STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these "
    "they this to was will with"
)
"""Lucene's ``EnglishAnalyzer.ENGLISH_STOP_WORDS_SET``, as the production engine has them."""
CODES = "codes"
"""The field with the codes of a row's texts, each one term. A field of its own, because more terms in another
would change the scores of questions without a code."""
ANALYZER = "english"
LEXICAL_PREFIX = "lexical-3-"
"""Begins the names of tantivy's folders: "lexical-3-9f86d081". Increase the number with each change of
``lexical_schema`` or ``lexical_analyzer``: a folder with another number is then built again from SQLite."""
PAGE_SIZE_BYTES = 8192
"""Holds five vectors of 384 numbers; a page of 4096 holds two and wastes a quarter."""
LOCK_TIMEOUT_S = 5.0
"""How long a writer waits for an earlier one to release the lock."""


class IndexWriter:
    """The only writer of a version's folder, from ``open`` to ``close``; call ``open`` first. For one
    thread."""

    def __init__(self, folder: Path, *, dimensions: int, clock: Clock) -> None:
        self._folder = folder
        self._dimensions = dimensions
        self._clock = clock
        self._lock = FileLock(folder / "writer.lock", thread_local=False, mode=FILE_MODE)

    def open(self) -> None:
        """Take the lock, open both stores, remove versions that are not kept, finish an interrupted write.

        Raises LocalRuntimeError while another process writes.
        """
        make_private_folder(self._folder)
        try:
            self._lock.acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout:
            advice = "Stop it or wait for it."
            raise LocalRuntimeError(f"Another worker writes the index {self._folder}. {advice}") from None
        record = read_versions(self._folder.parent)
        kept = {self._folder.name, *(record.kept if record else ())}
        for other in self._folder.parent.iterdir():
            if other.is_dir() and other.name not in kept:  # no withdrawal would reach its text
                shutil.rmtree(other)
        path, pragmas = self._folder / files.PASSAGES_FILE, ("synchronous = FULL",)
        self._connection = open_connection(path, pragmas=pragmas, page_size_bytes=PAGE_SIZE_BYTES)
        self._connection.executescript(files.INDEX_SCHEMA)
        self._open_lexical()

    def close(self) -> None:
        """Close both stores and release the lock, also where closing one fails, as on a full disk."""
        try:
            self._connection.close()
        finally:
            self._lock.release()

    def replace(self, documents: Sequence[IndexedDocument]) -> None:
        """Write the documents; one without passages is removed.

        Raises ConfigurationError when a vector does not have the index's dimensions.
        """
        changed = {
            document.card.document_id: document if document.passages else None for document in documents
        }
        with self._transaction():  # for the next writer, if this one is killed
            files.mark_pending(self._connection, changed)
        with self._transaction():
            files.replace_rows(self._connection, changed, dimensions=self._dimensions, now=self._clock.now())
            self._write_postings()

    def delete(self, document_ids: Iterable[str]) -> None:
        """Remove the documents: the first transaction removes them from the searches of every process, the
        purge from the disk."""
        gone, now = dict.fromkeys(document_ids), self._clock.now()
        with self._transaction():
            files.replace_rows(self._connection, gone, dimensions=self._dimensions, now=now)
        self.purge()

    def purge(self) -> None:
        """Remove replaced and deleted text from the disk; ``purge_pending`` stays set until that is done."""
        if files.read_meta(self._connection).purge_pending:
            self._rebuild_lexical()
            # Empty the write-ahead log, which holds old pages; it stays while a reader uses it.
            (is_used, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not is_used:
                with self._transaction():
                    files.write_meta(self._connection, purge_pending="0")

    def counts(self) -> tuple[int, int, files.IndexMeta]:
        """Return the numbers of passages and documents, and the counters."""
        return *files.count_rows(self._connection), files.read_meta(self._connection)

    def held(self, document_ids: Sequence[str]) -> frozenset[str]:
        """Return those of the documents that have a card and at least one passage."""
        return frozenset(files.held_contents(self._connection, document_ids))

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
        """Open tantivy's current folder and write pending postings; build a new folder where it is missing,
        broken or of another schema."""
        named = files.read_meta(self._connection).lexical_folder
        for folder in self._folder.glob("lexical-*"):
            if folder.name != named:  # left by a writer that was killed
                shutil.rmtree(folder)
        if named.startswith(LEXICAL_PREFIX) and is_whole(self._folder / named):
            for leg in LEG_FIELDS:
                open_leg(self._folder / named, leg)  # a damaged one is refused before the first write
            if files.pending_documents(self._connection):  # left by a writer that was killed
                with self._transaction():
                    self._write_postings()
        else:
            self._rebuild_lexical()

    def _write_postings(self) -> None:
        """Commit the postings of pending documents, and announce them in the caller's transaction."""
        documents = files.pending_documents(self._connection)
        name = files.read_meta(self._connection).lexical_folder
        if not is_whole(self._folder / name):
            raise FileNotFoundError(f"{name} is gone from {self._folder.name}")  # the next opening builds it
        with LexicalWriter(self._folder / name) as lexical:
            for document_id in documents:
                lexical.remove(document_id)
            for document in files.documents_of(self._connection, documents):
                lexical.add(document)
        self._announce(name)

    def _rebuild_lexical(self) -> None:
        """Build a new folder from SQLite, switch the readers to it, and remove the old one."""
        before = files.read_meta(self._connection).lexical_folder
        name = f"{LEXICAL_PREFIX}{secrets.token_hex(4)}"
        with LexicalWriter(self._folder / name) as lexical:
            for document in files.documents_of(self._connection, None):
                lexical.add(document)
        with self._transaction():
            self._announce(name)
        if before:
            shutil.rmtree(self._folder / before, ignore_errors=True)  # the next opening removes what is left

    def _announce(self, lexical_folder: str) -> None:
        """Tell readers, in the caller's transaction, that this folder has new postings; nothing is pending
        any more."""
        commit = files.read_meta(self._connection).lexical_commit + 1
        self._connection.execute("DELETE FROM pending")
        files.write_meta(self._connection, lexical_folder=lexical_folder, lexical_commit=str(commit))


# The folder of tantivy


def lexical_schema(leg: LexicalLeg) -> tantivy.Schema:
    """Return the fields of a leg: its texts, their codes, the fields of filters, and ``row``, by which hits
    are read."""
    builder = tantivy.SchemaBuilder()
    for name in LEG_FIELDS[leg]:
        builder.add_text_field(name, tokenizer_name=ANALYZER, index_option="freq")
    builder.add_text_field(CODES, tokenizer_name="raw", index_option="freq")
    for name in ("document_id", "id_prefix", "source", "type", "visible_to"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("updated_at_us", indexed=True, fast=True)
    builder.add_unsigned_field("row", fast=True)
    return builder.build()


def lexical_analyzer() -> TextAnalyzer:
    """Return the analyzer of texts and questions: letters and digits as tokens, lower case, no accents, no
    stop words, English stems (Snowball). "The refills" becomes "refil"."""
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


def open_leg(folder: Path, leg: LexicalLeg) -> tantivy.Index:
    """Open tantivy's index of a leg, or make it. Raises ValueError for a damaged one."""
    index = tantivy.Index(lexical_schema(leg), path=str(folder / leg))
    index.register_tokenizer(ANALYZER, lexical_analyzer())
    return index


class LexicalWriter:
    """The only writer of one of tantivy's folders, for one write: ``with`` commits, or keeps nothing where
    the block raises. Readers see nothing before.

    An open writer has eight threads a leg, of which one looks at its file twice a second."""

    def __init__(self, folder: Path) -> None:
        self._writers: dict[LexicalLeg, Any] = {}
        for leg in LEG_FIELDS:
            make_private_folder(folder / leg)  # its files: by the umask of the worker
            self._writers[leg] = open_leg(folder, leg).writer(WRITER_HEAP_BYTES, num_threads=1)

    def remove(self, document_id: str) -> None:
        """Remove the postings of a document, also before it is added again."""
        for writer in self._writers.values():
            writer.delete_documents_by_term("document_id", document_id)

    def add(self, document: files.DocumentRows) -> None:
        """Add a document to every leg. In the leg ``texts`` its whole text has the row of its title, the
        first of ``titles``."""
        card = document.card
        for row, passage in document.passages:
            texts = {"title": passage.title, "heading": passage.heading, "body": passage.text}
            self._add("passages", row, texts, passage)
        for row, title in document.titles:
            self._add("titles", row, {"asked": title}, card)
        text = whole_text(passage for _, passage in document.passages)
        self._add("texts", document.titles[0][0], {"text": text}, card)

    def _add(
        self, leg: LexicalLeg, row: int, texts: Mapping[str, str], source: Passage | DocumentCard
    ) -> None:
        """Add one row to a leg; ``source`` has the values of its filters."""
        document = tantivy.Document()
        for name, text in texts.items():
            document.add_text(name, text)
            for code in codes_in(text):
                document.add_text(CODES, code)
        for name in ("document_id", "source", "type"):
            document.add_text(name, getattr(source, name))
        document.add_text("id_prefix", id_prefix_of(source.document_id))
        for label in visibility(source.labels):
            document.add_text("visible_to", label)
        document.add_integer("updated_at_us", microseconds(source.updated_at))
        document.add_unsigned("row", row)
        self._writers[leg].add_document(document)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Commit unless the block raised; then wait for merges and release the folder."""
        try:
            for writer in self._writers.values() if kind is None else ():
                writer.commit()
        finally:
            for writer in self._writers.values():
                writer.wait_merging_threads()
