"""The ingestion stack alone: its queues and event sources, and each function's permissions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assistant.documents.parsing_process import ParsingLimits
from assistant.options.desk.stack import MOVER
from assistant.process.settings import RedactingSettings
from assistant.service.parser import ADDRESS_LIFE_S
from assistant.stores.ports import MAX_ATTEMPTS
from stacks import document_functions as tenant_queues
from stacks import ingestion as ingestion_stack
from stacks.ingestion import IngestionStack, schema_stamp
from stacks.observability import alarms
from stacks.tenant import ROOT
from tests.stacks.values import (
    KEYS,
    deployed,
    resources_of,
    stack_with,
    template_of,
    with_sections,
)


def ingestion(name: str = "pharmacy", **sections: Any) -> IngestionStack:
    tenant = with_sections(deployed(name), **sections) if sections else deployed(name)
    return stack_with(IngestionStack, tenant)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return template_of(ingestion())


def functions_of(template: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the functions by the module of their handler."""
    return {
        body["Properties"]["Handler"].split(".")[1]: body["Properties"]
        for body in resources_of(template, "AWS::Lambda::Function").values()
    }


def statements_of(template: Mapping[str, Any], role: str) -> list[dict[str, Any]]:
    """Return what the role (``Ingest``) may do itself."""
    (policy,) = [
        body["Properties"]["PolicyDocument"]
        for name, body in resources_of(template, "AWS::IAM::Policy").items()
        if name.startswith(f"{role}Role")
    ]
    return policy["Statement"]


def actions_of(template: Mapping[str, Any], role: str) -> set[str]:
    actions: set[str] = set()
    for statement in statements_of(template, role):
        listed = statement["Action"]
        actions |= {listed} if isinstance(listed, str) else set(listed)
    return actions


def test_each_module_of_lambdas_is_a_function(template: dict[str, Any]) -> None:
    """But the reindex, which a tenant with a second embedding model has (test_embedding_next.py)."""
    modules = {path.stem for path in (ROOT / "lambdas").glob("*.py")} - {"__init__"}

    assert functions_of(template).keys() == modules - {"ask_probe", "reindex_passages", MOVER}


