"""What the service offers: each tenant's adapters and use cases."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from assistant.document_links import SignedDocumentLinks
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import ConfigurationError
from assistant.embedded.files import link_secret
from assistant.knowledge.add_documents import AddDocuments
from assistant.knowledge.batches import BatchHandling, LaterQueue, PostponingBatches
from assistant.knowledge.ports import KnowledgeStores
from assistant.knowledge.reading import ReadableDocuments
from assistant.knowledge.sources import KnowledgeSources
from assistant.knowledge.withdrawal import WithdrawDocuments, WithholdDocuments
from assistant.knowledge.worker import TenantIngestion
from assistant.model_artifacts import (
    TOKENIZER_FILE,
    FileTokenCounter,
    ModelFacts,
    read_model_facts,
    served_generation_model,
)
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
from assistant.settings.process import ServiceSettings, WorkerSettings
from assistant.settings.tenant import TenantConfig, load_tenants
from assistant.wiring.stores import (
    AnswerStores,
    ProcessClients,
    StoreChoice,
    fetch_artifacts,
    not_served,
    open_clients,
    read_tenants,
)

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from assistant.answering.ports import AnswerLog, EndpointPower, LiveDocuments
    from assistant.answering.reading import AppendToAnswer, ReadAnswers
    from assistant.answering.services import TenantServices
    from assistant.answering.use_case import AnswerQuestion
    from assistant.aws.clients import AwsService
    from assistant.aws.opensearch_schema import PassageSchema
    from assistant.aws.parameters import ParameterPower
    from assistant.knowledge.inbox import ReceiveRawFiles
    from assistant.knowledge.ports import PassageIndex
    from assistant.knowledge.worker import TenantIngestion
    from assistant.learning.redaction import RedactCapture, SweepQuarantine


@dataclass(frozen=True, slots=True)
class ServedTenant:
    """One tenant as the service offers it: its adapters and its use cases."""

    answering: TenantServices
    knowledge: KnowledgeStores
    links: SignedDocumentLinks
    log: AnswerLog
    power: EndpointPower
    embedding_model: ModelFacts
    answer_question: AnswerQuestion
    read_answers: ReadAnswers
    append_to_answer: AppendToAnswer
    sources: KnowledgeSources
    add_documents: AddDocuments
    withdraw_documents: WithdrawDocuments
    withhold_documents: WithholdDocuments


@asynccontextmanager
async def open_tenants(
    settings: ServiceSettings,
    *,
    clients: ProcessClients | None = None,
    only: Sequence[str] = (),
    generates: bool = True,
    clock: Clock | None = None,
) -> AsyncGenerator[Mapping[str, ServedTenant]]:
    """Open every tenant of the folder, by name, over one client a service; over ``clients`` when given.

    A tenant that cannot be opened is logged, and the others are served. With ``only`` these are opened and no
    others, and what is wrong with one is raised.

    With ``generates`` false, and for a tenant whose answers are only quoted, nothing is asked of the
    generation model's artifact: that model need never have started. Raises ConfigurationError naming file
    and key or variables.
    """
    async with AsyncExitStack() as stack:
        clients = clients or await stack.enter_async_context(open_clients(settings))
        files = await read_tenants(settings, clients)
        tenants = {name: files.one(name) for name in only} or files.tenants
        opened: dict[str, ServedTenant] = {}
        for name, tenant in tenants.items():
            writes = generates and may_write(tenant, settings)
            try:
                await fetch_artifacts(settings, clients, _models(tenant, writes=writes))
                model = read_model_facts(settings.model_artifacts_dir, tenant.embedding.model)
                stores = StoreChoice(tenant, settings, model, clients, stack, clock or SystemClock())
                opened[name] = await _Wiring(tenant, settings, stores, clients).served(generates=writes)
            except ConfigurationError as error:
                if only or len(tenants) == 1:
                    raise
                not_served(name, error)
        if not opened:
            raise ConfigurationError(f"{settings.tenants_dir}: no tenant can be served; the log says why.")
        yield opened


def may_write(tenant: TenantConfig, settings: ServiceSettings) -> bool:
    """Return whether the tenant's answers may be written: else its generation model is never asked."""
    return tenant.answers.mode == "auto" and tenant.name not in settings.quoted_tenants


