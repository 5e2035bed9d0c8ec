"""``LiveElements`` of a tenant's connectors: who may read what, one call for all that need it, and a record
of each read.

An answer asks for an element, such as "orders.status", by ``ConnectedElements.fill``:

1. Roles, labels, the ids in the question and the system's switch decide whether the caller may read it. A
   refusal is recorded.
2. The element needs an operation of its system, with parameters: {"order": "4471-2208"}. A cached reading is
   used, or else a call that another element of this answer began, or else a new call.
3. The outcome is recorded, whatever it is: "ready", or the code of an ``ElementProblem``. A reading that
   cannot be recorded is not shown.
4. The element's data are taken from the reading.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime
from typing import Protocol
from urllib.parse import quote

import structlog

from assistant.domain.audit import LiveRead
from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import RecordsUnavailableError
from assistant.domain.live import Caller, ElementProblem, ElementType, Filled, LiveReadError
from assistant.options.live.connector import MOST_ROWS, Connector, ConnectorElement, Operation
from assistant.options.live.parameters import (
    FoundParameters,
    asked_id,
    context_ids,
    find_parameters,
    id_patterns,
)
from assistant.options.live.results import Reading, ResponseReader, element_data, names_another
from assistant.options.live.section import AskedSystem
from assistant.options.live.stored import StoredLiveReads, SwitchUnreadableError, SystemSwitches

_READY = "ready"
"""Outcome in the record of a read that gave data."""
_MOST_SHARED = 2_000
"""Calls of answers in progress whose result another element may still ask for."""
_SHARED_S = 100.0
"""An answer's longest time: its elements share one call for as long."""
_MOST_CACHED = 500
_MOST_CACHED_CHARACTERS = 8_000_000
"""Of all cached readings together."""
_RECORD_LIMIT_S = 2.0
_MOST_OTHERS = 4
"""Ids of other customers in one question that each get a record of the refusal, at most."""
_JSON = "application/json"
_log = structlog.get_logger(__name__)


# Ports. Each adapter is bound to one tenant when it is made.


@dataclass(frozen=True, slots=True)
class SystemRequest:
    """One GET, or POST with a body, after all checks. The host is the adapter's."""

    system: str
    path: str
    """Begins with a slash; parameters are percent-encoded: "/orders/4471-2208"."""
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    agent: str | None = None
    """Passed on as ``X-Assistant-Agent`` where the system decides by the agent's identity."""
    limit_s: float | None = None
    """The time that the system should need. If the deadline leaves it much less, because we were slow before,
    a late response is not counted as the system's failure. None: it always is."""
    body: bytes | None = None
    """JSON to post."""
    key: str | None = None
    """``Idempotency-Key`` of a POST, so that the system takes a repeated one once."""


@dataclass(frozen=True, slots=True)
class SystemResponse:
    """A response of a system, with any status but a redirect."""

    status: int
    content_type: str
    body: bytes
    """At most ``most_bytes``; a longer one is an error of the adapter. Empty where ``most_bytes`` is 0, and
    for a status other than 200."""


class LiveSystems(Protocol):
    """Calls the internal systems, each at the private address that its ``[[reach]]`` entry declares.

    ``systems.HttpSystems`` is the adapter.
    """

    async def call(self, request: SystemRequest, *, deadline: Deadline, most_bytes: int) -> SystemResponse:
        """Return the response of one GET, or of one POST where the request has a body. No redirect is
        followed, no cookie kept.

        Raises LiveReadError (SYSTEM_UNAVAILABLE, SYSTEM_LATE, SYSTEM_INVALID).
        """
        ...


class ReadObserver(Protocol):
    """Measures the calls of one tenant's systems."""

    def read_ended(self, system: str, outcome: str, *, seconds: float) -> None:
        """Count a call of a system. ``outcome``: ``ready``, or an ``ElementProblem``."""
        ...

    def watch_credentials(self, put_at: Callable[[], Iterable[datetime]]) -> None:
        """Report the age of the oldest credential of the tenant's systems whenever metrics are read.

        ``put_at`` returns, for each credential that was read, when it was stored.
        """
        ...

    def watch_circuit(self, system: str, is_open: Callable[[], bool]) -> None:
        """Report the state of a system's circuit whenever metrics are read; a later call replaces it."""
        ...


# Elements


