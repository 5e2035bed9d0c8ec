"""The functions of documents and of captured calls, the queues between them, and their permissions.

    inbox bucket → queue → receive_documents → queue → ingest_documents → index
                                   ↓ withdrawn                  both call parse_documents
                       queue → withdraw_documents → index;  purge_index every 15 minutes
    quarantine bucket → queue → redact_capture → capture bucket;  sweep_quarantine every 5 minutes

Inbox and document queues exist twice, for single documents and for bulk loads. Captured calls leave the
quarantine within the hour: ``redact_capture`` copies each one clean and deletes every version of it. Each
name is a module of ``lambdas``. A role allows exactly what the function's adapters call, on the resources
that they use; no statement has a wildcard action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from assistant.process.settings import (
    BULK_PREFIX,
    PARSING_PREFIX,
    UPLOADS_PREFIX,
    IngestingSettings,
    ProcessSettings,
    ReceivingSettings,
    RedactingSettings,
    ReindexingSettings,
    RemovingSettings,
    ServiceSettings,
)
from assistant.tenant.deployed_names import (
    ACCESS_PARTITIONS,
    ERASURE_PARTITIONS,
    PIPELINE,
    REINDEX_OUTPUT,
    STATES,
)
from assistant.tenant.manifests import CALLERS_PREFIX
from stacks.buckets import document_statements
from stacks.functions import FunctionPlace, FunctionProgram, FunctionRole, VpcFunction, schedule
from stacks.models import PowerSwitch, publish_power_sources
from stacks.outputs import ModelsOutputs, Workload
from stacks.processes import LEARNING_IMAGE, TenantFileAsset, image_uri
from stacks.roles import (
    USE_KEY,
    Duty,
    allow,
    allow_partitions,
    allow_service,
    bucket_arn,
    parameter_arn,
    resource_arn,
    table_statements,
    tag_duty,
    via,
)
from stacks.tenant_stack import Foundation

MAX_ATTEMPTS = 40
"""Deliveries before a message is a dead letter; equals ``assistant.stores.ports.MAX_ATTEMPTS``
(tested)."""
_RETENTION = cdk.Duration.days(14)
"""SQS's maximum, so that a weekend's failure is still there."""
_VISIBILITY_TIMEOUTS = 6
"""A message stays invisible for so many timeouts of its function: Lambda's advice ("Creating and configuring
an Amazon SQS event source mapping"), room for its retries while the function is throttled."""


