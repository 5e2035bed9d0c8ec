"""``LiveElements`` of a tenant's connectors: who may read what, one call for all that need it, and a record
of each read."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

import structlog

from assistant.domain.clock import Clock, Deadline
from assistant.domain.elements import ElementData, ElementProblem
from assistant.domain.errors import DeadlineExceededError, RecordsUnavailableError
from assistant.domain.live import LiveRead
from assistant.live.parameters import FoundParameters, find_parameters
from assistant.live.ports import (
    Caller,
    ElementType,
    Filled,
    LiveReadError,
    LiveReads,
    LiveSystems,
    SystemRequest,
    SystemResponse,
    SystemSwitches,
)
from assistant.live.results import Reading, element_data, read_response
from assistant.settings.connector import MOST_ROWS, Connector, ConnectorElement, Operation
from assistant.settings.deployment import ReachEntry

_READY = "ready"
_MOST_SHARED = 2_000
"""Calls of answers in progress whose result another element may still ask for."""
_SHARED_S = 100.0
"""An answer's longest time: its elements share one call for as long."""
_MOST_CACHED = 500
_MOST_CACHED_CHARACTERS = 8_000_000
_RECORD_LIMIT_S = 2.0
_JSON = "application/json"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Named:
    """One element with all that it needs."""

    system: ReachEntry
    connector: Connector
    operation: Operation
    element: ConnectorElement

    @property
    def operation_name(self) -> str:
        return f"{self.system.name}.{self.operation.name}"


_Key = tuple[object, ...]


