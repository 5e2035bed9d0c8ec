"""Permissions of a task of the orchestrator: what the service's adapters call, and on what.

No statement has a wildcard action.
"""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.settings.deployed_names import (
    DESK,
    EVENTS,
    LINK_SECRET_PURPOSE,
    LIVE_READS_SECRET_PURPOSE,
    RECORDS,
    STATES,
)
from assistant.settings.model_artifacts import CALLERS_PREFIX
from stacks.data.permissions import document_statements, table_statements
from stacks.outputs import EarlierOutputs, KeysOutputs
from stacks.roles import allow, bucket_arn, parameter_arn, resource_arn, system_secret_arn, via
from stacks.tenant import DeployedTenant

_CALLERS_FILES = ("artifact.json", "tokenizer.json")
"""Files of a model artifact that its callers need."""


def task_statements(
    scope: Construct, *, tenant: DeployedTenant, earlier: EarlierOutputs
) -> list[iam.PolicyStatement]:
    """Return the statements of the task role."""
    data, models, ingestion = earlier.data, earlier.models, earlier.ingestion
    # Endpoints by name: the endpoints themselves are absent while the tenant is paused.
    embedding = resource_arn(scope, "sagemaker", "endpoint", models.embedding_endpoint_name)
    llm = resource_arn(scope, "sagemaker", "endpoint", models.llm_endpoint_name)
    # Only paths of a search and of what the index was built with: a request that writes is refused, whatever
    # the domain's own roles may allow one day.
    alias = f"{data.domain_arn}/{tenant.search_alias}"
    # The alias says which version is live; an answer then names that version.
    versions = f"{data.domain_arn}/*-passages-v*"
    tables = (
        (RECORDS, data.records_table),
        (EVENTS, data.events_table),
        (STATES, data.states_table),
        (DESK, data.desk_table),
    )
    parameters = [
        tenant.jwks_parameter,
        models.power_parameter,
        tenant.link_secret_parameter,
        tenant.live_reads_secret_parameter,
    ]
    if tenant.callable_systems:
        parameters += [f"{tenant.system_switches}/{entry.name}" for entry in tenant.callable_systems]
    if tenant.config.care_context is not None:
        parameters.append(tenant.config.care_context.jwks_parameter or tenant.care_jwks_parameter)
    names = sorted({tenant.config.embedding.model, tenant.config.generation.model})
    folder = f"{bucket_arn(scope, data.models_bucket)}/{CALLERS_PREFIX}"
    return [
        allow("sagemaker:InvokeEndpoint", embedding),
        allow("sagemaker:InvokeEndpointWithResponseStream", llm),
        allow("es:ESHttpPost", f"{alias}/_search", f"{versions}/_search"),
        allow("es:ESHttpGet", f"{alias}/_mapping", f"{versions}/_mapping"),
        *(
            statement
            for definition, name in tables
            for statement in table_statements(scope, definition, name, actions=definition.service_actions)
        ),
        *document_statements(scope, data.documents_bucket),
        allow("sqs:SendMessage", ingestion.ingestion_queue_arn, ingestion.withdrawals_queue_arn),
        allow("ssm:GetParameter", *(parameter_arn(scope, name) for name in parameters)),
        *_key_statements(tenant, earlier.keys),
        allow("s3:GetObject", *(f"{folder}{name}/{file}" for name in names for file in _CALLERS_FILES)),
        *_system_statements(scope, tenant, data.system_secrets),
        # The trace collector's. X-Ray supports no resources (Service Authorization Reference).
        allow("xray:PutTraceSegments", "*"),
    ]


def _system_statements(
    scope: Construct, tenant: DeployedTenant, created: Mapping[str, str]
) -> list[iam.PolicyStatement]:
    """Let the task read the secrets of live systems, and sign requests to those that ask for a signature.

    ``created``: ARNs of the deployment's own secrets. Of the company's only the name is known.
    """
    secrets = [
        created.get(entry.name) or system_secret_arn(scope, name)
        for entry in tenant.callable_systems
        if (name := tenant.secret_of(entry)) is not None
    ]
    signed = [entry for entry in tenant.callable_systems if entry.auth == "sigv4"]
    statements = [
        allow(f"{entry.sigv4_service}:Invoke", str(entry.invoke_arn)) for entry in signed if entry.invoke_arn
    ]
    if secrets:
        statements.append(allow("secretsmanager:GetSecretValue", *secrets))
    return statements


def _key_statements(tenant: DeployedTenant, keys: KeysOutputs) -> list[iam.PolicyStatement]:
    """Let the task use keys through its stores, and decrypt the secrets of document links and of pseudonyms
    in the record of live reads."""
    context = {
        "kms:EncryptionContext:tenant": tenant.name,
        "kms:EncryptionContext:purpose": [LINK_SECRET_PURPOSE, LIVE_READS_SECRET_PURPOSE],
    }
    stores = via(tenant, "s3", "dynamodb", "sqs", *(["secretsmanager"] if tenant.own_secrets else []))
    return [
        allow(("kms:Decrypt", "kms:GenerateDataKey"), keys.data_key_arn, conditions=stores),
        allow("kms:Decrypt", keys.data_key_arn, conditions={"StringEquals": context}),
        allow("kms:Decrypt", keys.models_key_arn, conditions=via(tenant, "s3")),
    ]


def session_statements(*, log_group_arn: str, logs_key_arn: str) -> list[iam.PolicyStatement]:
    """Return what the agent of ECS Exec needs: its channels, which support no resources, and the log and key
    that record a session (ECS Developer Guide, "Monitor Amazon ECS containers with ECS Exec")."""
    channels = [
        f"ssmmessages:{verb}{channel}"
        for verb in ("Create", "Open")
        for channel in ("ControlChannel", "DataChannel")
    ]
    return [
        allow([*channels, "logs:DescribeLogGroups"], "*"),
        allow(("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"), log_group_arn),
        allow("kms:Decrypt", logs_key_arn),
    ]
