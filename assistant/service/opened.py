"""Builds what each process works with: the service (``open_tenants``), the ingestion worker
(``open_ingestion``), and each Lambda function (``open_receiving`` and the others at the end).

Each function reads its settings, opens clients, stores and models, and yields the use cases over them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from assistant.documents.readable import ReadableDocuments
from assistant.documents.receive import AddDocuments
from assistant.documents.shared_links import SignedDocumentLinks, local_secret
from assistant.documents.sources import FirstLoads, KnowledgeSources
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.documents import IndexModel
from assistant.domain.errors import ConfigurationError, SearchUnavailableError
from assistant.models.artifacts import (
    TOKENIZER_FILE,
    FileTokenCounter,
    model_elsewhere,
    served_generation_model,
)
from assistant.models.opened import ModelClients, ModelStores, open_model_clients, read_facts
from assistant.models.recorded import CharacterCount, RecordedModel, read_recording
from assistant.option import installed
from assistant.process.settings import (
    BULK_PREFIX,
    DocumentFunctionSettings,
    IngestingSettings,
    LinkSecretSettings,
    ReceivingSettings,
    RemovingSettings,
    SchemaSettings,
    ServiceSettings,
    StoreSettings,
    WorkerSettings,
)
from assistant.service.served import LiveTenant, ServedTenant, ServedTenants
from assistant.stores.audit import DIGESTS
from assistant.stores.clients import AwsClients
from assistant.stores.desk import DESK
from assistant.stores.documents import BULK_QUEUE, INDEX_WRITES
from assistant.stores.events import CLAIMS, ERASURE_KEYS
from assistant.stores.opened import (
    AwsStores,
    EmbeddedTenant,
    StoreChoice,
    knowledge_of,
    open_each,
    open_embedded,
    read_tenants,
    refuse_files_of,
)
from assistant.stores.records import RECORDS
from assistant.stores.uploads import UPLOADS, UPLOADS_QUEUE
from assistant.stores.words import POWER, Power
from assistant.tenant.added_models import PACKAGED, ServedLlm
from assistant.tenant.deployed_names import LINK_SECRET_PURPOSE
from assistant.tenant.tenant import TenantConfig, load_tenants

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from assistant.answer.services import AnswerWriter
    from assistant.documents.parsing_process import Parsing
    from assistant.documents.uploads import ReceiveRawFiles, ReceiveUpload
    from assistant.documents.work import TenantIngestion
    from assistant.documents.worker import DelayedQueue, PostponingBatches
    from assistant.domain.documents import ReceiptSignature
    from assistant.model_server.here import ModelsHere
    from assistant.stores.index.opensearch_schema import PassageSchema
    from assistant.stores.ports import AnswerGenerator, DocumentTexts, PassageIndex


class TenantObserver(Protocol):
    """Counts what is done for one tenant, for metrics. ``TenantReads`` implements it."""

    # Called after each call of the embedding model, with the number of its texts.
    def texts_embedded(self, count: int) -> None: ...

    def read_ended(self, system: str, outcome: str, *, seconds: float) -> None:
        """Count a call of a live system by how it ended."""
        ...

    # Called once a system: ``is_open`` tells whether its circuit breaker is open, whenever metrics are read.
    def watch_circuit(self, system: str, is_open: Callable[[], bool]) -> None: ...

    # Called once: ``put_at`` returns when each credential in use was stored.
    def watch_credentials(self, put_at: Callable[[], Iterable[datetime]]) -> None: ...


Tenant = TypeVar("Tenant")


@asynccontextmanager
async def open_tenants(
    settings: ServiceSettings,
    *,
    only: Sequence[str] = (),
    generates: bool = True,
    clock: Clock | None = None,
    observe: Callable[[str], TenantObserver] | None = None,
    models: ModelsHere | None = None,
) -> AsyncGenerator[ServedTenants]:
    """Open every tenant of the folder; all share the clients of the process.

    Each is served from its live index, or by its settings where that cannot be read now.

    A tenant that cannot be opened is logged, and the others are served. ``only`` names the tenants to open;
    the error of one of them is raised. ``observe`` returns the observer of a tenant, by its name. ``models``:
    those that the process has loaded already.

    With ``generates`` false, and for a tenant whose answers are only quoted, the generation model's artifact
    is not read: that model need never have started. Raises ConfigurationError naming file and key or
    variables.
    """
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(open_model_clients(settings, models=models))
        files = await read_tenants(settings, clients)

        async def open_one(tenant: TenantConfig) -> LiveTenant:
            writes = generates and may_write(tenant, settings)
            has_artifact = writes and tenant.has_llm_endpoint
            models = {tenant.embedding.model, *([tenant.generation.model] if has_artifact else [])}
            stores = await ModelStores.open(
                tenant, settings=settings, clients=clients, stack=stack, clock=clock, models=models
            )

            async def serve(of_version: ModelStores, pinned: bool) -> ServedTenant:
                observer = observe and observe(tenant.name)
                return await _served(of_version, settings, generates=writes, pinned=pinned, observer=observer)

            return await LiveTenant.open(stores, serve)

        tenants = {name: files.one(name) for name in only} or files.tenants
        opened, refused = await open_each(tenants, open_one, settings=settings, required=bool(only))
        reasons = {name: error.message for name, error in {**files.refused, **refused}.items()}
        yield ServedTenants(opened, refused=reasons)


def may_write(tenant: TenantConfig, settings: ServiceSettings) -> bool:
    """Return whether the tenant's answers may be generated, and not only quoted."""
    return tenant.answers.mode == "auto" and tenant.name not in settings.quoted_tenants


