"""The orchestrator stack alone: how its tasks run, are replaced, and are entered. How many there are:
``test_orchestrator_scaling``; what they may do: ``test_task_rights``."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from assistant.process.settings import ServiceSettings
from stacks.outputs import Workload
from tests.stacks.orchestrator_template import (
    Template,
    container,
    environment,
    of_dockerfile,
    only,
    orchestrator_of,
)
from tests.stacks.values import EDGE, INGESTION, KEYS, MODELS, NETWORK, deployed, resources_of, with_sections


@pytest.fixture(scope="module")
def template() -> Template:
    return orchestrator_of(deployed("pharmacy"))


@pytest.fixture(scope="module")
def entered() -> Template:
    """Of a tenant that lets its operators into tasks, on the other architecture."""
    tasks = {"exec_enabled": True, "architecture": "ARM64", "min_tasks": 3, "max_tasks": 9}
    return orchestrator_of(with_sections(deployed("pharmacy"), tasks=tasks))


# --- the container is the image's ---


def test_the_task_runs_the_image_s_own_program(template: Template) -> None:
    assert {"Command", "EntryPoint", "WorkingDirectory"} & container(template).keys() == set()


def test_user_and_port_are_the_image_s(template: Template) -> None:
    task = container(template)
    assert task["User"] == of_dockerfile("USER")
    (mapping,) = task["PortMappings"]
    assert str(mapping["ContainerPort"]) == of_dockerfile("EXPOSE")
    assert environment(template)[ServiceSettings.variable("port")] == of_dockerfile("EXPOSE")


def test_other_origins_are_those_of_the_tenant_file(template: Template) -> None:
    named = ("https://care.example.com",)
    tenant = deployed("pharmacy")
    edge = tenant.edge.model_dump() | {"cors_origins": named}
    opened = orchestrator_of(with_sections(tenant, edge=edge))
    variable = ServiceSettings.variable("cors_origins")
    assert (environment(template)[variable], environment(opened)[variable]) == ("[]", json.dumps(named))
    assert environment(opened)[ServiceSettings.variable("frame_ancestors")] == "[]"


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


def test_every_writable_setting_is_below_tmp(template: Template) -> None:
    image = dict(pair.split("=", 1) for pair in of_dockerfile("ENV").split() if "=" in pair)
    there = image | environment(template)
    folders = ("tenants_dir", "state_dir", "model_artifacts_dir")
    assert [there[ServiceSettings.variable(name)].split("/")[1] for name in folders] == ["tmp"] * 3


def test_a_task_has_no_linux_capability(template: Template) -> None:
    assert container(template)["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}


def test_tasks_run_in_every_isolated_subnet_with_only_their_security_group(template: Template) -> None:
    place = only(template, "AWS::ECS::Service")["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert place == {
        "AssignPublicIp": "DISABLED",
        "SecurityGroups": [NETWORK.security_group_ids[Workload.ORCHESTRATOR]],
        "Subnets": list(NETWORK.subnet_ids),
    }


def test_the_stack_creates_no_security_group_rule(template: Template) -> None:
    kinds = {body["Type"] for body in template["Resources"].values()}
    assert [kind for kind in kinds if kind.startswith("AWS::EC2::")] == []


def test_logs_are_encrypted_and_outlive_the_stack(template: Template) -> None:
    groups = resources_of(template, "AWS::Logs::LogGroup").values()
    assert len(groups) == 2  # the tasks' and that of Container Insights
    for group in groups:
        assert group["Properties"]["KmsKeyId"] == KEYS.logs_key_arn
        assert group["Properties"]["RetentionInDays"] == 2192
        assert (group["DeletionPolicy"], group["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


@pytest.mark.parametrize("name", ["Service", "Traces"])
def test_a_stalled_log_driver_does_not_block_the_task(template: Template, name: str) -> None:
    options = container(template, name)["LogConfiguration"]["Options"]
    assert options["mode"] == "non-blocking"


# --- how tasks end, and are replaced ---


def test_a_deployment_that_fails_is_rolled_back(template: Template) -> None:
    deployment = only(template, "AWS::ECS::Service")["DeploymentConfiguration"]
    (alarm,) = resources_of(template, "AWS::CloudWatch::Alarm")
    assert deployment == {
        "Alarms": {"AlarmNames": [{"Ref": alarm}], "Enable": True, "Rollback": True},
        "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
        "MaximumPercent": 200,
        "MinimumHealthyPercent": 100,
    }


def test_the_target_group_is_the_edge_s(template: Template) -> None:
    (balancer,) = only(template, "AWS::ECS::Service")["LoadBalancers"]
    assert balancer == {
        "ContainerName": "Service",
        "ContainerPort": ServiceSettings.model_fields["port"].default,
        "TargetGroupArn": EDGE.target_group_arn,
    }


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
    tenant = with_sections(deployed("pharmacy"), gate={"hopeless_cosine": 0.5})
    variable = ServiceSettings.variable("tenant_file_s3")
    assert environment(orchestrator_of(tenant))[variable] != environment(template)[variable]


# --- sessions in a task ---


def test_ecs_exec_is_off_unless_the_tenant_file_enables_it(template: Template) -> None:
    assert not only(template, "AWS::ECS::Service").get("EnableExecuteCommand")
    assert "Configuration" not in only(template, "AWS::ECS::Cluster")
    assert "ssmmessages" not in json.dumps(template)


def test_a_session_is_recorded_under_the_logs_key(entered: Template) -> None:
    sessions = only(entered, "AWS::ECS::Cluster")["Configuration"]["ExecuteCommandConfiguration"]
    assert sessions["KmsKeyId"] == KEYS.logs_key_arn
    assert sessions["Logging"] == "OVERRIDE"
    assert sessions["LogConfiguration"]["CloudWatchEncryptionEnabled"] is True
    assert only(entered, "AWS::ECS::Service")["EnableExecuteCommand"] is True


def test_the_session_agent_has_writable_folders_on_a_read_only_root(entered: Template) -> None:
    task = container(entered)
    assert task["ReadonlyRootFilesystem"] is True
    assert {each["ContainerPath"] for each in task["MountPoints"]} == {
        "/tmp",
        "/managed-agents",
        "/var/lib/amazon/ssm",
        "/var/log/amazon/ssm",
    }


def test_the_service_depends_on_its_role_s_access_to_the_index(template: Template) -> None:
    ((name, access),) = resources_of(template, "Custom::SearchAccess").items()
    (service,) = resources_of(template, "AWS::ECS::Service").values()
    role = only(template, "AWS::ECS::TaskDefinition")["TaskRoleArn"]

    assert (access["Properties"]["Access"], access["Properties"]["RoleArns"]) == ("read", [role])
    assert name in service["DependsOn"]
