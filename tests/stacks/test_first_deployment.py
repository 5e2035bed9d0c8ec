"""Checks every template for what AWS refuses only at a first deployment, or in a new or busy account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stacks.synthesized import templates_in
from tests.stacks.values import Template, before, mappings, named, resources_of, rights_of

RUNNING = (
    "AWS::EC2::FlowLog",
    "AWS::ECS::Service",
    "AWS::Lambda::Function",
    "AWS::Scheduler::Schedule",
    "AWS::StepFunctions::StateMachine",
)
"""What acts with a role as soon as it is made, or is refused where the role has no rights yet. A model's role
lists its policies itself (``ManagedPolicyArns``), so that they are made before it."""


@pytest.fixture(scope="module")
def templates(assembly: Path) -> dict[str, Template]:
    """Every template of every stage, by stage and stack."""
    return {
        f"{folder.name}/{name}": template
        for folder in assembly.glob("assembly-*")
        for name, template in templates_in(folder).items()
    }


def principals(template: Template) -> Iterator[tuple[str, Any]]:
    for logical_id, body in template["Resources"].items():
        for each in mappings(body.get("Properties", {})):
            principal = each.get("Principal")
            if isinstance(principal, dict) and "AWS" in principal:
                who = principal["AWS"]
                yield from ((logical_id, one) for one in (who if isinstance(who, list) else [who]))


def test_no_policy_has_a_principal_that_the_deployment_creates(templates: dict[str, Template]) -> None:
    """KMS, S3, SQS, SNS and OpenSearch refuse a new principal until IAM has replicated it."""
    made = {
        f"{name}: {logical_id}: {json.dumps(who)}"
        for name, template in templates.items()
        for logical_id, who in principals(template)
        if not isinstance(who, str)
    }
    assert made == set()


def test_workloads_depend_on_their_role_s_policies(templates: dict[str, Template]) -> None:
    early: set[str] = set()
    checked: set[str] = set()
    for name, template in templates.items():
        rights = rights_of(template)
        for kind in RUNNING:
            for logical_id, body in resources_of(template, kind).items():
                used = named(body["Properties"])
                if kind == "AWS::ECS::Service":
                    definition = body["Properties"]["TaskDefinition"]["Ref"]
                    used = named(template["Resources"][definition]["Properties"])
                earlier = before(template, logical_id)
                for role in used & rights.keys():
                    checked.add(kind)
                    early |= {f"{name}: {logical_id} before {one}" for one in rights[role] - earlier}
    assert early == set()
    assert checked == set(RUNNING)


def test_no_function_has_reserved_concurrency(templates: dict[str, Template]) -> None:
    functions = [
        body["Properties"]
        for template in templates.values()
        for body in resources_of(template, "AWS::Lambda::Function").values()
    ]
    assert functions
    assert not [one for one in functions if "ReservedConcurrentExecutions" in one]


def test_state_machines_log_to_groups_with_the_vendedlogs_prefix(templates: dict[str, Template]) -> None:
    machines = 0
    for template in templates.values():
        for body in resources_of(template, "AWS::StepFunctions::StateMachine").values():
            machines += 1
            (where,) = body["Properties"]["LoggingConfiguration"]["Destinations"]
            arn = where["CloudWatchLogsLogGroup"]["LogGroupArn"]
            if isinstance(arn, str):  # the group of the models stack, which is made before
                name = arn.partition(":log-group:")[2]
            else:
                (group,) = named(where)
                name = template["Resources"][group]["Properties"]["LogGroupName"]
            assert name.startswith("/aws/vendedlogs/")
    assert machines == 9


def test_the_container_insights_group_has_a_key_and_a_retention(templates: dict[str, Template]) -> None:
    clusters = 0
    for template in templates.values():
        for logical_id, body in resources_of(template, "AWS::ECS::Cluster").items():
            clusters += 1
            name = body["Properties"]["ClusterName"]
            if {"Name": "containerInsights", "Value": "disabled"} in body["Properties"]["ClusterSettings"]:
                assert name == "assistant-sandbox", "of the profile dev alone"
                continue
            (group,) = (
                (group_id, one["Properties"])
                for group_id, one in resources_of(template, "AWS::Logs::LogGroup").items()
                if one["Properties"].get("LogGroupName") == f"/aws/ecs/containerinsights/{name}/performance"
            )
            assert group[0] in before(template, logical_id), "ECS would make it first"
            assert group[1]["KmsKeyId"]
            assert group[1]["RetentionInDays"] >= 30
    assert clusters == 3
