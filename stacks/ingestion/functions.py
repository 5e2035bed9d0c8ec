"""The functions of documents and of captured calls, with the queues between them.

Documents: ``receive_documents``, ``ingest_documents``, ``withdraw_documents``, ``purge_index``. Captured
calls leave the quarantine within the hour: ``redact_capture`` copies each one clean and deletes every version
of it.

A queue with its dead-letter queue: under the tenant's key, over TLS only.

Permissions of the functions: what their adapters call, and on what. No statement has a wildcard action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
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
from assistant.settings.process import (
    BULK_PREFIX,
    IngestingSettings,
    ReceivingSettings,
    RedactingSettings,
    RemovingSettings,
    ServiceSettings,
)
from stacks.data.buckets import document_statements, of_partitions, table_statements
from stacks.functions import FunctionPlace, FunctionProgram, FunctionRole, VpcFunction, schedule
from stacks.models.power import PowerSwitch, publish_power_sources
from stacks.outputs import DataOutputs, KeysOutputs, ModelsOutputs
from stacks.processes import TenantFileAsset
from stacks.roles import Duty, allow, allow_service, bucket_arn, parameter_arn, resource_arn, tag_duty, via
from stacks.tenant import DeployedTenant

MAX_ATTEMPTS = 40
"""Deliveries before a message is a dead letter; equals ``assistant.knowledge.ports.MAX_ATTEMPTS``
(tested)."""
_RETENTION = cdk.Duration.days(14)
"""SQS's maximum, so that a weekend's failure is still there."""
_TIMEOUTS_OF_VISIBILITY = 6
"""Lambda's advice ("Creating and configuring an Amazon SQS event source mapping"): room for its retries while
the function is throttled."""


class TenantQueue(Construct):
    """``consumer_timeout_s`` is the timeout of the function that takes from it."""

    def __init__(
        self, scope: Construct, construct_id: str, *, data_key_arn: str, consumer_timeout_s: int
    ) -> None:
        super().__init__(scope, construct_id)
        key = kms.Key.from_key_arn(self, "Key", data_key_arn)
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=_RETENTION,
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=_RETENTION,
            visibility_timeout=cdk.Duration.seconds(_TIMEOUTS_OF_VISIBILITY * consumer_timeout_s),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=MAX_ATTEMPTS),
        )
        self.arn = self.queue.queue_arn
        self.url = self.queue.queue_url

    def fed_by(self, construct_id: str, *, pattern: events.EventPattern) -> None:
        """Create a rule that puts events of the pattern into the queue, and admit only this rule.

        CDK's own target would admit every rule of the account to an encrypted queue, and so another tenant's.
        """
        rule = events.Rule(self, construct_id, event_pattern=pattern)
        resource = cast("events.CfnRule", rule.node.default_child)
        resource.targets = [events.CfnRule.TargetProperty(id="Queue", arn=self.arn)]
        self.queue.add_to_resource_policy(
            allow_service(
                "events",
                "sqs:SendMessage",
                self.arn,
                sid=f"Feed{construct_id}",
                conditions={"ArnEquals": {"aws:SourceArn": rule.rule_arn}},
            )
        )

    def consumed_by(
        self,
        function: VpcFunction,
        *,
        role: FunctionRole,
        batch_size: int,
        concurrency: int,
        enabled: bool | cdk.IResolvable = True,
    ) -> lambda_.CfnEventSourceMapping:
        """Let the function take batches, ``concurrency`` (Lambda's minimum: 2) at once."""
        kinds = lambda_.CfnEventSourceMapping
        mapping = kinds(
            self,
            "Source",
            event_source_arn=self.arn,
            function_name=function.function_arn,
            enabled=enabled,
            batch_size=batch_size,
            function_response_types=["ReportBatchItemFailures"],
            scaling_config=kinds.ScalingConfigProperty(maximum_concurrency=concurrency),
        )
        # Lambda uses the role when it creates the mapping.
        mapping.node.add_dependency(role)
        return mapping


def object_created(*, bucket: str, key: object | None = None) -> events.EventPattern:
    """Return the pattern of S3's events of new objects; ``key`` filters their names in EventBridge's
    syntax."""
    detail: dict[str, object] = {"bucket": {"name": [bucket]}}
    if key is not None:
        detail["object"] = {"key": [key]}
    return events.EventPattern(source=["aws.s3"], detail_type=["Object Created"], detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPermissions:
    """Builds the statements of the functions' roles, and the roles themselves below ``scope``."""

    scope: Construct
    tenant: DeployedTenant
    keys: KeysOutputs
    data: DataOutputs
    models: ModelsOutputs

    def role(
        self, construct_id: str, *, description: str, statements: Sequence[iam.PolicyStatement]
    ) -> FunctionRole:
        role = FunctionRole(self.scope, construct_id, description=description)
        role.may(*statements)
        return role

    def read_raw_files(self) -> list[iam.PolicyStatement]:
        """Without ``s3:ListBucket`` S3 answers that access is denied where a file is missing."""
        bucket = bucket_arn(self.scope, self.data.inbox_bucket)
        return [allow("s3:GetObject", f"{bucket}/*"), allow("s3:ListBucket", bucket)]

    def write_states(self) -> list[iam.PolicyStatement]:
        return table_statements(self.scope, STATES, self.data.states_table, actions=STATES.worker_actions)

    def destroy_keys(self) -> list[iam.PolicyStatement]:
        """Destroy the key of a withdrawn document's texts in feedback; the keys are items of the events'
        table."""
        table = resource_arn(self.scope, "dynamodb", "table", self.data.events_table)
        return [allow("dynamodb:UpdateItem", table, conditions=of_partitions(ERASURE_PARTITIONS))]

    def write_index(self) -> list[iam.PolicyStatement]:
        """Write any version of an index of passages on the tenant's domain, and ask which one is live; the
        domain's own role mapping says which."""
        alias = str(ServiceSettings.model_fields["opensearch_index"].default).replace("{tenant}", "*")
        indices = f"{self.data.domain_arn}/{alias}"
        return [
            allow(("es:ESHttpPost", "es:ESHttpGet"), f"{indices}-v*"),
            allow("es:ESHttpGet", f"{indices}/_mapping"),
        ]

    def read_model_files(self, *names: str) -> list[iam.PolicyStatement]:
        """Read files of the embedding model's artifact that its callers need."""
        bucket = bucket_arn(self.scope, self.data.models_bucket)
        folder = f"{bucket}/{CALLERS_PREFIX}{self.tenant.config.embedding.model}"
        return [
            allow("s3:GetObject", *(f"{folder}/{name}" for name in names)),
            allow("kms:Decrypt", self.keys.models_key_arn, conditions=via(self.tenant, "s3")),
        ]

    def take_from(self, *queue_arns: str) -> list[iam.PolicyStatement]:
        """Let Lambda take messages from queues with the function's role."""
        actions = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
        return [allow((*actions, "sqs:GetQueueAttributes"), *queue_arns)]

    def send_to(self, *queue_arns: str) -> list[iam.PolicyStatement]:
        return [allow("sqs:SendMessage", *queue_arns)]

    def use_data_key(self, *services: str) -> iam.PolicyStatement:
        """Use the key of documents, states, messages and environments through these services."""
        actions = ("kms:Decrypt", "kms:GenerateDataKey")
        return allow(actions, self.keys.data_key_arn, conditions=via(self.tenant, *services))

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
                self.keys.data_key_arn,
                conditions={"StringEquals": context},
            ),
        ]

    def redact(self) -> list[iam.PolicyStatement]:
        """Read and delete every version of raw capture; put clean copies."""
        quarantine = bucket_arn(self.scope, self.data.quarantine_bucket)
        objects = ("s3:GetObject", "s3:GetObjectVersion", "s3:DeleteObject", "s3:DeleteObjectVersion")
        return [
            allow(objects, f"{quarantine}/*"),
            allow(("s3:ListBucket", "s3:ListBucketVersions"), quarantine),
            allow("s3:PutObject", f"{bucket_arn(self.scope, self.data.capture_bucket)}/*"),
            allow(
                ("kms:Decrypt", "kms:GenerateDataKey"),
                self.keys.capture_key_arn,
                conditions=via(self.tenant, "s3"),
            ),
        ]


