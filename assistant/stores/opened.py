"""Chooses the stores of a tenant by settings: embedded, AWS's, or some of each.

No engine is imported that the settings do not choose.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import structlog

from assistant.documents.readable import ReadableDocuments
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.documents import IndexModel
from assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    DependencyError,
    RecordsUnavailableError,
)
from assistant.models.artifacts import ModelFacts, read_model_facts
from assistant.process.private_files import keep_private
from assistant.process.settings import FunctionSettings, StoreSettings, WorkerSettings
from assistant.stores.claims import StoredClaims, StoredSentValues
from assistant.stores.clients import AwsClients, ProcessClients
from assistant.stores.desk import StoredDesk
from assistant.stores.documents_ports import KnowledgeStores, WriteTurn
from assistant.stores.feedback import StoredErasureKeys, StoredOutbox
from assistant.stores.records import StoredLiveReads, StoredRecords
from assistant.stores.states import StoredSourceRuns, StoredStates, StoredWriteTurn
from assistant.tenant.added_models import AddedEmbedding, TenantModels, added_models
from assistant.tenant.deployed_names import CapturePurpose
from assistant.tenant.tenant import EmbeddingSection, TenantConfig, TenantFiles, load_tenants

if TYPE_CHECKING:
    from assistant.model_server.here import EmbedderHere
    from assistant.models.sagemaker import SageMakerEmbedder
    from assistant.options.feedback.store import StoredFeedback
    from assistant.process.aws.clients import AwsService
    from assistant.stores.audit_days import DigestFiles
    from assistant.stores.documents_ports import (
        DocumentStore,
        IndexVersions,
        IngestionQueue,
        PassageEmbedder,
        PassageIndex,
        Uploads,
    )
    from assistant.stores.dynamodb_table import DynamoDbTable
    from assistant.stores.files import FilePower, FileSwitches
    from assistant.stores.index.embedded import EmbeddedPassageIndex, EmbeddedPassageSearch
    from assistant.stores.ports import EndpointPower, FeedbackFiles, PassageSearch, SystemSwitches
    from assistant.stores.sqlite_table import SqliteTable
    from assistant.stores.table import Table

Adapter = TypeVar("Adapter")
Opened = TypeVar("Opened")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Port(Generic[Adapter]):
    """A port with a store of ``EmbeddedTenant`` and a twin on AWS, which is imported when chosen."""

    embedded: str
    """Attribute of ``EmbeddedTenant``."""
    aws: str
    """Module below ``assistant``, and what makes the adapter in it."""
    needs: Mapping[str, str]
    """Argument of the adapter on AWS = setting that has its value."""
    service: AwsService
    chosen_by: str = "stores"
    """Setting that chooses: without it, or where it is ``embedded``, the embedded store."""


@dataclass(frozen=True, eq=False)
class TableOf:
    """A table of a tenant: a file of its folder, or the table that a setting names."""

    file: str
    setting: str
    unavailable: type[DependencyError] = RecordsUnavailableError
    append_only: bool = False
    overwrites: bool = False
    synced: bool = True
    expires: bool = False
    """Whether a file's expired items are deleted from when the table is chosen; the others are as
    ``SqliteTable`` has them."""


@dataclass(frozen=True, eq=False)
class StoredPort(Generic[Adapter]):
    """A port that is written once, over a table."""

    embedded: str
    """Attribute of ``EmbeddedTenant``."""
    table: TableOf
    make: Callable[[Table, Clock], Adapter]


AnyPort = Port[Adapter] | StoredPort[Adapter]


def _queue(embedded: str, url: str) -> Port[IngestionQueue]:
    return Port(embedded, "stores.queue.sqs:SqsIngestionQueue", {"queue_url": url}, service="sqs")


def _parameter(embedded: str, aws: str, argument: str, setting: str) -> Port[Any]:
    """Return a port whose twin is chosen by naming its parameters."""
    return Port(
        embedded, f"process.aws.parameters:{aws}", {argument: setting}, service="ssm", chosen_by=setting
    )


_BUCKET = {"bucket": "documents_bucket", "kms_key_id": "documents_key_id"}
_FEEDBACK = {"bucket": "labels_bucket", "texts_bucket": "texts_bucket", "kms_key_id": "feedback_key_id"}
RECORDS_TABLE = TableOf("records.sqlite", "records_table", append_only=True)
DESK_TABLE = TableOf("desk.sqlite", "desk_table", overwrites=True)
STATES_TABLE = TableOf("queue.sqlite", "states_table", DependencyError)
_RUNS_TABLE = TableOf("connectors.sqlite", "states_table", DependencyError)
EVENTS_TABLE = TableOf("events.sqlite", "events_table", synced=False, expires=True)
"""A crash of the machine may lose the last claims: the process that made them has ended too."""
_VALUES_TABLE = TableOf("sent-values.sqlite", "events_table", expires=True)
_KEYS_TABLE = TableOf("erasure.sqlite", "events_table", overwrites=True)
DOCUMENTS: Port[DocumentStore] = Port("documents", "stores.s3:S3DocumentStore", _BUCKET, service="s3")
UPLOADS: Port[Uploads] = Port(
    "uploads",
    "stores.s3_uploads:S3Uploads",
    {"bucket": "inbox_bucket", "kms_key_id": "documents_key_id"},
    service="s3",
)
QUEUE = _queue("queue", "ingestion_queue_url")
BULK_QUEUE = _queue("queue", "bulk_queue_url")
WITHDRAWALS = _queue("withdrawals", "withdrawals_queue_url")
STATES = StoredPort("states", STATES_TABLE, lambda table, _: StoredStates(table))
INDEX_WRITES = StoredPort[WriteTurn](
    "index_writes", STATES_TABLE, lambda table, clock: StoredWriteTurn(table, clock=clock)
)
"""The lock on writing the index: other processes write it too."""
REINDEX_TURN = StoredPort[WriteTurn](
    "reindex_turn", STATES_TABLE, lambda table, clock: StoredWriteTurn.of_reindex(table, clock=clock)
)
"""The lock that lets one reindex of the tenant run at a time, and refuses another at once. On AWS it is held
for as long as a function runs at most, and released if the function was killed."""
SOURCE_RUNS = StoredPort("source_runs", _RUNS_TABLE, lambda table, _: StoredSourceRuns(table))
RECORDS = StoredPort("records", RECORDS_TABLE, lambda table, clock: StoredRecords(table, clock=clock))
LIVE_READS = StoredPort("live_reads", RECORDS_TABLE, lambda table, clock: StoredLiveReads(table, clock=clock))
OUTBOX = StoredPort("outbox", RECORDS_TABLE, lambda table, _: StoredOutbox(table))
CLAIMS = StoredPort("claims", EVENTS_TABLE, lambda table, clock: StoredClaims(table, clock=clock))
SENT_VALUES = StoredPort(
    "sent_values", _VALUES_TABLE, lambda table, clock: StoredSentValues(table, clock=clock)
)
ERASURE_KEYS = StoredPort(
    "erasure_keys", _KEYS_TABLE, lambda table, clock: StoredErasureKeys(table, clock=clock)
)
DESK = StoredPort("desk", DESK_TABLE, lambda table, _: StoredDesk(table))
FEEDBACK_FILES: Port[FeedbackFiles] = Port(
    "feedback_files", "stores.s3:S3FeedbackFiles", _FEEDBACK, service="s3"
)
DIGESTS: Port[DigestFiles] = Port(
    "digests", "stores.s3:S3AuditDigests", {"bucket": "trail_bucket"}, service="s3"
)
POWER: Port[EndpointPower] = _parameter("power", "ParameterPower", "name", "power_parameter")
SWITCHES: Port[SystemSwitches] = _parameter("switches", "ParameterSwitches", "prefix", "system_switches")


def _adapter(name: str) -> Callable[..., Any]:
    """Import what makes an adapter: ``module:name`` below ``assistant``."""
    module, _, made_by = name.partition(":")
    return attrgetter(made_by)(import_module(f"assistant.{module}"))


class AwsStores:
    """The stores of one tenant on AWS, each made when it is first chosen and closed with ``stack``."""

    def __init__(
        self,
        clients: AwsClients,
        settings: StoreSettings | FunctionSettings,
        *,
        stack: AsyncExitStack,
        clock: Clock | None = None,
        tenant: str = "",
    ) -> None:
        """``tenant``: takes the place of ``{tenant}`` in the names of tables, buckets and queues."""
        self._clients = clients
        self._settings = settings
        self._stack = stack
        self._clock = clock or SystemClock()
        self._tenant = tenant
        self._made: dict[AnyPort[Any], Any] = {}
        self._tables: dict[str, DynamoDbTable] = {}

    async def table_of(self, table: TableOf) -> DynamoDbTable:
        """Return a table; stores of one table share it, and what they insert at once goes out together."""
        from assistant.stores.dynamodb_table import DynamoDbTable

        if table.setting not in self._tables:
            name = self._name(table.setting)
            client = await self._clients.aws("dynamodb")
            made = DynamoDbTable(client, name=name, unavailable=table.unavailable)
            self._tables[table.setting] = made
            self._stack.push_async_callback(made.close)
        return self._tables[table.setting]

    def _name(self, setting: str) -> Any:
        value = getattr(self._settings, setting, None)
        return value and str(value).replace("{tenant}", self._tenant)

    async def of(self, port: AnyPort[Adapter]) -> Adapter:
        if isinstance(port, StoredPort):
            if port not in self._made:
                self._made[port] = port.make(await self.table_of(port.table), self._clock)
            return self._made[port]
        if port not in self._made:
            values = {argument: self._name(setting) for argument, setting in port.needs.items()}
            if port.service == "ssm":
                values["clock"] = self._clock
            self._made[port] = store = _adapter(port.aws)(await self._clients.aws(port.service), **values)
            if port.service == "ssm":
                self._stack.push_async_callback(store.close)
        return self._made[port]


async def knowledge_of(stores: AwsStores | StoreChoice) -> KnowledgeStores:
    return KnowledgeStores(
        documents=await stores.of(DOCUMENTS),
        states=await stores.of(STATES),
        queue=await stores.of(QUEUE),
        withdrawals=await stores.of(WITHDRAWALS),
    )


async def read_tenants(settings: StoreSettings, clients: ProcessClients) -> TenantFiles:
    """Return every tenant of ``tenants_dir`` as it is served, with the one of ``tenant_file_s3``.

    An invalid file is logged, and the other tenants are served. Raises ConfigurationError naming file and
    key, object or variables; DependencyError when S3 does not respond.
    """
    if settings.tenant_file_s3 is not None:
        from assistant.stores.s3 import download_tenant_file

        s3 = await clients.aws("s3")
        await download_tenant_file(s3, uri=settings.tenant_file_s3, into=settings.tenants_dir)
    files = load_tenants(settings.tenants_dir, only=settings.only_tenants)
    for name, error in files.refused.items():
        _log_not_served(name, error, at="reading")
    tenants = {name: settings.as_served(tenant) for name, tenant in files.tenants.items()}
    settings.check_tenants(tenants)
    return replace(files, tenants=tenants)


async def open_each(
    tenants: Mapping[str, TenantConfig],
    open_one: Callable[[TenantConfig], Awaitable[Opened]],
    *,
    settings: StoreSettings,
    required: bool,
) -> tuple[dict[str, Opened], dict[str, ConfigurationError]]:
    """Open every tenant, by name. A tenant that cannot be opened is logged, unless it is ``required`` or the
    only one: then its ConfigurationError is raised, as where none can be opened.

    Returns what was opened, and why each other tenant was not."""
    opened: dict[str, Opened] = {}
    refused: dict[str, ConfigurationError] = {}
    for name, tenant in tenants.items():
        try:
            opened[name] = await open_one(tenant)
        except ConfigurationError as error:
            if required or len(tenants) == 1:
                raise
            _log_not_served(name, error, at="opening")
            refused[name] = error
    if not opened:
        reason = "".join(f" {name}: {error.message}" for name, error in [*refused.items()][:1])
        raise ConfigurationError(f"{settings.tenants_dir}: no tenant can be served.{reason} See the log.")
    return opened, refused


async def refuse_files_of(tenant: str, settings: StoreSettings) -> None:
    """Raise ConfigurationError where a file of a tenant's embedded stores must not be used."""
    from assistant.stores.files import refuse_files

    await asyncio.to_thread(refuse_files, settings.state_dir / "tenants" / tenant)


