"""Documents of a knowledge base, their states, and the passages they are cut into."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import AwareDatetime, Field, StringConstraints

from assistant.domain.in_force import InForce
from assistant.domain.public import PublicModel

DocumentId = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\s/?#\x00-\x1f]+$")]
"""Stable name of a document inside one tenant: no white space, no `/ ? #`. In a source with a namespace it
begins with that: `wiki:refill`."""
ID_SEPARATOR = ":"
"""Between a source's namespace and its own id of a document. No source's own ids contain it."""

DOCUMENT_SUBJECT = "document:"
"""Prefix of a document's subject among the erasure keys: ``document:wiki:refill``. Feedback about a document
is encrypted under its key, and a withdrawal destroys that key."""

MISSING = "[…]"
"""Stands in a text where its source had a variable that is filled when the text is shown."""

READER_VERSION = 2
"""Version of the parsers. Increase it when they make another text of an unchanged file: it is part of each
content's hash, so a document that older parsers read has another hash."""

MediaType = Literal["text/markdown", "text/html", "text/plain", "application/vnd.page+json"]
"""The last is the page model, in which a file of another format is kept."""
_Question = Annotated[str, StringConstraints(min_length=1, max_length=500)]
_PropertyName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
_PropertyValue = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class ItemFacts(PublicModel):
    """What a document of a shop says in fields: of an item of the catalogue, or of a review, question or
    answer about one."""

    item_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    """The item that the document is about: the same in catalogue, reviews, community and store."""
    category: str = Field(default="", max_length=100)
    brand: str = Field(default="", max_length=100)
    price: Decimal | None = Field(default=None, ge=0, max_digits=12, decimal_places=2)
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = None
    properties: dict[_PropertyName, _PropertyValue] = Field(
        default_factory=dict[_PropertyName, _PropertyValue], max_length=60
    )
    """Name = value with its unit, as the catalogue has them: ``{"Battery life": "12 h"}``."""
    rating: float | None = Field(default=None, ge=1.0, le=5.0)
    """Stars of one review; of a catalogue's item its mean."""
    ratings: int | None = Field(default=None, ge=0)
    """How many ratings the mean is of."""
    helpful_votes: int | None = Field(default=None, ge=0)
    verified: bool | None = None
    """Whether the author of a review bought the item."""


ORIGINAL_PART_BYTES = 4 << 20
"""An original file is read in parts of this size, so that a reader needs no more memory than one."""


class OriginalFile(PublicModel):
    """The file that a document was converted from. Its bytes lie in the document store."""

    name: str = Field(min_length=1, max_length=255)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


class Document(PublicModel):
    """The canonical form of a document: what every source is turned into before anything else happens.

    ``content`` is the original text (Markdown or HTML source, or the plain-text answer of a
    question-and-answer pair, whose question stands in ``question``).
    """

    schema_version: Literal[1] = 1
    document_id: DocumentId
    title: str = Field(min_length=1, max_length=1000)
    content: str = Field(min_length=1, max_length=5_000_000)
    media_type: MediaType
    question: str | None = Field(default=None, max_length=10_000)
    source: str = Field(default="", max_length=200)
    type: str = Field(default="", max_length=200)
    url: str | None = Field(default=None, max_length=2_000, pattern=r"^https?://\S+$")
    owner: str | None = Field(default=None, max_length=200)
    effective_date: date | None = None
    labels: tuple[str, ...] = ()
    """Access labels: an agent needs one of them; empty: every agent of the tenant may read it."""
    questions: tuple[_Question, ...] = Field(default=(), max_length=50)
    """Questions that this document answers (``questions:`` in front matter): searched like the title."""
    item: ItemFacts | None = Field(default=None, exclude_if=lambda item: item is None)
    """What a shop's document says of an item. Omitted when absent: an older release can read the others."""
    original: OriginalFile | None = Field(default=None, exclude_if=lambda file: file is None)
    """The file of another format that it was made from; ignored in requests. Omitted when absent."""
    review_after: date | None = Field(default=None, exclude_if=lambda day: day is None)
    """The day on which its owner must look at it again. Omitted when absent, as ``item``."""
    in_force: InForce | None = Field(default=None, exclude_if=lambda in_force: in_force is None)
    """What its file says about when it is in force. Omitted when absent, as ``item``."""

    def content_hash(self, *, reading: int = READER_VERSION) -> str:
        """Return the SHA-256 (hex) over all fields and ``reading``, the version of the parsers: an unchanged
        document that the same parsers read has the same hash.

        Absent ``questions``, ``item``, ``original``, ``review_after`` and ``in_force`` are left out, and so
        is version 0, that of releases which had no version: hashes that are stored stay valid.
        """
        fields = self.model_dump(mode="json", exclude=None if self.questions else {"questions"})
        fields |= {"reading": reading} if reading else {}
        return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def content_hashes(self) -> tuple[str, ...]:
        """Return the hash that the content has now, then those by which releases before know it."""
        return tuple(self.content_hash(reading=reading) for reading in range(READER_VERSION, -1, -1))


