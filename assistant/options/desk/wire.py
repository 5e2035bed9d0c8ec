"""What reviewers ask of the desk: bodies of its requests, and what a preview answers."""

from __future__ import annotations

from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from assistant.domain.documents import DocumentId
from assistant.domain.public import PublicModel
from assistant.options.desk.domain import DeskQuestion, DeskWords

ItemKind = Literal["approved_answer", "document_question", "glossary_entry"]
"""Kinds of ``DeskKind`` that reviewers make. Releases of weights have commands of their own."""
ResolutionKind = Literal["approved_answer", "document_question", "glossary_entry", "correction", "dismissed"]
_MADE_BY = ("approved_answer", "document_question", "glossary_entry")
MOST_PREVIEWED = 20
"""Wordings of an approved answer, and of its preview."""


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


class NewDocumentQuestion(PublicModel):
    document_id: DocumentId
    question: DeskQuestion


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
    document_question: NewDocumentQuestion | None = None
    glossary_entry: NewGlossaryEntry | None = None

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        given = [name for name in _MADE_BY if getattr(self, name) is not None]
        wanted = [self.kind] if self.kind in _MADE_BY else []
        if given != wanted:
            needs = f"the field {self.kind} alone" if wanted else "none of " + ", ".join(_MADE_BY)
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


class PreviewRequest(PublicModel):
    """``POST /v1/desk/preview``: an approved answer before it is proposed."""

    questions: tuple[DeskQuestion, ...] = Field(min_length=1, max_length=MOST_PREVIEWED)
    text: str = Field(min_length=1, max_length=20_000)


class DeskCaptured(PublicModel):
    answer_id: str
    question: str
    cosine: float


class DeskNear(DeskCaptured):
    why: str
    """Why it is not captured."""


class DeskPreview(PublicModel):
    """``POST /v1/desk/preview``: the nearest first."""

    captured: tuple[DeskCaptured, ...]
    near: tuple[DeskNear, ...]
    """At most 20 questions that are near, but not captured."""
    compared: int
    """Different questions of the last days that were compared: at most 200 that the caller may see."""


READ = (CaseResolution, CaseApproval, CaseReopening, StateChange, Restoring, PreviewRequest)
"""Bodies of the desk's requests."""
