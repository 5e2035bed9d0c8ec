"""The ports of live facts. Each adapter is bound to one tenant when it is made."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol

import structlog

from assistant.domain.answers import RecordId
from assistant.domain.clock import Deadline
from assistant.domain.context import CareContext, ContextToken, LiveRead, LiveReadPage, LiveReadQuery
from assistant.domain.elements import ElementData, ElementKind, ElementProblem
from assistant.domain.errors import AssistantError
from assistant.domain.identity import Identity
from assistant.domain.public import PublicModel
from assistant.tenant.deployed_names import OFF, ON

_log = structlog.get_logger(__name__)


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


@dataclass(frozen=True, slots=True)
class SystemRequest:
    """One GET, or POST with a body, after all checks. The host is the adapter's."""

    system: str
    path: str
    """Begins with a slash; parameters are percent-encoded."""
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    agent: str | None = None
    """Passed on as ``X-Assistant-Agent`` where the system decides by the agent's identity."""
    limit_s: float | None = None
    """The time that the system should need. A late response says nothing about the system where the deadline
    left it much less, because the request waited for something of ours before."""
    body: bytes | None = None
    """JSON to post."""
    key: str | None = None
    """``Idempotency-Key`` of a POST: it may be repeated."""


@dataclass(frozen=True, slots=True)
class SystemResponse:
    status: int
    content_type: str
    body: bytes
    """At most ``most_bytes``; a longer one is an error of the adapter. Not read where that is 0."""


class LiveSystems(Protocol):
    """The one way to the internal systems: the declared private address."""

    async def call(self, request: SystemRequest, *, deadline: Deadline, most_bytes: int) -> SystemResponse:
        """Return the response of one GET, or of one POST where the request has a body. No redirect is
        followed, no cookie kept.

        Raises LiveReadError (SYSTEM_UNAVAILABLE, SYSTEM_LATE, SYSTEM_INVALID).
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


class SwitchUnreadableError(AssistantError):
    """A switch has not been read since the process began, so its system must not be called."""

    code = "switch_unreadable"


def is_on_by(word: str | None) -> bool:
    """Return whether a switch with this word lets its system be called; None: there is no switch.

    Case and white space do not matter. Any word but ``on`` is off, and logged as an error where it is not
    ``off``: a switch is for a leak, and who writes "stop" means it.
    """
    switch = ON if word is None else word.strip().casefold()
    if switch not in (ON, OFF):
        _log.error("switch_not_understood", advice="Write on or off. The system is not called until then.")
    return switch == ON


class SystemSwitches(Protocol):
    """Which systems may be called, changed without a deployment."""

    async def is_on(self, system: str) -> bool:
        """Return the state as of a few seconds ago; only the first reading is waited for, a second at most.

        While the switch cannot be read, return the last known state; before the first one raise
        SwitchUnreadableError: whoever switched a system off because of a leak must be able to rely on it.
        """
        ...


class ReadObserver(Protocol):
    """Measures the calls of one tenant's systems."""

    def read_ended(self, system: str, outcome: str, *, seconds: float) -> None:
        """Count a call of a system. ``outcome``: ``ready``, or an ``ElementProblem``."""
        ...

    def watch_circuit(self, system: str, is_open: Callable[[], bool]) -> None:
        """Report the state of a system's circuit whenever metrics are read; a later call replaces it."""
        ...


class LiveReads(Protocol):
    """The append-only record of live reads. All methods raise RecordsUnavailableError."""

    async def record(self, read: LiveRead) -> None: ...

    async def list(self, query: LiveReadQuery) -> LiveReadPage:
        """Return the reads that match the query, oldest first, those of one instant in a fixed order.

        A call looks at a bounded part of the period, so a page may have fewer reads than ``query.limit``,
        even none, and still a ``next_after``. Only a page without it is the last: no read is left out. The
        reads of one subject are found without those of others.
        """
        ...