@dataclass(frozen=True, slots=True)
class _LiveElement:
    """An element of a connector, with the system and the operation that it is read by.

    ``system.whose`` says what decides whose data may be read: the signed context of a conversation
    ("context"), or the system itself, by the agent's name ("agent").
    """

    system: AskedSystem
    connector: Connector
    operation: Operation
    element: ConnectorElement

    @property
    def operation_name(self) -> str:
        return f"{self.system.name}.{self.operation.name}"


_Key = tuple[object, ...]
"""What two reads must have in common to share a call or a cached reading; see ``_reading``."""


@dataclass(slots=True, eq=False)
class _SharedCall:
    """One call of a system, and the elements that wait for it.

    Its task calls the system, sets ``outcome``, and writes the record with it. It is cancelled only while it
    calls the system, when nobody waits for it any more; ``outcome`` then is set before.
    """

    key: _Key
    task: asyncio.Task[Reading] = field(init=False)
    """Set by ``_SharedCalls.begin``."""
    waiting: int = 0
    """Elements that wait."""
    outcome: str | None = None
    """How the call of the system ended, for the record; None while it is called."""


class _SharedCalls:
    """Calls of systems in progress and those just done, which elements with the same key share."""

    def __init__(self) -> None:
        self._by_key: dict[_Key, _SharedCall] = {}
        """Calls that may be joined, running or done; the oldest first."""
        self._running: set[_SharedCall] = set()
        """Calls that run, also the ones that nobody may join any more."""

    def get(self, key: _Key) -> _SharedCall | None:
        """Return the call with this key, unless it failed."""
        call = self._by_key.get(key)
        return None if call is None or _failed(call.task) else call

    async def close(self) -> None:
        """Cancel the calls in progress, and wait until each is recorded."""
        calls = list(self._running)
        for call in calls:
            self._cancel(call, ElementProblem.CANCELLED)
        await asyncio.gather(*(call.task for call in calls), return_exceptions=True)

    def begin(self, key: _Key, read: Callable[[_SharedCall], Coroutine[None, None, Reading]]) -> _SharedCall:
        """Begin a call, and return it. It is forgotten after an answer's longest time, with the values."""
        while len(self._by_key) >= _MOST_SHARED:
            del self._by_key[next(iter(self._by_key))]  # those who wait for it still get it
        call = _SharedCall(key)
        call.task = asyncio.create_task(read(call))
        self._by_key[key] = call
        self._running.add(call)

        def ended(task: asyncio.Task[Reading]) -> None:
            self._running.discard(call)
            if not task.cancelled():
                task.exception()  # else asyncio logs an error that nobody is there to read any more

        call.task.add_done_callback(ended)
        asyncio.get_running_loop().call_later(_SHARED_S, self._forget, call)
        return call

    def _forget(self, call: _SharedCall) -> None:
        if self._by_key.get(call.key) is call:
            del self._by_key[call.key]

    async def wait(self, call: _SharedCall, deadline: Deadline) -> Reading:
        """Return the reading of a call. The last one that stops waiting cancels it.

        Raises LiveReadError, TimeoutError.
        """
        call.waiting += 1
        stopped_by = ElementProblem.CANCELLED  # unless ``asyncio.wait`` returns
        try:
            await asyncio.wait([call.task], timeout=deadline.remaining_s())
            stopped_by = ElementProblem.SYSTEM_LATE
        finally:
            call.waiting -= 1
            if not call.waiting:
                self._cancel(call, stopped_by)
        if not call.task.done():
            raise TimeoutError
        if call.task.cancelled():
            raise LiveReadError(ElementProblem.CANCELLED, "The read was cancelled. Retry.")
        return call.task.result()

    def _cancel(self, call: _SharedCall, problem: ElementProblem) -> None:
        """Cancel a call that still waits for its system, with the problem as its outcome."""
        if call.task.done() or call.outcome is not None:
            return
        self._forget(call)
        call.outcome = str(problem)
        call.task.cancel()


