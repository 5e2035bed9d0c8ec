"""The orchestrator stack alone: how its tasks run, are replaced, entered and scaled. What they may do:
``test_task_rights``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from assistant.domain.clock import SystemClock
from assistant.process.settings import ServiceSettings
from assistant.service.health import LiveMetrics, TaskMetrics
from assistant.tenant import deployed_names
from stacks.outputs import Workload
from tests.stacks.orchestrator_template import (
    Template,
    container,
    environment,
    of_dockerfile,
    only,
    orchestrator_of,
)
from tests.stacks.values import INGESTION, KEYS, MODELS, NETWORK, deployed, resources_of, with_sections


@pytest.fixture(scope="module")
def template() -> Template:
    return orchestrator_of(deployed("pharmacy"))


@pytest.fixture(scope="module")
def entered() -> Template:
    """Of a tenant that lets its operators into tasks."""
    return orchestrator_of(with_sections(deployed("pharmacy"), tasks={"exec_enabled": True}))


# --- the container is the image's ---


def test_user_and_port_are_the_image_s(template: Template) -> None:
    task = container(template)
    assert task["User"] == of_dockerfile("USER")
    (mapping,) = task["PortMappings"]
    assert str(mapping["ContainerPort"]) == of_dockerfile("EXPOSE")
    assert environment(template)[ServiceSettings.variable("port")] == of_dockerfile("EXPOSE")


def test_the_health_check_is_the_image_s(template: Template) -> None:
    command = json.loads(of_dockerfile("HEALTHCHECK").partition("CMD ")[2])
    assert container(template)["HealthCheck"]["Command"] == ["CMD", *command]


# --- its walls ---


@pytest.mark.parametrize("name", ["Service", "Traces"])
def test_the_root_file_system_is_read_only_and_no_process_is_root(template: Template, name: str) -> None:
    task = container(template, name)
    assert task["ReadonlyRootFilesystem"] is True
    assert not task["User"].startswith("0")
    assert not task.get("Privileged")
    assert "@" in json.dumps(task["Image"])  # by its digest


def test_every_writable_setting_is_below_tmp(template: Template) -> None:
    image = dict(pair.split("=", 1) for pair in of_dockerfile("ENV").split() if "=" in pair)
    there = image | environment(template)
    folders = ("tenants_dir", "state_dir", "model_artifacts_dir")
    assert [there[ServiceSettings.variable(name)].split("/")[1] for name in folders] == ["tmp"] * 3


def test_tasks_run_in_every_isolated_subnet_with_only_their_security_group(template: Template) -> None:
    place = only(template, "AWS::ECS::Service")["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert place == {
        "AssignPublicIp": "DISABLED",
        "SecurityGroups": [NETWORK.security_group_ids[Workload.ORCHESTRATOR]],
        "Subnets": list(NETWORK.subnet_ids),
    }


def test_logs_are_encrypted_and_outlive_the_stack(template: Template) -> None:
    groups = resources_of(template, "AWS::Logs::LogGroup").values()
    assert len(groups) == 2  # the tasks' and that of Container Insights
    for group in groups:
        assert group["Properties"]["KmsKeyId"] == KEYS.logs_key_arn
        assert group["Properties"]["RetentionInDays"] == 2192
        assert (group["DeletionPolicy"], group["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


# --- how tasks end, and are replaced ---


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


# --- sessions in a task ---


def test_a_session_is_recorded_under_the_logs_key(entered: Template) -> None:
    sessions = only(entered, "AWS::ECS::Cluster")["Configuration"]["ExecuteCommandConfiguration"]
    assert sessions["KmsKeyId"] == KEYS.logs_key_arn
    assert sessions["Logging"] == "OVERRIDE"
    assert sessions["LogConfiguration"]["CloudWatchEncryptionEnabled"] is True
    assert only(entered, "AWS::ECS::Service")["EnableExecuteCommand"] is True


# --- by which metric tasks are scaled and rolled back ---


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


def test_the_rollback_alarm_uses_a_metric_that_a_task_emits(template: Template) -> None:
    line = emitted(template)
    alarm = only(template, "AWS::CloudWatch::Alarm")
    assert alarm["MetricName"] == deployed_names.INTERNAL_ERRORS
    assert alarm["MetricName"] in line
    assert {each["Name"]: each["Value"] for each in alarm["Dimensions"]} == dimensions(line)
    assert alarm["TreatMissingData"] == "notBreaching"


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