def _log_not_served(tenant: str, error: AssistantError, *, at: Literal["reading", "opening"]) -> None:
    _log.warning("tenant_not_served", tenant=tenant, reason=error.message, at=at)


class EmbeddedTenant:
    """The embedded stores of one tenant under ``folder`` (``<state>/tenants/<tenant>``).

    They open on first use, and ``close`` closes them. Only the ingestion worker may use ``index``: it takes
    the index's write lock on first use.
    """

    def __init__(
        self,
        folder: Path,
        *,
        embedding_model: str,
        dimensions: int,
        model_digest: str = "",
        clock: Clock | None = None,
    ) -> None:
        """``clock``: of the power state and the switches, which are read again after a while."""
        from assistant.stores.files import FileDocumentStore, FolderFeedbackFiles
        from assistant.stores.index.embedded_files import TURN_FILE, EmbeddedIndexVersions, FileTurn
        from assistant.stores.queue.sqlite import SqliteIngestionQueue
        from assistant.stores.uploads_here import FileUploads

        self._folder = folder
        self._tables: dict[str, SqliteTable] = {}
        model = IndexModel(name=embedding_model, dimensions=dimensions, digest=model_digest)
        self.documents = FileDocumentStore(folder / "documents")
        self.received_uploads = SqliteIngestionQueue(folder / "queue.sqlite", name="uploads")
        self.uploads = FileUploads(folder / "uploads", self.received_uploads)
        self.states = StoredStates(self.table_of(STATES_TABLE))
        self.queue = SqliteIngestionQueue(folder / "queue.sqlite")
        self.withdrawals = SqliteIngestionQueue(folder / "queue.sqlite", name="withdrawals")
        """Ids to remove from the index. A queue of its own, so that no backlog of documents delays it."""
        self.source_runs = StoredSourceRuns(self.table_of(_RUNS_TABLE))
        self.knowledge = KnowledgeStores(self.documents, self.states, self.queue, self.withdrawals)
        self.records = StoredRecords(self.table_of(RECORDS_TABLE))
        self.live_reads = StoredLiveReads(self.table_of(RECORDS_TABLE))
        self.claims = StoredClaims(self.table_of(EVENTS_TABLE))
        self.sent_values = StoredSentValues(self.table_of(_VALUES_TABLE))
        self.outbox = StoredOutbox(self.table_of(RECORDS_TABLE))
        self.erasure_keys = StoredErasureKeys(self.table_of(_KEYS_TABLE))
        self.feedback_files = FolderFeedbackFiles(folder / "feedback")
        self.digests = FolderFeedbackFiles(folder)
        self.desk = StoredDesk(self.table_of(DESK_TABLE))
        self.power, self.switches = _power_and_switches(folder, clock=clock or SystemClock())
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

    def sync_turn(self, source: str) -> WriteTurn:
        """Return the lock that lets one run of a source's connector read at a time."""
        from assistant.stores.index.embedded_files import FileTurn

        late = f"Another run of {source} reads. Wait until it ends."
        return FileTurn(self._folder / f"connector-{source}.lock", waits_s=0.5, late=late)

    async def of(self, port: AnyPort[Adapter]) -> Adapter:
        """Return the store of a port."""
        return getattr(self, port.embedded)

    def table_of(self, table: TableOf) -> SqliteTable:
        from assistant.stores.sqlite_table import SqliteTable

        if table.file not in self._tables:
            made = SqliteTable(
                self._folder / table.file,
                unavailable=table.unavailable,
                append_only=table.append_only,
                overwrites=table.overwrites,
                synced=table.synced,
            )
            self._tables[table.file] = made
        return self._tables[table.file]

    @cached_property
    def feedback(self) -> StoredFeedback:
        """Events and sealed texts of the folder's tenant."""
        from assistant.options.feedback.store import StoredFeedback

        return StoredFeedback(self.feedback_files, tenant=self._folder.name, keys=self.erasure_keys)

    @property
    def texts(self) -> ReadableDocuments:
        """Documents as they were parsed, under a reader's labels."""
        return ReadableDocuments(self.documents, states=self.states)

    def index_of(self, model: IndexModel, *, holds: bool = False) -> EmbeddedPassageIndex:
        """Return the index version of a model; see ``EmbeddedPassageIndex`` for ``holds``."""
        from assistant.stores.index.embedded import EmbeddedPassageIndex

        if (model, holds) not in self._indexes:
            self._indexes[model, holds] = EmbeddedPassageIndex(self._index_folder, model=model, holds=holds)
        return self._indexes[model, holds]

    def search_of(self, model: IndexModel) -> EmbeddedPassageSearch:
        """Return the readers' side of the index version of a model, and of no other."""
        from assistant.stores.index.embedded import EmbeddedPassageSearch

        if model not in self._searches:
            self._searches[model] = EmbeddedPassageSearch(self._index_folder, model=model)
        return self._searches[model]

    async def close(self) -> None:
        queues = (self.queue, self.withdrawals, self.received_uploads)
        for store in (*queues, *self._tables.values(), *self._indexes.values(), *self._searches.values()):
            await store.close()


