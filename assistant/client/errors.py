"""What a call may raise. ``problem.code`` is the service's own stable code, ``code`` that of the kind."""

from __future__ import annotations

from typing import ClassVar

from assistant.answering.events import Problem
from assistant.domain.errors import AssistantError, DependencyError


class UnreachableError(DependencyError):
    """The service does not answer, broke off, or sent what is none of its answers."""

    code: ClassVar[str] = "service_unreachable"


class RefusedByServiceError(AssistantError):
    """The service answered with a problem; the message is its own."""

    code: ClassVar[str] = "refused_by_service"

    def __init__(self, problem: Problem, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{problem.detail} ({problem.code})", retry_after_s=retry_after_s)
        self.problem = problem


class RejectedError(RefusedByServiceError):
    """The request is wrong (400, 413, 422): the same again fails again."""

    code: ClassVar[str] = "rejected"


class SignInError(RefusedByServiceError):
    """The token is missing, wrong or expired (401)."""

    code: ClassVar[str] = "sign_in"


class NotAllowedError(RefusedByServiceError):
    """The token's roles do not allow this (403)."""

    code: ClassVar[str] = "not_allowed"


class NotThereError(RefusedByServiceError):
    """There is no such thing, or it is another's (404)."""

    code: ClassVar[str] = "not_there"


class ConflictingError(RefusedByServiceError):
    """The id or key was used for something else, or the answer's events are not kept (409)."""

    code: ClassVar[str] = "conflicting"


class UnavailableError(RefusedByServiceError):
    """Too much at once (429), a dependency is down or the endpoints are paused (503): try again later,
    after ``retry_after_s`` where it is known."""

    code: ClassVar[str] = "unavailable"


_KINDS: dict[int, type[RefusedByServiceError]] = {
    400: RejectedError,
    401: SignInError,
    403: NotAllowedError,
    404: NotThereError,
    409: ConflictingError,
    413: RejectedError,
    422: RejectedError,
    429: UnavailableError,
    503: UnavailableError,
}


def refusal(problem: Problem, *, retry_after_s: float | None = None) -> RefusedByServiceError:
    """Return the error for a problem, also for one that came as a stream's last event."""
    return _KINDS.get(problem.status, RefusedByServiceError)(problem, retry_after_s=retry_after_s)
