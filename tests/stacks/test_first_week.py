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

from assistant.tenant.deployed_names import ANSWER_ENDED
from stacks.tenant_stack import entries
from tests.stacks.deployed_week import BEGINS, MINUTES, SUNDAY, Run, jobs_of
from tests.stacks.first_week import (
    ALARM,
    INSUFFICIENT,
    OK,
    Samples,
    points_of,
    raised,
    states_of,
)
from tests.stacks.synthesized import ROOT, assembly_folder, templates_in
from tests.stacks.trail_filters import matches
from tests.stacks.values import description_of, entry_of, resources_of

TENANTS = ("pharmacy", "clinic", "sandbox")
SHIFTED = ROOT / "tests/faults/shifted_clock"
DAY = 24 * 60
FIRST_DOCUMENT = 26 * 60
PROBE = "lambdas.ask_probe"
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
    ("AWS/ES", "FreeStorageSpace"): 15 * 1024,
    ("AWS/ES", "JVMMemoryPressure"): 40,
    ("AWS/ES", "ClusterIndexWritesBlocked"): 0,
    ("AWS/ES", "KMSKeyError"): None,
    ("AWS/ES", "KMSKeyInaccessible"): None,
    ("AWS/ES", "AutomatedSnapshotFailure"): 0,
    ("AWS/Backup", "NumberOfBackupJobsAborted"): None,
    ("AWS/Backup", "NumberOfBackupJobsExpired"): None,
    ("AWS/Backup", "NumberOfBackupJobsFailed"): None,
    ("AWS/DynamoDB", "ReadThrottleEvents"): None,
    ("AWS/DynamoDB", "WriteThrottleEvents"): None,
    ("AWS/CertificateManager", "DaysToExpiry"): 190,
    ("AWS/Lambda", "Throttles"): 0,
    ("AWS/Logs", "IncomingLogEvents"): 1,
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): 0,
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): 0,
    ("AWS/States", "ExecutionsFailed"): None,
    ("AWS/States", "ExecutionsTimedOut"): None,
}
"""What each service publishes in each minute of a deployment that nobody uses; None: it publishes nothing
then. Pages "CloudWatch metrics" of the services' guides; free space: MiB of a new volume of 20 GiB,
less what the service keeps."""
WAITS = "no data until"
"""What the description of an alarm says that is in INSUFFICIENT_DATA before something happens."""


Published = dict[tuple[str, str, str], list[tuple[int, float]]]


