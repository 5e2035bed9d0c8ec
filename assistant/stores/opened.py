"""Opens the stores of a tenant as the settings choose: embedded, AWS's, or some of each.

``EmbeddedTenant`` opens the primitives of ``store.py`` in files, ``AwsStores`` on AWS, and ``StoreChoice``
asks one of them. All three are ``Stores``. No engine is imported that the settings do not choose.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import structlog

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import AssistantError, ConfigurationError, DependencyError
from assistant.process.private_files import keep_private
from assistant.process.settings import AuditSettings, FunctionSettings, StoreSettings
from assistant.stores.audit import DIGESTS, CloseDays, DayDigests
from assistant.stores.blobs import FolderBlobs
from assistant.stores.clients import AwsClients, ProcessClients, open_clients
from assistant.stores.desk import DESK_TABLE
from assistant.stores.documents import (
    DOCUMENTS,
    QUEUE,
    STATES,
    STATES_TABLE,
    WITHDRAWALS,
    KnowledgeStores,
    StoredWriteTurn,
)
from assistant.stores.events import EVENTS_TABLE
from assistant.stores.ports import Index
from assistant.stores.records import RECORDS, RECORDS_TABLE, StoredRecords
from assistant.stores.store import BlobsOf, Kept, LockOf, Primitive, QueueOf, Store, Stores, TableOf, WordsOf
from assistant.stores.words import FileWords
from assistant.tenant.tenant import TenantConfig, TenantFiles, load_tenants

if TYPE_CHECKING:
    from assistant.stores.dynamodb_table import DynamoDbTable
    from assistant.stores.index.embedded import EmbeddedIndex
    from assistant.stores.sqlite_table import SqliteTable

Opened = TypeVar("Opened")

_log = structlog.get_logger(__name__)


@runtime_checkable
class Closing(Protocol):
    """A store that has connections, files or tasks of its own: its opener calls ``close`` at the end."""

    async def close(self) -> None: ...


class AwsStores:
    """The stores of one tenant on AWS, each opened when it is first asked for and closed with ``stack``."""

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
        self._opened: dict[Primitive[Any] | Store[Any, Any] | str, Any] = {}
        """By primitive or store; tables by their setting, so that stores of one table share it and their
        inserts go out together."""

    async def of(self, store: Store[Any, Kept] | Primitive[Kept]) -> Kept:
        key = store.setting if isinstance(store, TableOf) else store
        if key not in self._opened:
            self._opened[key] = opened = await self._open(store)
            if isinstance(opened, Closing):
                self._stack.push_async_callback(opened.close)
        return self._opened[key]

    async def _open(self, store: Store[Any, Any] | Primitive[Any]) -> Any:
        match store:
            case Store():
                return store.make(await self.of(store.over), self._clock)
            case TableOf():
                from assistant.stores.dynamodb_table import DynamoDbTable

                client, name = await self._clients.aws("dynamodb"), self._name(store.setting)
                return DynamoDbTable(client, name=name, unavailable=store.unavailable)
            case QueueOf():
                from assistant.stores.sqs_queue import SqsIngestionQueue

                return SqsIngestionQueue(await self._clients.aws("sqs"), queue_url=self._name(store.setting))
            case WordsOf():
                from assistant.process.aws import ParameterWords

                return ParameterWords(await self._clients.aws("ssm"), place=self._name(store.setting))
            case LockOf():
                return StoredWriteTurn(await self.of(STATES_TABLE), store, clock=self._clock)
            case BlobsOf():
                from assistant.stores.s3 import S3Blobs

                buckets = {prefix: self._name(setting) for prefix, setting in store.beside}
                return S3Blobs.of(
                    store,
                    await self._clients.aws("s3"),
                    bucket=self._name(store.setting),
                    kms_key_id=self._name(store.key_setting),
                    beside={prefix: bucket for prefix, bucket in buckets.items() if bucket},
                )
            case _:
                raise TypeError(store)

    def _name(self, setting: str) -> Any:
        """Return the value of a setting for this tenant; None or "" where it has none."""
        value = getattr(self._settings, setting, None)
        return value and str(value).replace("{tenant}", self._tenant)


async def knowledge_of(stores: Stores) -> KnowledgeStores:
    """Open the stores and queues of a tenant's documents."""
    return KnowledgeStores(
        documents=await stores.of(DOCUMENTS),
        states=await stores.of(STATES),
        queue=await stores.of(QUEUE),
        withdrawals=await stores.of(WITHDRAWALS),
    )