async def _served(
    stores: ModelStores,
    settings: ServiceSettings,
    *,
    generates: bool,
    pinned: bool,
    observer: TenantObserver | None,
) -> ServedTenant:
    """Build what serves a tenant from the version of the index that ``stores`` are of.

    ``pinned``: searches name this version; otherwise they go by the index's alias. ``generates``: False opens
    no model that writes.
    """
    from assistant.answer.answer import AnswerQuestion
    from assistant.answer.services import CitedDocuments, LiveData, TenantServices
    from assistant.documents.withdraw import WithdrawalReceipts
    from assistant.stores.desk import TwoPeople
    from assistant.stores.index.watch import IndexWatch

    tenant, clock = stores.tenant, stores.clock
    await stores.refuse_formats()
    location, key = tenant.secrets.document_links, "secrets.document_links"
    secret = await tenant_secret_of(stores, settings, location, key=key, purpose=LINK_SECRET_PURPOSE)
    links = SignedDocumentLinks(tenant=tenant.name, secret=secret, clock=clock)
    live = [await option.live(stores, settings, observer) for option in installed()]
    knowledge = await knowledge_of(stores)
    desk = await stores.of(DESK)
    texts: DocumentTexts = ReadableDocuments(knowledge.documents, states=knowledge.states)
    for option in installed():
        texts = option.texts(texts, desk)
    search = await stores.search(pinned=pinned)
    uploads = await stores.of(UPLOADS) if settings.stores == "embedded" or settings.inbox_bucket else None
    first_loads = FirstLoads(knowledge.states, unread=uploads.unread_first if uploads else None)
    answering = TenantServices(
        tenant=tenant,
        embedder=replace(
            await stores.embedder(purpose="question"), embedded=observer and observer.texts_embedded
        ),
        search=search,
        index_watch=IndexWatch(
            search,
            knowledge.states,
            loads=partial(first_loads.look, KnowledgeSources.of(tenant)),
            dimensions=tenant.embedding.dimensions,
            clock=clock,
        ),
        writer=await _writer(stores, settings, generates=generates),
        records=await stores.of(RECORDS),
        documents=CitedDocuments(texts, knowledge.states, links),
        clock=clock,
        revisions=desk,
        live=next(filter(None, live), LiveData()),
    )
    served = ServedTenant(
        answering=answering,
        knowledge=knowledge,
        links=links,
        claims=await stores.of(CLAIMS),
        power=await stores.of(POWER),
        embedding_model=stores.model,
        answer_question=AnswerQuestion(answering),
        sources=KnowledgeSources.of(tenant),
        add_documents=AddDocuments(knowledge, clock=clock, accesses=answering.records),
        uploads=uploads,
        first_loads=first_loads,
        two_people=TwoPeople(desk, is_needed=tenant.needs_two_people),
        receipts=WithdrawalReceipts(
            tenant=tenant,
            documents=knowledge.documents,
            versions=await stores.versions(),
            stores=stores,
            on_aws=settings.stores == "aws",
            clock=clock,
            sign=None if settings.receipt_key is None else await _signer(stores, settings.receipt_key),
        ),
    )
    for option in installed():
        served = replace(served, parts=(*served.parts, *await option.parts(served, stores)))
    return served


