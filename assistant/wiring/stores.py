"""Chooses the stores of a tenant by settings: embedded, AWS's, or some of each.

No engine is imported that the settings do not choose.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.documents import IndexModel
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.knowledge.ports import KnowledgeStores
from assistant.model_artifacts import ModelFacts, read_model_facts
from assistant.private_files import keep_private
from assistant.settings.deployed_names import CapturePurpose
from assistant.settings.local_models import AddedEmbedding, TenantModels, added_models
from assistant.settings.process import ServiceSettings, StoreSettings, WorkerSettings
from assistant.settings.tenant import EmbeddingSection, TenantConfig, TenantFiles, load_tenants
from assistant.wiring.clients import ProcessClients

if TYPE_CHECKING:
    from assistant.answering.ports import (
        AnswerLog,
        AnswerRecords,
        EndpointPower,
        PassageSearch,
        SentValues,
    )
    from assistant.aws.dynamodb_desk import DynamoDbDeskStore
    from assistant.aws.dynamodb_feedback import DynamoDbErasureKeys
    from assistant.aws.dynamodb_live import DynamoDbLiveReads
    from assistant.aws.dynamodb_log import DynamoDbAnswerLog, DynamoDbSentValues
    from assistant.aws.dynamodb_records import DynamoDbAnswerRecords
    from assistant.aws.dynamodb_states import DynamoDbDocumentStates, DynamoDbWriteTurn
    from assistant.aws.opensearch_schema import PassageSchema
    from assistant.aws.sagemaker import SageMakerEmbedder
    from assistant.embedded.index import EmbeddedPassageIndex, EmbeddedPassageSearch
    from assistant.knowledge.ports import IndexVersions, PassageEmbedder, PassageIndex, WriteTurn
    from assistant.learning.ports import DeskStore, ErasureKeys
    from assistant.live.ports import LiveReads, SystemSwitches

    DynamoDbStore = TypeVar(
        "DynamoDbStore",
        DynamoDbAnswerLog,
        DynamoDbAnswerRecords,
        DynamoDbDeskStore,
        DynamoDbErasureKeys,
        DynamoDbDocumentStates,
        DynamoDbLiveReads,
        DynamoDbSentValues,
        DynamoDbWriteTurn,
    )

Opened = TypeVar("Opened")

_log = structlog.get_logger(__name__)


async def read_tenants(settings: StoreSettings, clients: ProcessClients) -> TenantFiles:
    """Return every tenant of ``tenants_dir`` as it is served, with the one of ``tenant_file_s3``.

    An invalid file is logged, and the other tenants are served. Raises ConfigurationError naming file and
    key, object or variables; DependencyError when S3 does not respond.
    """
    if settings.tenant_file_s3 is not None:
        from assistant.aws.s3_files import download_tenant_file

        s3 = await clients.aws("s3")
        await download_tenant_file(s3, uri=settings.tenant_file_s3, into=settings.tenants_dir)
    files = load_tenants(settings.tenants_dir, only=settings.only_tenants)
    for name, error in files.refused.items():
        _log_not_served(name, error)
    tenants = {name: settings.as_served(tenant) for name, tenant in files.tenants.items()}
    settings.check_tenants(tenants)
    return replace(files, tenants=tenants)


async def open_each(
    tenants: Mapping[str, TenantConfig],
    open_one: Callable[[TenantConfig], Awaitable[Opened]],
    *,
    settings: StoreSettings,
    required: bool,
) -> dict[str, Opened]:
    """Open every tenant, by name. A tenant that cannot be opened is logged, unless it is ``required`` or the
    only one: then its ConfigurationError is raised, as where none can be opened."""
    opened: dict[str, Opened] = {}
    for name, tenant in tenants.items():
        try:
            opened[name] = await open_one(tenant)
        except ConfigurationError as error:
            if required or len(tenants) == 1:
                raise
            _log_not_served(name, error)
    if not opened:
        raise ConfigurationError(f"{settings.tenants_dir}: no tenant can be served; the log says why.")
    return opened


def _log_not_served(tenant: str, error: AssistantError) -> None:
    _log.warning("tenant_not_served", tenant=tenant, reason=error.message)


class EmbeddedTenant:
    """The embedded stores of one tenant under ``folder`` (``<state>/tenants/<tenant>``).

    They open on first use, and ``close`` closes them. Only the ingestion worker may use ``index``: it takes
    the index's write lock on first use.
    """

    def __init__(
        self, folder: Path, *, embedding_model: str, dimensions: int, model_digest: str = ""
    ) -> None:
        from assistant.embedded.files import FileDocumentStore, FolderFeedbackFiles
        from assistant.embedded.index_files import TURN_FILE, EmbeddedIndexVersions, FileTurn
        from assistant.embedded.ingestion import SqliteDocumentStates, SqliteIngestionQueue
        from assistant.embedded.records import (
            SqliteAnswerLog,
            SqliteAnswerRecords,
            SqliteDeskStore,
            SqliteErasureKeys,
            SqliteFeedbackOutbox,
            SqliteLiveReads,
            SqliteSentValues,
        )

        model = IndexModel(name=embedding_model, dimensions=dimensions, digest=model_digest)
        self.documents = FileDocumentStore(folder / "documents")
        self.states = SqliteDocumentStates(folder / "queue.sqlite")
        self.queue = SqliteIngestionQueue(folder / "queue.sqlite")
        self.withdrawals = SqliteIngestionQueue(folder / "queue.sqlite", name="withdrawals")
        """Ids to remove from the index. A queue of its own, so that no backlog of documents delays it."""
        self.knowledge = KnowledgeStores(self.documents, self.states, self.queue, self.withdrawals)
        self.records = SqliteAnswerRecords(folder / "records.sqlite")
        self.live_reads = SqliteLiveReads(folder / "records.sqlite")
        self.log = SqliteAnswerLog(folder / "events.sqlite")
        self.sent_values = SqliteSentValues(folder / "sent-values.sqlite")
        self.outbox = SqliteFeedbackOutbox(folder / "records.sqlite")
        self.erasure_keys = SqliteErasureKeys(folder / "erasure.sqlite")
        self.feedback_files = FolderFeedbackFiles(folder / "feedback")
        self.desk = SqliteDeskStore(folder / "desk.sqlite")
        self._index_folder = folder / "index"
        self._indexes: dict[tuple[IndexModel, bool], EmbeddedPassageIndex] = {}
        self._searches: dict[IndexModel, EmbeddedPassageSearch] = {}
        self.index = self.index_of(model, holds=True)
        self.search = self.search_of(model)
        self.versions = EmbeddedIndexVersions(self._index_folder, own=model)
        self.index_writes = FileTurn(
            self._index_folder / TURN_FILE, late="Another process writes the passage index. Retry."
        )
        """One turn for all processes of this machine."""
        self.reindex_turn = FileTurn(
            self._index_folder / "reindex.lock",
            waits_s=0.0,
            late="Another reindex of this tenant runs. Wait until it ends.",
        )

    def index_of(self, model: IndexModel, *, holds: bool = False) -> EmbeddedPassageIndex:
        """Return the index version of a model; see ``EmbeddedPassageIndex`` for ``holds``."""
        from assistant.embedded.index import EmbeddedPassageIndex

        if (model, holds) not in self._indexes:
            self._indexes[model, holds] = EmbeddedPassageIndex(self._index_folder, model=model, holds=holds)
        return self._indexes[model, holds]

    def search_of(self, model: IndexModel) -> EmbeddedPassageSearch:
        """Return the readers' side of the index version of a model, and of no other."""
        from assistant.embedded.index import EmbeddedPassageSearch

        if model not in self._searches:
            self._searches[model] = EmbeddedPassageSearch(self._index_folder, model=model)
        return self._searches[model]

    async def close(self) -> None:
        queues = (self.states, self.queue, self.withdrawals, self.outbox)
        kept = (self.records, self.live_reads, self.desk, self.erasure_keys)
        answers = (*kept, self.log, self.sent_values)
        for store in (*queues, *answers, *self._indexes.values(), *self._searches.values()):
            await store.close()