_RECEIVE_TIMEOUT_S = 600
"""A raw file may contain twenty thousand documents, each an object of its own."""
_INGEST_TIMEOUT_S = 300
"""Twice the time of an embedding that is retried for a minute and of a domain that is slow for another."""
_WITHDRAW_TIMEOUT_S = 120
_PURGE_TIMEOUT_S = 600
_REDACT_TIMEOUT_S = 120
"""A message of a failed function is invisible for six times that. Five such failures would take the hour,
hence the sweep."""
_FILES_PER_BATCH = 5
_DOCUMENTS_PER_BATCH = 10
"""SQS's maximum without a batching window."""
_OBJECTS_PER_BATCH = 5
_CONCURRENCY = 4
_BULK_CONCURRENCY = 2
"""Lambda's minimum. Bulk loads have their own queues and never delay single documents; they share only the
endpoint and the domain with them."""
_PURGE_RATE = "rate(15 minutes)"
_SWEEP_MINUTES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentQueues:
    inbox: TenantQueue
    bulk_inbox: TenantQueue
    documents: TenantQueue
    bulk_documents: TenantQueue
    withdrawals: TenantQueue

    def all(self) -> tuple[TenantQueue, ...]:
        return (self.inbox, self.bulk_inbox, self.documents, self.bulk_documents, self.withdrawals)


