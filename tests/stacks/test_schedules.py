"""Schedules and what they start: who pays, when the first one comes, what happens without capacity, and what
is kept of a start that failed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from assistant.options.desk.stack import LearningStack
from assistant.tenant.deployment_checks import contradictions
from stacks.processes import effective_tenant_file
from stacks.tenant import DeployedTenant
from tests.stacks.power.state_language import Call, CallFailedError, ExecutionFailedError, Pause, execute
from tests.stacks.synthesized import assembly_folder, templates_in
from tests.stacks.values import (
    DATA,
    before,
    deployed,
    only,
    orchestrator_of,
    resources_of,
    rights_of,
    stack_with,
    template_of,
    with_sections,
)

HOST = "wiki.clinic.example.com"
CONNECTOR = {
    "kind": "mediawiki",
    "api": f"https://{HOST}/api.php",
    "user": "Reader@assistant",
    "secret": "state:wiki",
    "every_minutes": 30,
    "reach": "wiki",
}
WAY = {
    "name": "wiki",
    "caller": "connectors",
    "port": 443,
    "service_name": "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0",
    "host_name": HOST,
    "ca_pem": "PEM",
}


def connected(way: dict[str, Any] | None = None, **connector: Any) -> DeployedTenant:
    source = {"name": "wiki", "access": "everyone", "kind": "procedures", "connector": CONNECTOR | connector}
    return with_sections(deployed("clinic"), reach=[WAY | (way or {})], sources=[source])


def machine(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition of the template's one state machine."""
    properties = only(template, "AWS::StepFunctions::StateMachine")
    text = json.dumps(properties["Definition"])
    for name, value in properties["DefinitionSubstitutions"].items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    return cast("Mapping[str, Any]", json.loads(text))


