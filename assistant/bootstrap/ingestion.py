"""What the ingestion worker works with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from assistant.adapters.model_artifacts import TOKENIZER_FILE, read_model_facts
from assistant.bootstrap.artifacts import fetch_artifacts, read_tenants
from assistant.bootstrap.clients import ProcessClients, open_clients
from assistant.bootstrap.stores import StoreChoice
from assistant.domain.clock import Clock, SystemClock
from assistant.settings import TenantConfig, WorkerSettings

if TYPE_CHECKING:
    from assistant.ingesting.ports import PassageIndex
    from assistant.ingesting.worker import TenantIngestion


@asynccontextmanager
async def open_ingestion(
    settings: WorkerSettings, *, clients: ProcessClients | None = None, clock: Clock | None = None
) -> AsyncGenerator[Sequence[TenantIngestion]]:
    """Open what the worker needs of every tenant of the folder, over one client a service; over ``clients``
    when given.

    Raises ConfigurationError naming file and key or variables, also when the embedding model's artifact is
    missing.
    """
    async with AsyncExitStack() as stack:
        clients = clients or await stack.enter_async_context(open_clients(settings))
        tenants = await read_tenants(settings, clients)
        await fetch_artifacts(settings, clients, {tenant.embedding.model for tenant in tenants.values()})
        opened: list[TenantIngestion] = []
        for tenant in tenants.values():
            model = read_model_facts(settings.model_artifacts_dir, tenant.embedding.model)
            stores = StoreChoice(tenant, settings, model, clients, stack, clock or SystemClock())
            opened.append(await _ingestion(tenant, stores, await stores.index(settings), clients))
        yield opened


async def _ingestion(
    tenant: TenantConfig, stores: StoreChoice, index: PassageIndex, clients: ProcessClients
) -> TenantIngestion:
    from assistant.adapters.aws.sagemaker_embedder import SageMakerEmbedder
    from assistant.ingesting.embedding import BatchEmbedder
    from assistant.ingesting.passages import PassageCutter, TokenCounts
    from assistant.ingesting.worker import TenantIngestion
    from assistant.text.language import language

    embedding = tenant.embedding
    embedder = SageMakerEmbedder(
        await clients.sagemaker(), endpoint=embedding.endpoint, dimensions=embedding.dimensions
    )
    tokenizer = stores.settings.model_artifacts_dir / embedding.model / TOKENIZER_FILE
    return TenantIngestion(
        tenant=tenant.name,
        stores=await stores.knowledge(),
        index=index,
        embedder=BatchEmbedder(embedder, clock=stores.clock),
        cutter=PassageCutter(
            TokenCounts.load(tokenizer),
            max_tokens=embedding.max_tokens,
            language=language(tenant.language),
        ),
        clock=stores.clock,
        index_writes=await stores.index_writes(),
    )