def _power_and_switches(folder: Path, *, clock: Clock) -> tuple[FilePower, FileSwitches]:
    """Return the stores of two files, which load no engine: a service on AWS without parameters has them."""
    from assistant.stores.files import FilePower, FileSwitches

    return FilePower(folder / "power", clock=clock), FileSwitches(folder / SWITCHES_FOLDER, clock=clock)


def embedded_tenant(
    tenant: TenantConfig, *, state_dir: Path, model_digest: str = "", clock: Clock | None = None
) -> EmbeddedTenant:
    """Return a tenant's embedded stores in the state folder."""
    keep_private(state_dir)
    return EmbeddedTenant(
        state_dir / "tenants" / tenant.name,
        embedding_model=tenant.embedding.model,
        dimensions=tenant.embedding.dimensions,
        model_digest=model_digest,
        clock=clock,
    )


SWITCHES_FOLDER = "systems"


def switches_dir(state_dir: Path, tenant: TenantConfig) -> Path:
    """Return the folder with a file for each live system that was switched on or off."""
    return state_dir / "tenants" / tenant.name / SWITCHES_FOLDER


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


@asynccontextmanager
async def open_stores(tenant: TenantConfig, *, state_dir: Path) -> AsyncGenerator[EmbeddedTenant]:
    """Open one tenant's embedded stores, without any other process."""
    stores = embedded_tenant(tenant, state_dir=state_dir)
    try:
        yield stores
    finally:
        await stores.close()


