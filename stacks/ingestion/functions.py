"""From raw files to the index: the functions of documents, with the queues between them."""

from __future__ import annotations

from dataclasses import dataclass

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
from stacks.functions import FunctionPlace, FunctionProgram, FunctionRole, FunctionSchedule, VpcFunction
from stacks.ingestion.permissions import FunctionRights
from stacks.ingestion.queues import TenantQueue, object_created
from stacks.models.power import PowerSwitch, publish_power_sources
from stacks.orchestrator.permissions import search_alias
from stacks.processes import TenantFileAsset, process_environment
from stacks.roles import Duty, tag_duty
from stacks.tenant import DeployedTenant

_RECEIVE_TIMEOUT_S = 600
"""A raw file may hold twenty thousand documents, each an object of its own."""
_INGEST_TIMEOUT_S = 300
"""An embedding that is tried again for a minute, and a domain that is slow for another, fit in twice."""
_WITHDRAW_TIMEOUT_S = 120
_FILES_A_BATCH = 5
_DOCUMENTS_A_BATCH = 10
"""What SQS gives at once; a larger batch would wait for its window."""
_CONCURRENCY = 4
_BULK_CONCURRENCY = 2
"""The least that Lambda takes. Bulk loads never hold up single documents: they have queues of their own, and
share with them only the endpoint and the domain."""
_PURGE_MINUTES = 15


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
    """``receive_documents``, ``ingest_documents``, ``withdraw_documents`` and ``purge_index``."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        rights: FunctionRights,
        place: FunctionPlace,
        metrics_service: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        self._rights = rights
        self._place = place
        self._metrics_service = metrics_service
        self.queues = self._make_queues()
        self._tenant_file = TenantFileAsset(self, "TenantFile", tenant=tenant)
        self.index_writers: list[FunctionRole] = []
        self.sources: list[lambda_.CfnEventSourceMapping] = []
        """What takes from queues; to be made after the index and the right to write it."""
        self.functions = (self._receive(), self._ingest(), *self._remove())

    def _make_queues(self) -> DocumentQueues:
        def queue(construct_id: str, timeout_s: int) -> TenantQueue:
            key = self._rights.keys.data_key_arn
            return TenantQueue(self, construct_id, data_key_arn=key, consumer_timeout_s=timeout_s)

        queues = DocumentQueues(
            inbox=queue("Inbox", _RECEIVE_TIMEOUT_S),
            bulk_inbox=queue("BulkInbox", _RECEIVE_TIMEOUT_S),
            documents=queue("Documents", _INGEST_TIMEOUT_S),
            bulk_documents=queue("BulkDocuments", _INGEST_TIMEOUT_S),
            withdrawals=queue("Withdrawals", _WITHDRAW_TIMEOUT_S),
        )
        bucket = self._rights.data.inbox_bucket
        single = object_created(bucket=bucket, key={"anything-but": {"prefix": BULK_PREFIX}})
        queues.inbox.fed_by("Received", pattern=single)
        queues.bulk_inbox.fed_by(
            "Received", pattern=object_created(bucket=bucket, key={"prefix": BULK_PREFIX})
        )
        return queues

    def _receive(self) -> VpcFunction:
        rights, data, queues = self._rights, self._rights.data, self.queues
        role = rights.role(
            "ReceiveRole",
            description="Reads raw files of the inbox, adds documents",
            rights=[
                *rights.raw_files(),
                *rights.put_documents(),
                *rights.states(),
                *rights.send(queues.documents.arn, queues.bulk_documents.arn, queues.withdrawals.arn),
                *rights.take_from(queues.inbox.arn, queues.bulk_inbox.arn),
                rights.data_key(),
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
            "metrics_service": self._metrics_service,
        }
        function = self._function(
            "Receive",
            role=role,
            program=FunctionProgram(
                folder="receive_documents",
                timeout_s=_RECEIVE_TIMEOUT_S,
                memory_mib=1024,
                scratch_mib=1536,  # the raw files of a batch, 256 MiB each at most
                environment=process_environment(ReceivingSettings, environment),
            ),
        )
        for queue, concurrency in ((queues.inbox, _CONCURRENCY), (queues.bulk_inbox, _BULK_CONCURRENCY)):
            queue.consumed_by(function, role=role, batch_size=_FILES_A_BATCH, concurrency=concurrency)
        return function

    def _ingest(self) -> VpcFunction:
        rights, queues = self._rights, self.queues
        role = self._index_role(
            "IngestRole",
            "Brings documents into the index",
            [
                *rights.embedding(),
                *rights.power(),
                *rights.send(queues.documents.arn, queues.bulk_documents.arn),
                *rights.take_from(queues.documents.arn, queues.bulk_documents.arn),
            ],
        )
        environment = {
            **self._index_environment(),
            "bulk_queue_url": queues.bulk_documents.url,
            "power_parameter": rights.models.power_parameter,
            "metrics_service": self._metrics_service,
        }
        function = self._function(
            "Ingest",
            role=role,
            program=FunctionProgram(
                folder="ingest_documents",
                timeout_s=_INGEST_TIMEOUT_S,
                memory_mib=1769,  # a whole core: documents are parsed and cut
                environment=process_environment(IngestingSettings, environment),
            ),
        )
        self._let_take(function, role)
        return function

    def _let_take(self, function: VpcFunction, role: FunctionRole) -> None:
        """Let it take documents while the endpoints stand; the power machines stop what takes."""
        queues = self.queues
        switch = PowerSwitch(self, "Switch", tenant=self._tenant)
        sources = [
            queue.consumed_by(
                function,
                role=role,
                batch_size=_DOCUMENTS_A_BATCH,
                concurrency=concurrency,
                switch=switch,
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

    def _remove(self) -> tuple[VpcFunction, VpcFunction]:
        rights, withdrawals = self._rights, self.queues.withdrawals
        role = self._index_role(
            "RemoveRole",
            "Takes withdrawn documents out of the index and off its disks",
            [*rights.send(withdrawals.arn), *rights.take_from(withdrawals.arn)],
        )
        environment = process_environment(RemovingSettings, self._index_environment())
        withdraw, purge = (
            self._function(
                construct_id,
                role=role,
                program=FunctionProgram(
                    folder=folder, timeout_s=timeout_s, memory_mib=1024, environment=environment
                ),
            )
            for construct_id, folder, timeout_s in (
                ("Withdraw", "withdraw_documents", _WITHDRAW_TIMEOUT_S),
                ("Purge", "purge_index", 600),
            )
        )
        self.sources.append(
            withdrawals.consumed_by(
                withdraw, role=role, batch_size=_DOCUMENTS_A_BATCH, concurrency=_BULK_CONCURRENCY
            )
        )
        FunctionSchedule(self, "PurgeSchedule", function=purge, minutes=_PURGE_MINUTES)
        return withdraw, purge

    def _index_role(
        self, construct_id: str, description: str, more: list[iam.PolicyStatement]
    ) -> FunctionRole:
        rights = self._rights
        role = rights.role(
            construct_id,
            description=description,
            rights=[
                *rights.keep_documents(),
                *rights.states(),
                *rights.index(),
                *rights.model_files(),
                *more,
                rights.data_key(),
            ],
        )
        self._tenant_file.grant_read(role)
        self.index_writers.append(role)
        return role

    def _index_environment(self) -> dict[str, object]:
        data, queues = self._rights.data, self.queues
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
            "opensearch_index": search_alias(self._tenant),
        }

    def _function(self, construct_id: str, *, role: FunctionRole, program: FunctionProgram) -> VpcFunction:
        return VpcFunction(
            self, construct_id, tenant=self._tenant, program=program, place=self._place, role=role
        )


# Raw capture leaves the quarantine within the hour: redacted, copied clean, deleted in every version.


_TIMEOUT_S = 120
"""Six times that hides the message of a function that died. Five such would take the hour: the sweep is
there."""
_OBJECTS_A_BATCH = 5
_SWEEP_MINUTES = 5


class CaptureRedaction(Construct):
    """``redact_capture`` for each new object, ``sweep_quarantine`` for what it left and for the metric
    ``OldestRawCaptureAge``, in seconds."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        rights: FunctionRights,
        place: FunctionPlace,
        metrics_service: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self.queue = TenantQueue(
            self,
            "Captured",
            data_key_arn=rights.keys.data_key_arn,
            consumer_timeout_s=_TIMEOUT_S,
        )
        self.queue.fed_by("Written", pattern=object_created(bucket=rights.data.quarantine_bucket))
        role = rights.role(
            "RedactRole",
            description="The only reader of raw capture: writes clean copies, deletes raw ones",
            rights=[*rights.redact(), *rights.take_from(self.queue.arn), rights.environment_key()],
        )
        tag_duty(role, Duty.REDACTOR)
        environment = _environment(tenant, rights, metrics_service)

        def function(name: str, folder: str, timeout_s: int) -> VpcFunction:
            program = FunctionProgram(
                folder=folder, timeout_s=timeout_s, memory_mib=1024, environment=environment
            )
            return VpcFunction(self, name, tenant=tenant, program=program, place=place, role=role)

        redact = function("Redact", "redact_capture", _TIMEOUT_S)
        sweep = function("Sweep", "sweep_quarantine", 60 * _SWEEP_MINUTES)
        self.queue.consumed_by(redact, role=role, batch_size=_OBJECTS_A_BATCH, concurrency=_CONCURRENCY)
        FunctionSchedule(self, "SweepSchedule", function=sweep, minutes=_SWEEP_MINUTES)
        self.functions: tuple[VpcFunction, ...] = (redact, sweep)
        self.role: FunctionRole = role


def _environment(tenant: DeployedTenant, rights: FunctionRights, metrics_service: str) -> dict[str, str]:
    return process_environment(
        RedactingSettings,
        {
            "region": tenant.place.region,
            "quarantine_bucket": rights.data.quarantine_bucket,
            "capture_bucket": rights.data.capture_bucket,
            "passages_percent": tenant.models.capture_passages_percent,
            "metrics_service": metrics_service,
        },
    )
