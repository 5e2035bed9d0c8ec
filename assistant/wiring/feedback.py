"""Builds the mover of feedback: of each tenant in the local worker's process, and of the function's one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from assistant.document_links import local_secret
from assistant.knowledge.reading import ReadableDocuments
from assistant.learning.feedback_store import StoredFeedback
from assistant.learning.mover import MoveFeedback, MoverStores
from assistant.learning.signals import Signals
from assistant.settings.process import StoreSettings
from assistant.settings.tenant import TenantConfig
from assistant.wiring.stores import EmbeddedTenant, embedded_tenant, open_clients, open_each, read_tenants


@asynccontextmanager
async def open_movers(settings: StoreSettings) -> AsyncGenerator[Sequence[MoveFeedback]]:
    """Open the mover of every tenant of the folder, over its embedded stores.

    None where stores are AWS's: there a function moves. Raises ConfigurationError.
    """
    if settings.stores != "embedded":
        yield []
        return
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(open_clients(settings))
        files = await read_tenants(settings, clients)

        async def open_one(tenant: TenantConfig) -> MoveFeedback:
            stores = embedded_tenant(tenant, state_dir=settings.state_dir)
            stack.push_async_callback(stores.close)
            return embedded_mover(tenant, settings, stores)

        yield list((await open_each(files.tenants, open_one, settings=settings, required=False)).values())


def embedded_mover(tenant: TenantConfig, settings: StoreSettings, stores: EmbeddedTenant) -> MoveFeedback:
    """Return the mover over a tenant's embedded stores. Raises ConfigurationError."""
    knowledge = stores.knowledge
    return MoveFeedback(
        MoverStores(
            outbox=stores.outbox,
            records=stores.records,
            texts=ReadableDocuments(knowledge.documents, states=knowledge.states),
            keys=stores.erasure_keys,
            feedback=embedded_feedback(tenant, stores),
        ),
        signals=local_signals(tenant, settings),
    )


def embedded_feedback(tenant: TenantConfig, stores: EmbeddedTenant) -> StoredFeedback:
    return StoredFeedback(stores.feedback_files, tenant=tenant.name, keys=stores.erasure_keys)


def local_signals(tenant: TenantConfig, settings: StoreSettings) -> Signals:
    """Return what makes events, with the key of pseudonyms that the tenant file names. Raises
    ConfigurationError."""
    secret = local_secret(
        tenant.feedback.pseudonyms,
        tenant=tenant.name,
        key="feedback.pseudonyms",
        tenants_dir=settings.tenants_dir,
        state_dir=settings.state_dir,
    )
    return Signals(tenant, secret=secret)
