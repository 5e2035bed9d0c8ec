"""What each function works with, opened once an execution environment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from assistant.domain.clock import SystemClock
from assistant.domain.errors import ConfigurationError
from assistant.knowledge.batch_handling import BatchHandling
from assistant.knowledge.postponing import LaterQueue, PostponingBatches
from assistant.knowledge.worker import TenantIngestion
from assistant.settings.functions import (
    BULK_PREFIX,
    FunctionSettings,
    IngestingSettings,
    LinkSecretSettings,
    ReceivingSettings,
    RedactingSettings,
    RemovingSettings,
    SchemaSettings,
)
from assistant.settings.process import WorkerSettings
from assistant.settings.tenant import TenantConfig, load_tenants
from assistant.wiring.clients import ProcessClients, open_clients
from assistant.wiring.ingestion import open_ingestion

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from assistant.aws.aws_clients import AwsService
    from assistant.aws.opensearch_schema import PassageSchema
    from assistant.aws.parameter_power import ParameterPower
    from assistant.knowledge.receive_raw_files import ReceiveRawFiles
    from assistant.learning.redact_capture import RedactCapture, SweepQuarantine

Tenant = TypeVar("Tenant")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Receiving:
    receive: ReceiveRawFiles
    metrics_service: str


@dataclass(frozen=True, slots=True)
class Ingesting:
    power: ParameterPower
    batches: Mapping[str, PostponingBatches]
    """By the name of the queue that messages come from, and go back to."""
    metrics_service: str

    def batches_of(self, queue_name: str) -> PostponingBatches:
        """Raises ConfigurationError."""
        if queue_name not in self.batches:
            raise ConfigurationError(
                f"Messages came from the queue {queue_name}, which is none of {', '.join(self.batches)}."
            )
        return self.batches[queue_name]


@dataclass(frozen=True, slots=True)
class Removing:
    ingestion: TenantIngestion
    batches: PostponingBatches


@dataclass(frozen=True, slots=True)
class SearchDomain:
    client: AsyncOpenSearch
    clients: ProcessClients
    settings: SchemaSettings

    @property
    def alias(self) -> str:
        return self.settings.opensearch_index

    async def schema(self) -> PassageSchema:
        """Return the schema, by what the artifact in S3 says of the model. Raises ConfigurationError."""
        from assistant.aws.artifact_download import read_facts
        from assistant.aws.opensearch_schema import PassageSchema

        settings = self.settings
        facts = await read_facts(
            await self.clients.aws("s3"),
            prefix=settings.model_artifacts_s3 or "",
            model=settings.embedding_model,
        )
        return PassageSchema(
            embedding_model=facts.model,
            dimensions=settings.dimensions,
            model_digest=facts.digest,
            shards=settings.shards,
            replicas=settings.replicas,
        )


@dataclass(frozen=True, slots=True)
class LinkSecret:
    ssm: Any
    kms: Any
    settings: LinkSecretSettings


@dataclass(frozen=True, slots=True)
class Redacting:
    redact: RedactCapture
    sweep: SweepQuarantine
    metrics_service: str


@asynccontextmanager
async def open_receiving(settings: ReceivingSettings) -> AsyncGenerator[Receiving]:
    from assistant.aws.dynamodb_states import DynamoDbDocumentStates
    from assistant.aws.raw_files import S3RawFiles
    from assistant.aws.s3_documents import S3DocumentStore
    from assistant.aws.sqs_queue import SqsIngestionQueue
    from assistant.knowledge.add_documents import AddDocuments
    from assistant.knowledge.knowledge_sources import KnowledgeSources
    from assistant.knowledge.parsing_process import ParsingProcess
    from assistant.knowledge.receive_raw_files import ReceiveRawFiles
    from assistant.knowledge.stores import KnowledgeStores

    async with AsyncExitStack() as stack:
        s3, sqs, dynamodb = [await _open(service, settings, stack) for service in ("s3", "sqs", "dynamodb")]
        states = DynamoDbDocumentStates(dynamodb, table=settings.states_table)
        stack.push_async_callback(states.close)
        documents = S3DocumentStore(
            s3, bucket=settings.documents_bucket, kms_key_id=settings.documents_key_id
        )
        withdrawals = SqsIngestionQueue(sqs, queue_url=settings.withdrawals_queue_url)

        def add(queue_url: str) -> AddDocuments:
            queue = SqsIngestionQueue(sqs, queue_url=queue_url)
            return AddDocuments(KnowledgeStores(documents, states, queue, withdrawals), clock=SystemClock())

        parsing = stack.enter_context(ParsingProcess())
        receive = ReceiveRawFiles(
            S3RawFiles(s3, bucket=settings.inbox_bucket),
            sources=KnowledgeSources.of(await _tenant_in(s3, settings)),
            add=add(settings.ingestion_queue_url),
            add_bulk=add(settings.bulk_queue_url),
            bulk_prefix=BULK_PREFIX,
            parsing=parsing,
        )
        yield Receiving(receive, settings.metrics_service)


@asynccontextmanager
async def open_ingesting(settings: IngestingSettings) -> AsyncGenerator[Ingesting]:
    from assistant.aws.parameter_power import ParameterPower
    from assistant.aws.sqs_queue import SqsIngestionQueue

    async with open_clients(settings) as clients, _one_tenant(settings, clients) as ingestion:
        sqs = await clients.aws("sqs")
        pipeline = ingestion.pipeline()
        handling = BatchHandling(pipeline.process, give_up=pipeline.fail, tries=pipeline)
        batches: dict[str, PostponingBatches] = {}
        for url in (settings.ingestion_queue_url, settings.bulk_queue_url):
            queue = SqsIngestionQueue(sqs, queue_url=url)
            batches[url.rpartition("/")[2]] = PostponingBatches(handling, queue=queue)
        power = ParameterPower(await clients.aws("ssm"), name=settings.power_parameter, clock=SystemClock())
        yield Ingesting(power, batches, settings.metrics_service)


@asynccontextmanager
async def open_removing(settings: RemovingSettings) -> AsyncGenerator[Removing]:
    from assistant.aws.sqs_queue import SqsIngestionQueue

    async with open_clients(settings) as clients, _one_tenant(settings, clients) as ingestion:
        queue: LaterQueue = SqsIngestionQueue(
            await clients.aws("sqs"), queue_url=settings.withdrawals_queue_url
        )
        handling = BatchHandling(ingestion.removal().remove, give_up=_log_abandoned)
        yield Removing(ingestion, PostponingBatches(handling, queue=queue))


@asynccontextmanager
async def open_search_domain(settings: SchemaSettings) -> AsyncGenerator[SearchDomain]:
    async with open_clients(settings) as clients:
        yield SearchDomain(await clients.opensearch(), clients, settings)


@asynccontextmanager
async def open_link_secret(settings: LinkSecretSettings) -> AsyncGenerator[LinkSecret]:
    async with AsyncExitStack() as stack:
        ssm, kms = [await _open(service, settings, stack) for service in ("ssm", "kms")]
        yield LinkSecret(ssm, kms, settings)


@asynccontextmanager
async def open_redacting(settings: RedactingSettings) -> AsyncGenerator[Redacting]:
    from assistant.aws.s3_capture import S3CaptureStore
    from assistant.learning.redact_capture import RedactCapture, SweepQuarantine

    async with AsyncExitStack() as stack:
        store = S3CaptureStore(
            await _open("s3", settings, stack),
            quarantine_bucket=settings.quarantine_bucket,
            capture_bucket=settings.capture_bucket,
        )
        redact = RedactCapture(store, passages_percent=settings.passages_percent)
        sweep = SweepQuarantine(
            store, redact=redact, clock=SystemClock(), overdue_after_s=settings.overdue_after_s
        )
        yield Redacting(redact, sweep, settings.metrics_service)


@asynccontextmanager
async def _one_tenant(settings: WorkerSettings, clients: ProcessClients) -> AsyncGenerator[TenantIngestion]:
    async with open_ingestion(settings, clients=clients) as tenants:
        yield _only(tenants, settings.tenants_dir)


async def _tenant_in(s3: Any, settings: ReceivingSettings) -> TenantConfig:
    from assistant.aws.artifact_download import download_tenant_file

    await download_tenant_file(s3, uri=settings.tenant_file_s3, into=settings.tenants_dir)
    return _only(load_tenants(settings.tenants_dir).tenants.values(), settings.tenants_dir)


def _only(tenants: Collection[Tenant], folder: Path) -> Tenant:
    """Raises ConfigurationError where a function would serve more than one tenant."""
    if len(tenants) != 1:
        raise ConfigurationError(f"{folder} has {len(tenants)} tenants; a function serves exactly one.")
    return next(iter(tenants))


async def _log_abandoned(document_id: str, *, code: str, reason: str) -> None:
    # Its state still says that it is not out; the next purge tries again.
    _log.error("withdrawal_abandoned", document_id=document_id, code=code, reason=reason)


async def _open(service: AwsService, settings: FunctionSettings, stack: AsyncExitStack) -> Any:
    from assistant.aws.aws_clients import open_client

    opening = open_client(service, region=settings.region, endpoint_url=settings.aws_endpoint_url)
    return await stack.enter_async_context(opening)
