"""What the ingestion worker works with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from assistant.adapters.model_artifacts import TOKENIZER_FILE, read_model_facts
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import ConfigurationError
from assistant.settings.process import WorkerSettings
from assistant.settings.tenant import TenantConfig
from assistant.wiring.artifacts import fetch_artifacts, not_served, read_tenants
from assistant.wiring.clients import ProcessClients, open_clients
from assistant.wiring.stores import StoreChoice

if TYPE_CHECKING:
    from assistant.knowledge.ports import PassageIndex
    from assistant.knowledge.worker import TenantIngestion


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
    from assistant.knowledge.embedding import BatchEmbedder
    from assistant.knowledge.parsed_documents import ParsingApart
    from assistant.knowledge.parsing_process import ParsingProcess
    from assistant.knowledge.passages import TokenCounts
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
