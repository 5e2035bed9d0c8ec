"""The first week of the shipped tenants: no alarm, and every alarm comes with its own cause.

Alarms, schedules and hours of power are read from the templates. What AWS, the service and each scheduled run
publish is a table of an idle deployment; that they publish it: the tests of each.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from assistant.options.models_lab import make_sets
from assistant.tenant import deployed_names
from tests.stacks.cloudwatch import ALARM, INSUFFICIENT, OK, Samples, points_of, raised, states_of
from tests.stacks.synthesized import assembly_folder, templates_in
from tests.stacks.values import description_of, entry_of, resources_of

TENANTS = ("pharmacy", "clinic", "sandbox")
DAY = 24 * 60
BEGINS = datetime(2026, 11, 2, 15, 7, tzinfo=UTC)
"""The end of the deployment: a Monday morning in New York."""
MINUTES = 7 * DAY
FIRST_DOCUMENT = 26 * 60
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
PUBLISHED_BY: Mapping[str, tuple[str, float]] = {
    "lambdas.close_audit_days": (deployed_names.AUDIT_CLOSED, 1.0),
    "lambdas.sweep_quarantine": (deployed_names.OLDEST_RAW_CAPTURE_AGE, 0.0),
    "lambdas.move_feedback": (deployed_names.OLDEST_SIGNAL_AGE, 0.0),
    make_sets.__name__: (deployed_names.SETS_RUN, 1.0),
}
"""Module of a scheduled function or task = the metric and value of a run that ended well."""
BY_SERVICE = (deployed_names.ACTIVE_STREAMS, deployed_names.INTERNAL_ERRORS)
PROBE = "lambdas.ask_probe"
WAITS = "no data until"
"""What the description of an alarm says that is in INSUFFICIENT_DATA before something happens."""
_UNITS = {"minute": 1, "hour": 60, "day": DAY}


@dataclass(frozen=True, slots=True)
class Job:
    """What a schedule of a template starts."""

    name: str
    """Logical id of its function, or of its task's definition."""
    module: str
    every_minutes: int


def jobs_of(templates: Mapping[str, Mapping[str, Any]]) -> Iterator[Job]:
    """Yield what the schedules of a stage's templates start at a rate."""
    for template in templates.values():
        functions, tasks = (
            resources_of(template, kind) for kind in ("AWS::Lambda::Function", "AWS::ECS::TaskDefinition")
        )
        for body in resources_of(template, "AWS::Events::Rule").values():
            if expression := body["Properties"].get("ScheduleExpression"):
                (target,) = body["Properties"]["Targets"]
                name = target["Arn"]["Fn::GetAtt"][0]
                function = functions[name]["Properties"]
                entry = function.get("Handler") or function["ImageConfig"]["Command"][0]
                yield Job(name, entry.removesuffix(".handle"), _minutes(expression))
        for body in resources_of(template, "AWS::Scheduler::Schedule").values():
            if (expression := body["Properties"]["ScheduleExpression"]).startswith("rate("):
                ((name, task),) = tasks.items()
                (container,) = task["Properties"]["ContainerDefinitions"]
                yield Job(name, container["EntryPoint"][-1], _minutes(expression))


def _minutes(rate: str) -> int:
    count, unit = re.fullmatch(r"rate\((\d+) (\w+?)s?\)", rate).groups()  # type: ignore[union-attr]
    return int(count) * _UNITS[unit]


Published = dict[tuple[str, str, str], list[tuple[int, float]]]


