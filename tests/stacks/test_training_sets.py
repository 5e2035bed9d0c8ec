"""The task that makes training sets: when it starts, what it may touch, and what raises its alarm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser  # pyright: ignore[reportMissingTypeStubs]
from pydantic import ValidationError

from assistant.options.desk.stack import LearningStack
from assistant.options.models_lab.section import LearningSection
from assistant.tenant.deployed_names import SETS_RUN
from stacks.observability import ObservabilityStack
from stacks.outputs import Workload
from stacks.tenant import ROOT, DeployedTenant
from tests.stacks.first_week import alarms_on_run, raised_in
from tests.stacks.orchestrator_template import only
from tests.stacks.policies import allowed_on, statements_of
from tests.stacks.scheduled import started
from tests.stacks.values import (
    DATA,
    NETWORK,
    deployed,
    resources_of,
    stack_with,
    template_of,
    with_sections,
)

TASKS = ("AWS::ECS::TaskDefinition", "AWS::Scheduler::Schedule")


def learning(**section: Any) -> DeployedTenant:
    return with_sections(deployed("pharmacy"), learning=section)


@cache
def built() -> Mapping[str, Any]:
    return template_of(stack_with(LearningStack, learning(training=True)))


def rights(role: str) -> list[dict[str, Any]]:
    (name,) = (
        name for name in resources_of(built(), "AWS::IAM::Policy") if name.startswith(f"Sets{role}Default")
    )
    return statements_of(built(), name)


def container() -> dict[str, Any]:
    (found,) = only(built(), "AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    return found


def test_a_schedule_starts_the_task_in_the_orchestrators_cluster_and_the_functions_group() -> None:
    schedule, task = only(built(), "AWS::Scheduler::Schedule"), started(built())
    where = task["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert schedule["ScheduleExpression"] == "rate(3 days)"
    assert task["Cluster"] == "assistant-pharmacy"
    assert where["SecurityGroups"] == [NETWORK.security_group_ids[Workload.LEARNING]]
    assert (where["Subnets"], where["AssignPublicIp"]) == (list(NETWORK.subnet_ids), "DISABLED")
    assert container()["EntryPoint"][-1] == "assistant.options.models_lab.make_sets"
    assert "/private-care-assistant/learning@" in json.dumps(container()["Image"])


def test_the_container_can_write_to_its_tmp_alone() -> None:
    assert container()["ReadonlyRootFilesystem"] is True
    assert container()["LinuxParameters"]["Capabilities"]["Drop"] == ["ALL"]
    (mounted,) = container()["MountPoints"]
    assert (mounted["ContainerPath"], mounted["ReadOnly"]) == ("/tmp", False)
    image = DockerfileParser(str(ROOT / "containers/learning/Dockerfile"))
    settings = {step["instruction"]: step["value"] for step in image.structure}
    assert settings["VOLUME"] == '["/tmp"]', "else /tmp is root's alone, and USER cannot write"


@pytest.mark.parametrize("section", [{}, {"training": True, "sets_every_days": 0}])
def test_a_tenant_that_does_not_ask_for_sets_has_no_task(section: dict[str, Any]) -> None:
    tenant = learning(**section)
    template = template_of(stack_with(LearningStack, tenant))
    assert [resources_of(template, kind) for kind in TASKS] == [{}, {}]
    assert not alarms_on_run(template_of(stack_with(ObservabilityStack, tenant)), SETS_RUN)


def test_the_task_reads_what_a_set_is_made_of_and_nothing_else() -> None:
    buckets = {one.rpartition(":::")[2] for one in allowed_on(rights("Role"), "s3:GetObject")}
    assert {one for one in buckets if one.startswith("value-")} == {
        f"{DATA.labels_bucket}/events/*",
        f"{DATA.texts_bucket}/texts/*",
        f"{DATA.documents_bucket}/documents/*",
    }
    tables = {
        one["Resource"][0].rpartition("/")[2]: one["Condition"]["ForAllValues:StringLike"]
        for one in rights("Role")
        if "dynamodb:GetItem" in one["Action"]
    }
    assert tables == {
        DATA.records_table: {"dynamodb:LeadingKeys": ["answer#*"]},
        DATA.states_table: {"dynamodb:LeadingKeys": ["documents"]},
        DATA.events_table: {"dynamodb:LeadingKeys": ["erasure#*"]},
        DATA.desk_table: {"dynamodb:LeadingKeys": ["item#approved_answer#*", "newest#approved_answer"]},
    }
    for store in (DATA.capture_bucket, DATA.quarantine_bucket, DATA.models_bucket, DATA.domain_arn):
        assert store not in json.dumps(rights("Role"))


def test_the_task_writes_nothing_but_sets() -> None:
    actions = {action for one in rights("Role") for action in one["Action"]}
    reads = ("Get", "BatchGet", "Query", "List", "Decrypt")
    assert {one for one in actions if not one.partition(":")[2].startswith(reads)} == {
        "s3:PutObject",
        "kms:GenerateDataKey",
    }
    (place,) = allowed_on(rights("Role"), "s3:PutObject")
    assert place.endswith(":s3:::${TrainingBucket}/sets/*")


def test_fargate_pulls_one_image_with_the_role_that_starts_the_task() -> None:
    (repository,) = allowed_on(rights("ExecutionRole"), "ecr:BatchGetImage")
    assert repository.endswith(":repository/private-care-assistant/learning")


def test_missing_runs_raise_the_alarm_as_failed_ones_do() -> None:
    template = template_of(stack_with(ObservabilityStack, learning(training=True, sets_every_days=2)))
    (alarm,) = alarms_on_run(template, SETS_RUN)
    assert alarm["EvaluationPeriods"] == 120, "two missed runs and a day"
    assert raised_in(alarm, [0.0] * 120) == raised_in(alarm, [None] * 120) == [120]


def test_a_week_of_runs_every_second_day_raises_no_alarm() -> None:
    template = template_of(stack_with(ObservabilityStack, learning(training=True, sets_every_days=2)))
    (alarm,) = alarms_on_run(template, SETS_RUN)
    assert raised_in(alarm, [1.0 if hour % 48 == 1 else None for hour in range(168)]) == []


def test_an_interval_that_no_alarm_can_watch_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 3"):
        LearningSection(training=True, sets_every_days=7)
