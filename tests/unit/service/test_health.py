"""Metrics: lines of the embedded metric format for CloudWatch, and which failures count."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from assistant.answer.events import Done, Problem
from assistant.domain.answers import FinishReason, Mode, Usage
from assistant.domain.errors import AssistantError
from assistant.service.health import (
    AnswerObserver,
    LiveMetrics,
    ServiceMetrics,
    TaskMetrics,
    TenantReads,
    caller_is_identified,
)
from assistant.tenant import deployed_names
from tests.stage.tenant_stores import SteppedClock

LONGEST_METRIC_VALUES = 100
"""Of one metric in one line: the specification's limit."""


class Task:
    """A task whose counts a test sets."""

    def __init__(self) -> None:
        self.active = 0
        self.failures = 0
        self.put_at: list[datetime] = []
        self.clock = SteppedClock()
        self.live = LiveMetrics(CollectorRegistry())
        self.live.credentials["clinic"] = lambda: self.put_at
        self.metrics = TaskMetrics(
            service="assistant-clinic",
            active=lambda: self.active,
            failures=lambda: self.failures,
            clock=self.clock,
            live=self.live,
        )

    def line(self) -> dict[str, Any]:
        (line,) = self.lines()
        return line

    def lines(self) -> list[dict[str, Any]]:
        lines = self.metrics.lines()
        assert not lines or lines.endswith(b"\n")
        return [orjson.loads(line) for line in lines.splitlines()]


def test_a_line_has_every_sample_since_the_last() -> None:
    task = Task()
    for task.active in (1, 3, 0):
        task.metrics.sample()
    assert task.line()[deployed_names.ACTIVE_STREAMS] == [1, 3, 0]
    task.metrics.sample()
    assert task.line()[deployed_names.ACTIVE_STREAMS] == [0]  # also without work


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


@pytest.mark.parametrize(("identified", "counted"), [(True, 2), (False, 0)])
def test_only_failures_of_identified_callers_count_against_a_deployment(
    identified: bool, counted: int
) -> None:
    metrics = ServiceMetrics()
    observer = AnswerObserver(metrics, tenant="clinic", started_s=0.0, clock=SteppedClock())
    token = caller_is_identified.set(identified)
    try:
        for code in ("endpoint_paused", "overloaded", AssistantError.code):  # the last alone is unexpected
            metrics.refuse(code)
            observer.see(problem(code))
    finally:
        caller_is_identified.reset(token)
    assert metrics.internal_error_count() == counted
    caller = "identified" if identified else "anonymous"
    assert (
        f'assistant_internal_errors_total{{caller="{caller}"}} 2.0'
        in generate_latest(metrics.registry).decode()
    )


READ, SYSTEM = deployed_names.LIVE_READS, deployed_names.SYSTEM_DIMENSION


def test_each_system_that_was_called_has_a_line_of_its_own() -> None:
    task = Task()
    reads = TenantReads(task.live, "clinic")
    for outcome, seconds in [
        ("ready", 0.25),
        ("not_found", 0.5),
        ("system_late", 2.0),
        ("system_unavailable", 0.0),
        ("system_invalid", 0.1),
        ("not_allowed", 0.1),
        ("cancelled", 0.7),
    ]:
        reads.read_ended("orders", outcome, seconds=seconds)
    reads.read_ended("stores", "ready", seconds=0.01)
    task.metrics.sample()
    first, orders, stores = task.lines()
    assert READ not in first
    (directive,) = orders["_aws"]["CloudWatchMetrics"]
    assert directive["Dimensions"] == [[deployed_names.DIMENSION, SYSTEM]]
    assert (orders[deployed_names.DIMENSION], orders[SYSTEM]) == ("assistant-clinic", "orders")
    assert {name: value for name, value in orders.items() if name[0] == "L"} == {
        READ: 6,
        deployed_names.LIVE_READS_FAILED: 2,
        deployed_names.LIVE_READS_INVALID: 1,
        deployed_names.LIVE_READS_NOT_ALLOWED: 1,
        deployed_names.LIVE_READ_TIME: [2000, 500, 250, 100, 100],
    }
    assert (stores[SYSTEM], stores[READ]) == ("stores", 1)
    assert deployed_names.LIVE_READS_FAILED not in stores
    assert task.lines() == []


@pytest.mark.parametrize("calls", [100, 101, 1_999, 5_000])
def test_the_times_of_many_calls_fit_a_line_and_keep_their_distribution(calls: int) -> None:
    task = Task()
    reads = TenantReads(task.live, "clinic")
    for number in range(calls):
        reads.read_ended("orders", "ready", seconds=number % 1_000 / 1_000)
    line = task.line()
    times = sorted(line[deployed_names.LIVE_READ_TIME])
    assert line[READ] == calls
    assert 50 <= len(times) <= LONGEST_METRIC_VALUES
    assert times[-1] == min(calls, 1_000) - 1
    assert times[len(times) // 2] == pytest.approx(min(calls, 1_000) / 2, abs=20)


def test_what_answers_use_is_in_one_line_by_the_service_and_counted_by_tenant() -> None:
    task, metrics = Task(), ServiceMetrics()
    task.metrics.live = metrics.live
    clock = SteppedClock()
    usage = Usage(prompt_tokens=4_500, completion_tokens=45)
    for mode in (Mode.WRITTEN, Mode.QUOTED):
        observer = AnswerObserver(metrics, tenant="clinic", started_s=clock.monotonic_s(), clock=clock)
        clock.step(1.5)
        observer.see(ended(mode, usage=usage if mode is Mode.WRITTEN else Usage()))
    TenantReads(metrics.live, "clinic").texts_embedded(3)

    task.metrics.sample()
    line = task.line()
    told = {
        deployed_names.WRITTEN_ANSWERS: 1,
        deployed_names.QUOTED_ANSWERS: 1,
        deployed_names.PROMPT_TOKENS: 4_500,
        deployed_names.COMPLETION_TOKENS: 45,
        deployed_names.ANSWER_SECONDS: 3.0,
        deployed_names.EMBEDDED_TEXTS: 3,
    }
    assert {name: line[name] for name in told} == told
    assert line[deployed_names.DIMENSION] == "assistant-clinic"
    text = generate_latest(metrics.registry).decode()
    for name, amount in told.items():
        assert f'assistant_used_total{{tenant="clinic",what="{name}"}} {float(amount)}' in text
    task.metrics.sample()
    assert not told.keys() & task.line().keys()  # CloudWatch bills a metric by the hours that have data


def ended(mode: Mode, *, usage: Usage) -> Done:
    return Done(finish_reason=FinishReason.STOP, citations=(), usage=usage, timings_ms={}, mode=mode)


def problem(code: str) -> Problem:
    return Problem(title="t", status=500, detail="d", code=code, retryable=False)


def test_a_failure_is_counted_in_one_line() -> None:
    task = Task()
    reported: list[int] = []
    for task.failures in (2, 2, 5):
        task.metrics.sample()
        reported.append(task.line()[deployed_names.INTERNAL_ERRORS])
    assert reported == [2, 0, 3]
