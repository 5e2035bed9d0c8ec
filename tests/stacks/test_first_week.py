"""The first week of the shipped tenants: no alarm and no error, and every alarm comes with its own cause.

What functions and tasks publish is real (``deployed_week``); what AWS publishes is a table of an idle
deployment. Alarms, schedules and hours of power are read from the templates.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from stacks.tenant_stack import entries
from tests.stacks.deployed_week import BEGINS, MINUTES, Run
from tests.stacks.first_week import (
    ALARM,
    INSUFFICIENT,
    OK,
    Samples,
    points_of,
    raised,
    state_after,
    states_of,
)
from tests.stacks.synthesized import ROOT, assembly_folder, templates_in
from tests.stacks.values import description_of, entry_of, resources_of

TENANTS = ("pharmacy", "clinic", "sandbox")
SHIFTED = ROOT / "tests/faults/shifted_clock"
DAY = 24 * 60
FAULT_FROM = 3 * DAY
MODELS = ("AWS/SageMaker", "/aws/sagemaker/Endpoints")
"""Namespaces without data while the endpoints are removed."""
IDLE: Mapping[tuple[str, str], float | None] = {
    ("AWS/ApplicationELB", "HealthyHostCount"): 2,
    ("AWS/ApplicationELB", "UnHealthyHostCount"): 0,
    ("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count"): None,
    ("AWS/SageMaker", "Invocation4XXErrors"): None,
    ("AWS/SageMaker", "Invocation5XXErrors"): None,
    ("AWS/SageMaker", "ModelLatency"): None,
    ("AWS/SageMaker", "FirstChunkModelLatency"): None,
    ("/aws/sagemaker/Endpoints", "CPUUtilization"): 3,
    ("AWS/ES", "ClusterStatus.red"): 0,
    ("AWS/ES", "ClusterStatus.yellow"): 0,
    ("AWS/ES", "FreeStorageSpace"): 90 * 1024,
    ("AWS/ES", "JVMMemoryPressure"): 40,
    ("AWS/ES", "ClusterIndexWritesBlocked"): 0,
    ("AWS/ES", "KMSKeyError"): None,
    ("AWS/ES", "KMSKeyInaccessible"): None,
    ("AWS/ES", "AutomatedSnapshotFailure"): 0,
    ("AWS/DynamoDB", "ReadThrottleEvents"): None,
    ("AWS/DynamoDB", "WriteThrottleEvents"): None,
    ("AWS/Lambda", "Throttles"): 0,
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): 0,
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): 0,
    ("AWS/States", "ExecutionsFailed"): None,
    ("AWS/States", "ExecutionsTimedOut"): None,
}
"""What each service publishes in each minute of a deployment that nobody uses; None: it publishes nothing
then. Pages "CloudWatch metrics" of the services' guides; free space: MiB of a new volume of 100 GiB."""
WAITS = "no data until"
"""What the description of an alarm says that is in INSUFFICIENT_DATA before something happens."""


