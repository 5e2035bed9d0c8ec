"""What a task of the orchestrator may do: each action, on what it is named for, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from assistant.tenant.deployed_names import DESK, EVENTS, RECORDS, STATES, TableDefinition
from tests.stacks.orchestrator_template import orchestrator_of
from tests.stacks.policies import allowed_on, statements_of
from tests.stacks.values import DATA, INGESTION, KEYS, MODELS, deployed, resources_of, with_sections

Statements = list[dict[str, Any]]
REGION = "us-east-1"
ACCOUNT = "111122223333"


def policy(template: Mapping[str, Any], role: str) -> Statements:
    (name,) = [
        name for name in resources_of(template, "AWS::IAM::Policy") if name.startswith(f"Task{role}Default")
    ]
    return statements_of(template, name)


@pytest.fixture(scope="module")
def template() -> Mapping[str, Any]:
    return orchestrator_of(deployed("pharmacy"))


@pytest.fixture(scope="module")
def rights(template: Mapping[str, Any]) -> Statements:
    return policy(template, "Role")


@pytest.fixture(scope="module")
def starting(template: Mapping[str, Any]) -> Statements:
    return policy(template, "ExecutionRole")


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def actions(statements: Statements, service: str) -> set[str]:
    return {action for each in statements for action in each["Action"] if action.startswith(f"{service}:")}


def test_no_action_is_a_wildcard(rights: Statements, starting: Statements) -> None:
    assert [action for each in rights + starting for action in each["Action"] if "*" in action] == []


def test_every_permission_names_its_resource_where_iam_allows_it(
    rights: Statements, starting: Statements
) -> None:
    wide = {
        (action, resource)
        for each in rights + starting
        for action in each["Action"]
        for resource in each["Resource"]
        if "*" in resource
    }
    uploads = f"arn:aws:s3:::{DATA.inbox_bucket}/.uploads/*"
    documents = f"arn:aws:s3:::{DATA.documents_bucket}/documents/*"
    versions = f"{DATA.domain_arn}/*-passages-v*"
    assert wide == {
        ("xray:PutTraceSegments", "*"),
        ("ecr:GetAuthorizationToken", "*"),
        ("es:ESHttpGet", f"{versions}/_mapping"),
        ("es:ESHttpPost", f"{versions}/_search"),
        ("s3:GetObject", documents),
        ("s3:PutObject", documents),
        ("s3:DeleteObjectVersion", documents),
        *((f"s3:{name}", uploads) for name in ("GetObject", "PutObject", "AbortMultipartUpload")),
    }


def test_each_endpoint_permits_the_service_s_calls(rights: Statements) -> None:
    embedding = arn("sagemaker", f"endpoint/{MODELS.embedding_endpoint_name}")
    llm = arn("sagemaker", f"endpoint/{MODELS.llm_endpoint_name}")
    assert allowed_on(rights, "sagemaker:InvokeEndpoint") == {embedding}
    assert allowed_on(rights, "sagemaker:InvokeEndpointWithResponseStream") == {llm}
    assert len(actions(rights, "sagemaker")) == 2


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


def test_a_table_s_index_may_only_be_queried(rights: Statements) -> None:
    indexes = {
        (action, resource)
        for action in actions(rights, "dynamodb")
        for resource in allowed_on(rights, action)
        if "/index/" in resource
    }
    assert indexes == {
        ("dynamodb:Query", arn("dynamodb", f"table/{DATA.records_table}/index/listed")),
        ("dynamodb:Query", arn("dynamodb", f"table/{DATA.states_table}/index/by_state")),
        ("dynamodb:Query", arn("dynamodb", f"table/{DATA.desk_table}/index/listed")),
    }


@pytest.mark.parametrize("table", [DATA.records_table, DATA.desk_table])
def test_records_and_the_desk_may_be_neither_changed_nor_deleted(rights: Statements, table: str) -> None:
    name = arn("dynamodb", f"table/{table}")
    for action in ("dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem"):
        assert name not in allowed_on(rights, action)


def test_versions_are_listed_under_the_documents_prefix(rights: Statements) -> None:
    (listing,) = [each for each in rights if "s3:ListBucketVersions" in each["Action"]]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "documents/*"}}
    assert listing["Resource"] == [f"arn:aws:s3:::{DATA.documents_bucket}"]


def test_only_the_tokenizers_of_the_tenant_s_models_may_be_read(rights: Statements) -> None:
    bucket = f"arn:aws:s3:::{DATA.models_bucket}/callers/"
    read = {resource for resource in allowed_on(rights, "s3:GetObject") if resource.startswith(bucket)}
    config = deployed("pharmacy").config
    assert read == {
        f"{bucket}{model}/{name}"
        for model in (config.embedding.model, config.generation.model)
        for name in ("artifact.json", "tokenizer.json")
    }


def test_only_the_tenant_s_file_may_be_read_from_the_assets(rights: Statements) -> None:
    assets = [each for each in allowed_on(rights, "s3:GetObject") if "-assets-" in each]
    assert len(assets) == 1
    assert re.fullmatch(r"arn:aws:s3:::cdk-[a-z0-9-]+/[0-9a-f]{64}\.toml", assets[0])


def test_messages_may_be_sent_to_two_queues_and_not_received(rights: Statements) -> None:
    assert actions(rights, "sqs") == {"sqs:SendMessage"}
    queues = {INGESTION.ingestion_queue_arn, INGESTION.withdrawals_queue_arn}
    assert allowed_on(rights, "sqs:SendMessage") == queues


def test_the_named_parameters_may_be_read(rights: Statements) -> None:
    assert actions(rights, "ssm") == {"ssm:GetParameter"}
    assert allowed_on(rights, "ssm:GetParameter") == {
        arn("ssm", "parameter/assistant/pharmacy/jwks"),
        arn("ssm", "parameter/assistant/pharmacy/document-links"),
        arn("ssm", "parameter/assistant/pharmacy/live-read-pseudonyms"),
        arn("ssm", f"parameter{MODELS.power_parameter}"),
        arn("ssm", "parameter/assistant/pharmacy/systems/orders"),
        arn("ssm", "parameter/assistant/pharmacy/care-jwks"),
        arn("ssm", "parameter/assistant/pharmacy/revocations"),
    }


def test_keys_may_be_used_only_through_stores_or_for_links_and_pseudonyms(rights: Statements) -> None:
    by_key = [
        (each["Resource"], each["Action"], each.get("Condition"))
        for each in rights
        if any(action.startswith("kms:") for action in each["Action"])
    ]
    stores = [f"{name}.{REGION}.amazonaws.com" for name in ("s3", "dynamodb", "sqs", "secretsmanager")]
    secrets = {
        "kms:EncryptionContext:tenant": "pharmacy",
        "kms:EncryptionContext:purpose": ["document-links", "live-read-pseudonyms"],
    }
    assert by_key == [
        (
            [KEYS.data_key_arn],
            ["kms:Decrypt", "kms:GenerateDataKey"],
            {"StringEquals": {"kms:ViaService": stores}},
        ),
        ([KEYS.data_key_arn], ["kms:Decrypt"], {"StringEquals": secrets}),
        ([KEYS.models_key_arn], ["kms:Decrypt"], {"StringEquals": {"kms:ViaService": stores[:1]}}),
        ([KEYS.receipt_key_arn], ["kms:Sign"], {"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256"}}),
    ]


def test_fargate_pulls_two_repositories_and_writes_one_log(starting: Statements) -> None:
    assert allowed_on(starting, "ecr:BatchGetImage") == {
        arn("ecr", f"repository/private-care-assistant/{name}") for name in ("orchestrator", "otel-collector")
    }
    pulls = {"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"}
    assert actions(starting, "ecr") == pulls | {"ecr:GetAuthorizationToken"}
    (group,) = allowed_on(starting, "logs:PutLogEvents")
    assert group.startswith("${Logs")
    assert actions(starting, "logs") == {"logs:PutLogEvents", "logs:CreateLogStream"}


def test_ecs_exec_gets_only_its_channel_permissions() -> None:
    tenant = with_sections(deployed("pharmacy"), tasks={"exec_enabled": True})
    rights = policy(orchestrator_of(tenant), "Role")
    assert actions(rights, "ssmmessages") == {
        f"ssmmessages:{verb}{channel}"
        for verb in ("Create", "Open")
        for channel in ("ControlChannel", "DataChannel")
    }
    assert allowed_on(rights, "kms:Decrypt") == {KEYS.data_key_arn, KEYS.models_key_arn, KEYS.logs_key_arn}
