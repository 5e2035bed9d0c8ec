"""What the functions may do: what their adapters call, and on what. No statement has a wildcard action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.settings.deployed_names import STATES, link_secret_context
from assistant.settings.model_artifacts import CALLERS_PREFIX
from assistant.settings.process import ServiceSettings
from stacks.functions import FunctionRole
from stacks.outputs import DataOutputs, KeysOutputs, ModelsOutputs
from stacks.tenant import DeployedTenant


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionRights:
    """Statements by what they are on."""

    scope: Construct
    tenant: DeployedTenant
    keys: KeysOutputs
    data: DataOutputs
    models: ModelsOutputs

    def role(
        self, construct_id: str, *, description: str, rights: Sequence[iam.PolicyStatement]
    ) -> FunctionRole:
        """Return a role with these rights."""
        role = FunctionRole(self.scope, construct_id, description=description)
        for statement in rights:
            role.add_to_policy(statement)
        return role

    def raw_files(self) -> list[iam.PolicyStatement]:
        bucket = self._bucket(self.data.inbox_bucket)
        # Without the second S3 refuses a file that is not there any more, instead of saying so.
        return [_allow("s3:GetObject", f"{bucket}/*"), _allow("s3:ListBucket", bucket)]

    def put_documents(self) -> list[iam.PolicyStatement]:
        return [_allow("s3:PutObject", self._documents())]

    def keep_documents(self) -> list[iam.PolicyStatement]:
        """Read, write parsed text, and take out what was withdrawn: every version, by name."""
        bucket = self._bucket(self.data.documents_bucket)
        return [
            _allow(("s3:GetObject", "s3:PutObject", "s3:DeleteObjectVersion"), self._documents()),
            # Without it S3 refuses what is not there, instead of saying so. It stands without a condition
            # on the prefix: reading an object has none.
            _allow("s3:ListBucket", bucket),
            iam.PolicyStatement(
                actions=["s3:ListBucketVersions"],
                resources=[bucket],
                conditions={"StringLike": {"s3:prefix": f"{ServiceSettings.documents_prefix}*"}},
            ),
        ]

    def states(self) -> list[iam.PolicyStatement]:
        table = self._arn("dynamodb", "table", self.data.states_table)
        rights = [_allow(STATES.worker_actions, table)]
        if STATES.index is not None:
            rights.append(_allow("dynamodb:Query", f"{table}/index/{STATES.index.name}"))
        return rights

    def index(self) -> list[iam.PolicyStatement]:
        """Rows of any version of an index of passages on the tenant's own domain; the domain's own role
        mapping says of which."""
        versions = str(ServiceSettings.model_fields["opensearch_index"].default).replace("{tenant}", "*")
        return [_allow(("es:ESHttpPost", "es:ESHttpGet"), f"{self.data.domain_arn}/{versions}-v*")]

    def embedding(self) -> list[iam.PolicyStatement]:
        """By name: the endpoint itself is not there while the tenant is paused."""
        endpoint = self._arn("sagemaker", "endpoint", self.models.embedding_endpoint_name)
        return [_allow("sagemaker:InvokeEndpoint", endpoint)]

    def model_facts(self) -> list[iam.PolicyStatement]:
        """Whose vectors the index holds."""
        return self._model_files("artifact.json")

    def model_files(self) -> list[iam.PolicyStatement]:
        """What callers of the embedding endpoint need of its artifact."""
        return self._model_files("artifact.json", "tokenizer.json")

    def _model_files(self, *names: str) -> list[iam.PolicyStatement]:
        bucket = self._bucket(self.data.models_bucket)
        folder = f"{bucket}/{CALLERS_PREFIX}{self.tenant.config.embedding.model}"
        return [
            _allow("s3:GetObject", *(f"{folder}/{name}" for name in names)),
            self.key(self.keys.models_key_arn, "kms:Decrypt", through=("s3",)),
        ]

    def power(self) -> list[iam.PolicyStatement]:
        return [_allow("ssm:GetParameter", self._parameter(self.models.power_parameter))]

    def take_from(self, *queue_arns: str) -> list[iam.PolicyStatement]:
        """What Lambda does with the role to take messages from a queue."""
        actions = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
        return [_allow((*actions, "sqs:GetQueueAttributes"), *queue_arns)]

    def send(self, *queue_arns: str) -> list[iam.PolicyStatement]:
        return [_allow("sqs:SendMessage", *queue_arns)]

    def data_key(self) -> iam.PolicyStatement:
        """Documents, states, messages and the function's own environment, through their services."""
        services = ("s3", "dynamodb", "sqs", "lambda")
        return self.key(self.keys.data_key_arn, "kms:Decrypt", "kms:GenerateDataKey", through=services)

    def environment_key(self) -> iam.PolicyStatement:
        return self.key(
            self.keys.data_key_arn, "kms:Decrypt", "kms:GenerateDataKey", through=("sqs", "lambda")
        )

    def make_link_secret(self) -> list[iam.PolicyStatement]:
        """Make the parameter once, with a key that nobody ever saw and this function cannot decrypt."""
        context = {
            f"kms:EncryptionContext:{name}": value
            for name, value in link_secret_context(self.tenant.name).items()
        }
        return [
            _allow("ssm:PutParameter", self._parameter(self.tenant.link_secret_parameter)),
            iam.PolicyStatement(
                actions=["kms:GenerateDataKeyWithoutPlaintext"],
                resources=[self.keys.data_key_arn],
                conditions={"StringEquals": context},
            ),
        ]

    def redact(self) -> list[iam.PolicyStatement]:
        """Read and delete every version of raw capture; put clean copies."""
        quarantine = self._bucket(self.data.quarantine_bucket)
        clean = self._bucket(self.data.capture_bucket)
        return [
            _allow(
                ("s3:GetObject", "s3:GetObjectVersion", "s3:DeleteObject", "s3:DeleteObjectVersion"),
                f"{quarantine}/*",
            ),
            _allow(("s3:ListBucket", "s3:ListBucketVersions"), quarantine),
            _allow("s3:PutObject", f"{clean}/*"),
            self.key(self.keys.capture_key_arn, "kms:Decrypt", "kms:GenerateDataKey", through=("s3",)),
        ]

    def key(self, key_arn: str, *actions: str, through: Sequence[str]) -> iam.PolicyStatement:
        services = [f"{service}.{self.tenant.place.region}.amazonaws.com" for service in through]
        return iam.PolicyStatement(
            actions=list(actions),
            resources=[key_arn],
            conditions={"StringEquals": {"kms:ViaService": services}},
        )

    def _documents(self) -> str:
        return f"{self._bucket(self.data.documents_bucket)}/{ServiceSettings.documents_prefix}*"

    def _bucket(self, name: str) -> str:
        return cdk.Stack.of(self.scope).format_arn(service="s3", region="", account="", resource=name)

    def _parameter(self, name: str) -> str:
        return self._arn("ssm", "parameter", name.removeprefix("/"))

    def _arn(self, service: str, resource: str, name: str) -> str:
        return cdk.Stack.of(self.scope).format_arn(service=service, resource=resource, resource_name=name)


def _allow(actions: str | Sequence[str], *resources: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        actions=[actions] if isinstance(actions, str) else list(actions), resources=list(resources)
    )