@dataclass
class Week:
    """A tenant's week as CloudWatch has it."""

    tenant: str
    templates: Mapping[str, Mapping[str, Any]]
    fault: bool = False
    """Whether no store can be reached from ``FAULT_FROM`` on."""

    def alarms(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for template in self.templates.values():
            assert not resources_of(template, "AWS::CloudWatch::CompositeAlarm"), "the judge knows none"
            for name, body in resources_of(template, "AWS::CloudWatch::Alarm").items():
                yield name, body["Properties"]

    @cached_property
    def paused(self) -> set[int]:
        return _paused(self.templates.get("Models", {"Resources": {}}))

    @cached_property
    def published(self) -> Published:
        """Return the samples by namespace, name and dimensions."""
        found: Published = defaultdict(list)
        space, own = deployed_names.NAMESPACE, _dimensions({"Service": f"assistant-{self.tenant}"})
        for name in BY_SERVICE:
            found[space, name, own] = [(minute, 0.0) for minute in range(MINUTES)]
        for job in jobs_of(self.templates):
            for minute in range(job.every_minutes, MINUTES, job.every_minutes):
                is_broken = self.fault and minute >= FAULT_FROM
                found["AWS/Lambda", "Errors", job.name].append((minute, float(is_broken)))
                if job.module in PUBLISHED_BY and not is_broken:
                    name, value = PUBLISHED_BY[job.module]
                    found[space, name, own].append((minute, value))
                if job.module == PROBE:
                    by_probe = _dimensions({deployed_names.PROBE_DIMENSION: self.tenant})
                    found[space, deployed_names.PROBE_FAILED, by_probe].append((minute, 0.0))
                    degraded = float(minute < FIRST_DOCUMENT)
                    found[space, deployed_names.PROBE_DEGRADED, by_probe].append((minute, degraded))
        # The answer of a paused service is 503.
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


def week_of(tenant: str, assembly: Path, *, fault: bool = False) -> Week:
    return Week(tenant, templates_in(assembly_folder(assembly, tenant)), fault)


@pytest.mark.parametrize("tenant", TENANTS)
def test_the_first_week_has_no_alarm(tenant: str, assembly: Path) -> None:
    week = week_of(tenant, assembly)
    states = {name: week.states_of(alarm) for name, alarm in week.alarms()}
    assert len(states) > 30
    assert {name: raised(after) for name, after in states.items() if ALARM in after} == {}
    waiting = {name for name, after in states.items() if after[len(after) // 7 - 1] == INSUFFICIENT}
    said = {name for name, alarm in week.alarms() if WAITS in description_of(alarm)}
    assert waiting == said


def test_the_care_side_s_alarms_end_with_the_first_document_and_say_so(assembly: Path) -> None:
    week = Week("pharmacy", templates_in(assembly / "assembly-PharmacyCare"))
    states = {alarm["MetricName"]: week.states_of(alarm) for _, alarm in week.alarms()}
    ended = {name: after.index(OK, raised(after)[0]) for name, after in states.items()}
    assert ended == {"ProbeFailed": 2, "ProbeDegraded": FIRST_DOCUMENT // 5}, "periods of five minutes"
    assert all(len(raised(after)) == 1 for after in states.values())
    assert all(" On until " in alarm["AlarmDescription"] for _, alarm in week.alarms())


@pytest.mark.parametrize("tenant", TENANTS)
def test_every_alarm_comes_with_its_cause(tenant: str, assembly: Path) -> None:
    week = week_of(tenant, assembly)
    for name, alarm in week.alarms():
        queries = alarm.get("Metrics", [{"Id": "", "MetricStat": {"Metric": alarm}}])
        watched = [one for one in queries if "MetricStat" in one and one["Id"] not in ("running", "serving")]
        value = 0.0 if alarm["ComparisonOperator"].startswith("Less") else max(100.0, alarm["Threshold"])
        planted = {one["MetricStat"]["Metric"]["MetricName"]: value for one in watched}
        whole = alarm["EvaluationPeriods"] * (alarm.get("Period") or watched[0]["MetricStat"]["Period"]) // 60
        assert raised(week.states_of(alarm, minutes=whole, **planted)), name


def test_jobs_that_reach_nothing_raise_their_alarms(assembly: Path) -> None:
    week = week_of("sandbox", assembly, fault=True)
    first = {name: raised(week.states_of(alarm))[:1] for name, alarm in week.alarms()}
    by_entry = {entry_of(alarm): first[name] for name, alarm in week.alarms() if first[name]}
    assert by_entry == {
        "functions-failing": [FAULT_FROM // 5 + 1],
        "audit-not-closed": [FAULT_FROM // 60 + 6],
        "sets-not-made": [MINUTES // 60],  # its first run is that of the third day
    }