def embedded_tenant(tenant: TenantConfig, *, state_dir: Path, model_digest: str = "") -> EmbeddedTenant:
    """Return a tenant's embedded stores in the state folder."""
    keep_private(state_dir)
    return EmbeddedTenant(
        state_dir / "tenants" / tenant.name,
        embedding_model=tenant.embedding.model,
        dimensions=tenant.embedding.dimensions,
        model_digest=model_digest,
    )


def switches_dir(state_dir: Path, tenant: TenantConfig) -> Path:
    """Return the folder with a file for each live system that was switched on or off."""
    return state_dir / "tenants" / tenant.name / "systems"


def known_embeddings(tenant: TenantConfig, settings: StoreSettings) -> list[EmbeddingSection]:
    """Return the embedding models that this process can reach for a tenant, its own first: those that the
    tenant's file names, and on a laptop those that were added (their manifests are beside the artifacts)."""
    sections = [tenant.embedding]
    file = load_tenants(settings.tenants_dir, only=(tenant.name,)).tenants.get(tenant.name)
    for config in (tenant, file):
        if config is not None:
            sections += [config.embedding, *([config.embedding_next] if config.embedding_next else [])]
    for model in added_models(settings.model_artifacts_dir):
        if isinstance(model, AddedEmbedding) and None not in (model.cosine_unrelated, model.cosine_related):
            sections.append(TenantModels(embedding=model).applied_to(file or tenant).embedding)
    return [section for at, section in enumerate(sections) if section not in sections[:at]]