@asynccontextmanager
async def open_embedded(
    settings: StoreSettings,
    open_one: Callable[[TenantConfig, EmbeddedTenant, AsyncExitStack], Awaitable[Opened]],
) -> AsyncGenerator[list[Opened]]:
    """Open something of every tenant of the folder over its embedded stores, which close at the end.

    Nothing where stores are AWS's: there functions do this work. Raises ConfigurationError.
    """
    opened: dict[str, Opened] = {}
    async with AsyncExitStack() as stack:
        if settings.stores == "embedded":
            files = await read_tenants(settings, ProcessClients(settings, stack))

            async def open_stores_of(tenant: TenantConfig) -> Opened:
                await refuse_files_of(tenant.name, settings)
                stores = embedded_tenant(tenant, state_dir=settings.state_dir)
                stack.push_async_callback(stores.close)
                return await open_one(tenant, stores, stack)

            opened, _ = await open_each(files.tenants, open_stores_of, settings=settings, required=False)
        yield list(opened.values())


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
    aws: AwsStores
    _embedded: EmbeddedTenant | None = None

    @classmethod
    async def open(
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
        await _download(models, settings, clients)
        if settings.models == "embedded":
            await clients.models().prepare(tenant.embedding)
        model = read_model_facts(settings.model_artifacts_dir, tenant.embedding.model)
        aws = AwsStores(clients, settings, stack=stack, clock=clock, tenant=tenant.name)
        return cls(tenant, settings, model, clients, stack, clock or SystemClock(), aws)

    async def of(self, port: AnyPort[Adapter]) -> Adapter:
        """Return the adapter of a port, by the setting that chooses it."""
        is_stored = isinstance(port, StoredPort)
        chosen_by = "stores" if is_stored else port.chosen_by
        if getattr(self.settings, chosen_by) not in (None, "embedded"):
            return await self.aws.of(port)
        if self.settings.stores == "aws":
            folder = self.settings.state_dir / "tenants" / self.tenant.name
            power, switches = _power_and_switches(folder, clock=self.clock)
            return cast("Adapter", power if port is POWER else switches)
        if is_stored and port.table.expires:
            self._embedded_tenant().table_of(port.table).begin_sweep()
        return await self._embedded_tenant().of(port)

    async def refuse_formats(self) -> None:
        """Raise ConfigurationError for a store that a newer release wrote, or whose file is damaged."""
        if self.settings.stores == "embedded":
            await refuse_files_of(self.tenant.name, self.settings)
            return
        tables = {
            "records": RECORDS_TABLE,
            "desk": DESK_TABLE,
            "states": STATES_TABLE,
            "events": EVENTS_TABLE,
        }

        async def refuse(name: str, table: TableOf) -> None:
            try:
                await (await self.aws.table_of(table)).refuse_format(name)
            except DependencyError as error:  # a process starts without its stores; a deployment asks too
                _log.warning("store_format_unknown", store=name, error=error.message)

        await asyncio.gather(*(refuse(name, table) for name, table in tables.items()))

    @property
    def index_model(self) -> IndexModel:
        """The model whose vectors the version of these stores holds."""
        return IndexModel(self.model.model, self.tenant.embedding.dimensions, self.model.digest)

    async def versions(self) -> IndexVersions:
        """Return the versions of the tenant's index."""
        if self.settings.search == "embedded":
            return self._embedded_tenant().versions
        return await self._opensearch("stores.index.opensearch_schema:OpenSearchIndexVersions")

    async def of_version(self, name: str) -> StoreChoice | None:
        """Return the same stores with the model of an index version; None for a model unknown here.

        Known are the models that the tenant's file names, and those added on this machine.
        """
        versions = await self.versions()
        if versions.name_of(self.index_model) == name:
            return self
        for section in known_embeddings(self.tenant, self.settings):
            version_stores = await self.with_embedding(section)
            if version_stores is not None and versions.name_of(version_stores.index_model) == name:
                return version_stores
        return None

    async def with_embedding(self, section: EmbeddingSection) -> StoreChoice | None:
        """Return the same stores with another embedding model; None without its artifact."""
        if section == self.tenant.embedding:
            return self
        try:
            if self.settings.models == "embedded":
                await self.clients.models().prepare(section)
            model = read_model_facts(self.settings.model_artifacts_dir, section.model)
        except ConfigurationError:
            if self.settings.model_artifacts_s3 is None:
                return None
            await _download({section.model}, self.settings, self.clients)
            model = read_model_facts(self.settings.model_artifacts_dir, section.model)
        if "embedded" in (self.settings.stores, self.settings.search):
            self._embedded_tenant()  # shared: what is opened is closed once
        tenant = self.tenant.model_copy(update={"embedding": section})
        return replace(self, tenant=tenant, model=model)

    async def search(self, *, pinned: bool = False) -> PassageSearch:
        """Return the index for readers; ``pinned``: this model's version, wherever the alias points."""
        if self.settings.search == "embedded":
            return self._embedded_tenant().search_of(self.index_model)
        return await self._opensearch("stores.index.opensearch_search:OpenSearchPassageSearch", pinned=pinned)

    async def index_beside(self) -> PassageIndex:
        """Return this model's version for a writer that takes turns with others."""
        if self.settings.search == "embedded":
            return self._embedded_tenant().index_of(self.index_model)
        return await self._opensearch(
            "stores.index.opensearch_writer:OpenSearchPassageIndex", clock=self.clock
        )

    async def index(self, settings: WorkerSettings) -> PassageIndex:
        """Return the index of the tenant's own model for its one writer, the worker."""
        if self.settings.search == "embedded":
            # A version of a model that the settings no longer name is removed when this one is opened.
            await self._embedded_tenant().versions.adopt()
            return self._embedded_tenant().index
        applies = settings.opensearch_applies_schema
        return await self._opensearch(
            "stores.index.opensearch_writer:OpenSearchPassageIndex", applies_schema=applies, clock=self.clock
        )

    async def embedder(self, *, purpose: CapturePurpose) -> SageMakerEmbedder | EmbedderHere:
        """Return the stores' embedding model, or its endpoint."""
        embedding = self.tenant.embedding
        if self.settings.models == "embedded":
            return await self.clients.models().embedder(embedding)
        from assistant.models.sagemaker import SageMakerEmbedder

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
        from assistant.stores.index.kept_vectors import with_kept_vectors

        return with_kept_vectors(endpoint, self.settings.tenants_dir / vectors, model=self.index_model)

    async def _opensearch(self, adapter: str, **arguments: Any) -> Any:
        """Return an adapter of the tenant's index on OpenSearch."""
        from assistant.stores.index.opensearch_schema import PassageSchema

        schema = PassageSchema(
            embedding_model=self.model.model,
            dimensions=self.tenant.embedding.dimensions,
            model_digest=self.model.digest,
            shards=self.tenant.index.shards,
            replicas=self.tenant.index.replicas,
        )
        alias = self.settings.of_tenant(self.settings.opensearch_index, self.tenant)
        return _adapter(adapter)(await self.clients.opensearch(), alias=alias, schema=schema, **arguments)

    def _embedded_tenant(self) -> EmbeddedTenant:
        if self._embedded is None:
            self._embedded = embedded_tenant(
                self.tenant,
                state_dir=self.settings.state_dir,
                model_digest=self.model.digest,
                clock=self.clock,
            )
            self.stack.push_async_callback(self._embedded.close)
        return self._embedded


async def _download(models: AbstractSet[str], settings: StoreSettings, clients: ProcessClients) -> None:
    """Copy the artifacts of models from S3, if the settings say so."""
    if settings.model_artifacts_s3 is None:
        return
    from assistant.stores.s3 import download_artifacts

    await download_artifacts(
        await clients.aws("s3"),
        prefix=settings.model_artifacts_s3,
        models=models,
        into=settings.model_artifacts_dir,
    )