class ReadingCache:
    """Readings that are nobody's, each for its operation's seconds; the oldest go first."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[_Key, tuple[Reading, float]] = OrderedDict()
        self._characters = 0

    def find(self, key: _Key) -> Reading | None:
        reading, until_s = self._kept.get(key, (None, 0.0))
        return reading if until_s > self._clock.monotonic_s() else None

    def keep(self, key: _Key, reading: Reading, *, for_s: float) -> None:
        self._drop(key)
        self._kept[key] = (reading, self._clock.monotonic_s() + for_s)
        self._characters += reading.size
        while len(self._kept) > _MOST_CACHED or self._characters > _MOST_CACHED_CHARACTERS:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: _Key) -> None:
        if (found := self._kept.pop(key, None)) is not None:
            self._characters -= found[0].size


class ConnectedElements:
    """``LiveElements`` of the systems in a tenant file.

    ``pseudonym`` makes the name of a customer in the record.
    """

    def __init__(
        self,
        systems: Sequence[ReachEntry],
        *,
        calls: LiveSystems,
        switches: SystemSwitches,
        reads: LiveReads,
        pseudonym: Callable[[str], str],
        clock: Clock,
    ) -> None:
        self._calls = calls
        self._switches = switches
        self._reads = reads
        self._pseudonym = pseudonym
        self._clock = clock
        self._cache = ReadingCache(clock=clock)
        self._shared: OrderedDict[_Key, asyncio.Task[Reading]] = OrderedDict()
        """Calls of answers, running or done."""
        self._named = {
            f"{system.name}.{element.name}": _Named(
                system, system.inline, system.inline.operation(element.operation), element
            )
            for system in systems
            if system.inline is not None
            for element in system.inline.elements
        }
        self._types = {name: _type_of(name, named) for name, named in self._named.items()}

    def types(self) -> Mapping[str, ElementType]:
        return self._types

    async def fill(self, name: str, caller: Caller, *, deadline: Deadline) -> Filled:
        named = self._named.get(name)
        if named is None:
            raise LiveReadError(ElementProblem.NOT_FOUND, f"There is no element {name}.")
        about = ""
        try:
            found = await self._allowed(named, caller)
            about = found.about
            reading, is_cached = await self._reading(named, found, caller, deadline)
            data = _data(named, reading)
        except DeadlineExceededError:
            raise _late(named, about) from None
        except LiveReadError as error:
            error.about = error.about or about
            raise
        if data.rows and reading.row_count > MOST_ROWS:
            about = f"{about} (first {MOST_ROWS} of {reading.row_count})"
        return Filled(data, reading.as_of, about, cached=is_cached)

    async def close(self) -> None:
        """Cancel the calls in progress."""
        tasks = list(self._shared.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- who may --------------------------------------------------------------------------------------
    async def _allowed(self, named: _Named, caller: Caller) -> FoundParameters:
        """Return the parameters of a call that the caller may make. Records a refusal, and raises it."""
        try:
            _check_rights(named, caller)
            found = find_parameters(named.operation, caller, context_decides=named.system.whose == "context")
        except LiveReadError as refused:
            if refused.problem is ElementProblem.NOT_ALLOWED:
                await self._record(named, caller, str(refused.problem))
            raise
        if not await self._switches.is_on(named.system.name):
            raise LiveReadError(
                ElementProblem.SWITCHED_OFF,
                f"{named.connector.source} is switched off for now.",
                about=found.about,
            )
        return found

    # --- one call for all that need it ----------------------------------------------------------------
    async def _reading(
        self, named: _Named, found: FoundParameters, caller: Caller, deadline: Deadline
    ) -> tuple[Reading, bool]:
        """Return the reading, and whether it was cached."""
        operation = named.operation
        key = (named.operation_name, *sorted(found.values.items()))
        rights = (*key, caller.identity.roles, caller.identity.labels, _agent(named, caller))
        if operation.cache_s and (kept := self._cache.find(rights)) is not None:
            await self._record(named, caller, _READY, cached=True)
            return kept, True
        if caller.answer_id is None:
            return await self._call(named, found, caller, deadline), False
        customer = None if caller.context is None else caller.context.customer
        mine = (*rights, caller.answer_id, caller.identity.agent, customer)
        task = self._shared_call(mine, lambda: self._call(named, found, caller, deadline))
        done, _ = await asyncio.wait([task], timeout=deadline.remaining_s())
        if not done:
            raise _late(named, found.about)
        if task.cancelled():
            raise LiveReadError(ElementProblem.CANCELLED, "The read was cancelled. Retry.", about=found.about)
        reading = task.result()
        if operation.cache_s:
            self._cache.keep(rights, reading, for_s=operation.cache_s)
        return reading, False

    def _shared_call(
        self, key: _Key, call: Callable[[], Coroutine[None, None, Reading]]
    ) -> asyncio.Task[Reading]:
        """Return the call of this answer with these parameters, begun unless it runs or has succeeded.

        It is forgotten after an answer's longest time, with the values.
        """
        task = self._shared.get(key)
        if task is None or _failed(task):
            while len(self._shared) >= _MOST_SHARED:
                self._shared.popitem(last=False)[1].cancel()
            task = self._shared[key] = asyncio.create_task(call())
            task.add_done_callback(_failed)  # reads the error, which its waiters may not be there to read
            asyncio.get_running_loop().call_later(_SHARED_S, self._forget, key, task)
        return task

    def _forget(self, key: _Key, task: asyncio.Task[Reading]) -> None:
        if self._shared.get(key) is task:
            del self._shared[key]

    async def _call(
        self, named: _Named, found: FoundParameters, caller: Caller, deadline: Deadline
    ) -> Reading:
        """Call the system, check its response, and record the read, however it ended."""
        try:
            reading = await self._called(named, found, caller, deadline)
        except LiveReadError as error:
            await self._record(named, caller, str(error.problem))
            raise
        except DeadlineExceededError:
            await self._record(named, caller, str(ElementProblem.SYSTEM_LATE))
            raise
        await self._record(named, caller, _READY)
        return reading

    async def _called(
        self, named: _Named, found: FoundParameters, caller: Caller, deadline: Deadline
    ) -> Reading:
        operation = named.operation
        limit_s = min(operation.deadline_s or named.system.deadline_s, named.system.deadline_s)
        own = Deadline.after(deadline.within_s(limit_s), clock=self._clock)
        request = replace(request_of(operation, found.values, named.system.name), agent=_agent(named, caller))
        response = await self._calls.get(request, deadline=own, most_bytes=operation.most_bytes)
        check_status(response, source=named.connector.source)
        return read_response(
            response.body,
            connector=named.connector,
            operation=operation,
            asked=found.values,
            context=caller.context,
            as_of=self._clock.now(),
        )

    async def _record(self, named: _Named, caller: Caller, outcome: str, *, cached: bool = False) -> None:
        """Record a read. Raises LiveReadError: what is not recorded is not shown."""
        is_personal = named.operation.personal and caller.context is not None
        read = LiveRead(
            read_id=uuid.uuid4().hex,
            at=self._clock.now(),
            agent=caller.identity.agent,
            answer_id=caller.answer_id,
            system=named.system.name,
            operation=named.operation_name,
            subject=self._pseudonym(caller.context.customer) if is_personal and caller.context else None,
            outcome=outcome,
            cached=cached,
        )
        try:
            async with asyncio.timeout(_RECORD_LIMIT_S):
                await self._reads.record(read)
        except (RecordsUnavailableError, TimeoutError):
            _log.warning("live_read_not_recorded", system=named.system.name)
            raise LiveReadError(
                ElementProblem.SYSTEM_UNAVAILABLE,
                "The read could not be recorded, so it is not shown. Retry.",
            ) from None


def _check_rights(named: _Named, caller: Caller) -> None:
    """Raise LiveReadError unless roles and labels of the caller allow the operation."""
    operation, identity = named.operation, caller.identity
    if not identity.roles.intersection(operation.roles) or not identity.labels.issuperset(operation.labels):
        raise LiveReadError(
            ElementProblem.NOT_ALLOWED, "Your role does not allow this. Ask your sign-in administrator."
        )


def check_status(response: SystemResponse, *, source: str) -> None:
    """Raise LiveReadError unless the response is JSON with the status 200."""
    status = response.status
    if status == 404:
        raise LiveReadError(ElementProblem.NOT_FOUND, f"{source} has no such entry.")
    if status == 403:
        raise LiveReadError(ElementProblem.NOT_ALLOWED, f"{source} does not allow it.")
    if status in (401, 407, 408, 425, 429) or status >= 500:
        raise LiveReadError(
            ElementProblem.SYSTEM_UNAVAILABLE, f"{source} did not answer (status {status}). Retry shortly."
        )
    if status != 200:
        raise LiveReadError(ElementProblem.SYSTEM_INVALID, f"{source} answered with the status {status}.")
    if response.content_type.partition(";")[0].strip().lower() != _JSON:
        raise LiveReadError(
            ElementProblem.SYSTEM_INVALID, f"{source} answered with something other than JSON."
        )


def _data(named: _Named, reading: Reading) -> ElementData:
    """Return what the element shows. Raises LiveReadError where the system has nothing for it."""
    data = element_data(named.element, operation=named.operation, reading=reading)
    if data is None:
        source, title = named.connector.source, named.element.title
        raise LiveReadError(ElementProblem.NOT_FOUND, f"{source} has nothing for: {title}.")
    return data


def _late(named: _Named, about: str) -> LiveReadError:
    message = f"{named.connector.source} did not answer in time. Retry shortly."
    return LiveReadError(ElementProblem.SYSTEM_LATE, message, about=about)


def _failed(task: asyncio.Task[Reading]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _agent(named: _Named, caller: Caller) -> str | None:
    """Return the agent who is passed on to a system that decides by it."""
    return caller.identity.agent if named.system.whose == "agent" else None


def request_of(operation: Operation, values: Mapping[str, str], system: str) -> SystemRequest:
    """Return the request of an operation with these parameters, percent-encoded."""
    path = operation.path
    for name in operation.placeholders:
        path = path.replace(f"{{{name}}}", quote(values[name], safe=""))
    query = {name: value for name, value in values.items() if name not in operation.placeholders}
    return SystemRequest(system, path, {**operation.query, **query})


def _type_of(name: str, named: _Named) -> ElementType:
    element = named.element
    return ElementType(
        name=name,
        kind=element.kind,
        title=element.title,
        source=named.connector.source,
        operation=named.operation_name,
        about=element.about,
        needs_context=named.operation.personal and named.system.whose == "context",
    )