def test_a_visibility_timeout_is_six_function_timeouts(template: dict[str, Any]) -> None:
    queues = resources_of(template, "AWS::SQS::Queue")
    functions = resources_of(template, "AWS::Lambda::Function")
    mappings = resources_of(template, "AWS::Lambda::EventSourceMapping")

    assert len(mappings) == 6
    for mapping in mappings.values():
        queue = queues[mapping["Properties"]["EventSourceArn"]["Fn::GetAtt"][0]]["Properties"]
        function = functions[mapping["Properties"]["FunctionName"]["Fn::GetAtt"][0]]["Properties"]
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
        assert mapping["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["Properties"]["ScalingConfig"]["MaximumConcurrency"] >= 2


def test_every_queue_is_encrypted_and_work_queues_have_a_dead_letter_queue(template: dict[str, Any]) -> None:
    queues = resources_of(template, "AWS::SQS::Queue").values()
    working = [queue for queue in queues if "RedrivePolicy" in queue["Properties"]]

    assert all(queue["Properties"]["KmsMasterKeyId"] == KEYS.data_key_arn for queue in queues)
    assert 2 * len(working) == len(queues)
    assert {queue["Properties"]["RedrivePolicy"]["maxReceiveCount"] for queue in working} == {MAX_ATTEMPTS}
    assert tenant_queues.MAX_ATTEMPTS == MAX_ATTEMPTS


def test_the_function_that_creates_the_link_secret_cannot_read_it(template: dict[str, Any]) -> None:
    actions = actions_of(template, "LinkSecret")

    assert "kms:GenerateDataKeyWithoutPlaintext" in actions
    assert "ssm:GetParameter" not in actions
    for statement in statements_of(template, "LinkSecret"):
        if "kms:Decrypt" in statement["Action"]:
            assert "kms:ViaService" in statement["Condition"]["StringEquals"]


def test_the_schema_stamp_changes_with_the_index() -> None:
    tenant = deployed("pharmacy")
    index = {"shards": tenant.config.index.shards + 1, "replicas": tenant.config.index.replicas}

    assert schema_stamp(with_sections(tenant, index=index)) != schema_stamp(tenant)
    assert schema_stamp(with_sections(tenant, gate={"model_cosine": 0.5})) == schema_stamp(tenant)


def test_the_schema_stamp_changes_with_the_code_that_makes_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else CloudFormation would not call the function, and the index would keep the older schema."""
    before = schema_stamp(deployed("pharmacy"))
    changed = tmp_path / ingestion_stack._SCHEMA_CODE.name
    changed.write_bytes(ingestion_stack._SCHEMA_CODE.read_bytes() + b"# another mapping")
    monkeypatch.setattr(ingestion_stack, "_SCHEMA_CODE", changed)

    assert schema_stamp(deployed("pharmacy")) != before


def minutes_between(template: Mapping[str, Any], rule: str) -> int:
    """Return the minutes between two runs that an enabled rule starts."""
    (found,) = [
        body["Properties"]
        for name, body in resources_of(template, "AWS::Events::Rule").items()
        if name.startswith(rule)
    ]
    number, unit = found["ScheduleExpression"].removeprefix("rate(").removesuffix(")").split()
    assert (unit, found.get("State", "ENABLED")) == ("minutes", "ENABLED")
    return int(number)


def test_what_a_withdrawal_left_on_the_domain_s_disks_goes_within_the_hour(template: dict[str, Any]) -> None:
    """A run purges what the run before could not: OpenSearch retains deletes for 30 s."""
    assert 2 * minutes_between(template, "DocumentsPurge") <= 60


def test_what_the_redactor_left_is_swept_before_its_alarm_and_within_the_hour(
    template: dict[str, Any],
) -> None:
    overdue_s = RedactingSettings.model_fields["overdue_after_s"].default
    swept_s = overdue_s + 60 * minutes_between(template, "RedactionSweep")
    assert swept_s <= alarms.RAW_CAPTURE_LATE_S <= 3600


_PARENT_MIB = 512
"""More than a worker takes with its libraries."""


def test_the_parser_s_code_has_no_right_no_secret_and_no_key(template: dict[str, Any]) -> None:
    """Lambda itself may make network interfaces and write the log; its condition key tells code from it."""
    function = functions_of(template)["parse_documents"]
    assert not {"Environment", "KmsKeyArn", "TracingConfig"} & function.keys()
    role = function["Role"]["Fn::GetAtt"][0]
    assert not [
        name
        for name, body in resources_of(template, "AWS::IAM::Policy").items()
        if {"Ref": role} in body["Properties"]["Roles"]
    ]
    properties = resources_of(template, "AWS::IAM::Role")[role]["Properties"]
    assert "Policies" not in properties
    (attached,) = properties["ManagedPolicyArns"]
    platform = resources_of(template, "AWS::IAM::ManagedPolicy")[attached["Ref"]]["Properties"]
    allowed = [s for s in platform["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]
    (denied,) = [s for s in platform["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
    actions = {action for statement in allowed for action in statement["Action"]}
    logs = {"logs:CreateLogStream", "logs:PutLogEvents"}
    assert {action for action in actions if not action.startswith("ec2:")} == logs
    assert set(denied["NotAction"]) == logs
    assert denied["Resource"] == "*"
    assert denied["Condition"].keys() == {"ArnLike"}
    assert denied["Condition"]["ArnLike"].keys() == {"lambda:SourceFunctionArn"}


def test_a_bomb_ends_the_parsing_child_and_costs_no_other_file(template: dict[str, Any]) -> None:
    functions = functions_of(template)
    assert functions["parse_documents"]["MemorySize"] >= ParsingLimits().memory_mib + _PARENT_MIB
    assert functions["parse_documents"]["Timeout"] < ADDRESS_LIFE_S
    names = [
        name
        for name, body in resources_of(template, "AWS::Lambda::Function").items()
        if "receive_documents" in body["Properties"]["Handler"]
    ]
    sizes = {
        body["Properties"]["BatchSize"]
        for body in resources_of(template, "AWS::Lambda::EventSourceMapping").values()
        if body["Properties"]["FunctionName"]["Fn::GetAtt"][0] in names
    }
    assert sizes == {1}


def test_event_sources_depend_on_the_index_and_its_permissions(template: dict[str, Any]) -> None:
    (access,) = resources_of(template, "Custom::SearchAccess")
    waiting = [
        mapping
        for mapping in resources_of(template, "AWS::Lambda::EventSourceMapping").values()
        if access in mapping["DependsOn"]
    ]

    assert len(waiting) == 3
    (schema,) = resources_of(template, "Custom::SearchSchema")
    assert schema in template["Resources"][access]["DependsOn"]