async def _signer(stores: ModelStores, key: str) -> Callable[[bytes], Awaitable[ReceiptSignature]]:
    from assistant.process.aws import signed_receipt

    return partial(signed_receipt, await stores.clients.aws("kms"), key)


async def _writer(stores: ModelStores, settings: ServiceSettings, *, generates: bool) -> AnswerWriter:
    """Return the model that writes for a tenant, the first of these that applies: none (an empty recording)
    where answers are only quoted; that of an option; the SageMaker endpoint; an LLM that runs elsewhere
    (``assistant models use --url``); a recording."""
    from assistant.answer.services import AnswerWriter
    from assistant.models.artifacts import ServedModel

    generation = stores.tenant.generation
    folder, name = settings.model_artifacts_dir, generation.model
    token_counter = FileTokenCounter(folder / name / TOKENIZER_FILE)
    if not generates:
        return AnswerWriter(RecordedModel(()), ServedModel(name, None, 0, 0), token_counter)
    chosen = settings.local_models.get(stores.tenant.name, PACKAGED).generation
    if chosen is None:
        for option in installed():
            if (writer := await option.writer(stores)) is not None:
                return writer
        from assistant.models.sagemaker import SageMakerGenerator

        endpoint = SageMakerGenerator(await stores.clients.sagemaker(), endpoint=generation.endpoint)
        return AnswerWriter(endpoint, served_generation_model(folder, name), token_counter)
    model, token_counter = model_elsewhere(chosen)
    if chosen.recording is None:
        generator = await served_generator(chosen, stores.stack)
        return AnswerWriter(generator, model, token_counter)
    recorded = RecordedModel(read_recording(sorted(chosen.recording.glob("*.jsonl"))))
    model = replace(model, recorded=recorded.title, checks=recorded.checks)
    return AnswerWriter(recorded, model, CharacterCount(), recorded.answers)


async def served_generator(model: ServedLlm, stack: AsyncExitStack) -> AnswerGenerator:
    """Return the client of an LLM that runs elsewhere: at its chat server, or at its SageMaker endpoint, with
    the usual AWS credentials. ``stack`` closes its connections."""
    if model.url is None:
        from assistant.models.sagemaker import SageMakerGenerator, SageMakerRuntime

        runtime = await stack.enter_async_context(SageMakerRuntime.open(region=str(model.region)))
        return SageMakerGenerator(runtime, endpoint=model.model)
    from assistant.models.chat_server import ChatServer, open_chat_connections

    key_file = model.key_file
    return ChatServer(
        await stack.enter_async_context(open_chat_connections()),
        model.url,
        model.model,
        None if key_file is None else lambda: key_file.read_text(encoding="ascii").strip(),
    )


async def tenant_secret_of(
    stores: StoreChoice, settings: ServiceSettings, reference: str, *, key: str, purpose: str
) -> bytes:
    """Return the secret that ``reference`` names, the value of ``key`` in the tenant file: "kms:PARAMETER" is
    encrypted in SSM, any other form is read or made on this machine (``local_secret``). ``purpose``: what the
    secret is for."""
    tenant, clients = stores.tenant.name, stores.clients
    scheme, _, name = reference.partition(":")
    if scheme == "kms" and name:
        from assistant.process.aws import kms_link_secret

        ssm, kms = await clients.aws("ssm"), await clients.aws("kms")
        return await kms_link_secret(ssm=ssm, kms=kms, name=name, tenant=tenant, purpose=purpose)
    folders = {"tenants_dir": settings.tenants_dir, "state_dir": settings.state_dir}
    return local_secret(reference, tenant=tenant, key=key, **folders)


