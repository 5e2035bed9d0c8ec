"""Builds the connectors of a tenant's sources, and their runs on this machine (``task.py`` builds those on
AWS)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.documents.receive import AddDocuments
from assistant.documents.sources import KnowledgeSource, KnowledgeSources
from assistant.domain.clock import SystemClock
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.options.sources.run import SOURCE_RUNS, StoredTarget, SyncSource, turn_of
from assistant.options.sources.section import AnyConnector, MediaWikiConnector, SqlConnector, connector_of
from assistant.process.settings import StoreSettings
from assistant.stores.opened import EmbeddedTenant, open_embedded
from assistant.stores.records import RECORDS
from assistant.tenant.tenant import TenantConfig

if TYPE_CHECKING:
    from assistant.options.sources.connector import Connector

ReadPassword = Callable[[str], Awaitable[str]]
"""Returns the secret that a connector's ``secret`` names, such as "state:wiki". Raises ConfigurationError,
DependencyError."""


@dataclass(frozen=True, slots=True)
class LocalSecrets:
    """``ReadPassword`` from files of this machine: "file:PATH" beside the tenant file, or "state:NAME" in the
    state folder's secrets/<tenant>."""

    tenant: str
    tenants_dir: Path
    state_dir: Path

    async def __call__(self, name: str) -> str:
        from assistant.process.private_files import file_secret

        scheme, _, rest = name.partition(":")
        if scheme == "secretsmanager" or (scheme == "state" and "/" in rest):
            raise ConfigurationError(f"secret = {name}: on this machine give file:PATH or state:NAME.")
        folder = self.tenants_dir if scheme == "file" else self.state_dir / "secrets" / self.tenant
        return (await file_secret(folder / rest)).decode()


@asynccontextmanager
async def open_connector(settings: AnyConnector, password: ReadPassword) -> AsyncGenerator[Connector]:
    """Yield the connector of these settings, and close it. Raises ConfigurationError, and as ``password``."""
    secret = None if settings.secret is None else await password(settings.secret)
    connector: Connector
    if isinstance(settings, SqlConnector):
        from assistant.options.sources.sql import SqlRows

        connector = SqlRows(settings, password=secret)
    elif isinstance(settings, MediaWikiConnector):
        from assistant.options.sources.mediawiki import MediaWikiPages

        connector = MediaWikiPages(settings, password=secret, clock=SystemClock())
    else:
        from assistant.options.sources.confluence import ConfluencePages

        connector = ConfluencePages(settings, secret=secret or "")
    try:
        yield connector
    finally:
        await connector.close()


def sync_of(stores: EmbeddedTenant, source: KnowledgeSource, password: ReadPassword) -> SyncSource:
    """Return the run of a source over embedded stores. Raises NotFoundError for one without a connector."""
    settings, clock = connector_of(source.entry), SystemClock()
    if settings is None:
        raise NotFoundError(
            f"The source {source.name} has no connector. Write one: assistant/options/sources/connectors.md."
        )
    add = AddDocuments(stores.knowledge, clock=clock, accesses=stores.get(RECORDS))
    return SyncSource(
        source,
        connect=partial(open_connector, settings, password),
        open_target=partial(nullcontext, StoredTarget(source, stores.knowledge, add, clock)),
        runs=stores.get(SOURCE_RUNS),
        turn=stores.get(turn_of(source.name)),
        clock=clock,
        every_minutes=settings.every_minutes,
    )


@asynccontextmanager
async def open_syncs(settings: StoreSettings) -> AsyncGenerator[list[SyncSource]]:
    """Open the runs of all sources with a connector, of every tenant of the folder, over embedded stores.
    Empty where stores are AWS's. Raises ConfigurationError."""

    async def open_one(
        tenant: TenantConfig, stores: EmbeddedTenant, _stack: AsyncExitStack
    ) -> list[SyncSource]:
        secrets = LocalSecrets(tenant.name, settings.tenants_dir, settings.state_dir)
        return [sync_of(stores, source, secrets) for source in connected_sources(tenant)]

    async with open_embedded(settings, open_one) as opened:
        yield [sync for syncs in opened for sync in syncs]


def connected_sources(tenant: TenantConfig) -> list[KnowledgeSource]:
    """Return the sources that have a connector."""
    return [source for source in KnowledgeSources.of(tenant).all if connector_of(source.entry) is not None]
