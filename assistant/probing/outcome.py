"""What came of a probe, in the words of its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from assistant.answering.events import Done, Problem
from assistant.domain.answers import FinishReason
from assistant.domain.errors import EndpointPausedError


class Outcome(StrEnum):
    WORKING = "working"
    DEGRADED = "degraded"
    """Sources came, no text: the path works, the model behind it does not."""
    PAUSED = "paused"
    """The path works as far as the service, whose endpoints are paused: nothing is wrong."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """``reason`` is a finish reason or the code of an error: never a text of anybody's."""

    outcome: Outcome
    reason: str
    duration_ms: float


def outcome_of(last: Done | Problem) -> tuple[Outcome, str]:
    """Return what an answer's last event, or the problem in place of an answer, says of the path."""
    if isinstance(last, Problem):
        paused = last.code == EndpointPausedError.code
        return (Outcome.PAUSED if paused else Outcome.FAILED), last.code
    if last.finish_reason is not FinishReason.SOURCES_ONLY:
        return Outcome.WORKING, last.finish_reason.value
    reason = last.reason or last.finish_reason.value
    return (Outcome.PAUSED if reason == EndpointPausedError.code else Outcome.DEGRADED), reason