def _models(tenant: TenantConfig, *, writes: bool) -> set[str]:
    return {tenant.embedding.model, *([tenant.generation.model] if writes else [])}


@dataclass(frozen=True, slots=True)
class _Wiring:
    """The parts of one tenant on their way together."""

    tenant: TenantConfig
    settings: ServiceSettings
    stores: StoreChoice
    clients: ProcessClients

    async def served(self, *, generates: bool) -> ServedTenant:
        from assistant.answering.reading import AppendToAnswer, ReadAnswers
        from assistant.answering.use_case import AnswerQuestion

        links = await self._links()
        answers = await self.stores.answers(self.settings)
        knowledge = await self.stores.knowledge()
        texts = ReadableDocuments(knowledge.documents, states=knowledge.states)
        answering = await self._answering(links, answers, texts, live=knowledge.states, generates=generates)
        clock = self.stores.clock
        return ServedTenant(
            answering=answering,
            knowledge=knowledge,
            links=links,
            log=answers.log,
            power=await self.stores.power(self.settings),
            embedding_model=self.stores.model,
            answer_question=AnswerQuestion(answering),
            read_answers=ReadAnswers(answering),
            append_to_answer=AppendToAnswer(answering),
            sources=KnowledgeSources.of(self.tenant),
            add_documents=AddDocuments(knowledge, clock=clock, accesses=answers.records),
            withdraw_documents=WithdrawDocuments(knowledge, clock=clock),
            withhold_documents=WithholdDocuments(knowledge, clock=clock),
        )

    async def _answering(
        self,
        links: SignedDocumentLinks,
        answers: AnswerStores,
        texts: ReadableDocuments,
        *,
        live: LiveDocuments,
        generates: bool,
    ) -> TenantServices:
        from assistant.answering.services import IndexWatch, ServedModel, TenantServices
        from assistant.aws.sagemaker import SageMakerGenerator
        from assistant.aws.sagemaker_embedder import SageMakerEmbedder

        embedding, generation = self.tenant.embedding, self.tenant.generation
        artifacts_dir = self.settings.model_artifacts_dir
        unknown = ServedModel(generation.model, None, 0, 0)
        runtime = await self.clients.sagemaker()
        search, clock = await self.stores.search(), self.stores.clock
        return TenantServices(
            tenant=self.tenant,
            embedder=SageMakerEmbedder(
                runtime,
                endpoint=embedding.endpoint,
                dimensions=embedding.dimensions,
                purpose="question",
            ),
            search=search,
            index_watch=IndexWatch(search, live, dimensions=embedding.dimensions, clock=clock),
            generator=SageMakerGenerator(runtime, endpoint=generation.endpoint),
            token_counter=FileTokenCounter(artifacts_dir / generation.model / TOKENIZER_FILE),
            model=served_generation_model(artifacts_dir, generation.model) if generates else unknown,
            records=answers.records,
            texts=texts,
            links=links,
            clock=clock,
        )

    async def _links(self) -> SignedDocumentLinks:
        return SignedDocumentLinks(
            tenant=self.tenant.name, secret=await self._link_secret(), clock=self.stores.clock
        )

    async def _link_secret(self) -> bytes:
        scheme, _, name = self.tenant.secrets.document_links.partition(":")
        if scheme != "kms" or not name:
            tenants_dir, state_dir = self.settings.tenants_dir, self.settings.state_dir
            return link_secret(self.tenant, tenants_dir=tenants_dir, state_dir=state_dir)
        from assistant.aws.parameters import kms_link_secret

        ssm, kms = await self.clients.aws("ssm"), await self.clients.aws("kms")
        return await kms_link_secret(ssm=ssm, kms=kms, name=name, tenant=self.tenant.name)


