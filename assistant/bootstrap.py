"""The only place that chooses adapters: builds what each process needs from its settings.

Adapters are imported where they are chosen, and engines by their adapter on first use: a process pays only
for what it uses.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.adapters.link_secrets import link_secret
from assistant.adapters.model_artifacts import (
    TOKENIZER_FILE,
    FileTokenCounter,
    ModelFacts,
    read_model_facts,
    served_generation_model,
)
from assistant.adapters.signed_links import SignedDocumentLinks
from assistant.domain.clock import Clock, SystemClock
from assistant.ingesting.add_documents import AddDocuments
from assistant.ingesting.stores import KnowledgeStores
from assistant.ingesting.withdraw_documents import WithdrawDocuments
from assistant.settings import ServiceSettings, TenantConfig, WorkerSettings, load_tenants

if TYPE_CHECKING:
    from assistant.adapters.aws.sagemaker_embedder import SageMakerEmbedder
    from assistant.adapters.aws.sagemaker_runtime import SageMakerRuntime
    from assistant.adapters.embedded.tenant import EmbeddedTenant
    from assistant.answering.answer_question import AnswerQuestion
    from assistant.answering.ports import AnswerLog, AnswerRecords, EndpointPower
    from assistant.answering.reading import AppendToAnswer, ReadAnswers
    from assistant.answering.services import TenantServices
    from assistant.ingesting.worker import TenantIngestion

_GATEWAY_KEY = "local"
"""The gateway wants a well-formed signature and knows no keys."""


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
    add_documents: AddDocuments
    withdraw_documents: WithdrawDocuments


@dataclass(frozen=True, slots=True)
class TenantStores:
    """What one tenant keeps: enough for commands that call no model."""

    knowledge: KnowledgeStores
    records: AnswerRecords


@asynccontextmanager
async def open_stores(tenant: TenantConfig, *, state_dir: Path) -> AsyncGenerator[TenantStores]:
    """Open one tenant's stores; no other process has to run."""
    async with _embedded_stores(tenant, state_dir=state_dir) as stores:
        yield TenantStores(knowledge=_knowledge(stores), records=stores.records)


@asynccontextmanager
async def open_ingestion(
    settings: WorkerSettings, *, clock: Clock | None = None
) -> AsyncGenerator[Sequence[TenantIngestion]]:
    """Open what the worker needs of every tenant of the folder, over one SageMaker client.

    Raises ConfigurationError naming file and key, also when the embedding model's artifact is missing.
    """
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(
            _runtime(endpoint_url=settings.sagemaker_endpoint_url, region=settings.region)
        )
        opened: list[TenantIngestion] = []
        for tenant in load_tenants(settings.tenants_dir).values():
            stores = await stack.enter_async_context(_indexed_stores(tenant, settings))
            ingestion = _ingestion(
                tenant,
                stores=stores,
                runtime=runtime,
                artifacts_dir=settings.model_artifacts_dir,
                clock=clock or SystemClock(),
            )
            opened.append(ingestion)
        yield opened


@asynccontextmanager
async def open_tenants(
    settings: ServiceSettings, *, generates: bool = True, clock: Clock | None = None
) -> AsyncGenerator[Mapping[str, ServedTenant]]:
    """Open every tenant of the folder, by name, over one SageMaker client.

    With ``generates`` false nothing is asked of the generation model's artifact: what only retrieves works
    before that model was ever started. Raises ConfigurationError naming file and key.
    """
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(
            _runtime(endpoint_url=settings.sagemaker_endpoint_url, region=settings.region)
        )
        opened: dict[str, ServedTenant] = {}
        for name, tenant in load_tenants(settings.tenants_dir).items():
            stores = await stack.enter_async_context(_indexed_stores(tenant, settings))
            wiring = _Wiring(tenant, settings, stores, runtime, clock or SystemClock())
            opened[name] = wiring.served(generates=generates)
        yield opened