def started(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the machine asks ECS to run."""
    (branch,) = machine(template)["States"]["Start"]["Branches"]
    return branch["States"]["RunTask"]["Parameters"]


TENANTS = ("pharmacy", "clinic", "sandbox")
SCHEDULE, GROUP = "AWS::Scheduler::Schedule", "AWS::Scheduler::ScheduleGroup"
NONE = {"Tasks": [], "Failures": [{"Reason": "Capacity is unavailable at this time."}]}
ONE = {"Tasks": [{"TaskArn": "arn"}], "Failures": []}


@cache
def sets() -> Mapping[str, Any]:
    tenant = with_sections(deployed("pharmacy"), models_lab={"training": True})
    return template_of(stack_with(LearningStack, tenant))


@cache
def connectors() -> Mapping[str, Any]:
    return orchestrator_of(connected())


def scheduled(assembly: Path) -> Iterator[tuple[Mapping[str, Any], str, Mapping[str, Any]]]:
    """Every schedule of every tenant, with its template and id, and those of connectors."""
    templates = [one for name in TENANTS for one in templates_in(assembly_folder(assembly, name)).values()]
    for template in (*templates, connectors()):
        for name, body in resources_of(template, SCHEDULE).items():
            yield template, name, body["Properties"]


def test_every_schedule_is_in_a_group_and_leaves_a_start_that_failed_in_the_queue(assembly: Path) -> None:
    found = list(scheduled(assembly))
    assert len(found) == 6, "sets of three tenants, hours of the sandbox, a connector"
    for template, name, schedule in found:
        assert schedule["GroupName"]["Ref"] in resources_of(template, GROUP), name
        assert "issed" in json.dumps(schedule["Target"]["DeadLetterConfig"]), name
        assert schedule["Target"]["RetryPolicy"]["MaximumEventAgeInSeconds"] == 3600, name


@pytest.mark.parametrize("template", [sets, connectors])
def test_a_schedule_is_made_after_the_roles_of_its_task(template: Callable[[], Mapping[str, Any]]) -> None:
    definition = template()["Resources"][started(template())["TaskDefinition"]["Ref"]]["Properties"]
    for name in resources_of(template(), SCHEDULE):
        made = before(template(), name)
        for role in ("TaskRoleArn", "ExecutionRoleArn"):
            assert rights_of(template())[definition[role]["Fn::GetAtt"][0]] <= made, (name, role)


def test_a_source_is_read_when_the_service_stands() -> None:
    (service,) = resources_of(connectors(), "AWS::ECS::Service")
    (schedule,) = resources_of(connectors(), SCHEDULE)
    assert service in before(connectors(), schedule)


@pytest.mark.parametrize("tenant", TENANTS)
def test_the_stack_of_sets_is_made_after_the_cluster_of_their_task(assembly: Path, tenant: str) -> None:
    folder = assembly_folder(assembly, tenant)
    artifacts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    names = {one.get("displayName", "").split(" ")[0].split("/")[-1]: key for key, one in artifacts.items()}
    assert names["Orchestrator"] in artifacts[names["Learning"]]["dependencies"]


def run(answer: Callable[[int], Any], command: list[str]) -> tuple[float, list[Call], str]:
    """Run the machine; return the seconds that it waited, its calls, and how it ended."""
    steps = execute(machine(sets()), {"command": command})
    calls: list[Call] = []
    waited, result, failure = 0.0, None, None
    while True:
        try:
            step = steps.throw(failure) if failure else steps.send(result)
        except StopIteration:
            return waited, calls, "succeeded"
        except ExecutionFailedError as error:
            return waited, calls, error.error
        result = failure = None
        if isinstance(step, Pause):
            waited += step.seconds
            continue
        calls.append(step)
        found = answer(len(calls)) if step.action == "ecs:runTask" else {}
        result, failure = (None, found) if isinstance(found, CallFailedError) else (found, None)


def test_a_task_is_started_once() -> None:
    waited, calls, ended = run(lambda _: ONE, ["handbook"])
    assert (waited, [one.action for one in calls], ended) == (0, ["ecs:runTask"], "succeeded")
    assert calls[0].parameters["Overrides"]["ContainerOverrides"] == [
        {"Name": "Sets", "Command": ["handbook"]}
    ]


@pytest.mark.parametrize(
    "refusal", [NONE, CallFailedError("Ecs.EcsException", "busy")], ids=["none", "error"]
)
def test_a_start_without_capacity_is_tried_again(refusal: Any) -> None:
    waited, calls, ended = run(lambda tried: ONE if tried == 4 else refusal, [])
    assert (waited, len(calls), ended) == (30 + 60 + 120, 4, "succeeded")


def test_a_start_that_finds_none_for_an_hour_is_kept_with_its_reason() -> None:
    waited, calls, ended = run(lambda _: NONE, ["handbook"])
    assert (3600 <= waited <= 4000, len(calls), ended) == (True, 9, "NotStarted")
    kept = json.loads(calls[-1].parameters["MessageBody"])
    assert (calls[-1].action, kept["command"]) == ("sqs:sendMessage", ["handbook"])
    assert "Capacity is unavailable" in kept["error"]["Cause"]
    assert DATA.missed_starts_queue in json.dumps(calls[-1].parameters["QueueUrl"])


def test_one_message_in_the_queue_raises_its_alarm(assembly: Path) -> None:
    template = templates_in(assembly_folder(assembly, "clinic"))["Observability"]
    alarms = resources_of(template, "AWS::CloudWatch::Alarm")
    (alarm,) = [one["Properties"] for name, one in alarms.items() if "AStartWasMissed" in name]
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (1, 1)
    assert "MissedStarts" in json.dumps(alarm["Metrics"])


def test_a_run_gets_the_secret_and_the_authorities_of_the_entry() -> None:
    (source,) = tomllib.loads(effective_tenant_file(connected()))["sources"]
    given = source["connector"]
    assert (given["secret"], given["ca_pem"]) == ("secretsmanager:assistant/clinic/reach/wiki", "PEM")


@pytest.mark.parametrize(
    ("way", "connector"),
    [
        ({}, {"reach": None}),
        ({"caller": "orchestrator"}, {}),
        ({"port": 8443}, {}),
        ({"host_name": "a.b"}, {}),
    ],
    ids=["none", "not for connectors", "another port", "another host"],
)
def test_a_connector_without_a_way_to_its_system_is_refused_with_the_key(
    way: dict[str, Any], connector: dict[str, Any]
) -> None:
    tenant = connected(way, **connector)
    found = contradictions(tenant.config, place=tenant.place, edge=tenant.edge, models=tenant.models)
    assert [tuple(one.place) for one in found] == [("sources", 0, "connector", "reach")]
