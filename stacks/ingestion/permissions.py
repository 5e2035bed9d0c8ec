"""Permissions of the functions: what their adapters call, and on what. No statement has a wildcard action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.settings.deployed_names import (
    ERASURE_PARTITIONS,
    FEEDBACK_SECRET_PURPOSE,
    LINK_SECRET_PURPOSE,
    LIVE_READS_SECRET_PURPOSE,
    STATES,
    link_secret_context,
)
from assistant.settings.model_artifacts import CALLERS_PREFIX
from assistant.settings.process import ServiceSettings
from stacks.data.permissions import document_statements, of_partitions, table_statements
from stacks.functions import FunctionRole
from stacks.outputs import EarlierOutputs
from stacks.roles import allow, bucket_arn, parameter_arn, resource_arn, via
from stacks.tenant import DeployedTenant


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPermissions:
    """Builds the statements of the functions' roles, and the roles themselves below ``scope``."""

    scope: Construct
    tenant: DeployedTenant
    earlier: EarlierOutputs

    def role(
        self, construct_id: str, *, description: str, statements: Sequence[iam.PolicyStatement]
    ) -> FunctionRole:
        role = FunctionRole(self.scope, construct_id, description=description)
        for statement in statements:
            role.add_to_policy(statement)
        return role

    def read_raw_files(self) -> list[iam.PolicyStatement]:
        """Without ``s3:ListBucket`` S3 answers that access is denied where a file is missing."""
        bucket = bucket_arn(self.scope, self.earlier.data.inbox_bucket)
        return [allow("s3:GetObject", f"{bucket}/*"), allow("s3:ListBucket", bucket)]

    def put_documents(self) -> list[iam.PolicyStatement]:
        bucket = bucket_arn(self.scope, self.earlier.data.documents_bucket)
        return [allow("s3:PutObject", f"{bucket}/{ServiceSettings.documents_prefix}*")]

    def keep_documents(self) -> list[iam.PolicyStatement]:
        return document_statements(self.scope, self.earlier.data.documents_bucket)

    def write_states(self) -> list[iam.PolicyStatement]:
        return table_statements(
            self.scope, STATES, self.earlier.data.states_table, actions=STATES.worker_actions
        )

    def destroy_keys(self) -> list[iam.PolicyStatement]:
        """Destroy the key of a withdrawn document's texts in feedback; the keys are items of the events'
        table."""
        table = resource_arn(self.scope, "dynamodb", "table", self.earlier.data.events_table)
        return [allow("dynamodb:UpdateItem", table, conditions=of_partitions(ERASURE_PARTITIONS))]

    def write_index(self) -> list[iam.PolicyStatement]:
        """Write any version of an index of passages on the tenant's domain, and ask which one is live; the
        domain's own role mapping says which."""
        alias = str(ServiceSettings.model_fields["opensearch_index"].default).replace("{tenant}", "*")
        indices = f"{self.earlier.data.domain_arn}/{alias}"
        return [
            allow(("es:ESHttpPost", "es:ESHttpGet"), f"{indices}-v*"),
            allow("es:ESHttpGet", f"{indices}/_mapping"),
        ]

    def embed(self) -> list[iam.PolicyStatement]:
        """Call the endpoint by name: the endpoint itself is absent while the tenant is paused."""
        endpoint = resource_arn(
            self.scope, "sagemaker", "endpoint", self.earlier.models.embedding_endpoint_name
        )
        return [allow("sagemaker:InvokeEndpoint", endpoint)]

    def read_model_files(self, *names: str) -> list[iam.PolicyStatement]:
        """Read files of the embedding model's artifact that its callers need."""
        bucket = bucket_arn(self.scope, self.earlier.data.models_bucket)
        folder = f"{bucket}/{CALLERS_PREFIX}{self.tenant.config.embedding.model}"
        return [
            allow("s3:GetObject", *(f"{folder}/{name}" for name in names)),
            allow("kms:Decrypt", self.earlier.keys.models_key_arn, conditions=via(self.tenant, "s3")),
        ]

    def read_power(self) -> list[iam.PolicyStatement]:
        return [allow("ssm:GetParameter", parameter_arn(self.scope, self.earlier.models.power_parameter))]

    def take_from(self, *queue_arns: str) -> list[iam.PolicyStatement]:
        """Let Lambda take messages from queues with the function's role."""
        actions = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
        return [allow((*actions, "sqs:GetQueueAttributes"), *queue_arns)]

    def send_to(self, *queue_arns: str) -> list[iam.PolicyStatement]:
        return [allow("sqs:SendMessage", *queue_arns)]

    def use_data_key(self, *services: str) -> iam.PolicyStatement:
        """Use the key of documents, states, messages and environments through these services."""
        actions = ("kms:Decrypt", "kms:GenerateDataKey")
        return allow(actions, self.earlier.keys.data_key_arn, conditions=via(self.tenant, *services))

    def create_link_secret(self) -> list[iam.PolicyStatement]:
        """Create the parameters once, each with a key that nobody ever saw and that this function cannot
        decrypt."""
        contexts = [
            link_secret_context(self.tenant.name, purpose)
            for purpose in (LINK_SECRET_PURPOSE, FEEDBACK_SECRET_PURPOSE, LIVE_READS_SECRET_PURPOSE)
        ]
        context = {
            f"kms:EncryptionContext:{name}": sorted({each[name] for each in contexts}) for name in contexts[0]
        }
        parameters = (
            self.tenant.link_secret_parameter,
            self.tenant.feedback_secret_parameter,
            self.tenant.live_reads_secret_parameter,
        )
        return [
            allow("ssm:PutParameter", *(parameter_arn(self.scope, name) for name in parameters)),
            allow(
                "kms:GenerateDataKeyWithoutPlaintext",
                self.earlier.keys.data_key_arn,
                conditions={"StringEquals": context},
            ),
        ]

    def redact(self) -> list[iam.PolicyStatement]:
        """Read and delete every version of raw capture; put clean copies."""
        quarantine = bucket_arn(self.scope, self.earlier.data.quarantine_bucket)
        objects = ("s3:GetObject", "s3:GetObjectVersion", "s3:DeleteObject", "s3:DeleteObjectVersion")
        return [
            allow(objects, f"{quarantine}/*"),
            allow(("s3:ListBucket", "s3:ListBucketVersions"), quarantine),
            allow("s3:PutObject", f"{bucket_arn(self.scope, self.earlier.data.capture_bucket)}/*"),
            allow(
                ("kms:Decrypt", "kms:GenerateDataKey"),
                self.earlier.keys.capture_key_arn,
                conditions=via(self.tenant, "s3"),
            ),
        ]