@dataclass
class Week:
    """A tenant's week as CloudWatch has it."""

    tenant: str
    templates: Mapping[str, Mapping[str, Any]]
    served: Mapping[str, Any]
    """What ``served_week`` writes."""
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
        return _paused(self.templates.get("Models", {"Resources": {}}))

    def moment(self, minute: int) -> str:
        if minute < FIRST_DOCUMENT:
            return "empty"
        return "paused" if minute in self.paused else "known"

    def answers(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield the service's line of each answer: a quarter of an hour between two, from the second day on,
        in an office's hours, not on Sunday."""
        ended = [line for line in self.served["lines"] if line["event"] == ANSWER_ENDED]
        empty = [line for line in ended if line["finish_reason"] == "no_evidence"]
        known = [line for line in ended if line["finish_reason"] == "stop"]
        for minute in range(DAY, MINUTES, 15):
            now = (BEGINS + timedelta(minutes=minute)).astimezone(ZoneInfo("America/New_York"))
            if 8 <= now.hour < 18 and now.isoweekday() != SUNDAY and minute not in self.paused:
                lines = empty if self.moment(minute) == "empty" else known
                yield minute, lines[minute % len(lines)]

    @cached_property
    def published(self) -> Published:
        """Return the samples by namespace, name and dimensions."""
        found: Published = defaultdict(list)
        for minute, run in self.ticks():
            found["AWS/Lambda", "Errors", run.job].append((minute, float(run.failed)))
            for line in run.metrics:
                _embedded(found, minute, line)
        for minute in range(MINUTES if self.runs else 0):
            line = self.served["metrics"][minute % len(self.served["metrics"])]
            _embedded(found, minute, line | {"Service": f"assistant-{self.tenant}"})
        for job in jobs_of(self.templates):
            for minute in range(job.every_minutes, MINUTES if job.module == PROBE else 0, job.every_minutes):
                (line,) = self.served["probes"][self.moment(minute)]
                _embedded(found, minute, line | {"Tenant": self.tenant})
        for minute, line in self.answers():
            for template in self.templates.values():
                for body in resources_of(template, "AWS::Logs::MetricFilter").values():
                    _counted(found, minute, line, body["Properties"])
        assert self.served["statuses"]["paused"] == 503
        found["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", ""] = [(at, 1.0) for at in self.paused]
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
                samples += published.get((space, name, ""), [])
            else:
                assert space.startswith("PrivateCareAssistant"), (space, name)
                samples = published.get((space, name, _dimensions(where)), [])
            if name in planted:
                samples = [(minute, planted[name]) for minute in range(minutes)]
            return samples

        points, _ = points_of(alarm, read, minutes=minutes)
        return states_of(alarm, points)


def _embedded(found: Published, minute: int, line: Mapping[str, Any]) -> None:
    """Add the samples of a line in the embedded metric format."""
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            where = _dimensions({name: line[name] for name in names})
            for metric in directive["Metrics"]:
                values = line[metric["Name"]]
                for value in values if isinstance(values, list) else [values]:
                    found[directive["Namespace"], metric["Name"], where].append((minute, value))


def _counted(found: Published, minute: int, line: Mapping[str, Any], counting: Mapping[str, Any]) -> None:
    """Add the samples that a metric filter makes of a line. Patterns with references are those of a trail."""
    pattern = counting["FilterPattern"]
    if isinstance(pattern, str) and matches(pattern, line):
        for change in counting["MetricTransformations"]:
            where = _dimensions({one["Key"]: line[one["Value"][2:]] for one in change.get("Dimensions", ())})
            value = change["MetricValue"]
            number = float(line[value[2:]] if value.startswith("$.") else value)
            found[change["MetricNamespace"], change["MetricName"], where].append((minute, number))


def _dimensions(named: Mapping[str, Any]) -> str:
    return json.dumps(named, sort_keys=True)


def _paused(template: Mapping[str, Any]) -> set[int]:
    """Return the minutes in which a tenant is paused, by its schedules of power."""
    changes: list[tuple[datetime, bool]] = []
    for body in resources_of(template, "AWS::Scheduler::Schedule").values():
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
    folders = [str(assembly_folder(assembly, tenant)) for tenant in TENANTS]
    told = _output_of("tests.stacks.deployed_week", *folders, PYTHONPATH=paths, SHIFTED_CLOCK_S="0")
    return [Run(**json.loads(line)) for line in told.splitlines()]


@pytest.fixture(scope="module")
def served() -> Mapping[str, Any]:
    """What a service and a probe write without documents, with one, and paused."""
    return json.loads(_output_of("tests.stacks.served_week", PYTHONPATH=str(ROOT)))


def _output_of(module: str, *arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    given = os.environ | environment
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def week_of(
    tenant: str, assembly: Path, runs: Sequence[Run], served: Mapping[str, Any], *, fault: bool = False
) -> Week:
    of_tenant = [run for run in runs if run.tenant == tenant]
    return Week(tenant, templates_in(assembly_folder(assembly, tenant)), served, of_tenant, fault)


@pytest.mark.parametrize("tenant", TENANTS)
def test_the_first_week_has_no_alarm_and_no_error(
    tenant: str, assembly: Path, runs: Sequence[Run], served: Mapping[str, Any]
) -> None:
    week = week_of(tenant, assembly, runs, served)
    whole = [run for run in week.runs if not run.fault]
    assert {run.job for run in whole if run.failed} == set()
    lines = [*served["lines"], *(line for run in whole for line in run.lines)]
    assert [line for line in lines if line["level"] not in ("debug", "info")] == []

    states = {name: week.states_of(alarm) for name, alarm in week.alarms()}
    assert len(states) > 30
    assert {name: raised(after) for name, after in states.items() if ALARM in after} == {}
    waiting = {name for name, after in states.items() if after[len(after) // 7 - 1] == INSUFFICIENT}
    said = {name for name, alarm in week.alarms() if WAITS in description_of(alarm)}
    assert waiting == said


def test_the_care_side_s_alarms_end_with_the_first_document_and_say_so(
    care_assembly: Path, served: Mapping[str, Any]
) -> None:
    week = Week("pharmacy", templates_in(care_assembly / "assembly-PharmacyCare"), served, ())
    states = {alarm["MetricName"]: week.states_of(alarm) for _, alarm in week.alarms()}
    ended = {name: after.index(OK, raised(after)[0]) for name, after in states.items()}
    assert ended == {"ProbeFailed": 2, "ProbeDegraded": FIRST_DOCUMENT // 5}, "periods of five minutes"
    assert all(len(raised(after)) == 1 for after in states.values())
    assert all(" On until " in alarm["AlarmDescription"] for _, alarm in week.alarms())


@pytest.mark.parametrize("tenant", TENANTS)
def test_every_alarm_comes_with_its_cause(
    tenant: str, assembly: Path, runs: Sequence[Run], served: Mapping[str, Any]
) -> None:
    week = week_of(tenant, assembly, runs, served)
    for name, alarm in week.alarms():
        queries = alarm.get("Metrics", [{"Id": "", "MetricStat": {"Metric": alarm}}])
        watched = [one for one in queries if "MetricStat" in one and one["Id"] not in ("running", "serving")]
        value = 0.0 if alarm["ComparisonOperator"].startswith("Less") else max(100.0, alarm["Threshold"])
        planted = {one["MetricStat"]["Metric"]["MetricName"]: value for one in watched}
        whole = alarm["EvaluationPeriods"] * (alarm.get("Period") or watched[0]["MetricStat"]["Period"]) // 60
        assert raised(week.states_of(alarm, minutes=whole, **planted)), name


@pytest.mark.parametrize("tenant", ["sandbox"])
def test_jobs_that_reach_nothing_raise_their_alarms(
    tenant: str, assembly: Path, runs: Sequence[Run], served: Mapping[str, Any]
) -> None:
    week = week_of(tenant, assembly, runs, served, fault=True)
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