@asynccontextmanager
async def open_deployed(
    settings: StoreSettings, tenant: str
) -> AsyncGenerator[tuple[TenantConfig, AwsStores]]:
    """Open a deployed tenant: its file, as it is served, and its stores. Raises ConfigurationError,
    DependencyError."""
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(open_clients(settings))
        config = (await read_tenants(settings, clients)).one(tenant)
        yield config, AwsStores(clients, settings, stack=stack, tenant=tenant)


@dataclass(frozen=True, slots=True)
class DeployedAudit:
    """What the function ``close_audit_days`` works with."""

    records: StoredRecords
    digests: DayDigests
    metrics_service: str

    async def close(self) -> int:
        """Close days, as ``CloseDays.close``; it does not close the stores."""
        return await CloseDays(self.records, self.digests).close()


@asynccontextmanager
async def open_audit(settings: AuditSettings) -> AsyncGenerator[DeployedAudit]:
    """Open the records and digests of the function's tenant."""
    async with AsyncExitStack() as stack:
        stores = AwsStores(AwsClients(settings, stack), settings, stack=stack)
        yield DeployedAudit(await stores.of(RECORDS), await stores.of(DIGESTS), settings.metrics_service)


async def read_tenants(settings: StoreSettings, clients: ProcessClients) -> TenantFiles:
    """Return every tenant of ``tenants_dir`` as it is served. The file of ``tenant_file_s3`` is downloaded
    into that folder first.

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
    """Return what ``open_one`` opened of each tenant, by name, and the error of each tenant that could not be
    opened.

    Such a tenant is logged and left out. But its ConfigurationError is raised where tenants are ``required``,
    or it is the only one; and one is raised where no tenant could be opened.
    """
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
    from assistant.stores.sqlite_file import refuse_files

    await asyncio.to_thread(refuse_files, settings.state_dir / "tenants" / tenant)


def _log_not_served(tenant: str, error: AssistantError, *, at: Literal["reading", "opening"]) -> None:
    _log.warning("tenant_not_served", tenant=tenant, reason=error.message, at=at)


class EmbeddedTenant:
    """The embedded stores of one tenant under ``folder`` (``<state>/tenants/<tenant>``).

    They open on first use, and ``close`` closes them.
    """

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        self.folder = folder
        self._clock = clock or SystemClock()
        self._opened: dict[Primitive[Any] | Store[Any, Any] | str, Any] = {}
        """By primitive or store; tables by their file, so that stores of one file share its table."""

    async def of(self, store: Store[Any, Kept] | Primitive[Kept]) -> Kept:
        return self.get(store)

    def get(self, store: Store[Any, Kept] | Primitive[Kept]) -> Kept:
        """Return a store, or a primitive by itself; each is opened once. As ``of``, without awaiting."""
        key = store.file if isinstance(store, TableOf) else store
        if key not in self._opened:
            self._opened[key] = self._open(store)
        return self._opened[key]

    def _open(self, store: Store[Any, Any] | Primitive[Any]) -> Any:
        match store:
            case Store():
                return store.make(self.get(store.over), self._clock)
            case TableOf():
                from assistant.stores.sqlite_table import SqliteTable

                return SqliteTable(
                    self.folder / store.file,
                    unavailable=store.unavailable,
                    append_only=store.append_only,
                    overwrites=store.overwrites,
                    synced=store.synced,
                )
            case QueueOf():
                from assistant.stores.sqlite_queue import SqliteIngestionQueue

                return SqliteIngestionQueue(self.folder / "queue.sqlite", name=store.name)
            case WordsOf():
                return FileWords(self.folder / store.place)
            case LockOf():
                from assistant.stores.index.embedded_files import FileTurn

                return FileTurn(self.folder / store.file, late=store.late_here, waits_s=store.waits_s)
            case BlobsOf(what=what, synced=synced, events=events):
                queue = None if events is None else self.get(events)
                return FolderBlobs(self.folder / store.folder, what=what, synced=synced, events=queue)
            case _:
                raise TypeError(store)

    @property
    def knowledge(self) -> KnowledgeStores:
        """The stores and queues of the tenant's documents."""
        return KnowledgeStores(self.get(DOCUMENTS), self.get(STATES), self.get(QUEUE), self.get(WITHDRAWALS))

    @cached_property
    def passage_index(self) -> EmbeddedIndex:
        from assistant.stores.index.embedded import EmbeddedIndex

        return EmbeddedIndex(self.folder / "index")

    async def close(self) -> None:
        if "passage_index" in vars(self):  # cached_property: only where it was opened
            await self.passage_index.close()
        for opened in reversed(self._opened.values()):  # a store before the table that it is over
            if isinstance(opened, Closing):
                await opened.close()