@asynccontextmanager
async def open_ingestion(
    settings: WorkerSettings,
    *,
    clients: ModelClients | None = None,
    models: ModelsHere | None = None,
) -> AsyncGenerator[Sequence[TenantIngestion]]:
    """Open what the worker needs for every tenant of the folder. ``clients``: those of the process; None
    opens new ones. ``models``: those that the process has loaded already.

    A tenant that cannot be opened is logged, and the others are served. Raises ConfigurationError naming file
    and key or variables, also when the embedding model's artifact is missing.
    """
    from assistant.documents.work import EmbeddingLimits

    async with AsyncExitStack() as stack:
        process_clients = clients or await stack.enter_async_context(
            open_model_clients(settings, models=models)
        )
        tenants = (await read_tenants(settings, process_clients)).tenants
        in_flight = EmbeddingLimits().requests_in_flight
        endpoints: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(in_flight))

        async def open_one(tenant: TenantConfig) -> TenantIngestion:
            models = {tenant.embedding.model}
            stores = await ModelStores.open(
                tenant, settings=settings, clients=process_clients, stack=stack, clock=None, models=models
            )
            if settings.stores == "embedded":
                await refuse_files_of(tenant.name, settings)
            endpoint = endpoints[tenant.embedding.endpoint]
            try:
                index = await (await stores.index()).alone(
                    stores.index_model, applies_schema=settings.opensearch_applies_schema
                )
            except SearchUnavailableError as error:
                raise ConfigurationError(error.message) from None
            return await _ingestion(stores, index, settings=settings, endpoint=endpoint)

        opened, _ = await open_each(tenants, open_one, settings=settings, required=False)
        yield list(opened.values())


async def _ingestion(
    stores: ModelStores, index: PassageIndex, *, settings: WorkerSettings, endpoint: asyncio.Semaphore
) -> TenantIngestion:
    """Build the ingestion of a tenant into ``index``. ``endpoint``: bounds the calls of the embedding
    endpoint, shared by the tenants that use it."""
    from assistant.documents.passages import SeparateParser, TokenCounts
    from assistant.documents.work import BatchEmbedder, TenantIngestion, WritableVersion
    from assistant.service.served import writable_versions

    tenant = stores.tenant
    tokenizer = stores.settings.model_artifacts_dir / tenant.embedding.model / TOKENIZER_FILE
    TokenCounts.load(tokenizer)  # report an invalid file now, not with each document
    files = f"{stores.settings.model_artifacts_s3}{tenant.embedding.model}/"
    parser = SeparateParser(
        await _parsing(stores.clients, settings, tokenizer_s3=f"{files}{TOKENIZER_FILE}"),
        tokenizer_json=tokenizer,
        max_tokens=tenant.embedding.max_tokens,
        language_code=tenant.language,
    )
    embedder = BatchEmbedder(await stores.passage_embedder(), clock=stores.clock, endpoint=endpoint)
    has_keys = settings.stores == "embedded" or bool(settings.events_table)
    writable = WritableVersion((await stores.versions()).name_of(stores.index_model), index, embedder)
    return TenantIngestion(
        tenant=tenant.name,
        stores=await knowledge_of(stores),
        index=index,
        embedder=embedder,
        parser=parser,
        clock=stores.clock,
        index_writes=await stores.of(INDEX_WRITES),
        keys=await stores.of(ERASURE_KEYS) if has_keys else None,
        versions=await writable_versions(stores, writable),
    )


async def _parsing(
    clients: AwsClients, settings: WorkerSettings | ReceivingSettings, *, tokenizer_s3: str | None = None
) -> Parsing:
    """Return what parses documents: the Lambda function that the settings name, else a child process.
    ``tokenizer_s3``: the tokenizer that the function loads."""
    from assistant.documents.parsing_process import ParsingProcess
    from assistant.service.parser import ParsingFunction

    if not isinstance(settings, IngestingSettings | ReceivingSettings) or settings.parser_function is None:
        return clients.stack.enter_context(ParsingProcess())
    return ParsingFunction(
        await clients.aws("s3"),
        await clients.aws("lambda"),
        settings.parser_function,
        settings.documents_bucket,
        tokenizer_s3,
    )


