"""What the service offers: each tenant's adapters and use cases."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
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
from assistant.domain.errors import ConfigurationError
from assistant.knowledge.add_documents import AddDocuments
from assistant.knowledge.knowledge_sources import KnowledgeSources
from assistant.knowledge.readable import ReadableDocuments
from assistant.knowledge.stores import KnowledgeStores
from assistant.knowledge.withdraw_documents import WithdrawDocuments
from assistant.knowledge.withholding import WithholdDocuments
from assistant.settings.process import ServiceSettings
from assistant.settings.tenant import TenantConfig
from assistant.wiring.artifacts import fetch_artifacts, not_served, read_tenants
from assistant.wiring.clients import ProcessClients, open_clients
from assistant.wiring.stores import AnswerStores, StoreChoice

if TYPE_CHECKING:
    from assistant.answering.ports import AnswerLog, EndpointPower, LiveDocuments
    from assistant.answering.reading import AppendToAnswer, ReadAnswers
    from assistant.answering.services import TenantServices
    from assistant.answering.use_case import AnswerQuestion


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
        from assistant.aws.kms_secret import kms_link_secret

        ssm, kms = await self.clients.aws("ssm"), await self.clients.aws("kms")
        return await kms_link_secret(ssm=ssm, kms=kms, name=name, tenant=self.tenant.name)
