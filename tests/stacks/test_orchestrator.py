"""The orchestrator stack alone: how its tasks run, are replaced, entered and scaled, and what they may do:
each action, on what it is named for, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from dockerfile_parse import DockerfileParser  # pyright: ignore[reportMissingTypeStubs]
from prometheus_client import CollectorRegistry

from assistant.domain.clock import SystemClock
from assistant.process.settings import ServiceSettings
from assistant.service.health import LiveMetrics, TaskMetrics
from assistant.tenant.deployed_names import DESK, EVENTS, RECORDS, STATES, TableDefinition
from stacks.tenant import ROOT
from tests.stacks.values import (
    DATA,
    INGESTION,
    KEYS,
    MODELS,
    allowed_on,
    deployed,
    only,
    orchestrator_of,
    resources_of,
    statements_of,
    with_sections,
)

Template = Mapping[str, Any]
DOCKERFILE = ROOT / "containers/orchestrator/Dockerfile"


def container(template: Template, name: str = "Service") -> dict[str, Any]:
    containers = only(template, "AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    return next(each for each in containers if each["Name"] == name)


def environment(template: Template) -> dict[str, Any]:
    return {each["Name"]: each["Value"] for each in container(template)["Environment"]}


def of_dockerfile(instruction: str) -> str:
    steps = DockerfileParser(str(DOCKERFILE), cache_content=True).structure
    return next(step["value"] for step in reversed(steps) if step["instruction"] == instruction)


@pytest.fixture(scope="module")
def template() -> Template:
    return orchestrator_of(deployed("pharmacy"))


@pytest.fixture(scope="module")
def entered() -> Template:
    """Of a tenant that lets its operators into tasks."""
    return orchestrator_of(with_sections(deployed("pharmacy"), tasks={"exec_enabled": True}))


def test_user_and_port_are_the_image_s(template: Template) -> None:
    task = container(template)
    assert task["User"] == of_dockerfile("USER")
    (mapping,) = task["PortMappings"]
    assert str(mapping["ContainerPort"]) == of_dockerfile("EXPOSE")
    assert environment(template)[ServiceSettings.variable("port")] == of_dockerfile("EXPOSE")


def test_the_health_check_is_the_image_s(template: Template) -> None:
    command = json.loads(of_dockerfile("HEALTHCHECK").partition("CMD ")[2])
    assert container(template)["HealthCheck"]["Command"] == ["CMD", *command]


@pytest.mark.parametrize("name", ["Service", "Traces"])
def test_the_root_file_system_is_read_only_and_no_process_is_root(template: Template, name: str) -> None:
    task = container(template, name)
    assert task["ReadonlyRootFilesystem"] is True
    assert not task["User"].startswith("0")
    assert not task.get("Privileged")
    assert "@" in json.dumps(task["Image"])  # by its digest


@pytest.mark.parametrize(
    "changed",
    [
        {"models": replace(MODELS, model_stamp="another")},
        {"ingestion": replace(INGESTION, schema_stamp="another")},
    ],
    ids=["model", "schema"],
)
def test_a_changed_dependency_replaces_the_tasks(template: Template, changed: dict[str, Any]) -> None:
    after = orchestrator_of(deployed("pharmacy"), **changed)
    before_and_after = [environment(each) for each in (template, after)]
    assert before_and_after[0] != before_and_after[1]


def test_a_changed_tenant_file_replaces_the_tasks(template: Template) -> None:
    tenant = with_sections(deployed("pharmacy"), gate={"model_cosine": 0.5})
    variable = ServiceSettings.variable("tenant_file_s3")
    assert environment(orchestrator_of(tenant))[variable] != environment(template)[variable]


def test_a_session_is_recorded_under_the_logs_key(entered: Template) -> None:
    sessions = only(entered, "AWS::ECS::Cluster")["Configuration"]["ExecuteCommandConfiguration"]
    assert sessions["KmsKeyId"] == KEYS.logs_key_arn
    assert sessions["Logging"] == "OVERRIDE"
    assert sessions["LogConfiguration"]["CloudWatchEncryptionEnabled"] is True
    assert only(entered, "AWS::ECS::Service")["EnableExecuteCommand"] is True


def test_scaling_uses_a_metric_that_a_task_emits(template: Template) -> None:
    line = emitted(template)
    (declared,) = line["_aws"]["CloudWatchMetrics"]
    policy = only(template, "AWS::ApplicationAutoScaling::ScalingPolicy")
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    metric = tracking["CustomizedMetricSpecification"]
    assert metric["Namespace"] == declared["Namespace"]
    assert metric["MetricName"] in {each["Name"] for each in declared["Metrics"]}
    assert {each["Name"]: each["Value"] for each in metric["Dimensions"]} == dimensions(line)
    assert metric["Statistic"] == "Average"
    assert 0 < tracking["TargetValue"] < deployed("pharmacy").config.limits.streams


def emitted(template: Template) -> dict[str, Any]:
    """Return a line that a task with the template's environment emits."""
    service = environment(template)[ServiceSettings.variable("metrics_service")]
    metrics = TaskMetrics(
        service=service,
        active=lambda: 1,
        failures=lambda: 0,
        clock=SystemClock(),
        live=LiveMetrics(CollectorRegistry()),
    )
    metrics.sample()
    return orjson.loads(metrics.lines())


def dimensions(line: Mapping[str, Any]) -> dict[str, str]:
    (names,) = line["_aws"]["CloudWatchMetrics"][0]["Dimensions"]
    return {name: line[name] for name in names}


Statements = list[dict[str, Any]]
REGION = "us-east-1"
ACCOUNT = "111122223333"


def policy(template: Mapping[str, Any], role: str) -> Statements:
    (name,) = [
        name for name in resources_of(template, "AWS::IAM::Policy") if name.startswith(f"Task{role}Default")
    ]
    return statements_of(template, name)


@pytest.fixture(scope="module")
def rights(template: Mapping[str, Any]) -> Statements:
    return policy(template, "Role")


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def actions(statements: Statements, service: str) -> set[str]:
    return {action for each in statements for action in each["Action"] if action.startswith(f"{service}:")}


def test_the_index_may_be_searched_and_not_written(rights: Statements) -> None:
    alias, versions = f"{DATA.domain_arn}/pharmacy-passages", f"{DATA.domain_arn}/*-passages-v*"
    assert actions(rights, "es") == {"es:ESHttpPost", "es:ESHttpGet"}
    assert allowed_on(rights, "es:ESHttpPost") == {f"{alias}/_search", f"{versions}/_search"}
    assert allowed_on(rights, "es:ESHttpGet") == {f"{alias}/_mapping", f"{versions}/_mapping"}


@pytest.mark.parametrize(
    ("definition", "table"),
    [
        (RECORDS, DATA.records_table),
        (EVENTS, DATA.events_table),
        (STATES, DATA.states_table),
        (DESK, DATA.desk_table),
    ],
    ids=["records", "events", "states", "desk"],
)
def test_a_table_permits_what_its_adapter_needs(
    rights: Statements, definition: TableDefinition, table: str
) -> None:
    name = arn("dynamodb", f"table/{table}")
    granted = {action for action in actions(rights, "dynamodb") if name in allowed_on(rights, action)}
    assert granted == set(definition.service_actions)


@pytest.mark.parametrize("table", [DATA.records_table, DATA.desk_table])
def test_records_and_the_desk_may_be_neither_changed_nor_deleted(rights: Statements, table: str) -> None:
    name = arn("dynamodb", f"table/{table}")
    for action in ("dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem"):
        assert name not in allowed_on(rights, action)
