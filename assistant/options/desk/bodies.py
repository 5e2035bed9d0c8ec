"""Bodies of the desk's API."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from assistant.domain import answers
from assistant.domain.desk import (
    Case,
    CaseReason,
    CaseState,
    DeskApprovedAnswer,
    DeskQuestion,
    DeskWords,
    GlossaryEntry,
    ItemKind,
    ItemState,
    Resolution,
    ResolutionKind,
)
from assistant.domain.documents import DocumentId
from assistant.domain.public import PublicModel

_ITEM_KINDS: tuple[ItemKind, ...] = get_args(ItemKind)
"""Each is also the name of a field of ``CaseResolution`` and ``DeskItemRevision``."""


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


class NewApprovedAnswer(PublicModel):
    """An answer that a reviewer wrote, with the questions that it answers."""

    questions: tuple[DeskQuestion, ...] = Field(min_length=1, max_length=20)
    text: str = Field(min_length=1, max_length=20_000)
    """Markdown; it is quoted as it stands."""
    expires_on: date
    """The first day on which it is not served any more."""
    labels: tuple[DeskWords, ...] = Field(default=(), max_length=50)
    """Access labels that a reader needs besides those of its sources and of its case."""
    document_ids: tuple[DocumentId, ...] = Field(default=(), max_length=20)
    """Documents that it rests on: it is suspended when the content of one changes."""


class NewGlossaryEntry(PublicModel):
    said: DeskWords
    """What callers say."""
    means: DeskWords
    """What the documents call it."""


class StateChange(PublicModel):
    """``POST /v1/desk/items/{kind}/{item_id}/state``."""

    revision: int = Field(ge=1)
    """The newest revision that the caller saw."""
    state: Literal["live", "withdrawn"]
    note: str = Field(default="", max_length=2_000)


class Restoring(PublicModel):
    """``POST /v1/desk/items/{kind}/{item_id}/restore``."""

    revision: int = Field(ge=1)
    """The newest revision that the caller saw."""
    to_revision: int = Field(ge=1)
    note: str = Field(default="", max_length=2_000)


class CaseResolution(PublicModel):
    """``POST /v1/desk/cases/{case_id}/resolution``: the field named as ``kind`` says what is made."""

    revision: int = Field(ge=1)
    """The newest revision of the case that the caller saw."""
    kind: ResolutionKind
    note: str = Field(default="", max_length=2_000)
    """Why; needed for a correction and a dismissal."""
    approved_answer: NewApprovedAnswer | None = None
    glossary_entry: NewGlossaryEntry | None = None

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        given = [name for name in _ITEM_KINDS if getattr(self, name) is not None]
        wanted = [self.kind] if self.kind in _ITEM_KINDS else []
        if given != wanted:
            needs = f"the field {self.kind} alone" if wanted else "none of " + ", ".join(_ITEM_KINDS)
            raise ValueError(f"kind {self.kind} takes {needs}")
        if not wanted and not self.note.strip():
            raise ValueError(f"kind {self.kind} needs a note that says why")
        return self


class CaseApproval(PublicModel):
    """``POST /v1/desk/cases/{case_id}/approval``: by another person than who proposed it."""

    revision: int = Field(ge=1)
    approve: bool
    """False refuses the proposal, and the case is open again."""
    note: str = Field(default="", max_length=2_000)


class CaseReopening(PublicModel):
    """``POST /v1/desk/cases/{case_id}/reopen``: takes back what its resolution made."""

    revision: int = Field(ge=1)
    note: str = Field(min_length=1, max_length=2_000)


class DeskCasePage(PublicModel):
    """``GET /v1/desk/cases``: the latest opened first."""

    cases: tuple[DeskCaseLine, ...]
    next_after: str | None
    """Give it as ``after``, with the same filters, for the next page; null on the last one."""


class DeskSent(PublicModel):
    """A text that was sent. The desk does not name its agent."""

    at: datetime
    text: str


class DeskVerdict(PublicModel):
    """A verdict. The desk does not name its agent."""

    at: datetime
    label: answers.VerdictLabel
    reasons: tuple[str, ...]
    better_text: str | None
    wrong_citations: tuple[int, ...]


class DeskRevision(PublicModel):
    """One revision of a case."""

    revision: int
    at: datetime
    by: str
    note: str
    state: CaseState
    resolution: Resolution | None


class DeskCase(PublicModel):
    """``GET /v1/desk/cases/{case_id}``: texts as the reader's own labels allow."""

    case_id: str
    revision: int
    case: Case
    asked: str
    """Empty, like ``shown``, where nothing of the answer is kept."""
    shown: str
    sent: tuple[DeskSent, ...]
    """Oldest first: the last one counts."""
    better_text: str | None
    """Taken from the last verdict that has one."""
    verdicts: tuple[DeskVerdict, ...]
    sources: tuple[answers.Source, ...]
    history: tuple[DeskRevision, ...]
    """Oldest first."""


class DeskGaps(PublicModel):
    """``GET /v1/desk/gaps``: the largest first, counting open cases that the reader may see."""

    gaps: tuple[DeskGap, ...]


class DeskItemRevision(PublicModel):
    """One revision of what reviewers made; the field named as its kind is given, the others are null."""

    kind: ItemKind
    item_id: str
    revision: int
    at: datetime
    by: str
    note: str
    state: ItemState
    approved_answer: DeskApprovedAnswer | None = None
    glossary_entry: GlossaryEntry | None = None


class DeskItems(PublicModel):
    """``GET /v1/desk/items``: newest revisions, the latest changed first."""

    items: tuple[DeskItemRevision, ...]


class DeskItemHistory(PublicModel):
    """``GET /v1/desk/items/{kind}/{item_id}``: oldest first."""

    revisions: tuple[DeskItemRevision, ...]


class DeskExportLine(PublicModel):
    """One line of ``GET /v1/desk/export``: a case or an item."""

    case: DeskCaseLine | None = None
    item: DeskItemRevision | None = None