@dataclass(slots=True, eq=False)
class ConnectedElements:
    """``LiveElements`` of the systems in a tenant file.

    The element "status" of the system "orders", for the question "where is order 4471-2208", gives
    ``Filled(data, about="order 4471-2208", …)``.
    """

    systems: Sequence[AskedSystem]
    _: KW_ONLY
    calls: LiveSystems
    switches: SystemSwitches
    reads: StoredLiveReads
    pseudonym: Callable[[str], str]
    """Makes the name in the record of the customer whose data a read was of."""
    clock: Clock
    observer: ReadObserver | None = None
    limits_s: Mapping[str, float] = field(default_factory=dict[str, float])
    """Limit of one read by system, where its source says another than ``deadline_s``."""
    _elements: dict[str, _LiveElement] = field(init=False)
    """By name: "orders.status"; ``_types`` too."""
    _types: dict[str, ElementType] = field(init=False)
    _cache: dict[_Key, tuple[Reading, float]] = field(
        init=False, default_factory=dict[_Key, tuple[Reading, float]]
    )
    """Readings that are of no person (a connector may cache no others), each with the monotonic time in
    seconds until which it may be used; the oldest first."""
    _shared: _SharedCalls = field(init=False, default_factory=_SharedCalls)

    def __post_init__(self) -> None:
        self._elements = {
            f"{system.name}.{element.name}": _LiveElement(
                system, system.connector, system.connector.operation(element.operation), element
            )
            for system in self.systems
            for element in system.connector.elements
        }
        self._types = {
            name: ElementType(
                name=name,
                kind=live.element.kind,
                title=live.element.title,
                source=live.connector.source,
                operation=live.operation_name,
                about=live.element.about,
                needs_context=live.operation.personal and live.system.whose == "context",
                limit_s=self.limits_s.get(live.system.name, live.system.deadline_s),
            )
            for name, live in self._elements.items()
        }

    def types(self) -> Mapping[str, ElementType]:
        return self._types

    async def fill(self, name: str, caller: Caller, *, deadline: Deadline) -> Filled:
        """See ``LiveElements``: return the element's data, or raise LiveReadError. ``about`` of both says
        what was read: "order 4471-2208"."""
        live = self._elements.get(name)
        if live is None:
            raise LiveReadError(ElementProblem.NOT_FOUND, f"There is no element {name}.")
        about, source = "", live.connector.source  # nothing was read yet
        try:
            parameters = await self._allowed(live, caller)
            about = parameters.about
            reading, is_cached = await self._reading(live, parameters, caller, deadline)
            data = element_data(live.element, operation=live.operation, reading=reading)
        except TimeoutError:
            late = f"{source} did not answer in time. Retry shortly."
            raise LiveReadError(ElementProblem.SYSTEM_LATE, late, about=about) from None
        except LiveReadError as error:
            error.about = error.about or about
            raise
        if data is None:
            nothing = f"{source} has nothing for: {live.element.title}."
            raise LiveReadError(ElementProblem.NOT_FOUND, nothing, about=about)
        if data.rows and reading.row_count > MOST_ROWS:
            about = f"{about} (first {MOST_ROWS} of {reading.row_count})"
        about_another = _about_another(live, reading, caller, about)
        return Filled(
            data,
            reading.as_of,
            about if about_another is None else about_another,
            cached=is_cached,
            is_of_another=about_another is not None,
        )

    async def close(self) -> None:
        """Cancel the calls in progress, and wait until each is recorded."""
        await self._shared.close()

    # --- who may read ---------------------------------------------------------------------------------
    async def _allowed(self, live: _LiveElement, caller: Caller) -> FoundParameters:
        """Return the parameters of a call that the caller may make. Records a refusal, and raises it."""
        try:
            _check_permission(live, caller)
            parameters = find_parameters(
                live.operation,
                caller,
                context_decides=live.system.whose == "context",
                patterns=id_patterns(live.connector.operations),
            )
            await self._check_switch(live, parameters)
        except LiveReadError as refused:
            subject_asked = _subject(live, caller, _asked_values(live, caller))
            # Whoever looks for reads of the other customer must find this attempt too.
            others = [_subject_of_id(kind, value) for kind, value in refused.others[:_MOST_OTHERS]]
            for subject in dict.fromkeys((*others, subject_asked)):
                await self._record(live, caller, subject, str(refused.problem))
            raise
        return parameters

    async def _check_switch(self, live: _LiveElement, parameters: FoundParameters) -> None:
        """Raise LiveReadError unless the system's switch is known to be on."""
        source = live.connector.source
        try:
            is_on = await self.switches.is_on(live.system.name)
        except SwitchUnreadableError:
            raise LiveReadError(
                ElementProblem.SYSTEM_UNAVAILABLE,
                f"The switch of {source} could not be read, so {source} is not called. Retry shortly.",
                about=parameters.about,
            ) from None
        if not is_on:
            raise LiveReadError(
                ElementProblem.SWITCHED_OFF, f"{source} is switched off for now.", about=parameters.about
            )

    # --- one call for all that need it ----------------------------------------------------------------
    async def _reading(
        self, live: _LiveElement, parameters: FoundParameters, caller: Caller, deadline: Deadline
    ) -> tuple[Reading, bool]:
        """Return the reading, and whether it was cached."""
        values, identity = parameters.values, caller.identity
        # Callers with the same roles and labels share a cached reading: each may read what another may.
        cache_key = (
            live.operation_name,
            *sorted(values.items()),
            identity.roles,
            identity.labels,
            _passed_agent(live, caller),
        )
        cached, until_s = self._cache.get(cache_key, (None, 0.0))
        if cached is not None and until_s > self.clock.monotonic_s():
            await self._record(live, caller, _subject(live, caller, values), _READY, cached=True)
            return cached, True
        # Only elements of one answer share a call.
        customer = None if caller.context is None else caller.context.customer
        call_key = (*cache_key, caller.request_id, caller.answer_id, identity.agent, customer)
        call = self._shared.get(call_key) or self._shared.begin(
            call_key, lambda call: self._read_and_record(call, live, parameters, caller, deadline)
        )
        reading = await self._shared.wait(call, deadline)
        if live.operation.cache_s:
            self._keep(cache_key, reading, live.operation.cache_s)
        return reading, False

    def _keep(self, key: _Key, reading: Reading, for_s: float) -> None:
        """Keep a reading for its seconds, and drop the oldest ones over the bounds."""
        self._cache.pop(key, None)
        self._cache[key] = (reading, self.clock.monotonic_s() + for_s)
        while (
            len(self._cache) > _MOST_CACHED
            or sum(kept.size for kept, _ in self._cache.values()) > _MOST_CACHED_CHARACTERS
        ):
            del self._cache[next(iter(self._cache))]

    async def _read_and_record(
        self,
        call: _SharedCall,
        live: _LiveElement,
        parameters: FoundParameters,
        caller: Caller,
        deadline: Deadline,
    ) -> Reading:
        """Call the system, check its response, and record the read, however it ended. This is the work of a
        call's task."""
        outcome = str(ElementProblem.SYSTEM_UNAVAILABLE)  # what an agent sees of a defect of ours
        began_s = self.clock.monotonic_s()
        try:
            reading = await self._request_and_check(live, parameters, caller, deadline)
            outcome = _READY
        except LiveReadError as error:
            outcome = str(error.problem)
            raise
        except asyncio.CancelledError:
            outcome = call.outcome or str(ElementProblem.CANCELLED)
            raise
        finally:
            call.outcome = outcome  # the record that follows is not cancelled
            if self.observer is not None:
                seconds = self.clock.monotonic_s() - began_s
                self.observer.read_ended(live.system.name, outcome, seconds=seconds)
            await self._record(live, caller, _subject(live, caller, parameters.values), outcome)
        return reading

    async def _request_and_check(
        self, live: _LiveElement, parameters: FoundParameters, caller: Caller, deadline: Deadline
    ) -> Reading:
        """Call the system, and read its response. Raises LiveReadError, TimeoutError."""
        operation = live.operation
        limit_s = min(operation.deadline_s or live.system.deadline_s, live.system.deadline_s)
        call_deadline = Deadline.after(min(limit_s, deadline.remaining_s()), clock=self.clock)
        request = replace(
            request_of(operation, parameters.values, live.system.name),
            agent=_passed_agent(live, caller),
            limit_s=limit_s,
        )
        response = await self.calls.call(request, deadline=call_deadline, most_bytes=operation.most_bytes)
        check_status(response, source=live.connector.source)
        reader = ResponseReader(live.connector, operation, asked=parameters.values, context=caller.context)
        return reader.read(response.body, as_of=self.clock.now())

    async def _record(
        self, live: _LiveElement, caller: Caller, subject: str | None, outcome: str, *, cached: bool = False
    ) -> None:
        """Record a read of a subject's data (``_subject``). Raises LiveReadError if it cannot be recorded."""
        read = LiveRead(
            read_id=uuid.uuid4().hex,
            at=self.clock.now(),
            agent=caller.identity.agent,
            answer_id=caller.answer_id,
            system=live.system.name,
            operation=live.operation_name,
            subject=None if subject is None else self.pseudonym(subject),
            outcome=outcome,
            cached=cached,
        )
        try:
            async with asyncio.timeout(_RECORD_LIMIT_S):
                await self.reads.record(read)
        except (RecordsUnavailableError, TimeoutError):
            _log.warning("live_read_not_recorded", system=live.system.name)
            raise LiveReadError(
                ElementProblem.SYSTEM_UNAVAILABLE,
                "The read could not be recorded, so it is not shown. Retry.",
            ) from None


