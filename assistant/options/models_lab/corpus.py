"""Turns documents into the rows of a corpus for training: one cleaned text a document, with its provenance.

Functions of documents and rows alone. Spark runs them (``containers/corpus_job``); docs/decisions/0085 says
why.

    wanted_documents   documents that answer now, as WantedDocument
    read_texts         CorpusText (row and MinHash), or a reason such as "shorter than 5 words"
    candidate_of       Candidate, which Spark puts into a bucket for each of BANDS bands (band_of)
    duplicates_in      ids of near-duplicates in one bucket
    mixed              the row with its weight, or why it is left out
    counts_of          {"rows": {"wiki": 812}, "left_out": {"near-duplicates": 40}}
"""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import hashlib
import re
import struct
import unicodedata
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import eq
from typing import NamedTuple

from pydantic import TypeAdapter

from assistant.documents.parsing_process import ParsingProcess, ParsingRequest, read_answer
from assistant.documents.readable import answers_now, pages_of
from assistant.documents.sources import KnowledgeSources
from assistant.domain.documents import Document, DocumentStatus
from assistant.domain.errors import (
    ConfigurationError,
    DocumentInvalidError,
    ParsingStoppedError,
)
from assistant.stores.documents import StoredDocuments, StoredStates
from assistant.text.marks import CONTROL

READER_VERSION = "1"
"""Raise it when a document becomes another text: by a reader, or by ``cleaned``."""
Counts = dict[str, dict[str, int]]
"""``rows`` by source, and ``left_out``: documents without a row, by reason."""
ROWS, WANTED, COUNTS, MANIFEST = "rows", "wanted", "counts", "manifest.json"
"""In the folder of a corpus: its Parquet files, the documents that it is made of, how many became rows. A
folder with a manifest is whole."""
SIMILAR_FROM = 0.8
"""Jaccard similarity of word triples from which two texts are near-duplicates."""
BATCH = 64
"""Documents that are read at once."""
_LEAST_WORDS = 5
_SHINGLE_WORDS = 3
_PERMUTATIONS, _SEED = 128, 20_261_120
"""Values of a MinHash, of which 126 are in bands; any seed does, but it must be the same for all texts."""
BANDS, _BAND_VALUES = 21, 6
"""Two texts are compared when one of 21 bands of 6 values is equal: 99.8 % of the pairs at a similarity of
0.8, 28 % at 0.5 (1 - (1 - s^6)^21; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4)."""
_WEIGHT, _MOST_WEIGHT = re.compile(r"([^=]+)=(\d{1,3}(?:\.\d{1,6})?)"), 100.0
_CHANCE = 1 / 256
"""Share of equal bytes of two signatures without a common triple."""
_TEXT_OR_REASON = TypeAdapter[tuple[str] | str](tuple[str] | str)
"""What the parsing process answers to a request "text": the text in a tuple, or why there is none."""
_INVISIBLE = re.compile(rf"[{CONTROL}\x80-\x9f\u200b\u2060\ufeff]")
_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class WantedDocument:
    """A document that a corpus may hold: the content that answers now."""

    document_id: str
    content_hash: str
    source: str
    """Name of its ``[[sources]]`` entry: "wiki"."""
    licence: str
    """Licence that the entry states; empty where it states none."""


@dataclass(frozen=True, slots=True)
class CorpusRow:
    """One row. The order of the fields is that of the columns."""

    text: str
    title: str
    document_id: str
    source: str
    content_hash: str
    labels: tuple[str, ...]
    """Access labels of the content: who trains on the row decides who may ask the model."""
    licence: str
    url: str | None
    reader: str = READER_VERSION
    weight: float = 1.0
    """How often training reads the row, in proportion to the others; at least 1."""


class CorpusText(NamedTuple):
    """A row before near-duplicates are left out, with the MinHash of its text."""

    row: CorpusRow
    signature: bytes
    """128 values, little-endian, of 4 bytes each."""


class Candidate(NamedTuple):
    """A text among those that may be near-duplicates. Of two the lesser stays."""

    rank: tuple[bool, float, str]
    """Whether it has access labels, its source's weight (negative), the document's id."""
    signature: bytes
    """One byte of each value of the MinHash: enough to compare, a quarter to move (Li and König, b-bit
    minwise hashing, 2010)."""


def mix_of(given: Iterable[str], *, sources: KnowledgeSources) -> Mapping[str, float]:
    """Return the weight of each source, of texts like ``wiki=0.5``: 1 unless given.

    Raises ConfigurationError, NotFoundError.
    """
    mix = {source.name: 1.0 for source in sources.all}
    for text in given:
        if (match := _WEIGHT.fullmatch(text)) is None or float(match[2]) > _MOST_WEIGHT:
            advice = f"write SOURCE=N with a number from 0 to {_MOST_WEIGHT:g}"
            raise ConfigurationError(f"The weight {text} cannot be read: {advice}.")
        mix[sources.named(match[1]).name] = float(match[2])
    return mix


async def wanted_documents(
    states: StoredStates, *, sources: KnowledgeSources, mix: Mapping[str, float]
) -> AsyncIterator[list[WantedDocument]]:
    """Yield the documents that answer now, by id. Withdrawn, withheld and unreleased ones do not, and sources
    with the weight 0 are left out."""
    async for page in pages_of(states):
        candidates = (_wanted(status, sources) for status in page if answers_now(status))
        yield [wanted for wanted in candidates if wanted is not None and mix[wanted.source] > 0.0]


def _wanted(status: DocumentStatus, sources: KnowledgeSources) -> WantedDocument | None:
    """Return a document as a corpus wants it; None for one of no source, or without a live content."""
    source = sources.of_document(status.document_id)
    live = status.live_content_hash
    if source is None or live is None:
        return None
    return WantedDocument(status.document_id, live, source.name, source.entry.licence or "")


