"""The probe's outcome for an answer's last event, and the line of metrics that it writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assistant.answering.events import Done, Problem
from assistant.domain.answers import FinishReason, Usage
from assistant.probe.probe import Outcome, ProbeResult, outcome_of, write_metrics
from assistant.settings.deployed_names import (
    NAMESPACE,
    PROBE_DEGRADED,
    PROBE_DIMENSION,
    PROBE_DURATION,
    PROBE_FAILED,
    PROBE_PAUSED,
)


def done(
    finish_reason: FinishReason = FinishReason.STOP,
    *,
    reason: str | None = None,
    fallback: str | None = None,
    citations: tuple[int, ...] = (1,),
) -> Done:
    return Done(
        finish_reason=finish_reason,
        citations=citations,
        usage=Usage(prompt_tokens=1, completion_tokens=1),
        timings_ms={},
        reason=reason,
        fallback=fallback,
    )


def problem(code: str, *, status: int = 503) -> Problem:
    return Problem(title="", status=status, detail="", code=code, retryable=True)


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_an_answer_with_a_source_came_the_whole_way(finish_reason: str) -> None:
    assert outcome_of(done(FinishReason(finish_reason))) == (Outcome.WORKING, finish_reason)


@pytest.mark.parametrize("fallback", ["unsupported", "repetition", "debris", "echo", "refused", "length"])
def test_a_text_that_a_check_refused_shows_a_model_that_answers(fallback: str) -> None:
    assert outcome_of(done(fallback=fallback)) == (Outcome.WORKING, "stop")


@pytest.mark.parametrize(
    "fallback",
    [
        "generation_unavailable",
        "generation_interrupted",
        "generation_late",
        "overloaded",
        "deadline",
        "deadline_exceeded",
    ],
)
def test_quotes_in_place_of_a_model_that_failed_are_a_path_with_no_model_behind_it(fallback: str) -> None:
    assert outcome_of(done(fallback=fallback)) == (Outcome.DEGRADED, fallback)


def test_sources_without_text_are_a_path_with_nothing_to_quote_behind_it() -> None:
    ended = done(FinishReason.SOURCES_ONLY, reason="nothing_to_quote", citations=())
    assert outcome_of(ended) == (Outcome.DEGRADED, "nothing_to_quote")


@pytest.mark.parametrize("finish_reason", ["no_evidence", "stop"])
def test_an_end_without_a_source_does_not_count_as_working(finish_reason: str) -> None:
    ended = done(FinishReason(finish_reason), reason="A sentence for agents.", citations=())
    assert outcome_of(ended) == (Outcome.DEGRADED, finish_reason)


@pytest.mark.parametrize(
    "last",
    [
        problem("endpoint_paused"),
        done(fallback="endpoint_paused"),
        done(FinishReason.SOURCES_ONLY, reason="endpoint_paused", citations=()),
    ],
    ids=["before the answer", "quotes in place of it", "within it"],
)
def test_a_paused_tenant_is_nothing_wrong(last: Done | Problem) -> None:
    assert outcome_of(last) == (Outcome.PAUSED, "endpoint_paused")


@pytest.mark.parametrize(
    ("code", "status"), [("unauthenticated", 401), ("overloaded", 429), ("search_unavailable", 503)]
)
def test_a_refusal_is_a_failure_by_its_code(code: str, status: int) -> None:
    assert outcome_of(problem(code, status=status)) == (Outcome.FAILED, code)


def line_of(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    write_metrics(ProbeResult(outcome=outcome, reason="some_code", duration_ms=12.5), tenant="clinic")
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("outcome", "raised"),
    [
        (Outcome.WORKING, None),
        (Outcome.FAILED, PROBE_FAILED),
        (Outcome.DEGRADED, PROBE_DEGRADED),
        (Outcome.PAUSED, PROBE_PAUSED),
    ],
)
def test_only_the_metric_of_the_outcome_is_1(
    outcome: Outcome, raised: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    line = line_of(outcome, capsys)
    for name in (PROBE_FAILED, PROBE_DEGRADED, PROBE_PAUSED):
        assert line[name] == [1.0 if name == raised else 0.0]


def test_the_metrics_have_one_dimension_the_tenant(capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of(Outcome.WORKING, capsys)
    (declared,) = line["_aws"]["CloudWatchMetrics"]
    assert (declared["Namespace"], declared["Dimensions"]) == (NAMESPACE, [[PROBE_DIMENSION]])
    assert line[PROBE_DIMENSION] == "clinic"
    assert PROBE_DURATION in {metric["Name"] for metric in declared["Metrics"]}


def test_the_line_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of(Outcome.FAILED, capsys)
    assert (line["outcome"], line["reason"]) == ("failed", "some_code")
