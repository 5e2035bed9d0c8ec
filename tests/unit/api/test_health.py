"""Metrics: lines of the embedded metric format for CloudWatch, and which failures count."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from assistant.answering.events import Problem
from assistant.api.health import ServiceMetrics, TaskMetrics, caller_is_identified
from assistant.api.running import AnswerObserver
from assistant.domain.errors import AssistantError
from assistant.settings import deployed_names
from assistant.settings.process import ServiceSettings
from tests.fakes.clock import SteppedClock

LONGEST_METRIC_VALUES = 100
"""Of one metric in one line: the specification's limit."""


class Task:
    """A task whose counts a test sets."""

    def __init__(self) -> None:
        self.active = 0
        self.failures = 0
        self.refused = 0
        self.put_at: list[datetime] = []
        self.clock = SteppedClock()
        self.metrics = TaskMetrics(
            service="assistant-clinic",
            active=lambda: self.active,
            failures=lambda: self.failures,
            refused_releases=lambda: self.refused,
            clock=self.clock,
            credentials_put_at=lambda: self.put_at,
        )

    def line(self) -> dict[str, Any]:
        line = self.metrics.line()
        assert line is not None
        assert line.count(b"\n") == 1
        return orjson.loads(line)


def test_a_line_has_every_sample_since_the_last() -> None:
    task = Task()
    for task.active in (1, 3, 2):
        task.metrics.sample()
    assert task.line()[deployed_names.ACTIVE_STREAMS] == [1, 3, 2]
    task.metrics.sample()
    assert task.line()[deployed_names.ACTIVE_STREAMS] == [2]


def test_an_idle_task_writes_a_line_too() -> None:
    task = Task()
    task.metrics.sample()
    assert task.line()[deployed_names.ACTIVE_STREAMS] == [0]


def test_a_line_has_the_age_of_the_oldest_credential_that_is_in_use() -> None:
    task = Task()
    task.metrics.sample()
    assert deployed_names.SYSTEM_CREDENTIAL_AGE not in task.line()
    task.put_at = [task.clock.now() - timedelta(days=days) for days in (3, 91.5, 12)]
    task.metrics.sample()
    line = task.line()
    assert line[deployed_names.SYSTEM_CREDENTIAL_AGE] == 91.5
    told = [metric["Name"] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]]
    assert deployed_names.SYSTEM_CREDENTIAL_AGE in told


def test_without_samples_there_is_no_line() -> None:
    assert Task().metrics.line() is None


def test_a_failure_is_counted_in_one_line() -> None:
    task = Task()
    reported: list[int] = []
    for task.failures in (2, 2, 5):
        task.metrics.sample()
        reported.append(task.line()[deployed_names.INTERNAL_ERRORS])
    assert reported == [2, 0, 3]


def test_a_refused_release_is_in_every_line_while_it_is_refused() -> None:
    task = Task()
    reported: list[int] = []
    for task.refused in (1, 1, 0):
        task.metrics.sample()
        reported.append(task.line()[deployed_names.REFUSED_RELEASES])
    assert reported == [1, 1, 0]


def test_every_metric_that_is_declared_has_its_values_and_dimension() -> None:
    task = Task()
    task.metrics.sample()
    line = task.line()
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == deployed_names.NAMESPACE
    assert directive["Dimensions"] == [[deployed_names.DIMENSION]]
    assert line[deployed_names.DIMENSION] == "assistant-clinic"
    declared = {metric["Name"] for metric in directive["Metrics"]}
    assert line.keys() == {"_aws", deployed_names.DIMENSION} | declared
    assert line["_aws"]["Timestamp"] == int(SteppedClock().now().timestamp() * 1000)


def test_the_longest_interval_fits_a_line() -> None:
    (longest_s,) = [
        constraint.le
        for constraint in ServiceSettings.model_fields["metrics_interval_s"].metadata
        if hasattr(constraint, "le")
    ]
    assert longest_s <= LONGEST_METRIC_VALUES


def test_only_unexpected_errors_count_as_failures() -> None:
    metrics = ServiceMetrics()
    observer = AnswerObserver(metrics, tenant="clinic", started_s=0.0, clock=SteppedClock())
    for code in ("endpoint_paused", "overloaded", "dependency_unavailable"):
        metrics.refuse(code)
        observer.see(problem(code))
    assert metrics.internal_error_count() == 0
    identified = caller_is_identified.set(True)
    metrics.refuse(AssistantError.code)
    observer.see(problem(AssistantError.code))
    caller_is_identified.reset(identified)
    assert metrics.internal_error_count() == 2


@pytest.mark.parametrize(("identified", "counted"), [(True, 2), (False, 0)])
def test_only_failures_of_identified_callers_count_against_a_deployment(
    identified: bool, counted: int
) -> None:
    metrics = ServiceMetrics()
    token = caller_is_identified.set(identified)
    try:
        metrics.count_internal_error()
        metrics.refuse(AssistantError.code)
    finally:
        caller_is_identified.reset(token)
    assert metrics.internal_error_count() == counted
    caller = "identified" if identified else "anonymous"
    assert f'assistant_internal_errors_total{{caller="{caller}"}} 2.0' in metrics.text().decode()


def problem(code: str) -> Problem:
    return Problem(title="t", status=500, detail="d", code=code, retryable=False)