class DocumentFunctions(Construct):
    def __init__(
        self, scope: Construct, construct_id: str, *, permissions: FunctionPermissions, place: FunctionPlace
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = permissions.tenant
        self._permissions = permissions
        self._place = place
        self.queues = self._create_queues()
        self._tenant_file = TenantFileAsset(self, "TenantFile", tenant=self._tenant)
        self.index_writers: list[FunctionRole] = []
        self.sources: list[lambda_.CfnEventSourceMapping] = []
        """Create them after the index and the permission to write it."""
        self.functions = (self._receive(), self._ingest(), *self._remove())

    def _create_queues(self) -> DocumentQueues:
        def queue(construct_id: str, timeout_s: int) -> TenantQueue:
            key = self._permissions.keys.data_key_arn
            return TenantQueue(self, construct_id, data_key_arn=key, consumer_timeout_s=timeout_s)

        queues = DocumentQueues(
            inbox=queue("Inbox", _RECEIVE_TIMEOUT_S),
            bulk_inbox=queue("BulkInbox", _RECEIVE_TIMEOUT_S),
            documents=queue("Documents", _INGEST_TIMEOUT_S),
            bulk_documents=queue("BulkDocuments", _INGEST_TIMEOUT_S),
            withdrawals=queue("Withdrawals", _WITHDRAW_TIMEOUT_S),
        )
        bucket, bulk = self._permissions.data.inbox_bucket, {"prefix": BULK_PREFIX}
        queues.inbox.fed_by("Received", pattern=object_created(bucket=bucket, key={"anything-but": bulk}))
        queues.bulk_inbox.fed_by("Received", pattern=object_created(bucket=bucket, key=bulk))
        return queues

    def _receive(self) -> VpcFunction:
        permissions, data, queues = self._permissions, self._permissions.data, self.queues
        documents = bucket_arn(self, data.documents_bucket)
        role = permissions.role(
            "ReceiveRole",
            description="Reads raw files of the inbox, adds documents",
            statements=[
                *permissions.read_raw_files(),
                allow("s3:PutObject", f"{documents}/{ServiceSettings.documents_prefix}*"),
                *permissions.write_states(),
                *permissions.send_to(queues.documents.arn, queues.bulk_documents.arn, queues.withdrawals.arn),
                *permissions.take_from(queues.inbox.arn, queues.bulk_inbox.arn),
                permissions.use_data_key(*_DOCUMENT_SERVICES),
            ],
        )
        self._tenant_file.grant_read(role)
        environment = {
            "region": self._tenant.place.region,
            "tenant_file_s3": self._tenant_file.uri,
            "documents_bucket": data.documents_bucket,
            "states_table": data.states_table,
            "ingestion_queue_url": queues.documents.url,
            "bulk_queue_url": queues.bulk_documents.url,
            "withdrawals_queue_url": queues.withdrawals.url,
            "inbox_bucket": data.inbox_bucket,
            "metrics_service": self._tenant.full_name,
        }
        program = FunctionProgram(
            module="receive_documents",
            timeout_s=_RECEIVE_TIMEOUT_S,
            memory_mib=1024,
            scratch_mib=1536,  # the raw files of a batch, 256 MiB each at most
            environment=ReceivingSettings.variables(environment, known_later=cdk.Token.is_unresolved),
        )
        function = self._function("Receive", role=role, program=program)
        for queue, concurrency in ((queues.inbox, _CONCURRENCY), (queues.bulk_inbox, _BULK_CONCURRENCY)):
            queue.consumed_by(function, role=role, batch_size=_FILES_PER_BATCH, concurrency=concurrency)
        return function

    def _ingest(self) -> VpcFunction:
        permissions, queues, models = self._permissions, self.queues, self._permissions.models
        embedding = resource_arn(self, "sagemaker", "endpoint", models.embedding_endpoint_name)
        role = self._index_role(
            "IngestRole",
            "Brings documents into the index",
            [
                # By name: the endpoint itself is absent while the tenant is paused.
                allow("sagemaker:InvokeEndpoint", embedding),
                allow("ssm:GetParameter", parameter_arn(self, models.power_parameter)),
                *permissions.send_to(queues.documents.arn, queues.bulk_documents.arn),
                *permissions.take_from(queues.documents.arn, queues.bulk_documents.arn),
            ],
        )
        environment = {
            **self._index_environment(),
            "bulk_queue_url": queues.bulk_documents.url,
            "power_parameter": permissions.models.power_parameter,
            "metrics_service": self._tenant.full_name,
        }
        program = FunctionProgram(
            module="ingest_documents",
            timeout_s=_INGEST_TIMEOUT_S,
            memory_mib=1769,  # one whole core, to parse and split documents
            environment=IngestingSettings.variables(environment, known_later=cdk.Token.is_unresolved),
        )
        function = self._function("Ingest", role=role, program=program)
        # The function takes documents only while the endpoints exist: the power machines stop these sources.
        switch = PowerSwitch(self, "Switch", tenant=self._tenant)
        sources = [
            queue.consumed_by(
                function,
                role=role,
                batch_size=_DOCUMENTS_PER_BATCH,
                concurrency=concurrency,
                enabled=switch.enabled,
            )
            for queue, concurrency in (
                (queues.documents, _CONCURRENCY),
                (queues.bulk_documents, _BULK_CONCURRENCY),
            )
        ]
        self.sources += sources
        publish_power_sources(
            self,
            "PowerSources",
            tenant=self._tenant,
            event_source_ids=[source.ref for source in sources],
            queue_urls=[queues.documents.url, queues.bulk_documents.url],
        )
        return function

    def _remove(self) -> tuple[VpcFunction, VpcFunction]:
        permissions, withdrawals = self._permissions, self.queues.withdrawals
        role = self._index_role(
            "RemoveRole",
            "Takes withdrawn documents out of the index and off its disks",
            [
                *permissions.send_to(withdrawals.arn),
                *permissions.take_from(withdrawals.arn),
                *permissions.destroy_keys(),
            ],
        )
        values = self._index_environment() | {"events_table": permissions.data.events_table}
        environment = RemovingSettings.variables(values, known_later=cdk.Token.is_unresolved)

        def function(construct_id: str, module: str, timeout_s: int) -> VpcFunction:
            program = FunctionProgram(
                module=module, timeout_s=timeout_s, memory_mib=1024, environment=environment
            )
            return self._function(construct_id, role=role, program=program)

        withdraw = function("Withdraw", "withdraw_documents", _WITHDRAW_TIMEOUT_S)
        purge = function("Purge", "purge_index", _PURGE_TIMEOUT_S)
        self.sources.append(
            withdrawals.consumed_by(
                withdraw, role=role, batch_size=_DOCUMENTS_PER_BATCH, concurrency=_BULK_CONCURRENCY
            )
        )
        schedule(self, "PurgeSchedule", function=purge, rate=_PURGE_RATE)
        return withdraw, purge

    def _index_role(
        self, construct_id: str, description: str, more: list[iam.PolicyStatement]
    ) -> FunctionRole:
        permissions = self._permissions
        role = permissions.role(
            construct_id,
            description=description,
            statements=[
                *document_statements(self, permissions.data.documents_bucket),
                *permissions.write_states(),
                *permissions.write_index(),
                *permissions.read_model_files("artifact.json", "tokenizer.json"),
                *more,
                permissions.use_data_key(*_DOCUMENT_SERVICES),
            ],
        )
        self._tenant_file.grant_read(role)
        self.index_writers.append(role)
        return role

    def _index_environment(self) -> dict[str, object]:
        data, queues = self._permissions.data, self.queues
        return {
            "region": self._tenant.place.region,
            "tenant_file_s3": self._tenant_file.uri,
            "model_artifacts_s3": f"s3://{data.models_bucket}/{CALLERS_PREFIX}",
            "stores": "aws",
            "search": "opensearch",
            "documents_bucket": data.documents_bucket,
            "states_table": data.states_table,
            "ingestion_queue_url": queues.documents.url,
            "withdrawals_queue_url": queues.withdrawals.url,
            "opensearch_url": f"https://{data.domain_endpoint}",
            "opensearch_index": self._tenant.search_alias,
        }

    def _function(self, construct_id: str, *, role: FunctionRole, program: FunctionProgram) -> VpcFunction:
        return VpcFunction(
            self, construct_id, tenant=self._tenant, program=program, place=self._place, role=role
        )


_DOCUMENT_SERVICES = ("s3", "dynamodb", "sqs", "lambda")
"""Services through which the functions of documents use the data key."""


class CaptureRedaction(Construct):
    """``redact_capture`` handles each new object; ``sweep_quarantine`` handles what it left and publishes the
    metric ``OldestRawCaptureAge``, in seconds."""

    def __init__(
        self, scope: Construct, construct_id: str, *, permissions: FunctionPermissions, place: FunctionPlace
    ) -> None:
        super().__init__(scope, construct_id)
        tenant, data = permissions.tenant, permissions.data
        self.queue = TenantQueue(
            self,
            "Captured",
            data_key_arn=permissions.keys.data_key_arn,
            consumer_timeout_s=_REDACT_TIMEOUT_S,
        )
        self.queue.fed_by("Written", pattern=object_created(bucket=data.quarantine_bucket))
        role = permissions.role(
            "RedactRole",
            description="The only reader of raw capture: writes clean copies, deletes raw ones",
            statements=[
                *permissions.redact(),
                *permissions.take_from(self.queue.arn),
                permissions.use_data_key("sqs", "lambda"),
            ],
        )
        tag_duty(role, Duty.REDACTOR)
        values: Mapping[str, object] = {
            "region": tenant.place.region,
            "quarantine_bucket": data.quarantine_bucket,
            "capture_bucket": data.capture_bucket,
            "passages_percent": tenant.models.capture_passages_percent,
            "metrics_service": tenant.full_name,
        }
        environment = RedactingSettings.variables(values, known_later=cdk.Token.is_unresolved)

        def function(name: str, module: str, timeout_s: int) -> VpcFunction:
            program = FunctionProgram(
                module=module, timeout_s=timeout_s, memory_mib=1024, environment=environment
            )
            return VpcFunction(self, name, tenant=tenant, program=program, place=place, role=role)

        redact = function("Redact", "redact_capture", _REDACT_TIMEOUT_S)
        sweep = function("Sweep", "sweep_quarantine", 60 * _SWEEP_MINUTES)
        self.queue.consumed_by(redact, role=role, batch_size=_OBJECTS_PER_BATCH, concurrency=_CONCURRENCY)
        schedule(self, "SweepSchedule", function=sweep, rate=f"rate({_SWEEP_MINUTES} minutes)")
        self.functions = (redact, sweep)