def contents_digest(contents: Mapping[str, str]) -> str:
    """Return the SHA-256 (hex) over ``contents``, which has the hash of each content by its id. Two people
    confirm an act on the same contents by it."""
    return hashlib.sha256(orjson.dumps(contents, option=orjson.OPT_SORT_KEYS)).hexdigest()


class DocumentState(StrEnum):
    """Where a document is on its way into the index."""

    # received → parsed → embedded → live, each also → failed, or → stale where older content is live
    RECEIVED = "received"
    PARSED = "parsed"
    EMBEDDED = "embedded"
    LIVE = "live"
    FAILED = "failed"
    STALE = "stale"
    """A newer content was received but failed; the older one still answers."""
    WITHHELD = "withheld"
    """Its newest file was refused, or its labels were narrowed: nothing of it is found or read until it is
    sent again, or its new content is live."""
    WITHDRAWN = "withdrawn"


HELD_STATES = (DocumentState.LIVE, DocumentState.STALE)
"""States of documents that must be in the index. The worker writes the index before the state ``live``, and
the state ``withdrawn`` before it changes the index: so the index may contain more than these, never less."""
WAITING_STATES = (DocumentState.RECEIVED, DocumentState.PARSED, DocumentState.EMBEDDED)
"""States of documents on their way into the index."""
INDEX_LOST = "index_lost"
"""Failure code of a stale document that is missing from the index, until it is written again."""


class DocumentStatus(PublicModel):
    """What a knowledge owner sees of one document."""

    document_id: str
    title: str
    state: DocumentState
    content_hash: str
    """Hash of the newest received content."""
    live_content_hash: str | None = None
    """Hash of the content that answers now."""
    source: str = ""
    type: str = ""
    url: str | None = None
    owner: str | None = None
    effective_date: date | None = None
    received_at: datetime
    updated_at: datetime
    passage_count: int = 0
    token_count: int = 0
    failure_code: str | None = None
    failure_reason: str | None = None
    knowledge_source: str = ""
    """Name of the ``[[sources]]`` entry that the document belongs to; ``source`` is what the document says of
    itself. Filled in when a status is served, never stored."""
    origin: str | None = None
    """The file that it came from, in its source; None of one that came by the API."""
    labels: tuple[str, ...] | None = None
    """Access labels of the newest content, also after its withdrawal. None in rows of older releases."""
    live_labels: tuple[str, ...] | None = None
    """Access labels of the content that answers, or did last; of a document that waits for a release, those
    of the content that it would replace."""
    brought_by: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """Until another person releases it: who brought it. Omitted when nobody has to."""
    review_after: date | None = Field(default=None, exclude_if=lambda day: day is None)
    """The day on which its owner must look at it again. Omitted when absent."""
    in_force: InForce | None = Field(default=None, exclude_if=lambda in_force: in_force is None)
    """What its file says about when it is in force. Omitted when absent."""
    in_force_note: str = Field(default="", exclude_if=lambda note: not note)
    """For its owner: when it begins, ends or was replaced, and which document it may contradict. Filled in
    when a list is served, never stored."""
    tried_alone: int = Field(default=0, exclude_if=lambda tries: tries == 0)
    """How often a worker began the newest content alone and did not finish it. Omitted when 0, so that an
    older release can read the row."""
    first_load: bool = Field(default=False, exclude_if=lambda is_first: not is_first)
    """Until it is live or failed: whether its source loads for the first time (docs/decisions/0070). Omitted
    when false, so that an older release can read the row."""