@dataclass
class Week:
    """A tenant's week as CloudWatch has it."""

    templates: Mapping[str, Mapping[str, Any]]
    runs: Sequence[Run]
    fault: bool = False
    """Whether no store can be reached from ``FAULT_FROM`` on."""

    def alarms(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for template in self.templates.values():
            assert not resources_of(template, "AWS::CloudWatch::CompositeAlarm"), "the judge knows none"
            for name, body in resources_of(template, "AWS::CloudWatch::Alarm").items():
                yield name, body["Properties"]

    def ticks(self) -> Iterator[tuple[int, Run]]:
        """Yield each run that the schedules start, with the latest that was made of it."""
        by_job: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            by_job[run.job].append(run)
        for made in by_job.values():
            whole, broken = [run for run in made if not run.fault], [run for run in made if run.fault]
            for minute in range(made[0].every_minutes, MINUTES, made[0].every_minutes):
                if self.fault and minute >= FAULT_FROM:
                    yield minute, broken[0]
                else:
                    yield minute, [run for run in whole if run.minute <= minute][-1]

    @cached_property
    def paused(self) -> set[int]:
        return _paused(self.templates)

    @cached_property
    def published(self) -> Mapping[tuple[str, str, str], list[tuple[int, float]]]:
        """Return the samples of the runs by namespace, name and dimensions."""
        found: dict[tuple[str, str, str], list[tuple[int, float]]] = defaultdict(list)
        for minute, run in self.ticks():
            found["AWS/Lambda", "Errors", run.job].append((minute, float(run.failed)))
            for line in run.metrics:
                for directive in line["_aws"]["CloudWatchMetrics"]:
                    for names in directive["Dimensions"]:
                        where = _dimensions({name: line[name] for name in names})
                        for metric in directive["Metrics"]:
                            values = line[metric["Name"]]
                            for value in values if isinstance(values, list) else [values]:
                                found[directive["Namespace"], metric["Name"], where].append((minute, value))
        return found

    def states_of(self, alarm: Mapping[str, Any], *, minutes: int = MINUTES, **planted: float) -> list[str]:
        """Return the states of an alarm; ``planted``: values of metrics in every minute, by name."""
        published, paused = self.published, self.paused

        def read(metric: Mapping[str, Any]) -> Samples:
            space, name = metric["Namespace"], metric["MetricName"]
            where = {one["Name"]: one["Value"] for one in metric.get("Dimensions", ())}
            if (space, name) == ("AWS/Lambda", "Errors"):
                function = json.dumps(where)
                found = [
                    one for key, one in published.items() if key[:2] == (space, name) and key[2] in function
                ]
                samples = [sample for one in found for sample in one]
            elif (space, name) in IDLE:
                value = IDLE[space, name]
                there = [minute for minute in range(minutes) if not (space in MODELS and minute in paused)]
                samples = [] if value is None else [(minute, value) for minute in there]
            else:
                assert space.startswith("PrivateCareAssistant"), (space, name)
                samples = published.get((space, name, _dimensions(where)), [])
            if name in planted:
                samples = [(minute, planted[name]) for minute in range(minutes)]
            return samples

        points, _ = points_of(alarm, read, minutes=minutes)
        return states_of(alarm, points)


def _dimensions(named: Mapping[str, Any]) -> str:
    return json.dumps(named, sort_keys=True)


def _paused(templates: Mapping[str, Mapping[str, Any]]) -> set[int]:
    """Return the minutes in which a tenant is paused, by its schedules of power."""
    changes: list[tuple[datetime, bool]] = []
    for body in resources_of(templates["Models"], "AWS::Scheduler::Schedule").values():
        schedule = body["Properties"]
        minute, hour, _, _, days, _ = schedule["ScheduleExpression"].removeprefix("cron(")[:-1].split()
        pauses = "Pause" in json.dumps(schedule["Target"]["Arn"])
        for number in range(9):
            day = BEGINS.astimezone(ZoneInfo(schedule["ScheduleExpressionTimezone"])) + timedelta(
                days=number - 1
            )
            if days == "*" or (days == "MON-FRI" and day.isoweekday() < 6):
                changes.append((day.replace(hour=int(hour), minute=int(minute)), pauses))
    minutes = ((minute, BEGINS + timedelta(minutes=minute)) for minute in range(MINUTES))
    changes.sort()
    return {minute for minute, now in minutes if [False, *(to for at, to in changes if at <= now)][-1]}


@pytest.fixture(scope="module")
def runs(assembly: Path) -> Sequence[Run]:
    """What the schedules of the tenants start in a week, and once more while nothing answers."""
    paths = os.pathsep.join(map(str, (SHIFTED, ROOT)))
    environment = os.environ | {"PYTHONPATH": paths, "SHIFTED_CLOCK_S": "0"}
    folders = [assembly_folder(assembly, tenant) for tenant in TENANTS]
    command = [sys.executable, "-m", "tests.stacks.deployed_week", *map(str, folders)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [Run(**json.loads(line)) for line in done.stdout.splitlines()]


def week_of(tenant: str, assembly: Path, runs: Sequence[Run], *, fault: bool = False) -> Week:
    of_tenant = [run for run in runs if run.tenant == tenant]
    return Week(templates_in(assembly_folder(assembly, tenant)), of_tenant, fault)


@pytest.mark.parametrize("tenant", TENANTS)
def test_the_first_week_has_no_alarm_and_no_error(tenant: str, assembly: Path, runs: Sequence[Run]) -> None:
    week = week_of(tenant, assembly, runs)
    whole = [run for run in week.runs if not run.fault]
    assert {run.job for run in whole if run.failed} == set()
    assert [line for run in whole for line in run.lines if line["level"] not in ("debug", "info")] == []

    states = {name: week.states_of(alarm) for name, alarm in week.alarms()}
    assert len(states) > 30
    assert {name: raised(after) for name, after in states.items() if ALARM in after} == {}
    waiting = {name for name, after in states.items() if after[len(after) // 7 - 1] == INSUFFICIENT}
    said = {name for name, alarm in week.alarms() if WAITS in description_of(alarm)}
    assert waiting == said


@pytest.mark.parametrize("tenant", TENANTS)
def test_every_alarm_comes_with_its_cause(tenant: str, assembly: Path, runs: Sequence[Run]) -> None:
    week = week_of(tenant, assembly, runs)
    for name, alarm in week.alarms():
        queries = alarm.get("Metrics", [{"Id": "", "MetricStat": {"Metric": alarm}}])
        watched = [one for one in queries if "MetricStat" in one and one["Id"] not in ("running", "serving")]
        value = 0.0 if alarm["ComparisonOperator"].startswith("Less") else max(100.0, alarm["Threshold"])
        planted = {one["MetricStat"]["Metric"]["MetricName"]: value for one in watched}
        whole = alarm["EvaluationPeriods"] * (alarm.get("Period") or watched[0]["MetricStat"]["Period"]) // 60
        assert raised(week.states_of(alarm, minutes=whole, **planted)), name


@pytest.mark.parametrize("tenant", TENANTS)
def test_jobs_that_reach_nothing_raise_their_alarms(tenant: str, assembly: Path, runs: Sequence[Run]) -> None:
    week = week_of(tenant, assembly, runs, fault=True)
    first = {name: raised(week.states_of(alarm))[:1] for name, alarm in week.alarms()}
    by_entry = {entry_of(alarm): first[name] for name, alarm in week.alarms() if first[name]}
    assert by_entry == {
        "functions-failing": [FAULT_FROM // 5 + 1],
        "audit-not-closed": [FAULT_FROM // 60 + 6],
        "sets-not-made": [MINUTES // 60],  # its first run is that of the third day
    }


def test_queries_of_alarms_name_the_level_as_lines_of_a_log_do(runs: Sequence[Run]) -> None:
    errors = [line for run in runs if run.fault for line in run.lines]
    named = {field for entry in entries().values() for field in re.findall(r"(\w+) (?:=|in) ", entry.query)}
    levels = {field for field in named if "level" in field}
    assert levels == {"level"}
    assert {line["level"] for line in errors} == {"error"}


@pytest.mark.parametrize(
    ("points", "enough", "states"),
    [
        ("0-X-X", 3, (OK, OK, OK, OK)),
        ("0----", 3, (OK, OK, OK, OK)),
        ("-----", 3, (INSUFFICIENT, "kept", ALARM, OK)),
        ("0XX-X", 3, (ALARM, ALARM, ALARM, ALARM)),
        ("----X", 3, (INSUFFICIENT, "kept", ALARM, OK)),
        ("X----", 3, (ALARM, "kept", ALARM, OK)),
        ("0-X-X", 2, (ALARM, ALARM, ALARM, ALARM)),
        ("00X0X", 2, (ALARM, ALARM, ALARM, ALARM)),
        ("0-X--", 2, (OK, OK, ALARM, OK)),
        ("----0", 2, (OK, OK, ALARM, OK)),
        ("----X", 2, (INSUFFICIENT, "kept", ALARM, OK)),
    ],
)
def test_missing_data_are_judged_as_the_page_of_cloudwatch_shows(
    points: str, enough: int, states: tuple[str, ...]
) -> None:
    seen = [None if point == "-" else point == "X" for point in points]
    treatments = ("missing", "ignore", "breaching", "notBreaching")
    judged = [state_after(seen, "kept", periods=3, enough=enough, missing=each) for each in treatments]
    assert tuple(judged) == states
