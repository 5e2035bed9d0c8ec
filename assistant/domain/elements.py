"""Elements: places in an answer that are filled with live data while the text flows on."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from assistant.domain.public import PublicModel

MOST_ELEMENTS = 8
"""Elements of one answer; what is named beyond them stays text."""


class ElementKind(StrEnum):
    CARD = "card"
    """Several named values of one thing."""
    STATUS = "status"
    """One value, short enough for a line of text."""
    TABLE = "table"
    LINK = "link"


class ElementState(StrEnum):
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    NOT_ALLOWED = "not_allowed"
    """The agent, or the context of the conversation, may not see it. It does not say whether the thing
    exists."""


class ElementProblem(StrEnum):
    """Why an element is not ready."""

    NOT_ALLOWED = "not_allowed"
    PARAMETER_MISSING = "parameter_missing"
    NOT_FOUND = "not_found"
    SYSTEM_UNAVAILABLE = "system_unavailable"
    SYSTEM_LATE = "system_late"
    SYSTEM_INVALID = "system_invalid"
    """The system's response breaks its schema, its size, its type, or redirects."""
    SWITCHED_OFF = "switched_off"
    CANCELLED = "cancelled"


LONGEST_SHOWN = 500
"""Characters of one shown text."""
_Shown = Annotated[str, StringConstraints(max_length=LONGEST_SHOWN)]
Tone = Literal["neutral", "good", "warning", "bad"]


class ElementValue(PublicModel):
    """One value, as text that is ready to be shown. It is untrusted: never Markdown, never HTML."""

    name: str = Field(max_length=64)
    """Name of the result field."""
    label: _Shown
    text: _Shown
    tone: Tone = "neutral"
    citations: tuple[int, ...] = ()
    """Numbers of the sources that it is quoted from; empty for live values."""


class ElementRow(PublicModel):
    title: _Shown
    values: tuple[ElementValue, ...] = Field(max_length=20)
    """In the order of the columns, by ``name``; a missing one is left out."""
    citations: tuple[int, ...] = ()


class ElementData(PublicModel):
    """What a ready element shows: ``values`` of a card, status or link; columns and rows of a table."""

    values: tuple[ElementValue, ...] = Field(default=(), max_length=30)
    columns: tuple[ElementValue, ...] = Field(default=(), max_length=20)
    """Name and label of each column; ``text`` is empty."""
    rows: tuple[ElementRow, ...] = Field(default=(), max_length=50)
    url: str | None = Field(default=None, max_length=2_000)
    """Of a link; one of the addresses that the connector allows."""


class ElementDisplay(PublicModel):
    """Where and how an element is shown."""

    place: Literal["inline", "block"]
    """``inline``: in the line of text; ``block``: on lines of its own."""
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    """[start, end) in the answer's text of the words that it stands in for, such as "[order status]"; who
    ignores elements reads those. ``start == end``: nothing is replaced, and the element follows the text
    before it."""


class Element(PublicModel):
    """One element in its present state. A later one with the same ``id`` replaces it."""

    id: str = Field(pattern=r"^e[1-9]\d?$")
    """``e1``, ``e2``, … in the order of the text."""
    name: str = Field(max_length=80)
    """``<system>.<element>``; ``catalogue.comparison`` and alike for one that is made from documents."""
    kind: ElementKind
    state: ElementState
    title: _Shown
    """What it is about, from the connector: "Order status"."""
    source: str = Field(max_length=64)
    """The system or source that its data come from, as agents call it: "orders"."""
    as_of: datetime | date | None = None
    """When the system answered; the date of the documents for what is quoted from them."""
    about: _Shown = ""
    """The parameters that it was asked with, shown and never guessed: "order 4471-2208"."""
    data: ElementData | None = None
    """Only when ready."""
    problem: ElementProblem | None = None
    """Only when failed or not allowed."""
    detail: _Shown = ""
    """What happened and what to do, in words for the agent."""
    retryable: bool = False
    display: ElementDisplay


class ElementUse(PublicModel):
    """What the record keeps of an element: which, whose, how it ended; not its values."""

    id: str
    name: str
    kind: ElementKind
    state: ElementState
    title: str = ""
    source: str
    operation: str | None = None
    """``<system>.<operation>`` that was called; None for elements made from documents."""
    subject: str | None = Field(default=None, max_length=128)
    """Keyed pseudonym of the customer whose conversation it was; None without a context. It is read again for
    the same customer only."""
    items: tuple[str, ...] = Field(default=(), max_length=MOST_ELEMENTS)
    """Of a table over items of the catalogue: their numbers, one read for each. Else empty."""
    as_of: datetime | date | None = None
    problem: ElementProblem | None = None
    display: ElementDisplay