@dataclass(frozen=True, slots=True)
class TenantStores:
    """What one tenant keeps: enough for commands that call no model."""

    knowledge: KnowledgeStores
    records: AnswerRecords
    desk: DeskStore
    live_reads: LiveReads


@asynccontextmanager
async def open_stores(tenant: TenantConfig, *, state_dir: Path) -> AsyncGenerator[TenantStores]:
    """Open one tenant's embedded stores, without any other process."""
    embedded = embedded_tenant(tenant, state_dir=state_dir)
    try:
        yield TenantStores(
            knowledge=embedded.knowledge,
            records=embedded.records,
            desk=embedded.desk,
            live_reads=embedded.live_reads,
        )
    finally:
        await embedded.close()


@dataclass(slots=True)
class StoreChoice:
    """One tenant's stores, made when they are asked for and closed with ``stack``."""

    tenant: TenantConfig
    settings: StoreSettings
    model: ModelFacts
    """Of the served embedding weights: vectors of others are never compared with them."""
    clients: ProcessClients
    stack: AsyncExitStack
    clock: Clock
    _embedded: EmbeddedTenant | None = None
    _made: dict[str, Any] = field(default_factory=dict[str, Any])
    """Adapters that the stores of all versions of the index share, by name."""

    @classmethod
    async def of(
        cls,
        tenant: TenantConfig,
        *,
        settings: StoreSettings,
        clients: ProcessClients,
        stack: AsyncExitStack,
        clock: Clock | None,
        models: AbstractSet[str],
    ) -> StoreChoice:
        """Return the stores after copying the artifacts of ``models`` from S3, if the settings say so.

        Raises ConfigurationError naming the file or object, DependencyError when S3 does not respond.
        """
        if settings.model_artifacts_s3 is not None:
            from assistant.aws.s3_files import download_artifacts

            await download_artifacts(
                await clients.aws("s3"),
                prefix=settings.model_artifacts_s3,
                models=models,
                into=settings.model_artifacts_dir,
            )
        model = read_model_facts(settings.model_artifacts_dir, tenant.embedding.model)
        return cls(tenant, settings, model, clients, stack, clock or SystemClock())

    async def knowledge(self) -> KnowledgeStores:
        if self.settings.stores == "embedded":
            return self._embedded_tenant().knowledge
        from assistant.aws.dynamodb_states import DynamoDbDocumentStates
        from assistant.aws.s3 import S3DocumentStore
        from assistant.aws.sqs import SqsIngestionQueue

        settings, sqs = self.settings, await self.clients.aws("sqs")
        return KnowledgeStores(
            documents=S3DocumentStore(
                await self.clients.aws("s3"),
                bucket=self._named(settings.documents_bucket),
                kms_key_id=settings.documents_key_id,
            ),
            states=await self._dynamodb(DynamoDbDocumentStates, settings.states_table),
            queue=SqsIngestionQueue(sqs, queue_url=self._named(settings.ingestion_queue_url)),
            withdrawals=SqsIngestionQueue(sqs, queue_url=self._named(settings.withdrawals_queue_url)),
        )

    async def records(self, settings: ServiceSettings) -> AnswerRecords:
        if settings.stores == "embedded":
            return self._embedded_tenant().records
        from assistant.aws.dynamodb_records import DynamoDbAnswerRecords

        return await self._dynamodb(DynamoDbAnswerRecords, settings.records_table)

    async def live_reads(self, settings: ServiceSettings) -> LiveReads:
        if settings.stores == "embedded":
            return self._embedded_tenant().live_reads
        from assistant.aws.dynamodb_live import DynamoDbLiveReads

        return await self._dynamodb(DynamoDbLiveReads, settings.records_table)

    async def switches(self, settings: ServiceSettings) -> SystemSwitches:
        if settings.system_switches is None:
            from assistant.embedded.files import FileSwitches

            return FileSwitches(switches_dir(settings.state_dir, self.tenant), clock=self.clock)
        from assistant.aws.parameters import ParameterSwitches

        prefix = self._named(settings.system_switches)
        switches = ParameterSwitches(await self.clients.aws("ssm"), prefix=prefix, clock=self.clock)
        self.stack.push_async_callback(switches.close)
        return switches

    async def sent_values(self, settings: ServiceSettings) -> SentValues:
        if settings.stores == "embedded":
            values = self._embedded_tenant().sent_values
            values.begin_sweep()
            return values
        from assistant.aws.dynamodb_log import DynamoDbSentValues

        return await self._dynamodb(DynamoDbSentValues, settings.events_table)

    async def log(self, settings: ServiceSettings) -> AnswerLog:
        if settings.stores == "embedded":
            log = self._embedded_tenant().log
            log.begin_sweep()
            return log
        from assistant.aws.dynamodb_log import DynamoDbAnswerLog

        return await self._dynamodb(DynamoDbAnswerLog, settings.events_table)

    async def desk(self) -> DeskStore:
        if self.settings.stores == "embedded":
            return self._embedded_tenant().desk
        from assistant.aws.dynamodb_desk import DynamoDbDeskStore

        return await self._dynamodb(DynamoDbDeskStore, self.settings.desk_table)

    async def erasure_keys(self, settings: WorkerSettings) -> ErasureKeys | None:
        """Return the keys of feedback's texts; None on AWS without ``events_table``."""
        if settings.stores == "embedded":
            return self._embedded_tenant().erasure_keys
        if not settings.events_table:
            return None
        from assistant.aws.dynamodb_feedback import DynamoDbErasureKeys

        return await self._dynamodb(DynamoDbErasureKeys, settings.events_table)

    async def power(self, settings: ServiceSettings) -> EndpointPower:
        if settings.power_parameter is None:
            from assistant.embedded.files import FilePower

            path = settings.state_dir / "tenants" / self.tenant.name / "power"
            return FilePower(path, clock=self.clock)
        from assistant.aws.parameters import ParameterPower

        name = self._named(settings.power_parameter)
        if "power" not in self._made:
            power = ParameterPower(await self.clients.aws("ssm"), name=name, clock=self.clock)
            self.stack.push_async_callback(power.close)
            self._made["power"] = power
        return self._made["power"]

    @property
    def index_model(self) -> IndexModel:
        """The model whose vectors the version of these stores holds."""
        return IndexModel(self.model.model, self.tenant.embedding.dimensions, self.model.digest)

    async def versions(self) -> IndexVersions:
        """Return the versions of the tenant's index."""
        if self.settings.search == "embedded":
            return self._embedded_tenant().versions
        from assistant.aws.opensearch_schema import OpenSearchIndexVersions

        client = await self.clients.opensearch()
        return OpenSearchIndexVersions(client, alias=self._alias(), schema=self._schema())

    async def of_version(self, name: str) -> StoreChoice | None:
        """Return the same stores with the model of an index version; None for a model unknown here.

        Known are the models that the tenant's file names, and those added on this machine.
        """
        versions = await self.versions()
        if versions.name_of(self.index_model) == name:
            return self
        for section in known_embeddings(self.tenant, self.settings):
            found = await self.with_embedding(section)
            if found is not None and versions.name_of(found.index_model) == name:
                return found
        return None

    async def with_embedding(self, section: EmbeddingSection) -> StoreChoice | None:
        """Return the same stores with another embedding model; None without its artifact."""
        if section == self.tenant.embedding:
            return self
        try:
            model = read_model_facts(self.settings.model_artifacts_dir, section.model)
        except ConfigurationError:
            if self.settings.model_artifacts_s3 is None:
                return None
            await self._download(section.model)
            model = read_model_facts(self.settings.model_artifacts_dir, section.model)
        if "embedded" in (self.settings.stores, self.settings.search):
            self._embedded_tenant()  # shared: what is opened is closed once
        tenant = self.tenant.model_copy(update={"embedding": section})
        return replace(self, tenant=tenant, model=model)

    async def _download(self, model: str) -> None:
        from assistant.aws.s3_files import download_artifacts

        await download_artifacts(
            await self.clients.aws("s3"),
            prefix=self.settings.model_artifacts_s3 or "",
            models={model},
            into=self.settings.model_artifacts_dir,
        )

    async def search(self, *, pinned: bool = False) -> PassageSearch:
        """Return the index for readers; ``pinned``: this model's version, wherever the alias points."""
        if self.settings.search == "embedded":
            return self._embedded_tenant().search_of(self.index_model)
        from assistant.aws.opensearch_search import OpenSearchPassageSearch

        client = await self.clients.opensearch()
        return OpenSearchPassageSearch(client, alias=self._alias(), schema=self._schema(), pinned=pinned)

    async def index_beside(self) -> PassageIndex:
        """Return this model's version for a writer that takes turns with others."""
        if self.settings.search == "embedded":
            return self._embedded_tenant().index_of(self.index_model)
        from assistant.aws.opensearch_index import OpenSearchPassageIndex

        client = await self.clients.opensearch()
        return OpenSearchPassageIndex(client, alias=self._alias(), schema=self._schema(), clock=self.clock)

    async def index(self, settings: WorkerSettings) -> PassageIndex:
        """Return the index of the tenant's own model for its one writer, the worker."""
        if self.settings.search == "embedded":
            # A version of a model that the settings no longer name is removed when this one is opened.
            await self._embedded_tenant().versions.adopt()
            return self._embedded_tenant().index
        from assistant.aws.opensearch_index import OpenSearchPassageIndex

        return OpenSearchPassageIndex(
            await self.clients.opensearch(),
            alias=self._alias(),
            schema=self._schema(),
            applies_schema=settings.opensearch_applies_schema,
            clock=self.clock,
        )

    async def embedder(self, *, purpose: CapturePurpose) -> SageMakerEmbedder:
        """Return the endpoint of the stores' embedding model."""
        from assistant.aws.sagemaker import SageMakerEmbedder

        embedding = self.tenant.embedding
        return SageMakerEmbedder(
            await self.clients.sagemaker(),
            endpoint=embedding.endpoint,
            dimensions=embedding.dimensions,
            purpose=purpose,
        )

    async def passage_embedder(self) -> PassageEmbedder:
        """Return what embeds documents: the endpoint, and before it the vectors that the tenant keeps.

        Raises ConfigurationError when the file of vectors is damaged, or the stores are not embedded.
        """
        vectors = self.tenant.embedding.vectors
        if vectors is not None and self.settings.stores != "embedded":
            raise ConfigurationError(
                f'{self.tenant.name}: embedding.vectors = "{vectors}" is for embedded stores alone, where a '
                "demo's documents are loaded again and again. Delete the line."
            )
        endpoint = await self.embedder(purpose="passage")
        if vectors is None:
            return endpoint
        from assistant.embedded.kept_vectors import with_kept_vectors

        return with_kept_vectors(endpoint, self.settings.tenants_dir / vectors, model=self.index_model)

    async def index_writes(self) -> WriteTurn:
        """Return the lock on writing the index: other processes write it too."""
        if self.settings.stores == "embedded":
            return self._embedded_tenant().index_writes
        from assistant.aws.dynamodb_states import DynamoDbWriteTurn

        return await self._dynamodb(DynamoDbWriteTurn, self.settings.states_table)

    async def reindex_turn(self) -> WriteTurn:
        """Return the lock that lets one reindex of the tenant run at a time, and refuses another at once.

        On AWS it is held for as long as a function runs at most, and released if the function was killed.
        """
        if self.settings.stores == "embedded":
            return self._embedded_tenant().reindex_turn
        from assistant.aws.dynamodb_states import DynamoDbWriteTurn

        turn = DynamoDbWriteTurn.of_reindex(
            await self.clients.aws("dynamodb"),
            table=self._named(self.settings.states_table),
            clock=self.clock,
        )
        self.stack.push_async_callback(turn.close)
        return turn

    async def _dynamodb(self, store: Callable[..., DynamoDbStore], table: str) -> DynamoDbStore:
        name = f"{store.__name__} {table}"
        if name not in self._made:
            made = store(await self.clients.aws("dynamodb"), table=self._named(table), clock=self.clock)
            self.stack.push_async_callback(made.close)
            self._made[name] = made
        return self._made[name]

    def _schema(self) -> PassageSchema:
        from assistant.aws.opensearch_schema import PassageSchema

        return PassageSchema(
            embedding_model=self.model.model,
            dimensions=self.tenant.embedding.dimensions,
            model_digest=self.model.digest,
            shards=self.tenant.index.shards,
            replicas=self.tenant.index.replicas,
        )

    def _alias(self) -> str:
        return self._named(self.settings.opensearch_index)

    def _named(self, template: str) -> str:
        return self.settings.of_tenant(template, self.tenant)

    def _embedded_tenant(self) -> EmbeddedTenant:
        if self._embedded is None:
            self._embedded = embedded_tenant(
                self.tenant, state_dir=self.settings.state_dir, model_digest=self.model.digest
            )
            self.stack.push_async_callback(self._embedded.close)
        return self._embedded
