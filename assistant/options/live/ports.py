"""The ports of live facts. Each adapter is bound to one tenant when it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from assistant.domain.clock import Deadline


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

    ``HttpSystems`` is the adapter, ``connected.py`` its caller.
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
