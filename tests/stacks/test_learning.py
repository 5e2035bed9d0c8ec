"""What learns from a tenant: the mover of feedback, the task of training sets, and the jobs; what they may
touch, where they write, and what raises their alarm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from assistant.options.desk.stack import LearningStack
from assistant.options.models_lab.stack.learning import CorpusStack
from tests.stacks.templates import allowed_on, statements_of
from tests.stacks.values import (
    DATA,
    KEYS,
    deployed,
    only,
    resources_of,
    stack_with,
    template_of,
)


@cache
def learning() -> Mapping[str, Any]:
    return template_of(stack_with(LearningStack, deployed("pharmacy")))


@pytest.fixture(scope="module")
def corpus() -> Mapping[str, Any]:
    return template_of(stack_with(CorpusStack, deployed("pharmacy")))


def test_a_training_job_reads_models_and_no_raw_store() -> None:
    read = allowed_on(statements_of(learning(), "Training"), "s3:GetObject")
    assert {bucket for bucket in read if "value-" in bucket} == {"arn:${AWS::Partition}:s3:::value-models/*"}


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
