"""Live data: the elements of an answer and the ports that fill them and deliver a sent reply.

An element is a place in an answer that a live system fills while the text flows on. Example: the answer says
"Your order: [order status]", and the element ``e1`` of the type ``orders.status`` stands in for the words in
brackets. It is pending first; later the same id comes as ready ("Shipped, 3 March"), failed or not allowed.
The options ``assistant.options.live`` and ``assistant.options.helpdesk`` implement the ports.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal, Protocol

from pydantic import Field, StringConstraints

from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError
from assistant.domain.identity import CareContext, ContextToken, Identity
from assistant.domain.public import PublicModel, RecordId

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
    """Target of a link: one of the addresses that the connector allows."""


LONGEST_MAC = 64
LONGEST_LIVE_TEXT = 2_000


class LiveText(PublicModel):
    """A text of a live element, as the agent sees it in the answer: records keep none."""

    element_id: str = Field(pattern=r"^e[1-9]\d?$")
    value: str = Field(min_length=1, max_length=LONGEST_LIVE_TEXT)
    mac: str = Field(default="", max_length=LONGEST_MAC, repr=False)
    """The service's message authentication code, as it came with the element. In a request a text without a
    right one counts for nothing."""


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
    texts: tuple[LiveText, ...] = Field(default=(), exclude_if=lambda texts: not texts)
    """What a ready element of a system says, whole and value by value. A client sends those that a text for
    the patient may say back as they are; they count for 26 hours."""


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
    """In older records: numbers of the catalogue's items in a table over them."""
    as_of: datetime | date | None = None
    problem: ElementProblem | None = None
    display: ElementDisplay


# What fills elements


@dataclass(frozen=True, slots=True)
class ElementType:
    """An element that a connector offers."""

    name: str
    """``<system>.<element>``"""
    kind: ElementKind
    title: str
    source: str
    """The system as agents call it."""
    operation: str
    """``<system>.<operation>``"""
    about: tuple[str, ...] = ()
    """Questions that it answers, in an agent's words: "where is my order". They decide whether it is shown
    where neither a document nor a model names it."""
    needs_context: bool = False
    """Whether it is read only in a customer's conversation, as its context says."""
    limit_s: float = 2.0
    """Timeout of one read."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and in whose conversation. Make one for each request, and reuse it for all its elements."""

    identity: Identity
    context: CareContext | None
    """None: no customer is known, so no element that ``needs_context`` is filled."""
    question: str
    """Parameters that the context lacks are taken from its words, by the parameter's pattern."""
    answer_id: str | None = None
    """For the record of the read; None for a test of a connector."""
    names: tuple[str, ...] = ()
    """Names in the question, folded: "lisinopril". Where the connector's result has a name, it must contain
    each of them; otherwise the result is ``is_of_another``."""
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex, compare=False)
    """Elements of one request share their calls. A caller made anew is a new request: it never gets what was
    read for the one before."""


@dataclass(frozen=True, slots=True)
class Filled:
    """The data of one element, checked against the connector's schema and neutralised."""

    data: ElementData
    as_of: datetime | date
    """When the system answered; of data from documents their date."""
    about: str
    """The parameters as shown: "order 4471-2208"."""
    cached: bool = False
    """Whether it is a stored response, and no call was made."""
    is_of_another: bool = False
    """Whether the question names something else than what was read, such as another medicine; ``about`` then
    says both."""


class LiveReadError(AssistantError):
    """An element cannot be filled. ``problem`` is the code; the message tells the agent what to do."""

    code = "live_read_failed"

    def __init__(
        self,
        problem: ElementProblem,
        message: str,
        *,
        about: str = "",
        others: tuple[tuple[str, str], ...] = (),
        is_of_another: bool = False,
    ) -> None:
        super().__init__(message)
        self.problem = problem
        self.about = about
        """The parameters as shown: "order 4471-2208"; empty where none were found."""
        self.others = others
        """(kind, value) of ids that the question names and the context does not have: they may be another
        customer's. ``(("order", "4471-9999"),)``"""
        self.is_of_another = is_of_another
        """Whether the question names something else than what was read."""


class LiveElements(Protocol):
    """What a tenant's connectors offer. One instance serves all requests of a process."""

    def types(self) -> Mapping[str, ElementType]:
        """Return every element of the tenant's connectors, by name."""
        ...

    async def fill(self, name: str, caller: Caller, *, deadline: Deadline) -> Filled:
        """Read one element's data for a caller; record the read.

        Two elements of one operation and the same parameters, in one request, cause one call; it is cancelled
        when none of them waits any more. Raises LiveReadError, and nothing else that is not a fault of the
        product.
        """
        ...


class Reply(PublicModel):
    """What the care application gets of a reply that an agent sends: the body of the POST."""

    send_id: RecordId
    """The same for each attempt, and the request's ``Idempotency-Key``: deliver it once."""
    answer_id: RecordId
    conversation_id: RecordId
    agent: str
    at: datetime
    """When it was recorded first."""
    text: str
    """As the agent wrote it, with its live values."""
    context: ContextToken | None
    """The token that the care application signed for the question, as it came: it says which chat. It may
    have expired, and is the question's own. None where the client has none any more."""


class ReplyDelivery(Protocol):
    """Takes sent replies to the patient's chat."""

    async def deliver(self, reply: Reply) -> None:
        """Return once the system took the reply. Raises ReplyNotDeliveredError."""
        ...
