"""The functions of documents and of captured calls, with the queues between them.

Documents: ``receive_documents``, ``ingest_documents``, ``withdraw_documents``, ``purge_index``. Captured
calls leave the quarantine within the hour: ``redact_capture`` copies each one clean and deletes every version
of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from assistant.settings.functions import (
    BULK_PREFIX,
    IngestingSettings,
    ReceivingSettings,
    RedactingSettings,
    RemovingSettings,
)
from assistant.settings.model_artifacts import CALLERS_PREFIX
from stacks.functions import FunctionPlace, FunctionProgram, FunctionRole, VpcFunction, schedule
from stacks.ingestion.permissions import FunctionPermissions
from stacks.ingestion.queues import TenantQueue, object_created
from stacks.models.power import PowerSwitch, publish_power_sources
from stacks.processes import TenantFileAsset
from stacks.roles import Duty, tag_duty

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
            key = self._permissions.earlier.keys.data_key_arn
            return TenantQueue(self, construct_id, data_key_arn=key, consumer_timeout_s=timeout_s)

        queues = DocumentQueues(
            inbox=queue("Inbox", _RECEIVE_TIMEOUT_S),
            bulk_inbox=queue("BulkInbox", _RECEIVE_TIMEOUT_S),
            documents=queue("Documents", _INGEST_TIMEOUT_S),
            bulk_documents=queue("BulkDocuments", _INGEST_TIMEOUT_S),
            withdrawals=queue("Withdrawals", _WITHDRAW_TIMEOUT_S),
        )
        bucket, bulk = self._permissions.earlier.data.inbox_bucket, {"prefix": BULK_PREFIX}
        queues.inbox.fed_by("Received", pattern=object_created(bucket=bucket, key={"anything-but": bulk}))
        queues.bulk_inbox.fed_by("Received", pattern=object_created(bucket=bucket, key=bulk))
        return queues

    def _receive(self) -> VpcFunction:
        permissions, data, queues = self._permissions, self._permissions.earlier.data, self.queues
        role = permissions.role(
            "ReceiveRole",
            description="Reads raw files of the inbox, adds documents",
            statements=[
                *permissions.read_raw_files(),
                *permissions.put_documents(),
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
            folder="receive_documents",
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
        permissions, queues = self._permissions, self.queues
        role = self._index_role(
            "IngestRole",
            "Brings documents into the index",
            [
                *permissions.embed(),
                *permissions.read_power(),
                *permissions.send_to(queues.documents.arn, queues.bulk_documents.arn),
                *permissions.take_from(queues.documents.arn, queues.bulk_documents.arn),
            ],
        )
        environment = {
            **self._index_environment(),
            "bulk_queue_url": queues.bulk_documents.url,
            "power_parameter": permissions.earlier.models.power_parameter,
            "metrics_service": self._tenant.full_name,
        }
        program = FunctionProgram(
            folder="ingest_documents",
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
        values = self._index_environment() | {"events_table": permissions.earlier.data.events_table}
        environment = RemovingSettings.variables(values, known_later=cdk.Token.is_unresolved)

        def function(construct_id: str, folder: str, timeout_s: int) -> VpcFunction:
            program = FunctionProgram(
                folder=folder, timeout_s=timeout_s, memory_mib=1024, environment=environment
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
                *permissions.keep_documents(),
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
        data, queues = self._permissions.earlier.data, self.queues
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
        tenant, data = permissions.tenant, permissions.earlier.data
        self.queue = TenantQueue(
            self,
            "Captured",
            data_key_arn=permissions.earlier.keys.data_key_arn,
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

        def function(name: str, folder: str, timeout_s: int) -> VpcFunction:
            program = FunctionProgram(
                folder=folder, timeout_s=timeout_s, memory_mib=1024, environment=environment
            )
            return VpcFunction(self, name, tenant=tenant, program=program, place=place, role=role)

        redact = function("Redact", "redact_capture", _REDACT_TIMEOUT_S)
        sweep = function("Sweep", "sweep_quarantine", 60 * _SWEEP_MINUTES)
        self.queue.consumed_by(redact, role=role, batch_size=_OBJECTS_PER_BATCH, concurrency=_CONCURRENCY)
        schedule(self, "SweepSchedule", function=sweep, rate=f"rate({_SWEEP_MINUTES} minutes)")
        self.functions = (redact, sweep)