async def read_texts(
    wanted: Sequence[WantedDocument], *, documents: StoredDocuments, parsing: ParsingProcess
) -> list[CorpusText | str]:
    """Return the text of each document in order, or why it has none. ``parsing`` is used by one call at a
    time."""
    contents = await asyncio.gather(*(_content(document, documents) for document in wanted))
    readable = [content for content in contents if isinstance(content, Document)]
    requests = [ParsingRequest("text", {}, content.model_dump_json().encode()) for content in readable]
    answers = iter(await asyncio.to_thread(list, parsing.run(requests)))  # one for each of ``readable``
    return [
        _text(document, content, next(answers)) if isinstance(content, Document) else content
        for document, content in zip(wanted, contents, strict=True)
    ]


async def _content(wanted: WantedDocument, documents: StoredDocuments) -> Document | str:
    """Return the content that answered when the document was wanted, or why it cannot be read."""
    try:
        document = await documents.get(wanted.document_id)
        if document is not None and wanted.content_hash not in document.content_hashes():
            # An older content answers while a newer one is not ready yet.
            kept = [content.document for content in await documents.contents(wanted.document_id)]
            document = next((older for older in kept if wanted.content_hash in older.content_hashes()), None)
    except DocumentInvalidError:
        return "damaged in the store"
    return document or "withdrawn or replaced meanwhile"


def _text(
    wanted: WantedDocument, document: Document, answer: bytes | ParsingStoppedError
) -> CorpusText | str:
    """Return the cleaned text of a document with its MinHash, or why it has none."""
    parsed = read_answer(_TEXT_OR_REASON, answer)
    if not isinstance(parsed, tuple):
        return "unreadable"
    text = cleaned(parsed[0])
    if len(text.split()) < _LEAST_WORDS:
        return f"shorter than {_LEAST_WORDS} words"
    where = wanted.document_id, wanted.source, wanted.content_hash
    row = CorpusRow(text, document.title, *where, document.labels, wanted.licence, document.url)
    return CorpusText(row, signature_of(text))


def cleaned(text: str) -> str:
    """Return the text in Unicode's form NFC, without invisible characters, line-end spaces, and more than one
    blank line in a row."""
    visible = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    lines = "\n".join(map(str.rstrip, visible.split("\n")))
    return _BLANK_LINES.sub("\n\n", lines).strip()


# Near-duplicates


def word_triples(text: str) -> frozenset[str]:
    """Return each three words in a row, without case; all words of a shorter text. "Keep it cool and dry" has
    "keep it cool", "it cool and" and "cool and dry"."""
    words = text.lower().split()
    count = max(1, len(words) - _SHINGLE_WORDS + 1)
    return frozenset(" ".join(words[at : at + _SHINGLE_WORDS]) for at in range(count))


def signature_of(text: str) -> bytes:
    """Return the MinHash of the text's word triples (Broder, On the resemblance and containment of documents,
    1997)."""
    from rensa import RMinHash  # of the extra "corpus", which no other process needs

    minhash = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
    minhash.update(sorted(word_triples(text)))
    return struct.pack(f"<{_PERMUTATIONS}I", *minhash.digest())


def band_of(signature: bytes, band: int) -> bytes:
    """Return the values by which texts meet in one of BANDS rounds: those with the same are compared."""
    size = 4 * _BAND_VALUES
    return signature[band * size : (band + 1) * size]


def candidate_of(text: CorpusText, *, mix: Mapping[str, float]) -> Candidate:
    """Return what near-duplicates of the text are found by. Texts that every agent may read come before
    others, then those of weightier sources, then lower ids."""
    row, signature = text
    # ``[::4]``: the lowest byte of each value, as they are little-endian.
    return Candidate((bool(row.labels), -mix[row.source], row.document_id), signature[::4])


def duplicates_in(bucket: Iterable[Candidate]) -> Iterator[str]:
    """Yield the ids of the documents that are near-duplicates of one before them in the bucket.

    A near-duplicate of a near-duplicate is compared with what stays alone, so no chain joins texts that have
    little in common.
    """
    staying: list[bytes] = []
    for candidate in sorted(bucket):
        if any(_similarity(candidate.signature, other) >= SIMILAR_FROM for other in staying):
            yield candidate.rank[-1]
        else:
            staying.append(candidate.signature)


def _similarity(first: bytes, second: bytes) -> float:
    """Return the estimated Jaccard similarity: the share of equal bytes, less what chance gives."""
    equal = sum(map(eq, first, second)) / _PERMUTATIONS
    return (equal - _CHANCE) / (1.0 - _CHANCE)


# The mix, and the counts of a corpus


def mixed(row: CorpusRow, *, is_duplicate: bool, mix: Mapping[str, float]) -> CorpusRow | str:
    """Return the row with its source's weight, or why it is left out.

    A weight below 1 keeps that share of the source's documents, by the hash of their ids: the same ones in
    every corpus, and more with a larger weight.
    """
    if is_duplicate:
        return "near-duplicates"
    weight = mix[row.source]
    draw = int.from_bytes(hashlib.sha256(row.document_id.encode()).digest()[:8], "big") / 2**64  # from 0 to 1
    return replace(row, weight=max(1.0, weight)) if draw < weight else "not drawn by its source's weight"


def counts_of(rows: Mapping[str, int], left_out: Mapping[str, int]) -> Counts:
    """Return the counts of a corpus, sorted, so that equal corpora have equal counts."""
    return {"rows": dict(sorted(rows.items())), "left_out": dict(sorted(left_out.items()))}