@dataclass(frozen=True, slots=True)
class _Wiring:
    """The parts of one tenant on their way together."""

    tenant: TenantConfig
    settings: ServiceSettings
    stores: EmbeddedTenant
    runtime: SageMakerRuntime
    clock: Clock

    def served(self, *, generates: bool) -> ServedTenant:
        from assistant.answering.answer_question import AnswerQuestion
        from assistant.answering.reading import AppendToAnswer, ReadAnswers

        links = self._links()
        answering = self._answering(links, generates=generates)
        knowledge = _knowledge(self.stores)
        return ServedTenant(
            answering=answering,
            knowledge=knowledge,
            links=links,
            log=self.stores.log,
            power=self._power(),
            embedding_model=read_model_facts(self.settings.model_artifacts_dir, self.tenant.embedding.model),
            answer_question=AnswerQuestion(answering),
            read_answers=ReadAnswers(answering),
            append_to_answer=AppendToAnswer(answering),
            add_documents=AddDocuments(knowledge, clock=self.clock),
            withdraw_documents=WithdrawDocuments(knowledge, clock=self.clock),
        )

    def _answering(self, links: SignedDocumentLinks, *, generates: bool) -> TenantServices:
        from assistant.adapters.aws.sagemaker_generator import SageMakerGenerator
        from assistant.answering.services import ServedModel, TenantServices

        generation = self.tenant.generation
        artifacts_dir = self.settings.model_artifacts_dir
        unknown = ServedModel(generation.model, None, 0, 0)
        return TenantServices(
            tenant=self.tenant,
            embedder=_embedder(self.tenant, self.runtime),
            search=self.stores.search,
            generator=SageMakerGenerator(self.runtime, endpoint=generation.endpoint),
            token_counter=FileTokenCounter(artifacts_dir / generation.model / TOKENIZER_FILE),
            model=served_generation_model(artifacts_dir, generation.model) if generates else unknown,
            records=self.stores.records,
            links=links,
            clock=self.clock,
        )

    def _power(self) -> EndpointPower:
        from assistant.adapters.embedded.power import FilePower

        path = self.settings.state_dir / "tenants" / self.tenant.name / "power"
        return FilePower(path, clock=self.clock)

    def _links(self) -> SignedDocumentLinks:
        secret = link_secret(
            self.tenant, tenants_dir=self.settings.tenants_dir, state_dir=self.settings.state_dir
        )
        return SignedDocumentLinks(tenant=self.tenant.name, secret=secret, clock=self.clock)


def _runtime(*, endpoint_url: str, region: str) -> AbstractAsyncContextManager[SageMakerRuntime]:
    from assistant.adapters.aws.sagemaker_runtime import open_sagemaker_runtime

    return open_sagemaker_runtime(
        region=region,
        endpoint_url=endpoint_url,
        access_key_id=_GATEWAY_KEY,
        secret_access_key=_GATEWAY_KEY,
    )


def _embedder(tenant: TenantConfig, runtime: SageMakerRuntime) -> SageMakerEmbedder:
    from assistant.adapters.aws.sagemaker_embedder import SageMakerEmbedder

    embedding = tenant.embedding
    return SageMakerEmbedder(runtime, endpoint=embedding.endpoint, dimensions=embedding.dimensions)


def _ingestion(
    tenant: TenantConfig,
    *,
    stores: EmbeddedTenant,
    runtime: SageMakerRuntime,
    artifacts_dir: Path,
    clock: Clock,
) -> TenantIngestion:
    from assistant.ingesting.embedding import BatchEmbedder
    from assistant.ingesting.passages import PassageCutter, TokenCounts
    from assistant.ingesting.worker import TenantIngestion

    counts = TokenCounts.load(artifacts_dir / tenant.embedding.model / TOKENIZER_FILE)
    return TenantIngestion(
        tenant=tenant.name,
        stores=_knowledge(stores),
        index=stores.index,
        embedder=BatchEmbedder(_embedder(tenant, runtime), clock=clock),
        cutter=PassageCutter(counts, max_tokens=tenant.embedding.max_tokens),
        clock=clock,
    )


def _indexed_stores(
    tenant: TenantConfig, settings: ServiceSettings | WorkerSettings
) -> AbstractAsyncContextManager[EmbeddedTenant]:
    """Stores with the index of the served weights: vectors of other weights are never compared with it."""
    facts = read_model_facts(settings.model_artifacts_dir, tenant.embedding.model)
    return _embedded_stores(tenant, state_dir=settings.state_dir, model_digest=facts.digest)


@asynccontextmanager
async def _embedded_stores(
    tenant: TenantConfig, *, state_dir: Path, model_digest: str = ""
) -> AsyncGenerator[EmbeddedTenant]:
    from assistant.adapters.embedded.tenant import EmbeddedTenant

    stores = EmbeddedTenant(
        state_dir / "tenants" / tenant.name,
        embedding_model=tenant.embedding.model,
        dimensions=tenant.embedding.dimensions,
        model_digest=model_digest,
    )
    try:
        yield stores
    finally:
        await stores.close()


def _knowledge(stores: EmbeddedTenant) -> KnowledgeStores:
    return KnowledgeStores(
        documents=stores.documents,
        states=stores.states,
        queue=stores.queue,
        withdrawals=stores.withdrawals,
    )