class Loop(Protocol):
    """Work beside the requests of a laptop's process; ``run`` returns when ``stopping`` is set."""

    async def run(self, stopping: asyncio.Event, /) -> None: ...


@asynccontextmanager
async def open_loops(settings: StoreSettings) -> AsyncGenerator[list[Loop]]:
    """Open the loops of every tenant of the folder: one reads uploads, one closes audited days. Raises
    ConfigurationError."""
    from assistant.documents.parsing_process import ParsingProcess
    from assistant.documents.uploads import ReceiveUpload, ReceivingLoop
    from assistant.stores.audit import CloseDays

    async def open_one(tenant: TenantConfig, stores: EmbeddedTenant, stack: AsyncExitStack) -> list[Loop]:
        receive = ReceiveUpload(
            stores.get(UPLOADS),
            sources=KnowledgeSources.of(tenant),
            add=AddDocuments(stores.knowledge, clock=SystemClock(), accesses=stores.get(RECORDS)),
            parsing=stack.enter_context(ParsingProcess()),
        )
        closing = CloseDays(stores.get(RECORDS), stores.get(DIGESTS))
        return [ReceivingLoop(receive, stores.get(UPLOADS_QUEUE)), closing]

    async with open_embedded(settings, open_one) as opened:
        yield [loop for loops in opened for loop in loops]


@dataclass(frozen=True, slots=True)
class Receiving:
    """What the function ``receive_documents`` works with: it reads pushed files and uploads."""

    receive: ReceiveRawFiles
    receive_upload: ReceiveUpload
    metrics_service: str


@dataclass(frozen=True, slots=True)
class Ingesting:
    """What the function ``ingest_documents`` works with: it indexes documents."""

    power: Power
    batches: Mapping[str, PostponingBatches]
    """By name of a queue: what handles its messages, and puts them back there."""
    metrics_service: str

    def batches_of(self, queue_name: str) -> PostponingBatches:
        """Return the handling of a queue. Raises ConfigurationError for an unknown one."""
        if queue_name not in self.batches:
            raise ConfigurationError(
                f"Messages came from the queue {queue_name}, which is none of {', '.join(self.batches)}."
            )
        return self.batches[queue_name]


@dataclass(frozen=True, slots=True)
class Removing:
    """What the functions work with that remove withdrawn documents from the index."""

    ingestion: TenantIngestion
    batches: PostponingBatches


@dataclass(frozen=True, slots=True)
class SearchDomain:
    """What the function works with that applies the search schema."""

    client: AsyncOpenSearch
    clients: ModelClients
    settings: SchemaSettings

    @property
    def alias(self) -> str:
        """Name of the alias of the live index."""
        return self.settings.opensearch_index

    async def schema(self) -> PassageSchema:
        """Return the schema for the model whose artifact is in S3. Raises ConfigurationError."""
        from assistant.stores.index.opensearch_schema import PassageSchema

        settings = self.settings
        facts = await read_facts(
            await self.clients.aws("s3"),
            prefix=settings.model_artifacts_s3 or "",
            model=settings.embedding_model,
        )
        model = IndexModel(facts.model, settings.dimensions, facts.digest)
        return PassageSchema(model=model, shards=settings.shards, replicas=settings.replicas)


@dataclass(frozen=True, slots=True)
class LinkSecret:
    """What the function works with that makes the secret of document links."""

    ssm: Any
    kms: Any
    settings: LinkSecretSettings


