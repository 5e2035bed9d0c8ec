"""What the routes of one process share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from assistant.api.identity import TokenVerifier
from assistant.api.keys import KeySet
from assistant.api.metrics import ServiceMetrics
from assistant.api.resume import LogFollower
from assistant.api.running import RunningAnswers
from assistant.api.wire import ConsoleConfig, DeployedVersions
from assistant.domain.clock import Clock
from assistant.domain.identity import Identity
from assistant.wiring.services import ServedTenant


@dataclass(frozen=True, slots=True)
class Service:
    """Made once by ``build_application`` and kept on the application's state."""

    tenants: Mapping[str, ServedTenant]
    keys: KeySet
    verifier: TokenVerifier
    running: RunningAnswers
    metrics: ServiceMetrics
    clock: Clock
    console: ConsoleConfig
    deployed: DeployedVersions
    followers: set[LogFollower] = field(default_factory=set[LogFollower])
    """Readers of answers that other tasks write."""

    def begin_draining(self) -> None:
        """The process will stop: readers of other tasks' answers are let go, to come back elsewhere."""
        for follower in self.followers:
            follower.stop()


def service_of(request: Request) -> Service:
    return cast("Service", request.app.state.service)


async def caller_of(request: Request) -> Identity:
    """Return who calls. Raises UnauthenticatedError."""
    return await service_of(request).verifier.identify(request.headers.get("authorization"))


ServiceOf = Annotated[Service, Depends(service_of)]
Caller = Annotated[Identity, Depends(caller_of)]
