"""What learns from a tenant: the mover of feedback, the task of training sets, and the jobs; what they may
touch, where they write, and what raises their alarm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser  # pyright: ignore[reportMissingTypeStubs]
from pydantic import ValidationError

from assistant.options.desk.stack import LearningStack
from assistant.options.models_lab.section import LabSection
from assistant.options.models_lab.stack.learning import CorpusStack
from assistant.tenant.deployed_names import SETS_RUN
from stacks.observability import ObservabilityStack
from stacks.tenant import ROOT
from tests.stacks.first_week import alarms_on_run, raised_in
from tests.stacks.orchestrator_template import only
from tests.stacks.policies import allowed_on, statements_of
from tests.stacks.values import DATA, KEYS, deployed, resources_of, stack_with, template_of, with_sections


@cache
def learning() -> Mapping[str, Any]:
    return template_of(stack_with(LearningStack, deployed("pharmacy")))


@pytest.fixture(scope="module")
def corpus() -> Mapping[str, Any]:
    return template_of(stack_with(CorpusStack, deployed("pharmacy")))


def test_no_learning_job_may_read_the_quarantine(corpus: Mapping[str, Any]) -> None:
    assert "value-quarantine" not in json.dumps([learning(), corpus])


def test_a_training_job_reads_models_and_no_raw_store() -> None:
    read = allowed_on(statements_of(learning(), "Training"), "s3:GetObject")
    assert {bucket for bucket in read if "value-" in bucket} == {"arn:${AWS::Partition}:s3:::value-models/*"}


# --- the mover ---
def may() -> list[dict[str, Any]]:
    """Return what the mover's role may do by itself."""
    policies = resources_of(learning(), "AWS::IAM::Policy")
    (name,) = (name for name in policies if name.startswith("FunctionsMoveRole"))
    return statements_of(learning(), name)


def on(store: str) -> list[dict[str, Any]]:
    return [one for one in may() if any(store in each for each in one["Resource"])]


def test_the_mover_is_called_each_minute_and_begins_no_group_after_it() -> None:
    (rule,) = resources_of(learning(), "AWS::Events::Rule").values()
    assert rule["Properties"]["ScheduleExpression"] == "rate(1 minute)"
    function = only(learning(), "AWS::Lambda::Function")
    assert float(function["Environment"]["Variables"]["ASSISTANT_MOVE_WITHIN_S"]) < 60 < function["Timeout"]


def test_the_mover_changes_nothing_of_a_record_but_its_place_in_the_index() -> None:
    (update,) = [one for one in on(DATA.records_table) if "dynamodb:UpdateItem" in one["Action"]]
    assert update["Condition"] == {
        "ForAllValues:StringEquals": {"dynamodb:Attributes": ["pk", "sk", "listed", "listed_at"]}
    }
    actions = {action for one in on(DATA.records_table) for action in one["Action"]}
    assert actions == {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:UpdateItem"}


def test_the_mover_touches_only_the_keys_of_erasure_in_the_table_of_events() -> None:
    statements = on(f"table/{DATA.events_table}")
    assert statements
    for statement in statements:
        assert statement["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["erasure#*"]}}


# --- the task of training sets; what it may do: rights/test_training_sets ---
def test_the_container_can_write_to_its_tmp_alone() -> None:
    (container,) = only(learning(), "AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    assert container["ReadonlyRootFilesystem"] is True
    assert container["LinuxParameters"]["Capabilities"]["Drop"] == ["ALL"]
    (mounted,) = container["MountPoints"]
    assert (mounted["ContainerPath"], mounted["ReadOnly"]) == ("/tmp", False)
    image = DockerfileParser(str(ROOT / "containers/learning/Dockerfile"))
    settings = {step["instruction"]: step["value"] for step in image.structure}
    assert settings["VOLUME"] == '["/tmp"]', "else /tmp is root's alone, and USER cannot write"


def test_missing_runs_raise_the_alarm_as_failed_ones_do_and_a_week_of_runs_does_not() -> None:
    tenant = with_sections(deployed("pharmacy"), models_lab={"training": True, "sets_every_days": 2})
    (alarm,) = alarms_on_run(template_of(stack_with(ObservabilityStack, tenant)), SETS_RUN)
    assert alarm["EvaluationPeriods"] == 120, "two missed runs and a day"
    assert raised_in(alarm, [0.0] * 120) == raised_in(alarm, [None] * 120) == [120]
    assert raised_in(alarm, [1.0 if hour % 48 == 1 else None for hour in range(168)]) == []


def test_an_interval_that_no_alarm_can_watch_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 3"):
        LabSection(training=True, sets_every_days=7)


# --- the application that makes corpora ---
def test_an_idle_application_stops_and_its_logs_stay_under_the_tenant_s_key(
    corpus: Mapping[str, Any],
) -> None:
    application = only(corpus, "AWS::EMRServerless::Application")
    assert application["AutoStopConfiguration"] == {"Enabled": True, "IdleTimeoutMinutes": 5}
    assert set(application["MaximumCapacity"]) == {"Cpu", "Memory", "Disk"}
    monitoring = application["MonitoringConfiguration"]
    assert monitoring["ManagedPersistenceMonitoringConfiguration"] == {"Enabled": False}
    assert monitoring["S3MonitoringConfiguration"]["EncryptionKeyArn"] == KEYS.data_key_arn
    assert "CorpusBucket" in json.dumps(monitoring["S3MonitoringConfiguration"]["LogUri"])


def test_a_job_may_only_read_documents(corpus: Mapping[str, Any]) -> None:
    read = allowed_on(statements_of(corpus, "Job"), "s3:GetObject")
    assert {one for one in read if "value-" in one} == {"arn:${AWS::Partition}:s3:::value-documents/*"}
