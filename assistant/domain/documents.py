"""Documents of a knowledge base, their states, and the passages they are cut into."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal

import orjson
from pydantic import Field, StringConstraints

from assistant.domain.public import PublicModel

DocumentId = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\s/?#\x00-\x1f]+$")]
"""Stable name of a document inside one tenant: no white space, no `/ ? #`. One of a source with a namespace
begins with it: `wiki:refill`."""
ID_SEPARATOR = ":"
"""Between a source's namespace and what the source calls a document. No source's own ids hold it."""

MediaType = Literal["text/markdown", "text/html", "text/plain"]


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
    """Access labels: empty means every agent of the tenant; else an agent needs one of them."""
    questions: tuple[Annotated[str, StringConstraints(min_length=1, max_length=500)], ...] = Field(
        default=(), max_length=50
    )
    """What people ask of this document (``questions:`` in front matter): searched beside the title."""

    def content_hash(self) -> str:
        """Return the SHA-256 (hex) over all fields: equal hash means nothing to do.

        An absent ``questions`` is left out, so documents of releases without that field keep their hash.
        """
        fields = self.model_dump(mode="json", exclude=None if self.questions else {"questions"})
        return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()


class DocumentState(StrEnum):
    """Where a document is on its way into the index."""

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
"""Of documents that must be in the index. The worker writes the index before it says ``live``, and a
withdrawal is said before the index is written: so the index may hold more than these, and never less."""
INDEX_LOST = "index_lost"
"""Failure code of a stale document that the index has lost, until it is written again."""


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
    itself. Told to readers of the status, not kept."""
    origin: str | None = None
    """The file that it came from, in its source; None of one that came by the API."""
    labels: tuple[str, ...] | None = None
    """Access labels of the newest content; they count when it was withdrawn, too. None in rows of older
    releases."""
    live_labels: tuple[str, ...] | None = None
    """Access labels of the content that answers now."""
    tried_alone: int = Field(default=0, exclude_if=lambda tries: tries == 0)
    """How often a worker began the newest content alone and did not end it. Left out when it is 0, so that
    an older release reads the row."""


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
    """The smallest piece of a document that makes sense on its own: an answer quotes units whole."""

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
    """Stems of its content words and figures, each once, in order."""


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """Plain text of a document with its sections and units in order; spans point into ``text``."""

    text: str
    sections: tuple[Section, ...]
    units: tuple[Unit, ...] = ()
    """Without terms. Texts parsed before units were known have none."""


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
    """What the index keeps once a document, beside its passages."""

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
    """Each different word of its text, folded, not stemmed: the tenant's vocabulary for spelling."""


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