class TenantQueue(Construct):
    """An encrypted queue with its dead-letter queue. ``consumer_timeout_s``: timeout of the function that
    takes from it."""

    def __init__(
        self, scope: Construct, construct_id: str, *, data_key_arn: str, consumer_timeout_s: int
    ) -> None:
        super().__init__(scope, construct_id)
        properties: dict[str, Any] = {
            "encryption": sqs.QueueEncryption.KMS,
            "encryption_master_key": kms.Key.from_key_arn(self, "Key", data_key_arn),
            "enforce_ssl": True,
            "retention_period": _RETENTION,
        }
        self.dead_letters = sqs.Queue(self, "DeadLetters", **properties)
        self.queue = sqs.Queue(
            self,
            "Queue",
            **properties,
            visibility_timeout=cdk.Duration.seconds(_VISIBILITY_TIMEOUTS * consumer_timeout_s),
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
        """Let the function take batches, at most ``concurrency`` (Lambda's minimum: 2) at once. Return the
        mapping, which must be created after everything that the function needs
        (``DocumentFunctions.sources``)."""
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
        # Lambda checks the role's permissions on the queue when it creates the mapping.
        mapping.node.add_dependency(role)
        return mapping


def object_created(*, bucket: str, key: object | None = None) -> events.EventPattern:
    """Return the pattern of S3's events of new objects. ``key``: a filter of their names in EventBridge's
    syntax (``{"prefix": "bulk/"}``)."""
    detail: dict[str, object] = {"bucket": {"name": [bucket]}}
    if key is not None:
        detail["object"] = {"key": [key]}
    return events.EventPattern(source=["aws.s3"], detail_type=["Object Created"], detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPermissions:
    """Builds the statements of the functions' roles, and the roles themselves below ``scope``.

    Methods named by a verb return statements: ``take_from(queue)`` allows to take messages.
    """

    scope: Construct
    foundation: Foundation

    def role(
        self, construct_id: str, *, description: str, statements: Sequence[iam.PolicyStatement]
    ) -> FunctionRole:
        role = FunctionRole(self.scope, construct_id, description=description)
        role.may(*statements)
        return role

    def write_states(self) -> list[iam.PolicyStatement]:
        """Read and write the states of documents, as workers do."""
        table = self.foundation.data.states_table
        return table_statements(self.scope, STATES, table, actions=STATES.worker_actions)

    def read_model_files(self, *names: str) -> list[iam.PolicyStatement]:
        """Read these files (``tokenizer.json``) of the embedding models' artifacts."""
        tenant, models_key = self.foundation.tenant, self.foundation.keys.models_key_arn
        bucket = bucket_arn(self.scope, self.foundation.data.models_bucket)
        folders = [f"{bucket}/{CALLERS_PREFIX}{section.model}" for section, _, _ in tenant.embeddings]
        return [
            allow("s3:GetObject", *(f"{folder}/{name}" for folder in folders for name in names)),
            allow("kms:Decrypt", models_key, conditions=via(tenant, "s3")),
        ]

    def parse_by(self, parser: VpcFunction) -> list[iam.PolicyStatement]:
        """Call the parser, and read, write and delete below its prefix: the caller gives the parser presigned
        URLs of what it reads and of where it puts its answer."""
        bucket = bucket_arn(self.scope, self.foundation.data.documents_bucket)
        actions = ("s3:PutObject", "s3:GetObject", "s3:DeleteObjectVersion")
        folder = {"StringLike": {"s3:prefix": f"{PARSING_PREFIX}*"}}
        return [
            allow("lambda:InvokeFunction", parser.function_arn),
            allow(actions, f"{bucket}/{PARSING_PREFIX}*"),
            allow("s3:ListBucketVersions", bucket, conditions=folder),
        ]

    def take_from(self, *queues: TenantQueue) -> iam.PolicyStatement:
        """Let Lambda take messages from queues with the function's role."""
        actions = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
        return allow((*actions, "sqs:GetQueueAttributes"), *(queue.arn for queue in queues))

    def send_to(self, *queues: TenantQueue) -> iam.PolicyStatement:
        return allow("sqs:SendMessage", *(queue.arn for queue in queues))

    def use_data_key(self, *services: str) -> iam.PolicyStatement:
        """Use the key of documents, states, messages and environments through these services."""
        foundation = self.foundation
        conditions = via(foundation.tenant, *services)
        return allow(USE_KEY, foundation.keys.data_key_arn, conditions=conditions)


_RECEIVE_TIMEOUT_S = 600
"""A raw file may contain twenty thousand documents, each of which is put as an object."""
_INGEST_TIMEOUT_S = 300
"""Twice the longest run: embedding retried for a minute, and a slow domain for another."""
_WITHDRAW_TIMEOUT_S = 120
_PURGE_TIMEOUT_S = 600
_REDACT_TIMEOUT_S = 120
"""A message of a failed function stays invisible for six timeouts, 12 minutes: five failures would exceed the
hour, hence the sweep."""
_FILES_PER_BATCH = 1
"""A file that crashes the function uses up no attempt of another file."""
_PARSE_TIMEOUT_S = 50
"""Less than the minute for which a presigned URL is valid. A document may take 20 s of CPU time
(``ParsingLimits``)."""
_PARSING_MIB = 1769
"""One whole core. The parsing child may take 1,024 MiB of it (``ParsingLimits``), so that a file which takes
more ends the child and not the function."""
_DOCUMENTS_PER_BATCH = 10
"""SQS's maximum without a batching window."""
_OBJECTS_PER_BATCH = 5
_CONCURRENCY = 4
_BULK_CONCURRENCY = 2
"""Lambda's minimum. Bulk loads have their own queues and never delay single documents; they share only the
endpoint and the domain with them."""
_REINDEX_TIMEOUT_S = 120
_PURGE_RATE = "rate(15 minutes)"
_SWEEP_MINUTES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentQueues:
    """The queues by what their messages name: raw files, documents to ingest, documents to withdraw."""

    inbox: TenantQueue
    bulk_inbox: TenantQueue
    documents: TenantQueue
    bulk_documents: TenantQueue
    withdrawals: TenantQueue

    def all(self) -> tuple[TenantQueue, ...]:
        return (self.inbox, self.bulk_inbox, self.documents, self.bulk_documents, self.withdrawals)


_DOCUMENT_SERVICES = ("s3", "dynamodb", "sqs", "lambda")
"""Services through which the functions of documents use the data key."""


class DocumentFunctions(Construct):
    """The functions of documents with their queues and roles.

    ``index_writers``: roles that need access to the index, which the ingestion stack grants; ``functions``:
    all of them, for metrics.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, permissions: FunctionPermissions, models: ModelsOutputs
    ) -> None:
        super().__init__(scope, construct_id)
        self._permissions = permissions
        self._foundation = permissions.foundation
        self._models = models
        self._place = FunctionPlace.of(self._foundation, Workload.INGESTION)
        self.queues = self._create_queues()
        self._tenant_file = TenantFileAsset(self, "TenantFile", tenant=self._foundation.tenant)
        self.index_writers: list[FunctionRole] = []
        self.sources: list[lambda_.CfnEventSourceMapping] = []
        """Event source mappings. The ingestion stack creates them after the index and the permission to write
        it."""
        self.parser = self._parse()  # first: roles of others refer to it
        self.functions = (self.parser, self._receive(), self._ingest(), *self._remove())
        self.reindex_role: FunctionRole | None = None
        """The only role that may create, delete and switch versions of the index."""
        if models.embedding_next_endpoint_name is not None:
            self.functions = (*self.functions, self._reindex())

    def _create_queues(self) -> DocumentQueues:
        def queue(construct_id: str, timeout_s: int) -> TenantQueue:
            key = self._foundation.keys.data_key_arn
            return TenantQueue(self, construct_id, data_key_arn=key, consumer_timeout_s=timeout_s)

        queues = DocumentQueues(
            inbox=queue("Inbox", _RECEIVE_TIMEOUT_S),
            bulk_inbox=queue("BulkInbox", _RECEIVE_TIMEOUT_S),
            documents=queue("Documents", _INGEST_TIMEOUT_S),
            bulk_documents=queue("BulkDocuments", _INGEST_TIMEOUT_S),
            withdrawals=queue("Withdrawals", _WITHDRAW_TIMEOUT_S),
        )
        bucket, bulk = self._foundation.data.inbox_bucket, {"prefix": BULK_PREFIX}
        queues.inbox.fed_by("Received", pattern=object_created(bucket=bucket, key={"anything-but": bulk}))
        queues.bulk_inbox.fed_by("Received", pattern=object_created(bucket=bucket, key=bulk))
        return queues

    def _parse(self) -> VpcFunction:
        """Create the function that parses files of strangers: its role allows nothing, it has no environment,
        and its security group reaches only S3's gateway."""
        program = FunctionProgram(
            module="parse_documents",
            timeout_s=_PARSE_TIMEOUT_S,
            memory_mib=_PARSING_MIB,
            environment={},
        )
        role = FunctionRole(self._permissions.scope, "ParseRole", description="Has no right")
        place = FunctionPlace.of(self._foundation, Workload.PARSER)
        return VpcFunction(self, "Parse", program=program, place=place, role=role, has_rights=False)

    def _receive(self) -> VpcFunction:
        permissions, queues, data = self._permissions, self.queues, self._foundation.data
        documents, inbox = bucket_arn(self, data.documents_bucket), bucket_arn(self, data.inbox_bucket)
        uploads = f"{inbox}/{UPLOADS_PREFIX}*"
        role = permissions.role(
            "ReceiveRole",
            description="Reads raw files of the inbox, adds documents",
            statements=[
                # Without s3:ListBucket S3 answers "access denied" for a missing file.
                allow("s3:GetObject", f"{inbox}/*"),
                allow("s3:ListBucket", inbox),
                allow("s3:PutObject", f"{uploads}/result.json"),
                allow("s3:DeleteObject", f"{uploads}/content"),
                # Documents that are parsed again; s3:ListBucket as above, for one without a stored text.
                allow(("s3:GetObject", "s3:PutObject"), f"{documents}/{ServiceSettings.documents_prefix}*"),
                allow("s3:ListBucket", documents),
                *permissions.write_states(),
                # Audit entries of who tried to widen a document's labels; the role cannot read any record.
                allow_partitions(self, data.records_table, "dynamodb:PutItem", ACCESS_PARTITIONS),
                permissions.send_to(queues.documents, queues.bulk_documents, queues.withdrawals),
                permissions.take_from(queues.inbox, queues.bulk_inbox),
                *permissions.parse_by(self.parser),
                permissions.use_data_key(*_DOCUMENT_SERVICES),
            ],
        )
        tag_duty(role, Duty.UPLOADER)
        self._tenant_file.grant_read(role)
        program = FunctionProgram(
            module="receive_documents",
            timeout_s=_RECEIVE_TIMEOUT_S,
            scratch_mib=1536,  # the raw file, 256 MiB at most
            environment=self._environment(
                ReceivingSettings,
                bulk_queue_url=queues.bulk_documents.url,
                parser_function=self.parser.function_name,
            ),
        )
        function = VpcFunction(self, "Receive", program=program, place=self._place, role=role)
        self._consume(function, role, queues.inbox, queues.bulk_inbox, batch_size=_FILES_PER_BATCH)
        return function

    def _ingest(self) -> VpcFunction:
        permissions, queues, models = self._permissions, self.queues, self._models
        role = self._index_role(
            "IngestRole",
            "Brings documents into the index",
            # By name: the endpoint does not exist while the tenant is paused.
            self._embed(),
            allow("ssm:GetParameter", parameter_arn(self, models.power_parameter)),
            permissions.send_to(queues.documents, queues.bulk_documents),
            permissions.take_from(queues.documents, queues.bulk_documents),
            *permissions.parse_by(self.parser),
        )
        program = FunctionProgram(
            module="ingest_documents",
            timeout_s=_INGEST_TIMEOUT_S,
            environment=self._environment(
                IngestingSettings,
                stores="aws",
                **self._foundation.index(),
                bulk_queue_url=queues.bulk_documents.url,
                parser_function=self.parser.function_name,
                power_parameter=models.power_parameter,
            ),
        )
        function = VpcFunction(self, "Ingest", program=program, place=self._place, role=role)
        # The power machines stop these sources in a pause, so that the function runs only while endpoints
        # exist.
        sources = self._consume(
            function,
            role,
            queues.documents,
            queues.bulk_documents,
            batch_size=_DOCUMENTS_PER_BATCH,
            enabled=PowerSwitch(self, "Switch").enabled,
        )
        self.sources += sources
        publish_power_sources(
            self,
            "PowerSources",
            event_source_ids=[source.ref for source in sources],
            queue_urls=[queues.documents.url, queues.bulk_documents.url],
        )
        return function

    def _remove(self) -> tuple[VpcFunction, VpcFunction]:
        """Create the functions that withdraw documents and purge the index, with one role."""
        permissions, withdrawals = self._permissions, self.queues.withdrawals
        # Keys that seal texts in feedback are items of the events table; a withdrawal destroys the
        # document's.
        keys = self._foundation.data.events_table
        role = self._index_role(
            "RemoveRole",
            "Takes withdrawn documents out of the index and off its disks",
            permissions.send_to(withdrawals),
            permissions.take_from(withdrawals),
            allow_partitions(self, keys, "dynamodb:UpdateItem", ERASURE_PARTITIONS),
        )
        environment = self._environment(
            RemovingSettings,
            stores="aws",
            **self._foundation.index(),
            events_table=self._foundation.data.events_table,
        )

        def function(construct_id: str, module: str, timeout_s: int) -> VpcFunction:
            program = FunctionProgram(module=module, timeout_s=timeout_s, environment=environment)
            return VpcFunction(self, construct_id, program=program, place=self._place, role=role)

        withdraw = function("Withdraw", "withdraw_documents", _WITHDRAW_TIMEOUT_S)
        purge = function("Purge", "purge_index", _PURGE_TIMEOUT_S)
        self.sources.append(
            withdrawals.consumed_by(
                withdraw, role=role, batch_size=_DOCUMENTS_PER_BATCH, concurrency=_BULK_CONCURRENCY
            )
        )
        schedule(self, "PurgeSchedule", function=purge, rate=_PURGE_RATE)
        return withdraw, purge

    def _embed(self) -> iam.PolicyStatement:
        """Allow calls of the embedding endpoints."""
        names = self._models.embedding_endpoint_names
        endpoints = (resource_arn(self, "sagemaker", "endpoint", name) for name in names)
        return allow("sagemaker:InvokeEndpoint", *endpoints)

    def _reindex(self) -> VpcFunction:
        """Create the function that ``assistant aws reindex`` calls: it fills the index of
        ``[embedding_next]``, and switches to it or back."""
        domain = self._foundation.data.domain_arn
        role = self._index_role(
            "ReindexRole",
            "Fills versions of the index, and makes one of them live",
            self._embed(),
            allow(("es:ESHttpPut", "es:ESHttpDelete"), f"{domain}/*-passages-v*"),
            allow("es:ESHttpHead", f"{domain}/_alias/{self._foundation.tenant.search_alias}"),
            allow("es:ESHttpPost", f"{domain}/_aliases"),
            allow("es:ESHttpPut", f"{domain}/_search/pipeline/{PIPELINE}"),
            opens_index=False,
        )
        self.reindex_role = role
        environment = self._environment(ReindexingSettings, stores="aws", **self._foundation.index())
        program = FunctionProgram(
            module="reindex_passages", timeout_s=_REINDEX_TIMEOUT_S, memory_mib=1769, environment=environment
        )
        function = VpcFunction(self, "Reindex", program=program, place=self._place, role=role)
        name = function.function_name
        cdk.CfnOutput(cdk.Stack.of(self), REINDEX_OUTPUT, value=name, description="assistant aws reindex")
        return function

    def _consume(
        self,
        function: VpcFunction,
        role: FunctionRole,
        single: TenantQueue,
        bulk: TenantQueue,
        *,
        batch_size: int,
        enabled: bool | cdk.IResolvable = True,
    ) -> list[lambda_.CfnEventSourceMapping]:
        """Let a function take from both queues of a step, more at once from that of single documents."""
        return [
            queue.consumed_by(
                function, role=role, batch_size=batch_size, concurrency=concurrency, enabled=enabled
            )
            for queue, concurrency in ((single, _CONCURRENCY), (bulk, _BULK_CONCURRENCY))
        ]

    def _index_role(
        self, construct_id: str, description: str, *more: iam.PolicyStatement, opens_index: bool = True
    ) -> FunctionRole:
        """Create a role that writes versions of the index of passages, and reads which one is live.

        IAM allows any index of passages on the domain (``…/*-passages-v*``); the domain's own role mapping
        (``grant_search_access``) restricts it to the tenant's. ``opens_index``: whether the role gets the
        access of a writer.
        """
        permissions, data = self._permissions, self._foundation.data
        alias = str(ServiceSettings.model_fields["opensearch_index"].default).replace("{tenant}", "*")
        indices = f"{data.domain_arn}/{alias}"
        role = permissions.role(
            construct_id,
            description=description,
            statements=[
                *document_statements(self, data.documents_bucket),
                *permissions.write_states(),
                allow(("es:ESHttpPost", "es:ESHttpGet"), f"{indices}-v*"),
                allow("es:ESHttpGet", f"{indices}/_mapping"),
                *permissions.read_model_files("artifact.json", "tokenizer.json"),
                *more,
                permissions.use_data_key(*_DOCUMENT_SERVICES),
            ],
        )
        self._tenant_file.grant_read(role)
        if opens_index:
            self.index_writers.append(role)
        return role

    def _environment(self, settings: type[ProcessSettings], **values: object) -> dict[str, str]:
        """Return the variables of a function: ``values``, the queues and what ``Foundation.environment``
        adds."""
        return self._foundation.environment(
            settings,
            tenant_file_s3=self._tenant_file.uri,
            ingestion_queue_url=self.queues.documents.url,
            withdrawals_queue_url=self.queues.withdrawals.url,
            **values,
        )


class CaptureRedaction(Construct):
    """The functions that clean captured calls: ``redact_capture`` handles each new object of the quarantine,
    ``sweep_quarantine`` every five minutes the ones that it left, and publishes the metric
    ``OldestRawCaptureAge``, in seconds."""

    def __init__(self, scope: Construct, construct_id: str, *, permissions: FunctionPermissions) -> None:
        super().__init__(scope, construct_id)
        foundation = permissions.foundation
        key = foundation.keys.data_key_arn
        self.queue = TenantQueue(self, "Captured", data_key_arn=key, consumer_timeout_s=_REDACT_TIMEOUT_S)
        self.queue.fed_by("Written", pattern=object_created(bucket=foundation.data.quarantine_bucket))
        quarantine = bucket_arn(self, foundation.data.quarantine_bucket)
        clean = bucket_arn(self, foundation.data.capture_bucket)
        objects = ("s3:GetObject", "s3:GetObjectVersion", "s3:DeleteObject", "s3:DeleteObjectVersion")
        role = permissions.role(
            "RedactRole",
            description="The only reader of raw capture: writes clean copies, deletes raw ones",
            statements=[
                allow(objects, f"{quarantine}/*"),
                allow(("s3:ListBucket", "s3:ListBucketVersions"), quarantine),
                allow("s3:PutObject", f"{clean}/*"),
                allow(USE_KEY, foundation.keys.capture_key_arn, conditions=via(foundation.tenant, "s3")),
                permissions.take_from(self.queue),
                permissions.use_data_key("sqs", "lambda"),
            ],
        )
        tag_duty(role, Duty.REDACTOR)
        place = FunctionPlace.of(foundation, Workload.REDACTOR)
        models = foundation.tenant.models
        keeps_texts = models.keeps_captured_texts
        environment = foundation.environment(
            RedactingSettings, passages_percent=models.capture_passages_percent, keeps_texts=keeps_texts
        )
        # The models that find patients' data exceed a zip package (docs/decisions/0048-patients-data.md).
        image = image_uri(self, foundation.tenant, LEARNING_IMAGE) if keeps_texts else None

        def function(name: str, module: str, timeout_s: int) -> VpcFunction:
            program = FunctionProgram(
                module=module,
                timeout_s=timeout_s,
                memory_mib=1769 if keeps_texts else 1024,  # one whole core, to find patients' data
                environment=environment,
                image=image,
            )
            return VpcFunction(self, name, program=program, place=place, role=role)

        redact = function("Redact", "redact_capture", _REDACT_TIMEOUT_S)
        sweep = function("Sweep", "sweep_quarantine", 60 * _SWEEP_MINUTES)
        self.queue.consumed_by(redact, role=role, batch_size=_OBJECTS_PER_BATCH, concurrency=_CONCURRENCY)
        schedule(self, "SweepSchedule", function=sweep, rate=f"rate({_SWEEP_MINUTES} minutes)")
        self.functions = (redact, sweep)
