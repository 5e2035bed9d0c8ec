"""What fills the elements of an answer, and takes a sent reply away, as the core asks for it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol

from assistant.domain.answers import RecordId
from assistant.domain.clock import Deadline
from assistant.domain.context import CareContext, ContextToken
from assistant.domain.elements import ElementData, ElementKind, ElementProblem
from assistant.domain.errors import AssistantError
from assistant.domain.identity import Identity
from assistant.domain.public import PublicModel


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
    """For one read."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and in whose conversation."""

    identity: Identity
    context: CareContext | None
    question: str
    """Parameters that the context lacks are taken from its words, by the parameter's pattern."""
    answer_id: str | None = None
    names: tuple[str, ...] = ()
    """Names in the question, folded: "lisinopril". What is read must have each of them, where the connector
    says its name."""
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
    is_of_another: bool = False
    """Whether the question names something else than what was read; ``about`` says so."""


class LiveReadError(AssistantError):
    """An element cannot be filled. ``problem`` says why, in a fixed set of codes."""

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
        self.others = others
        """Kind and value of ids that the question names and the context does not have."""
        self.is_of_another = is_of_another
        """Whether the question names something else than what was read."""
        self.by_response = False
        """Whether the system answered, and its response is why."""


class LiveElements(Protocol):
    """What a tenant's connectors offer. One instance serves all requests of a process."""

    def types(self) -> Mapping[str, ElementType]:
        """Return every element of the tenant's connectors, by name."""
        ...

    def takes(self, name: str, word: str) -> bool:
        """Return whether an element, of no customer, can be read with this one word of a question."""
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
    """The token that the care application signed for the question, as it came: it says which chat. It is not
    verified again, and may have expired. None where the client has none any more."""


class ReplyDelivery(Protocol):
    """Takes sent replies to the patient's chat."""

    async def deliver(self, reply: Reply) -> None:
        """Return once the system took the reply. Raises ReplyNotDeliveredError."""
        ...