# What the ingestion worker works with.


@asynccontextmanager
async def open_ingestion(
    settings: WorkerSettings, *, clients: ProcessClients | None = None, clock: Clock | None = None
) -> AsyncGenerator[Sequence[TenantIngestion]]:
    """Open what the worker needs of every tenant of the folder, over one client a service; over ``clients``
    when given.

    A tenant that cannot be opened is logged, and the others are worked for.
    Raises ConfigurationError naming file and key or variables, also when the embedding model's artifact is
    missing.
    """
    async with AsyncExitStack() as stack:
        clients = clients or await stack.enter_async_context(open_clients(settings))
        tenants = (await read_tenants(settings, clients)).tenants
        opened: list[TenantIngestion] = []
        for name, tenant in tenants.items():
            try:
                await fetch_artifacts(settings, clients, {tenant.embedding.model})
                model = read_model_facts(settings.model_artifacts_dir, tenant.embedding.model)
                stores = StoreChoice(tenant, settings, model, clients, stack, clock or SystemClock())
                opened.append(await _ingestion(tenant, stores, await stores.index(settings), clients))
            except ConfigurationError as error:
                if len(tenants) == 1:
                    raise
                not_served(name, error)
        if not opened:
            raise ConfigurationError(f"{settings.tenants_dir}: no tenant can be served; the log says why.")
        yield opened


async def _ingestion(
    tenant: TenantConfig, stores: StoreChoice, index: PassageIndex, clients: ProcessClients
) -> TenantIngestion:
    from assistant.aws.sagemaker_embedder import SageMakerEmbedder
    from assistant.knowledge.parsing_process import ParsingProcess
    from assistant.knowledge.passages import ParsingApart, TokenCounts
    from assistant.knowledge.pipeline import BatchEmbedder
    from assistant.knowledge.worker import TenantIngestion

    embedding = tenant.embedding
    embedder = SageMakerEmbedder(
        await clients.sagemaker(),
        endpoint=embedding.endpoint,
        dimensions=embedding.dimensions,
        purpose="passage",
    )
    tokenizer = stores.settings.model_artifacts_dir / embedding.model / TOKENIZER_FILE
    TokenCounts.load(tokenizer)  # a file that is none is told here, and not by each document
    parser = ParsingApart(
        ParsingProcess(),
        tokenizer_json=tokenizer,
        max_tokens=embedding.max_tokens,
        language_code=tenant.language,
    )
    stores.stack.callback(parser.close)
    return TenantIngestion(
        tenant=tenant.name,
        stores=await stores.knowledge(),
        index=index,
        embedder=BatchEmbedder(embedder, clock=stores.clock),
        parser=parser,
        clock=stores.clock,
        index_writes=await stores.index_writes(),
    )


# What each function works with, opened once an execution environment.


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
        from assistant.aws.opensearch_schema import PassageSchema
        from assistant.aws.s3_files import read_facts

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
    from assistant.aws.s3_documents import S3DocumentStore
    from assistant.aws.s3_files import S3RawFiles
    from assistant.aws.sqs import SqsIngestionQueue
    from assistant.knowledge.add_documents import AddDocuments
    from assistant.knowledge.inbox import ReceiveRawFiles
    from assistant.knowledge.parsing_process import ParsingProcess
    from assistant.knowledge.ports import KnowledgeStores
    from assistant.knowledge.sources import KnowledgeSources

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
    from assistant.aws.parameters import ParameterPower
    from assistant.aws.sqs import SqsIngestionQueue

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
    from assistant.aws.sqs import SqsIngestionQueue

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
    from assistant.aws.s3_documents import S3CaptureStore
    from assistant.learning.redaction import RedactCapture, SweepQuarantine

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
    from assistant.aws.s3_files import download_tenant_file

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
    from assistant.aws.clients import open_client

    opening = open_client(service, region=settings.region, endpoint_url=settings.aws_endpoint_url)
    return await stack.enter_async_context(opening)
