"""Documents of a knowledge base, their states, and the passages they are cut into."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal

import orjson
from pydantic import Field, StringConstraints

from assistant.domain.public import PublicModel

DocumentId = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\s/?#\x00-\x1f]+$")]
"""Stable name of a document inside one tenant: no white space, no `/ ? #`."""

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

    def content_hash(self) -> str:
        """Return the SHA-256 (hex) over all fields: equal hash means nothing to do."""
        return hashlib.sha256(
            orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
        ).hexdigest()


class DocumentState(StrEnum):
    """Where a document is on its way into the index."""

    RECEIVED = "received"
    PARSED = "parsed"
    EMBEDDED = "embedded"
    LIVE = "live"
    FAILED = "failed"
    STALE = "stale"
    """A newer content was received but failed; the older one still answers."""
    WITHDRAWN = "withdrawn"


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


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """Plain text of a document with its sections in order; spans of passages point into ``text``."""

    text: str
    sections: tuple[Section, ...]


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

    @property
    def embedding_input(self) -> str:
        """The text that is embedded: title, heading, passage."""
        return embedding_input(title=self.title, heading=self.heading, text=self.text)


def embedding_input(*, title: str, heading: str, text: str) -> str:
    """Join title, heading and text as the embedding model sees them, empty parts left out."""
    return "\n".join(part for part in (title, heading, text) if part)
