"""What a task of the orchestrator may do: what the service's adapters call, and on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.settings.deployed_names import EVENTS, RECORDS, STATES, TableDefinition, link_secret_context
from assistant.settings.model_artifacts import CALLERS_PREFIX
from assistant.settings.process import ServiceSettings
from stacks.outputs import DataOutputs, IngestionOutputs, KeysOutputs, ModelsOutputs
from stacks.tenant import DeployedTenant


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRights:
    """The statements of the task role, by what they are on. None of them has a wildcard action."""

    scope: Construct
    tenant: DeployedTenant
    keys: KeysOutputs
    data: DataOutputs
    models: ModelsOutputs
    ingestion: IngestionOutputs

    def statements(self) -> list[iam.PolicyStatement]:
        return [
            *self._endpoints(),
            *self._search(),
            *self._tables(),
            *self._documents(),
            self._queues(),
            self._parameters(),
            *self._keys(),
            self._tokenizers(),
            self._traces(),
        ]

    def _endpoints(self) -> list[iam.PolicyStatement]:
        """By name: the endpoints themselves are not there while the tenant is paused."""
        embedding, llm = self.models.embedding_endpoint_name, self.models.llm_endpoint_name
        return [
            _allow("sagemaker:InvokeEndpoint", self._arn("sagemaker", "endpoint", embedding)),
            _allow("sagemaker:InvokeEndpointWithResponseStream", self._arn("sagemaker", "endpoint", llm)),
        ]

    def _search(self) -> list[iam.PolicyStatement]:
        """A search, and what the index was built with. Whatever else the domain's roles may allow one day,
        no request that writes gets past these paths."""
        alias = f"{self.data.domain_arn}/{search_alias(self.tenant)}"
        return [
            _allow("es:ESHttpPost", f"{alias}/_search"),
            _allow("es:ESHttpGet", f"{alias}/_mapping"),
        ]

    def _tables(self) -> list[iam.PolicyStatement]:
        tables = (
            (RECORDS, self.data.records_table),
            (EVENTS, self.data.events_table),
            (STATES, self.data.states_table),
        )
        statements: list[iam.PolicyStatement] = []
        for definition, name in tables:
            arn = self._arn("dynamodb", "table", name)
            statements.append(_allow(definition.service_actions, arn))
            statements += _index_statements(definition, arn)
        return statements

    def _documents(self) -> list[iam.PolicyStatement]:
        bucket = self._bucket(self.data.documents_bucket)
        prefix = ServiceSettings.documents_prefix
        return [
            _allow(("s3:GetObject", "s3:PutObject", "s3:DeleteObjectVersion"), f"{bucket}/{prefix}*"),
            # Without it S3 refuses what is not there, instead of saying so. It stands without a condition
            # on the prefix: reading an object has none.
            _allow("s3:ListBucket", bucket),
            iam.PolicyStatement(
                actions=["s3:ListBucketVersions"],
                resources=[bucket],
                conditions={"StringLike": {"s3:prefix": f"{prefix}*"}},
            ),
        ]

    def _queues(self) -> iam.PolicyStatement:
        return _allow(
            "sqs:SendMessage", self.ingestion.ingestion_queue_arn, self.ingestion.withdrawals_queue_arn
        )

    def _parameters(self) -> iam.PolicyStatement:
        tenant = self.tenant
        names = (tenant.jwks_parameter, self.models.power_parameter, tenant.link_secret_parameter)
        arns = [self._arn("ssm", "parameter", name.removeprefix("/")) for name in names]
        return _allow("ssm:GetParameter", *arns)

    def _keys(self) -> list[iam.PolicyStatement]:
        """KMS only for the stores that ask it on the task's behalf, and for the secret of document links."""
        context = {
            f"kms:EncryptionContext:{name}": value
            for name, value in link_secret_context(self.tenant.name).items()
        }
        return [
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                resources=[self.keys.data_key_arn],
                conditions={"StringEquals": {"kms:ViaService": self._through("s3", "dynamodb", "sqs")}},
            ),
            iam.PolicyStatement(
                actions=["kms:Decrypt"],
                resources=[self.keys.data_key_arn],
                conditions={"StringEquals": context},
            ),
            iam.PolicyStatement(
                actions=["kms:Decrypt"],
                resources=[self.keys.models_key_arn],
                conditions={"StringEquals": {"kms:ViaService": self._through("s3")}},
            ),
        ]

    def _tokenizers(self) -> iam.PolicyStatement:
        bucket = self._bucket(self.data.models_bucket)
        config = self.tenant.config
        models = sorted({config.embedding.model, config.generation.model})
        return _allow(
            "s3:GetObject",
            *(f"{bucket}/{CALLERS_PREFIX}{model}/{name}" for model in models for name in CALLERS_FILES),
        )

    def _traces(self) -> iam.PolicyStatement:
        """Of the collector beside the service. X-Ray knows no resources (Service Authorization Reference)."""
        return _allow("xray:PutTraceSegments", "*")

    def _arn(self, service: str, resource: str, name: str) -> str:
        return cdk.Stack.of(self.scope).format_arn(service=service, resource=resource, resource_name=name)

    def _bucket(self, name: str) -> str:
        return cdk.Stack.of(self.scope).format_arn(service="s3", region="", account="", resource=name)

    def _through(self, *services: str) -> list[str]:
        return [f"{service}.{self.tenant.place.region}.amazonaws.com" for service in services]


def session_statements(*, log_group_arn: str, logs_key_arn: str) -> list[iam.PolicyStatement]:
    """Return what the agent of ECS Exec needs in a task: its channels, which know no resources, and the log
    and key that record a session (ECS Developer Guide, "Monitor Amazon ECS containers with ECS Exec")."""
    channels = [
        f"ssmmessages:{verb}{channel}"
        for verb in ("Create", "Open")
        for channel in ("ControlChannel", "DataChannel")
    ]
    return [
        _allow([*channels, "logs:DescribeLogGroups"], "*"),
        _allow(("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"), log_group_arn),
        _allow("kms:Decrypt", logs_key_arn),
    ]


CALLERS_FILES = ("artifact.json", "tokenizer.json")


def search_alias(tenant: DeployedTenant) -> str:
    """Return the alias that the service searches."""
    template = str(ServiceSettings.model_fields["opensearch_index"].default)
    return template.replace("{tenant}", tenant.name)


def _index_statements(definition: TableDefinition, table_arn: str) -> list[iam.PolicyStatement]:
    if definition.index is None:
        return []
    return [_allow("dynamodb:Query", f"{table_arn}/index/{definition.index.name}")]


def _allow(actions: str | Sequence[str], *resources: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        actions=[actions] if isinstance(actions, str) else list(actions), resources=list(resources)
    )
