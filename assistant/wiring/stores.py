"""Chooses one tenant's stores by the settings of its process: embedded ones, AWS's, or some of each."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.adapters.model_artifacts import ModelFacts
from assistant.domain.clock import Clock
from assistant.knowledge.stores import KnowledgeStores
from assistant.settings.process import ServiceSettings, StoreSettings, WorkerSettings
from assistant.settings.tenant import TenantConfig
from assistant.wiring.clients import ProcessClients

if TYPE_CHECKING:
    from assistant.answering.ports import AnswerLog, AnswerRecords, EndpointPower, PassageSearch
    from assistant.aws.opensearch_schema import PassageSchema
    from assistant.embedded.tenant import EmbeddedTenant
    from assistant.knowledge.ports import PassageIndex, WriteTurn


@dataclass(frozen=True, slots=True)
class AnswerStores:
    """What one tenant keeps of answers, wherever that is."""

    records: AnswerRecords
    log: AnswerLog


@dataclass(slots=True)
class StoreChoice:
    """One tenant's adapters, made as they are asked for and closed with ``stack``.

    Nothing of an engine is imported that the settings do not choose.
    """

    tenant: TenantConfig
    settings: StoreSettings
    model: ModelFacts
    """Of the served embedding weights: vectors of others are never compared with them."""
    clients: ProcessClients
    stack: AsyncExitStack
    clock: Clock
    _embedded: EmbeddedTenant | None = None

    async def knowledge(self) -> KnowledgeStores:
        if self.settings.stores == "embedded":
            return knowledge_of(self._embedded_tenant())
        from assistant.aws.dynamodb_states import DynamoDbDocumentStates
        from assistant.aws.s3_documents import S3DocumentStore
        from assistant.aws.sqs_queue import SqsIngestionQueue

        settings, sqs = self.settings, await self.clients.aws("sqs")
        states = DynamoDbDocumentStates(
            await self.clients.aws("dynamodb"), table=self._named(settings.states_table), clock=self.clock
        )
        self.stack.push_async_callback(states.close)
        return KnowledgeStores(
            documents=S3DocumentStore(
                await self.clients.aws("s3"),
                bucket=self._named(settings.documents_bucket),
                kms_key_id=settings.documents_key_id,
            ),
            states=states,
            queue=SqsIngestionQueue(sqs, queue_url=self._named(settings.ingestion_queue_url)),
            withdrawals=SqsIngestionQueue(sqs, queue_url=self._named(settings.withdrawals_queue_url)),
        )

    async def answers(self, settings: ServiceSettings) -> AnswerStores:
        if settings.stores == "embedded":
            embedded = self._embedded_tenant()
            return AnswerStores(records=embedded.records, log=embedded.log)
        from assistant.aws.dynamodb_log import DynamoDbAnswerLog
        from assistant.aws.dynamodb_records import DynamoDbAnswerRecords

        client = await self.clients.aws("dynamodb")
        records = DynamoDbAnswerRecords(client, table=self._named(settings.records_table), clock=self.clock)
        self.stack.push_async_callback(records.close)
        log = DynamoDbAnswerLog(client, table=self._named(settings.events_table), clock=self.clock)
        self.stack.push_async_callback(log.close)
        return AnswerStores(records=records, log=log)

    async def power(self, settings: ServiceSettings) -> EndpointPower:
        if settings.power_parameter is None:
            from assistant.embedded.power import FilePower

            path = settings.state_dir / "tenants" / self.tenant.name / "power"
            return FilePower(path, clock=self.clock)
        from assistant.aws.parameter_power import ParameterPower

        name = self._named(settings.power_parameter)
        power = ParameterPower(await self.clients.aws("ssm"), name=name, clock=self.clock)
        self.stack.push_async_callback(power.close)
        return power

    async def search(self) -> PassageSearch:
        """The index for readers."""
        if self.settings.search == "embedded":
            return self._embedded_tenant().search
        from assistant.aws.opensearch_search import OpenSearchPassageSearch

        client = await self.clients.opensearch()
        return OpenSearchPassageSearch(client, alias=self._alias(), schema=self._schema())

    async def index(self, settings: WorkerSettings) -> PassageIndex:
        """The index for its one writer, the worker."""
        if self.settings.search == "embedded":
            return self._embedded_tenant().index
        from assistant.aws.opensearch_index import OpenSearchPassageIndex

        return OpenSearchPassageIndex(
            await self.clients.opensearch(),
            alias=self._alias(),
            schema=self._schema(),
            applies_schema=settings.opensearch_applies_schema,
            clock=self.clock,
        )

    async def index_writes(self) -> WriteTurn:
        """The turn to write the index: on AWS other processes write it too."""
        if self.settings.stores == "embedded":
            return asyncio.Lock()
        from assistant.aws.dynamodb_write_turn import DynamoDbWriteTurn

        turn = DynamoDbWriteTurn(
            await self.clients.aws("dynamodb"),
            table=self._named(self.settings.states_table),
            clock=self.clock,
        )
        self.stack.push_async_callback(turn.close)
        return turn

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
        from assistant.adapters.private_files import keep_private
        from assistant.embedded.tenant import EmbeddedTenant

        if self._embedded is None:
            keep_private(self.settings.state_dir)
            self._embedded = EmbeddedTenant(
                self.settings.state_dir / "tenants" / self.tenant.name,
                embedding_model=self.tenant.embedding.model,
                dimensions=self.tenant.embedding.dimensions,
                model_digest=self.model.digest,
            )
            self.stack.push_async_callback(self._embedded.close)
        return self._embedded


def knowledge_of(embedded: EmbeddedTenant) -> KnowledgeStores:
    return KnowledgeStores(
        documents=embedded.documents,
        states=embedded.states,
        queue=embedded.queue,
        withdrawals=embedded.withdrawals,
    )