def embedded_tenant(tenant: str, *, state_dir: Path, clock: Clock | None = None) -> EmbeddedTenant:
    """Return a tenant's embedded stores in the state folder."""
    keep_private(state_dir)
    return EmbeddedTenant(state_dir / "tenants" / tenant, clock=clock)


@asynccontextmanager
async def open_stores(tenant: TenantConfig, *, state_dir: Path) -> AsyncGenerator[EmbeddedTenant]:
    """Open one tenant's embedded stores, without any other process."""
    stores = embedded_tenant(tenant.name, state_dir=state_dir)
    try:
        yield stores
    finally:
        await stores.close()


@asynccontextmanager
async def open_embedded(
    settings: StoreSettings,
    open_one: Callable[[TenantConfig, EmbeddedTenant, AsyncExitStack], Awaitable[Opened]],
) -> AsyncGenerator[list[Opened]]:
    """Open something of every tenant of ``tenants_dir`` by ``open_one``, which gets the tenant's embedded
    stores and the stack that closes them at the end of the block. Tenants that cannot be opened are logged
    and left out.

    An empty list where the stores are AWS's: there functions do this work. Raises ConfigurationError.
    """
    opened: dict[str, Opened] = {}
    async with AsyncExitStack() as stack:
        if settings.stores == "embedded":
            files = await read_tenants(settings, ProcessClients(settings, stack))

            async def open_stores_of(tenant: TenantConfig) -> Opened:
                await refuse_files_of(tenant.name, settings)
                stores = embedded_tenant(tenant.name, state_dir=settings.state_dir)
                stack.push_async_callback(stores.close)
                return await open_one(tenant, stores, stack)

            opened, _ = await open_each(files.tenants, open_stores_of, settings=settings, required=False)
        yield list(opened.values())


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """One tenant's stores: each embedded or on AWS, as the settings say, opened when it is first asked for
    and closed with ``stack``. Words are on AWS where their setting has a value, other stores where
    ``settings.stores`` is "aws"."""

    tenant: TenantConfig
    settings: StoreSettings
    clients: ProcessClients
    stack: AsyncExitStack
    clock: Clock
    aws: AwsStores
    embedded: EmbeddedTenant

    async def of(self, store: Store[Any, Kept] | Primitive[Kept]) -> Kept:
        primitive = store if isinstance(store, Primitive) else store.over
        if isinstance(primitive, WordsOf):
            is_aws = getattr(self.settings, primitive.setting) is not None
        else:
            is_aws = self.settings.stores == "aws"
        if is_aws:
            return await self.aws.of(store)
        if isinstance(primitive, TableOf) and primitive.expires:
            # Deletes expired items while this process runs; repeated calls change nothing.
            cast("SqliteTable", self.embedded.get(primitive)).begin_sweep()
        return self.embedded.get(store)

    async def index(self) -> Index:
        """Return what opens the versions of the tenant's index."""
        if self.settings.search == "embedded":
            return self.embedded.passage_index
        from assistant.stores.index.opensearch_search import OpenSearchIndex

        alias = self.settings.of_tenant(self.settings.opensearch_index, self.tenant)
        copies = self.tenant.index
        return OpenSearchIndex(
            client=await self.clients.opensearch(),
            alias=alias,
            shards=copies.shards,
            replicas=copies.replicas,
            clock=self.clock,
        )

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
                await cast("DynamoDbTable", await self.aws.of(table)).refuse_format(name)
            except DependencyError as error:  # a process starts without its stores; a deployment asks too
                _log.warning("store_format_unknown", store=name, error=error.message)

        await asyncio.gather(*(refuse(name, table) for name, table in tables.items()))
