"""What came of a probe, in the words of its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from assistant.answering.events import Done, Problem
from assistant.answering.interruption import Cause
from assistant.domain.answers import FinishReason
from assistant.domain.errors import (
    DeadlineExceededError,
    EndpointPausedError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    OverloadedError,
)

_MODEL_FAILED = frozenset(
    {
        GenerationUnavailableError.code,
        GenerationInterruptedError.code,
        OverloadedError.code,
        DeadlineExceededError.code,
        Cause.LATE.value,
        Cause.DEADLINE.value,
    }
)
"""Values of ``done.fallback`` that tell of the generation endpoint. The others tell of a text that a check
refused: the model answered."""


class Outcome(StrEnum):
    WORKING = "working"
    DEGRADED = "degraded"
    """The path works, but not all behind it: the model failed and quotes took its place, or the knowledge
    base has no answer to the probe's question."""
    PAUSED = "paused"
    """The path works as far as the service, whose endpoints are paused: nothing is wrong."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """``reason`` is a finish reason, or the code of an error: never a text of anybody's."""

    outcome: Outcome
    reason: str
    duration_ms: float


def outcome_of(last: Done | Problem) -> tuple[Outcome, str]:
    """Return what an answer's last event, or the problem in place of an answer, says of the path."""
    if isinstance(last, Problem):
        paused = last.code == EndpointPausedError.code
        return (Outcome.PAUSED if paused else Outcome.FAILED), last.code
    code = last.fallback or (last.reason if last.finish_reason is FinishReason.SOURCES_ONLY else None)
    if code == EndpointPausedError.code:
        return Outcome.PAUSED, EndpointPausedError.code
    if last.citations and code not in _MODEL_FAILED:
        return Outcome.WORKING, last.finish_reason.value
    return Outcome.DEGRADED, code or last.finish_reason.value