class Loading(PublicModel):
    """Documents that cannot answer yet, or not any more."""

    reason: Literal["first_load", "lost"]
    """``first_load``: the source loads for the first time. ``lost``: the index lost documents."""
    source: str
    """Name of the source; empty where the index lost documents, which it counts as a whole."""
    live: int
    """Documents that answer; where the index lost some, at most this many."""
    expected: int

    def __str__(self) -> str:
        if self.reason == "lost":
            return f"the index lost documents: {self.live:,} of {self.expected:,} answer"
        return f"loading: {self.live:,} of {self.expected:,} documents of {self.source}"


@dataclass(frozen=True, slots=True)
class SourceLoads:
    """How far the sources of a tenant are."""

    complete: frozenset[str] = frozenset()
    """Names of the sources that have documents and do not load for the first time."""
    loading: tuple[Loading, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range of characters [start, end) in a document's parsed text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Section:
    """A run of parsed text under one heading path, e.g. ("Refill too soon", "Exceptions")."""

    headings: tuple[str, ...]
    span: Span


class UnitKind(StrEnum):
    """What a unit is in its document."""

    SENTENCE = "sentence"
    STEP = "step"
    """An item of a numbered list, its number included."""
    ITEM = "item"
    """An item of an unnumbered list."""
    ROW = "row"
    """A table row, each cell named by its header: "Plan: Medicare; File within: 65 days"."""
    DEFINITION = "definition"
    """A term and what it means."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The smallest part of a document that makes sense on its own. Answers quote whole units."""

    ordinal: int
    """Place among the document's units, from 0."""
    kind: UnitKind
    text: str
    """Verbatim from the parsed text."""
    span: Span
    """In the parsed text."""
    heading: str
    """Headings above it, the document's title left out, joined by " > "."""
    parent: int | None = None
    """Ordinal of the unit that introduces it: the sentence before a list, or the step that it is part of."""
    terms: tuple[str, ...] = ()
    """Stems of its content words and numbers, each once, in order."""
    cells: tuple[tuple[str, int, int], ...] = ()
    """Cells of a table row that are not empty: each with its column's name and its place [start, end) in the
    text. A title between rows has one, without a name; rows that an earlier release indexed have none."""

    @property
    def cell_texts(self) -> list[str]:
        return [self.text[start:end] for _, start, end in self.cells]


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of a table whose rows are lines of a document's text."""

    header: tuple[str, ...]
    """The columns' names, which the text repeats in each row; empty without names."""
    rows: tuple[tuple[Span, ...], ...]
    """For each row its cells, an empty one as an empty span. A row may have fewer than the table."""


Link = tuple[int, int, str]
"""(start, end, address): the characters [start, end) of a text are a link to that address, as it is
written."""


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """Plain text of a document with its sections and units in order; spans point into ``text``.

    Example: "Refills\n1. Call the plan." has one section, ("Refills",) over its second line, and one unit,
    the step "1. Call the plan."
    """

    text: str
    sections: tuple[Section, ...]
    units: tuple[Unit, ...] = ()
    """Without terms. Texts parsed before units were known have none."""
    labels: tuple[str, ...] = ()
    """Labels of this content, which apply beside the newest; texts parsed before they were kept have none."""
    tables: tuple[Table, ...] = ()
    """In order. Texts parsed before these were kept have none; so for ``pages`` and ``original``."""
    pages: tuple[tuple[int, int], ...] = ()
    """(number, first character) of each page of a paged file that has text."""
    original: OriginalFile | None = None
    links: tuple[Link, ...] = ()
    banner: str = ""
    """A running header or watermark of its pages that is more than a page number: "SUPERSEDED"."""

    def page_at(self, place: int) -> int | None:
        """Return the number of the page that this character is on; None without pages."""
        return next((number for number, start in reversed(self.pages) if start <= place), None)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that is embedded, retrieved and cited as one."""

    passage_id: str
    """``<document_id>#<ordinal>``"""
    document_id: str
    content_hash: str
    """Hash of the document's content that this passage was cut from."""
    ordinal: int
    title: str
    heading: str
    """Headings above the passage, joined by " > "; may be empty."""
    text: str
    span: Span
    token_count: int
    """Tokens of ``embedding_input`` by the embedding model's own tokenizer, special tokens included."""
    source: str
    type: str
    url: str | None
    updated_at: datetime
    labels: tuple[str, ...] = ()
    units: tuple[Unit, ...] = ()
    """Units that begin in this passage, in order."""

    @property
    def embedding_input(self) -> str:
        """The text that is embedded: title, heading, passage."""
        return embedding_input(title=self.title, heading=self.heading, text=self.text)


@dataclass(frozen=True, slots=True)
class DocumentCard:
    """What the index stores once for each document, besides its passages."""

    document_id: str
    content_hash: str
    title: str
    questions: tuple[str, ...]
    source: str
    type: str
    url: str | None
    owner: str | None
    effective_date: date | None
    updated_at: datetime
    labels: tuple[str, ...]
    abbreviations: tuple[tuple[str, str], ...] = ()
    """(short form, long form) that the document itself defines: ("pa", "prior authorization"), folded."""
    words: tuple[str, ...] = ()
    """Each distinct word of its text, folded, not stemmed: the tenant's vocabulary for corrections."""
    item: ItemFacts | None = None
    """None also in indexes of releases without items."""
    banner: str = ""
    """As of ``ParsedDocument``: it stands beside each quote of the document."""
    in_force: InForce | None = None
    not_in_force: str = ""
    """Why it is not in force on the day of a question, which asks for it all the same; the first line of what
    is quoted. Set when it is found, never stored."""
    is_asked_for: bool = False
    """Whether the question names this edition by a date, a version or "the old"; set as ``not_in_force``."""


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """One document as the worker writes it into the index."""

    card: DocumentCard
    title_vectors: Sequence[Sequence[float]]
    """Unit-length vectors of the title and of each question, shape (1 + len(card.questions), dimensions)."""
    passages: Sequence[tuple[Passage, Sequence[float]]]
    """Each with its unit-length vector, shape (dimensions,)."""


def embedding_input(*, title: str, heading: str, text: str) -> str:
    """Join title, heading and text as the embedding model sees them, empty parts left out."""
    return "\n".join(part for part in (title, heading, text) if part)


# Retrieval. A leg is one ranked list of a search. Legs of passages: lexical (BM25 of the text) and vector.
# Legs of documents: title vectors, words of titles, words of the whole text. Fusion joins legs by rank.


RRF_K = 60
"""Rank constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""
VECTOR_LEG_WEIGHT = 1.5
"""Weight of the vector leg; the lexical leg has 1. Chosen on both tenants' tuning questions without their
glossaries, which were written from the same questions and favour the lexical leg."""


class SearchFilters(PublicModel):
    """Filters that a client may send. Access labels are not among them: they come only from the token."""

    source: tuple[str, ...] = Field(default=(), max_length=50)
    type: tuple[str, ...] = Field(default=(), max_length=50)
    document_id: tuple[str, ...] = Field(default=(), max_length=50)
    updated_after: AwareDatetime | None = None


class SourceIds(NamedTuple):
    """The ids of one source's documents: those that begin with ``prefix`` and with none of ``others``."""

    prefix: str
    """``wiki:``, or empty for the source whose ids have none."""
    others: tuple[str, ...] = ()
    """Prefixes of the tenant's other sources, needed where ``prefix`` is empty: ``("wiki:", "shop:")``."""


@dataclass(frozen=True, slots=True)
class PassageQuery:
    """One hybrid query; both legs have the same filter."""

    text: str
    vector: Sequence[float]
    """Unit-length question vector, shape (dimensions,)."""
    filters: SearchFilters
    labels: frozenset[str]
    """The agent's access labels: a passage with labels is visible only if it shares one."""
    leg_size: int = 100
    """Most results of each leg."""
    size: int = 10
    """Most passages after fusion."""
    ids: SourceIds | None = None
    """Searches one source; None: all."""
    without: frozenset[str] = frozenset()
    """Ids of documents that are left out."""


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """A passage with its fused rank (1 is best) and the rank and score of each leg."""

    passage: Passage
    rank: int
    fused_score: float
    lexical_rank: int | None
    lexical_score: float | None
    vector_rank: int | None
    cosine: float | None
    """Raw cosine between question and passage, for every passage the vector leg returned."""


class PassageHit(NamedTuple):  # hundreds a search: a frozen dataclass takes three times as long to make
    """A passage that a leg found, without its text."""

    passage_id: str
    document_id: str
    lexical_score: float | None
    """Raw BM25; None when the lexical leg did not find it."""
    cosine: float | None


class DocumentHit(NamedTuple):
    """Raw scores of a whole document; None where a leg of documents did not find it."""

    document_id: str
    title_cosine: float | None
    """Best cosine between the question and the document's title or one of its questions."""
    title_score: float | None
    """Best BM25 of the title or one of its questions."""
    text_score: float | None
    """BM25 of the whole text."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The result of a search."""

    passages: tuple[RankedPassage, ...]
    """The best ``query.size`` passages, fused by RRF."""
    best_cosine: float
    """Best raw cosine over the whole vector leg; 0.0 when it is empty."""
    index_version: str
    hits: tuple[PassageHit, ...] = ()
    """Every passage of both legs, by passage id."""
    documents: tuple[DocumentHit, ...] = ()
    """Every document of the three legs of documents, and of every passage in ``hits``, by document id."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as the index stores it: all its passages in order, with their units."""

    card: DocumentCard
    passages: tuple[Passage, ...]


class KnownItem(NamedTuple):
    """A document that describes an item: of a catalogue, not a review or a question."""

    document_id: str
    title: str
    facts: ItemFacts


@dataclass(frozen=True, slots=True)
class HeldContent:
    """What an index holds of one document: enough to tell whether two versions hold the same."""

    content_hash: str
    passages: int
    """Passages with their vectors."""


@dataclass(frozen=True, slots=True)
class IndexModel:
    """The embedding model whose vectors an index holds: vectors of different models cannot be compared."""

    name: str
    dimensions: int
    digest: str = ""
    """SHA-256 of its weights, where it is known."""


@dataclass(frozen=True, slots=True)
class KnownWords:
    """What a tenant's documents without labels, which every agent may see, define and name."""

    abbreviations: Mapping[str, str]
    """Folded short form → long form. A short form with different definitions is left out."""
    items: tuple[KnownItem, ...] = ()
    """Items of the catalogue, by document id; documents that say no price and no property are none."""


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What the index was built with."""

    index_version: str
    embedding_model: str
    dimensions: int
    passage_count: int
    document_count: int
    updated_at: datetime | None


def id_prefix_of(document_id: str) -> str:
    """Return the prefix of the source that a document belongs to: ``wiki:``, or nothing."""
    namespace, separator, _ = document_id.partition(ID_SEPARATOR)
    return f"{namespace}{separator}" if separator else ""


def reciprocal_rank_fusion(
    legs: Sequence[Sequence[str]], *, weights: Sequence[float] | None = None
) -> Mapping[str, float]:
    """Fuse ranked lists of ids: score(id) = Σ over legs of weight / (RRF_K + rank). Ranks are from 1; a leg's
    weight is 1 unless given.

    The mapping is ordered best first; ties keep the order of first appearance. The legs ["a", "b"] and ["b"]
    give {"b": 1/62 + 1/61, "a": 1/61}.
    """
    scores: dict[str, float] = {}
    for leg, weight in zip(legs, weights or [1.0] * len(legs), strict=True):
        for rank, passage_id in enumerate(leg, start=1):
            scores[passage_id] = scores.get(passage_id, 0.0) + weight / (RRF_K + rank)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


class ReceiptPlace(PublicModel):
    """One place that may hold what a withdrawn document said."""

    place: str
    """Stable name, for programs."""
    title: str
    state: Literal["removed", "pending", "remains"]
    """``pending``: the removal goes on; ask again."""
    found: int | None = None
    """Things in this place that still hold the document's text, counted in the store for this receipt. None:
    the place is not counted."""
    what: str
    """What was removed, or what remains."""
    until: datetime | None = None
    """The latest time at which it is gone by itself. None of what remains: it stays until somebody deletes
    it."""
    rule: str
    """The setting, the use case or the rule of AWS that decides."""


class ReceiptSignature(PublicModel):
    """Who signed a receipt: a deployment, by a key that no process has."""

    key: str
    """ARN of the KMS key, ``ECC_NIST_P256``."""
    algorithm: Literal["ECDSA_SHA_256"] = "ECDSA_SHA_256"
    value: str
    """The signature in DER, base64, over :func:`signed_text` of the receipt."""


class WithdrawalReceipt(PublicModel):
    """``GET /v1/documents/{id}/receipt``."""

    document_id: str
    title: str
    withdrawn_at: datetime
    """When the state last changed: the withdrawal, then the end of its removal. Periods count from it."""
    made_at: datetime
    is_complete: bool
    """Whether nothing is pending."""
    places: tuple[ReceiptPlace, ...]
    signature: ReceiptSignature | None = Field(default=None, exclude_if=lambda signature: signature is None)
    """Only a deployment signs. ``assistant aws receipt verify`` holds the receipt against it."""


def signed_text(receipt: Mapping[str, Any]) -> bytes:
    """Return what is signed of a receipt's JSON: the SHA-256 in hex of all but ``signature``, keys sorted,
    without blanks, in UTF-8."""
    signed = {name: value for name, value in receipt.items() if name != "signature"}
    return hashlib.sha256(orjson.dumps(signed, option=orjson.OPT_SORT_KEYS)).hexdigest().encode()


MOST_LISTED = 100
"""Most refusals, and most notes, that a result lists; the counts are of all."""


class UploadRefusal(PublicModel):
    """A file, line or document that was refused."""

    origin: str
    code: str
    reason: str


class NotePlace(PublicModel):
    """Where in the text of a document something of its file is missing."""

    document_id: str
    start: int | None = None
    """Null where the place has no text."""


class UploadResult(PublicModel):
    """What became of an uploaded file."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    withdrawn: int = 0
    waiting: int = 0
    """Documents that wait for a second person's release."""
    document_ids: tuple[str, ...] = ()
    """The first 100 documents of the file."""
    refused: int = 0
    refusals: tuple[UploadRefusal, ...] = Field(default=(), max_length=MOST_LISTED)
    """The first 100."""
    notes: tuple[str, ...] = Field(default=(), max_length=MOST_LISTED)
    """What of the file was not read, a sentence each: "1 hidden row was left out: sheet Prices, row 12."."""
    note_places: tuple[NotePlace, ...] = Field(
        default=(), max_length=MOST_LISTED, exclude_if=lambda places: not places
    )
    """Of each note, in order."""
    words: int = Field(default=0, exclude_if=lambda count: count == 0)
    """Words that a document which was read again has now."""
    words_changed: int = Field(default=0, exclude_if=lambda count: count == 0)
    """Words that it had and has not, or has and had not, or that stand elsewhere."""
