"""What an answer's end says of the path to it."""

from __future__ import annotations

import pytest

from assistant.answering.events import Done, Problem
from assistant.domain.answers import FinishReason, Usage
from assistant.probing.outcome import Outcome, outcome_of


def done(finish_reason: FinishReason, *, reason: str | None = None) -> Done:
    return Done(
        finish_reason=finish_reason,
        citations=(),
        usage=Usage(prompt_tokens=1, completion_tokens=1),
        timings_ms={},
        reason=reason,
    )


def problem(code: str, *, status: int = 503) -> Problem:
    return Problem(title="", status=status, detail="", code=code, retryable=True)


@pytest.mark.parametrize("finish_reason", ["stop", "length", "no_evidence", "refused"])
def test_an_answer_that_ended_by_itself_came_the_whole_way(finish_reason: str) -> None:
    assert outcome_of(done(FinishReason(finish_reason))) == (Outcome.WORKING, finish_reason)


def test_sources_without_text_are_a_path_with_no_model_behind_it() -> None:
    ended = done(FinishReason.SOURCES_ONLY, reason="generation_unavailable")
    assert outcome_of(ended) == (Outcome.DEGRADED, "generation_unavailable")


@pytest.mark.parametrize(
    "last",
    [problem("endpoint_paused"), done(FinishReason.SOURCES_ONLY, reason="endpoint_paused")],
    ids=["before the answer", "within it"],
)
def test_a_paused_tenant_is_nothing_wrong(last: Done | Problem) -> None:
    assert outcome_of(last) == (Outcome.PAUSED, "endpoint_paused")


@pytest.mark.parametrize(
    ("code", "status"), [("unauthenticated", 401), ("overloaded", 429), ("search_unavailable", 503)]
)
def test_a_refusal_is_a_failure_by_its_code(code: str, status: int) -> None:
    assert outcome_of(problem(code, status=status)) == (Outcome.FAILED, code)
