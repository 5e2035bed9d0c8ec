"""What reviewers decide, and what serving takes from it without a deployment: bodies of ``DeskItem``."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from assistant.domain.answers import RecordId
from assistant.domain.public import PublicModel
from assistant.domain.revisions import JOINED, CaseState

DeskQuestion = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=2_000)]
DeskWords = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class CaseReason(StrEnum):
    """Why an answer is on the desk."""

    BAD_VERDICT = "bad_verdict"
    FACT_EDITED = "fact_edited"
    """The agent changed a number, code, dose, date or negation before sending."""
    UNSUPPORTED_SENT = "unsupported_sent"
    UNANSWERED = "unanswered"
    DIFFERENT_VALUES = "different_values"
    """Documents in force give one thing different values. One case stands for all questions that met them."""
    ANSWER_SUSPENDED = "answer_suspended"
    """The approved answer that was made of this answer's case is suspended."""
    REVIEW_DUE = "review_due"
    """The review date of a document has passed; it is a case of no answer."""


class Resolution(PublicModel):
    """How a case was, or shall be, resolved."""

    kind: Literal["approved_answer", "document_question", "glossary_entry", "correction", "dismissed"]
    item_id: RecordId | None = None
    """The desk item that it made, live or proposed; None for a correction and a dismissal."""
    note: str = Field(default="", max_length=2_000)


class Case(PublicModel):
    """One answer that wants a reviewer. Its texts are read from the answer's record, under the reader's own
    labels, never copied here."""

    answer_id: RecordId
    reason: CaseReason
    opened_at: datetime
    state: CaseState = CaseState.OPEN
    documents: tuple[str, ...] = ()
    """Documents that the answer quoted, else its best candidates: whose owners may see the case."""
    reader_labels: tuple[str, ...] = ()
    """Access labels under which the question was asked: only a reader who holds them all sees the case."""
    verdict_reasons: tuple[str, ...] = ()
    changed_facts: tuple[str, ...] = ()
    gap: str | None = None
    """Of an unanswered question: the cluster that it belongs to."""
    same_hash: str | None = None
    """Equal for cases of the same question, reason, labels and documents. It holds no word of them."""
    joined: RecordId | None = None
    """The case that was open on the same question. It stands for this one in the queue."""
    assigned_to: str | None = None
    resolution: Resolution | None = None
    resolved_by: str | None = None
    """Who proposed the resolution."""
    approved_by: str | None = None
    """Who approved it; another person than ``resolved_by`` under the profile ``hipaa``."""

    @property
    def listed(self) -> str:
        """The list of cases that it is in."""
        return self.state.value if self.joined is None else JOINED


class CaseIndex(PublicModel):
    """Body of an item of the kind ``case_index``."""

    case_ids: tuple[RecordId, ...]


class DeskDocument(PublicModel):
    document_id: str
    title: str


class DeskCaseLine(PublicModel):
    """One line of the review queue."""

    case_id: str
    revision: int
    reason: CaseReason
    state: CaseState
    opened_at: datetime
    question: str | None
    """Null where nothing of the answer is kept."""
    documents: tuple[DeskDocument, ...]
    """Those of the case that the reader may read."""
    gap: str | None
    joined: int
    """Further cases of the same question, which it stands for."""
    verdict_reasons: tuple[str, ...]
    changed_facts: tuple[str, ...]
    resolved_by: str | None


class DeskGap(PublicModel):
    gap: str
    count: int
    """Questions, with those of the cases that joined."""
    title: str
    """The first of its questions that the reader may read."""
    examples: tuple[str, ...]
    case_ids: tuple[str, ...]


class ItemState(StrEnum):
    PROPOSED = "proposed"
    LIVE = "live"
    SUSPENDED = "suspended"
    """A source changed, was withdrawn, or the expiry has passed."""
    WITHDRAWN = "withdrawn"


class BoundSource(PublicModel):
    """A document whose content an approved answer rests on."""

    document_id: str
    content_hash: str


REMOVED_TEXT = "[withdrawn]"
"""Stands in every revision of an approved answer where a source's withdrawal removed the text."""


class DeskApprovedAnswer(PublicModel):
    """An answer that reviewers wrote and approved. It is quoted as it stands."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    questions: tuple[DeskQuestion, ...] = Field(min_length=1, max_length=20)
    """The question and its other wordings."""
    text: str = Field(min_length=1, max_length=20_000)
    """Markdown."""
    owner: str
    expires_on: date
    """The first day on which it is not served any more."""
    labels: tuple[str, ...] = ()
    """Access labels that a reader needs, all of them."""
    sources: tuple[BoundSource, ...] = Field(default=(), max_length=20)
    from_answer: RecordId | None = None
    state: ItemState = ItemState.PROPOSED
    proposed_by: str
    approved_by: str | None = None
    suspended_because: str = ""


class ApprovedAnswer(DeskApprovedAnswer):
    """An approved answer with what serving finds it by."""

    vectors: tuple[tuple[float, ...], ...] = ()
    """One unit vector for each question, by ``embedding_model``."""
    embedding_model: str = ""


class DocumentQuestion(PublicModel):
    """A question that a document answers, in the words of who asked."""

    document_id: str
    question: DeskQuestion
    state: ItemState = ItemState.PROPOSED
    proposed_by: str
    approved_by: str | None = None


class GlossaryEntry(PublicModel):
    """What callers say, and what the documents call it."""

    said: DeskWords
    means: DeskWords
    state: ItemState = ItemState.PROPOSED
    proposed_by: str
    approved_by: str | None = None
