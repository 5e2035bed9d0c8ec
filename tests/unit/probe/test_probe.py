"""The probe's outcome for an answer's last event, and the line of metrics that it writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from assistant.answer.events import Done, Problem
from assistant.domain.answers import FinishReason, Usage
from assistant.domain.errors import ConfigurationError
from assistant.probe.probe import Outcome, ProbeResult, outcome_of, write_metrics
from assistant.probe.published_key import published_key
from assistant.tenant.deployed_names import (
    NAMESPACE,
    PROBE_DEGRADED,
    PROBE_DIMENSION,
    PROBE_DURATION,
    PROBE_FAILED,
    PROBE_PAUSED,
)


def done(finish_reason: str = "stop", *, citations: tuple[int, ...] = (1,), **more: Any) -> Done:
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    ended = FinishReason(finish_reason)
    return Done(finish_reason=ended, citations=citations, usage=usage, timings_ms={}, **more)


def problem(code: str, *, status: int = 503) -> Problem:
    return Problem(title="", status=status, detail="", code=code, retryable=True)


CHECKS = ("unsupported", "repetition", "debris", "echo", "refused", "length")
"""Checks that refused a text: the model answers."""
FAILURES = (
    *("generation_unavailable", "generation_interrupted", "generation_late"),
    *("overloaded", "deadline", "deadline_exceeded"),
)


@pytest.mark.parametrize(
    ("last", "outcome", "reason"),
    [
        (done("stop"), Outcome.WORKING, "stop"),
        (done("length"), Outcome.WORKING, "length"),
        *((done(fallback=check), Outcome.WORKING, "stop") for check in CHECKS),
        *((done(fallback=failure), Outcome.DEGRADED, failure) for failure in FAILURES),
        (done("sources_only", reason="no_quote", citations=()), Outcome.DEGRADED, "no_quote"),
        (done("no_evidence", reason="In words.", citations=()), Outcome.DEGRADED, "no_evidence"),
        (done("stop", reason="In words.", citations=()), Outcome.DEGRADED, "stop"),
        (problem("endpoint_paused"), Outcome.PAUSED, "endpoint_paused"),
        (done(fallback="endpoint_paused"), Outcome.PAUSED, "endpoint_paused"),
        (done("sources_only", reason="endpoint_paused", citations=()), Outcome.PAUSED, "endpoint_paused"),
        (problem("unauthenticated", status=401), Outcome.FAILED, "unauthenticated"),
        (problem("overloaded", status=429), Outcome.FAILED, "overloaded"),
        (problem("search_unavailable"), Outcome.FAILED, "search_unavailable"),
    ],
)
def test_the_last_event_says_how_far_the_path_works(
    last: Done | Problem, outcome: Outcome, reason: str
) -> None:
    assert outcome_of(last) == (outcome, reason)


@pytest.mark.parametrize(
    ("outcome", "raised"),
    [
        (Outcome.WORKING, None),
        (Outcome.FAILED, PROBE_FAILED),
        (Outcome.DEGRADED, PROBE_DEGRADED),
        (Outcome.PAUSED, PROBE_PAUSED),
    ],
)
def test_only_the_metric_of_the_outcome_is_1_and_its_dimension_the_tenant(
    outcome: Outcome, raised: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_metrics(ProbeResult(outcome=outcome, reason="some_code", duration_ms=12.5), tenant="clinic")
    line = json.loads(capsys.readouterr().out)
    for name in (PROBE_FAILED, PROBE_DEGRADED, PROBE_PAUSED):
        assert line[name] == [1.0 if name == raised else 0.0]
    (declared,) = line["_aws"]["CloudWatchMetrics"]
    assert (declared["Namespace"], declared["Dimensions"]) == (NAMESPACE, [[PROBE_DIMENSION]])
    assert line[PROBE_DIMENSION] == "clinic"
    assert PROBE_DURATION in {metric["Name"] for metric in declared["Metrics"]}


KEY = ECKey.generate_key("P-256")


def test_no_private_half_gets_out() -> None:
    assert "d" not in published_key(KEY.as_der(private=False))


@pytest.mark.parametrize(
    "der",
    [
        b"garbage",
        KEY.as_der(private=True),
        ECKey.generate_key("P-384").as_der(private=False),
        RSAKey.generate_key(2048).as_der(private=False),
    ],
    ids=["garbage", "a private key", "another curve", "an RSA key"],
)
def test_any_other_key_is_refused(der: bytes) -> None:
    with pytest.raises(ConfigurationError):
        published_key(der)