@asynccontextmanager
async def open_receiving(settings: ReceivingSettings) -> AsyncGenerator[Receiving]:
    from assistant.documents.uploads import ReceiveRawFiles, ReceiveUpload
    from assistant.stores.s3 import S3Blobs
    from assistant.stores.uploads import LARGEST_RAW_FILE_BYTES

    async with AsyncExitStack() as stack:
        clients = AwsClients(settings, stack)
        s3, stores = await clients.aws("s3"), AwsStores(clients, settings, stack=stack)
        knowledge = await knowledge_of(stores)
        bulk = replace(knowledge, queue=await stores.of(BULK_QUEUE))
        sources = KnowledgeSources.of(await tenant_in(s3, settings))
        parsing = await _parsing(clients, settings)
        receive = ReceiveRawFiles(
            S3Blobs(s3, bucket=settings.inbox_bucket, what="The inbox", longest_bytes=LARGEST_RAW_FILE_BYTES),
            sources=sources,
            add=AddDocuments(knowledge, clock=SystemClock(), accesses=await stores.of(RECORDS)),
            add_bulk=AddDocuments(bulk, clock=SystemClock(), accesses=await stores.of(RECORDS)),
            bulk_prefix=BULK_PREFIX,
            parsing=parsing,
        )
        receive_upload = ReceiveUpload(
            await stores.of(UPLOADS),
            sources=sources,
            add=receive.add,
            parsing=parsing,
            reading=receive.reading,
        )
        yield Receiving(receive, receive_upload, settings.metrics_service)


@asynccontextmanager
async def open_ingesting(settings: IngestingSettings) -> AsyncGenerator[Ingesting]:
    from assistant.documents.work import DocumentPipeline
    from assistant.documents.worker import PostponingBatches, indexing_batches
    from assistant.stores.sqs_queue import SqsIngestionQueue

    async with open_model_clients(settings) as clients, _one_tenant(settings, clients) as ingestion:
        sqs = await clients.aws("sqs")
        handling = indexing_batches(DocumentPipeline(ingestion))
        batches: dict[str, PostponingBatches] = {}
        for url in (settings.ingestion_queue_url, settings.bulk_queue_url):
            queue = SqsIngestionQueue(sqs, queue_url=url)
            batches[url.rpartition("/")[2]] = PostponingBatches(handling, queue=queue)
        power = await AwsStores(clients, settings, stack=clients.stack).of(POWER)
        yield Ingesting(power, batches, settings.metrics_service)


@asynccontextmanager
async def open_removing(settings: RemovingSettings) -> AsyncGenerator[Removing]:
    from assistant.documents.worker import PostponingBatches, removal_batches
    from assistant.stores.sqs_queue import SqsIngestionQueue

    async with open_model_clients(settings) as clients, _one_tenant(settings, clients) as ingestion:
        queue: DelayedQueue = SqsIngestionQueue(
            await clients.aws("sqs"), queue_url=settings.withdrawals_queue_url
        )
        yield Removing(ingestion, PostponingBatches(removal_batches(ingestion), queue=queue))


@asynccontextmanager
async def open_search_domain(settings: SchemaSettings) -> AsyncGenerator[SearchDomain]:
    async with open_model_clients(settings) as clients:
        yield SearchDomain(await clients.opensearch(), clients, settings)


@asynccontextmanager
async def open_link_secret(settings: LinkSecretSettings) -> AsyncGenerator[LinkSecret]:
    async with AsyncExitStack() as stack:
        clients = AwsClients(settings, stack)
        yield LinkSecret(await clients.aws("ssm"), await clients.aws("kms"), settings)


@asynccontextmanager
async def _one_tenant(settings: WorkerSettings, clients: ModelClients) -> AsyncGenerator[TenantIngestion]:
    async with open_ingestion(settings, clients=clients) as tenants:
        yield _only(tenants, settings.tenants_dir)


async def tenant_in(s3: Any, settings: DocumentFunctionSettings) -> TenantConfig:
    """Download the tenant file of a function, and return its tenant. Raises ConfigurationError."""
    from assistant.stores.s3 import download_tenant_file

    await download_tenant_file(s3, uri=settings.tenant_file_s3, into=settings.tenants_dir)
    return _only(load_tenants(settings.tenants_dir).tenants.values(), settings.tenants_dir)


def _only(tenants: Collection[Tenant], folder: Path) -> Tenant:
    """Return the only tenant. Raises ConfigurationError where there is none, or more than one."""
    if len(tenants) != 1:
        raise ConfigurationError(f"{folder} has {len(tenants)} tenants; a function serves exactly one.")
    return next(iter(tenants))
