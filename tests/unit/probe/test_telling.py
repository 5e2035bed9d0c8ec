"""The probe's line: figures under the names that the alarms ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assistant.probe import Outcome, ProbeResult
from assistant.probe.probe import tell
from assistant.settings.deployed_names import NAMESPACE
from assistant.settings.functions import (
    PROBE_DEGRADED,
    PROBE_DIMENSION,
    PROBE_DURATION,
    PROBE_FAILED,
    PROBE_PAUSED,
)


def line_of(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    tell(ProbeResult(outcome=outcome, reason="some_code", duration_ms=12.5), tenant="clinic")
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
def test_only_the_figure_of_the_outcome_is_raised(
    outcome: Outcome, raised: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    line = line_of(outcome, capsys)
    for name in (PROBE_FAILED, PROBE_DEGRADED, PROBE_PAUSED):
        assert line[name] == [1.0 if name == raised else 0.0]


def test_the_figures_have_one_dimension_the_tenant(capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of(Outcome.WORKING, capsys)
    (declared,) = line["_aws"]["CloudWatchMetrics"]
    assert (declared["Namespace"], declared["Dimensions"]) == (NAMESPACE, [[PROBE_DIMENSION]])
    assert line[PROBE_DIMENSION] == "clinic"
    assert PROBE_DURATION in {metric["Name"] for metric in declared["Metrics"]}


def test_the_line_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of(Outcome.FAILED, capsys)
    assert (line["outcome"], line["reason"]) == ("failed", "some_code")