def _asked_values(live: _LiveElement, caller: Caller) -> Mapping[str, str]:
    """Return the parameters that a refused caller asked with; none where one of them has several values."""
    try:
        return find_parameters(live.operation, caller, context_decides=False).values
    except LiveReadError:
        return {}


def _subject(live: _LiveElement, caller: Caller, values: Mapping[str, str]) -> str | None:
    """Return whose data a read was of, for its pseudonym; None where they are nobody's, or nothing says it.

    - The customer of the context, where it decides, lists the id, or no id was asked for: "C-10042".
    - Else the id with its kind: "order:4471-2208".
    """
    if not live.operation.personal:
        return None
    asked = asked_id(live.operation, values)
    context = caller.context
    is_of_context = (
        live.system.whose == "context" or asked is None or asked[1] in context_ids(context, asked[0])
    )
    if context is not None and is_of_context:
        return context.customer
    return None if asked is None else _subject_of_id(*asked)


def _subject_of_id(kind: str, value: str) -> str:
    """Return the name of an id's data, for its pseudonym: "order:4471-2208"; of a customer as a context has
    it, "C-10042"."""
    return value if kind == "customer" else f"{kind}:{value}"


def _check_permission(live: _LiveElement, caller: Caller) -> None:
    """Raise LiveReadError unless roles and labels of the caller allow the operation."""
    operation, identity = live.operation, caller.identity
    if not identity.roles.intersection(operation.roles) or not identity.labels.issuperset(operation.labels):
        raise LiveReadError(
            ElementProblem.NOT_ALLOWED, "Your role does not allow this. Ask your sign-in administrator."
        )


