"""What recall keeps and serves. Nothing of it has a document's words: they are read by place when shown.

A document changes, and an agent had sent a reply that cites one of its lines:

1. ``KnownContent`` of the document gets the new content's hash and the next number.
2. Every ``SentReply`` that rests on the document is looked at. If a cited line is gone, the reply gets a
   ``RecallRevision`` in the work list, for a person who tells the patient.
3. ``RecallChange`` records that this was done, and how many replies are affected.
"""

from __future__ import annotations

import hashlib
from datetime import date, datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from assistant.domain.answers import QuotedUnit
from assistant.domain.public import PublicModel, RecordId

GONE = ""
"""Content's hash of a withdrawn document, and of an approved answer that was suspended or withdrawn."""
RECALL = "recall"
"""``by`` of a revision that the sweep makes without a person's decision."""
_DOCUMENT_DIGITS, _SEND_DIGITS = 20, 28
"""Hexadecimal digits of the two hashes in an item's id: 48 together, and the first part lists a document's
items."""


def digest_of(document_id: str) -> str:
    """Return the beginning of the ids of all items about a document."""
    return hashlib.sha256(document_id.encode()).hexdigest()[:_DOCUMENT_DIGITS]


class SentReply(PublicModel):
    """A reply that an agent sent, and the lines of one document that its answer cites."""

    send_id: RecordId
    answer_id: RecordId
    conversation_id: RecordId
    agent: str
    customer: str | None = None
    chat: str | None = None
    """By the question's care context; null without one, and in replies of earlier releases."""
    sent_at: datetime
    reader_labels: tuple[str, ...]
    """Access labels under which the question was asked: only a reader who holds them all sees the reply."""
    document_id: str
    units: tuple[QuotedUnit, ...]

    @property
    def item_id(self) -> str:
        """Id of its one place in the work list."""
        send = hashlib.sha256(self.send_id.encode()).hexdigest()[:_SEND_DIGITS]
        return f"{digest_of(self.document_id)}{send}"


class KnownContent(PublicModel):
    """The content of a document that was looked at last."""

    document_id: str
    content: str
    """Its hash, or GONE."""
    before: str = GONE
    number: int = 0
    """Number of the document's change that led to it; 0: there was none since recall began."""
    noted_at: datetime
    is_looked_at: bool = True
    """False until every reply that rests on the document was looked at."""


class RecallChange(PublicModel):
    """A change of a document or an approved answer, and which replies rest on it: the proof of the look."""

    change_id: str
    document_id: str
    title: str = ""
    """Empty in the store."""
    kind: Literal["changed", "withdrawn", "restored"]
    """``withdrawn``: also of an approved answer that was suspended. ``restored``: it answers again."""
    before: str
    """Hash of the content before; empty where there was none."""
    now: str
    noted_at: datetime
    """By the store's clock, as all times here: when the change was noted. Replies that were recorded until
    then were looked at; a later one on the old words is judged when it is recorded, and is in the list."""
    looked_at: datetime
    replies: int
    """Sent replies that rest on the document, all of which were looked at."""
    affected: int
    """Those whose cited lines fell by this change. 0: nobody received words that changed."""


class RecallState(StrEnum):
    OPEN = "open"
    TOLD = "told"
    """The patient has the new words."""
    NOT_NEEDED = "not_needed"


class RecallRevision(PublicModel):
    """One revision of a reply in the work list. ``reply.units``: the cited lines that do not stand."""

    reply: SentReply
    number: int
    """Number of the document's change that it was last judged by."""
    revision: int = Field(ge=1)
    at: datetime
    by: str
    note: str = ""
    state: RecallState = RecallState.OPEN
    owner: str | None = None
    due_on: date


class RecallDecision(PublicModel):
    """``POST /v1/recalls/{item_id}``: what somebody does with a reply."""

    revision: int = Field(ge=1)
    """The newest revision that the caller saw."""
    do: Literal["take", "told", "not_needed", "reopen"]
    note: str = Field(default="", max_length=2_000)
    """Why; needed for ``not_needed`` and ``reopen``."""

    @model_validator(mode="after")
    def _says_why(self) -> RecallDecision:
        if self.do in ("not_needed", "reopen") and not self.note.strip():
            raise ValueError(f"do {self.do} needs a note that says why")
        return self


class RecallLine(PublicModel):
    """A cited line that does not stand any more. The reader's own labels decide which words are shown."""

    old: str | None
    """Null: withdrawn, not stored any more, or not open to this reader."""
    new: str | None
    """The nearest line in its place; null also where there is none."""


class Recall(PublicModel):
    """A sent reply that rests on words which do not stand any more."""

    item_id: str
    item: RecallRevision
    title: str
    """Of the document, or the first question of the approved answer; empty where the reader may not know of
    it."""
    is_gone: bool
    """Whether the document is withdrawn, or the approved answer suspended or withdrawn."""
    lines: tuple[RecallLine, ...]
    conversation_url: str | None


class RecallPage(PublicModel):
    """``GET /v1/recalls``: of a state the first due first, else in no order."""

    recalls: tuple[Recall, ...]
    next_after: str | None
    """Give it as ``after``, with the same filters, for the next page; a page may be short, or empty."""


class RecallDetail(PublicModel):
    """``GET /v1/recalls/{item_id}``."""

    recall: Recall
    sent: str
    """The text as it is kept: labels stand for live values."""
    history: tuple[RecallRevision, ...]
    """Oldest first."""


class RecallChangePage(PublicModel):
    """``GET /v1/recalls/changes``: the latest first."""

    changes: tuple[RecallChange, ...]
    next_after: str | None