def check_status(response: SystemResponse, *, source: str) -> None:
    """Raise LiveReadError unless the response is JSON with the status 200."""
    status = response.status
    if status == 200 and response.content_type.partition(";")[0].strip().lower() == _JSON:
        return
    if status == 200:
        problem, message = ElementProblem.SYSTEM_INVALID, "answered with something other than JSON."
    elif status == 404:
        problem, message = ElementProblem.NOT_FOUND, "has no such entry."
    elif status == 403:
        problem, message = ElementProblem.NOT_ALLOWED, "does not allow it."
    elif status in (401, 407):
        problem = ElementProblem.SYSTEM_UNAVAILABLE
        message = f"refused the assistant's own credentials (status {status}). Tell who runs it."
    elif status in (408, 425, 429) or status >= 500:
        problem = ElementProblem.SYSTEM_UNAVAILABLE
        message = f"did not answer (status {status}). Retry shortly."
    else:
        problem, message = ElementProblem.SYSTEM_INVALID, f"answered with the status {status}."
    raise LiveReadError(problem, f"{source} {message}")


def _about_another(live: _LiveElement, reading: Reading, caller: Caller, about: str) -> str | None:
    """Return what was read, as an answer says it, where the question names another thing; else None.

    The question has "metformin", the reading of prescription 7012345 is of lisinopril:
    "prescription 7012345: lisinopril. The question names metformin".
    Raises LiveReadError where the element does not show the name: nobody could tell whose value it is.
    """
    naming = next((result for result in live.operation.results if result.names), None)
    name = None if naming is None else reading.single[naming.name]
    if naming is None or name is None or not name.text:
        return None
    asked = names_another(caller.names, name.text)
    if asked is None:
        return None
    if naming.name in live.element.fields:
        return f"{about}: {name.text}. The question names {asked}"
    words = [parameter.words for parameter in live.operation.parameters]
    raise LiveReadError(
        ElementProblem.PARAMETER_MISSING,
        f"{about[:1].upper()}{about[1:]} is of {name.text}; the question names {asked}. "
        f"Give the {' and the '.join(words)} of {asked}.",
        about=about,
        is_of_another=True,
    )


def _failed(task: asyncio.Task[Reading]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _passed_agent(live: _LiveElement, caller: Caller) -> str | None:
    """Return the agent who is passed on to a system that decides by it."""
    return caller.identity.agent if live.system.whose == "agent" else None


def request_of(operation: Operation, values: Mapping[str, str], system: str) -> SystemRequest:
    """Return the request of an operation with these parameters, percent-encoded.

    "/orders/{order}" with {"order": "4471-2208", "page": "2"} -> "/orders/4471-2208" with {"page": "2"}
    """
    path = operation.path
    for name in operation.placeholders:
        path = path.replace(f"{{{name}}}", quote(values[name], safe=""))
    query = {name: value for name, value in values.items() if name not in operation.placeholders}
    return SystemRequest(system, path, {**operation.query, **query})
