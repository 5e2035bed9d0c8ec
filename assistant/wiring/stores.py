"""The clients of one process: one a service of AWS, opened when first needed and shared by all tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from assistant.domain.clock import Clock
from assistant.domain.errors import AssistantError, DependencyError
from assistant.knowledge.ports import KnowledgeStores
from assistant.model_artifacts import ModelFacts
from assistant.settings.process import ServiceSettings, StoreSettings, WorkerSettings
from assistant.settings.tenant import TenantConfig, TenantFiles, load_tenants

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from assistant.answering.ports import AnswerLog, AnswerRecords, EndpointPower, PassageSearch
    from assistant.aws.clients import AwsService
    from assistant.aws.opensearch_schema import PassageSchema
    from assistant.aws.parameters import ParameterKeySource
    from assistant.aws.sagemaker import SageMakerRuntime
    from assistant.embedded.tenant import EmbeddedTenant
    from assistant.knowledge.ports import PassageIndex, WriteTurn


_GATEWAY_KEY = "local"
"""The gateway wants a well-formed signature and knows no keys."""


class ProcessClients:
    """Opens each client once. ``open_clients`` makes it and closes what it opened."""

    def __init__(self, settings: StoreSettings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._aws: dict[AwsService, Any] = {}
        self._opensearch: AsyncOpenSearch | None = None
        self._sagemaker: SageMakerRuntime | None = None

    async def aws(self, service: AwsService) -> Any:
        """Return the aiobotocore client of S3, DynamoDB, SQS, SSM or KMS."""
        from assistant.aws.clients import open_client

        if service not in self._aws:
            settings = self._settings
            opening = open_client(service, region=settings.region, endpoint_url=settings.aws_endpoint_url)
            self._aws[service] = await self._stack.enter_async_context(opening)
        return self._aws[service]

    async def opensearch(self) -> AsyncOpenSearch:
        from assistant.aws.opensearch_client import open_opensearch

        if self._opensearch is None:
            settings = self._settings
            opening = open_opensearch(
                url=settings.opensearch_url, auth=settings.opensearch_auth, region=settings.region
            )
            self._opensearch = await self._stack.enter_async_context(opening)
        return self._opensearch

    async def sagemaker(self) -> SageMakerRuntime:
        """Return the client of the SageMaker Runtime: AWS's own unless the settings name another.

        Credentials are the default chain's; an emulator gets a fixed key where the environment names none.
        On this machine itself it always does: no signature made for a loopback address could be meant for
        AWS, and an expired sign-in of the developer's own must not stop the local gateway.
        """
        from assistant.aws.sagemaker import open_sagemaker_runtime

        if self._sagemaker is None:
            url = self._settings.sagemaker_endpoint_url
            key = _GATEWAY_KEY if url is not None and is_on_this_machine(url) else None
            opening = open_sagemaker_runtime(
                region=self._settings.region, endpoint_url=url, access_key_id=key, secret_access_key=key
            )
            self._sagemaker = await self._stack.enter_async_context(opening)
        return self._sagemaker


@asynccontextmanager
async def open_clients(settings: StoreSettings) -> AsyncGenerator[ProcessClients]:
    """Share clients inside the block; nothing is opened before it is needed."""
    async with AsyncExitStack() as stack:
        yield ProcessClients(settings, stack)


def is_on_this_machine(url: str) -> bool:
    """Return whether the address is a loopback one; another name of this machine is not looked up."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return False


# What a process reads before it serves, from S3 where its settings say so: tenant file and artifacts.


_log = structlog.get_logger(__name__)


async def read_tenants(settings: StoreSettings, clients: ProcessClients) -> TenantFiles:
    """Return every tenant of ``tenants_dir`` as it is served, the one from ``tenant_file_s3`` among them.

    A wrong file is logged and stops no other tenant. Raises ConfigurationError naming file and key, object or
    variables; DependencyError when S3 does not answer.
    """
    if settings.tenant_file_s3 is not None:
        from assistant.aws.s3_files import download_tenant_file

        await download_tenant_file(
            await clients.aws("s3"), uri=settings.tenant_file_s3, into=settings.tenants_dir
        )
    files = load_tenants(settings.tenants_dir, only=settings.only_tenants)
    for name, error in files.refused.items():
        not_served(name, error)
    tenants = {name: settings.as_served(tenant) for name, tenant in files.tenants.items()}
    settings.check_tenants(tenants)
    return replace(files, tenants=tenants)


def not_served(tenant: str, error: AssistantError) -> None:
    """Log which tenant this process leaves out, and why; it goes on with the others."""
    _log.warning("tenant_not_served", tenant=tenant, reason=error.message)


async def fetch_artifacts(settings: StoreSettings, clients: ProcessClients, models: AbstractSet[str]) -> None:
    """Bring the models' artifacts into ``model_artifacts_dir``; nothing to do where they lie there already.

    Raises ConfigurationError naming the object, DependencyError when S3 does not answer.
    """
    if settings.model_artifacts_s3 is None:
        return
    from assistant.aws.s3_files import download_artifacts

    await download_artifacts(
        await clients.aws("s3"),
        prefix=settings.model_artifacts_s3,
        models=models,
        into=settings.model_artifacts_dir,
    )


# Chooses where the issuer's keys are read: its own address, or a parameter that carries them.


@asynccontextmanager
async def open_key_source(
    settings: ServiceSettings,
) -> AsyncGenerator[HttpKeySource | ParameterKeySource]:
    """Open the source that the settings name; they name exactly one."""
    if settings.jwks_parameter is None:
        yield HttpKeySource(str(settings.jwks_url))
        return
    from assistant.aws.clients import open_client
    from assistant.aws.parameters import ParameterKeySource

    async with open_client("ssm", region=settings.region, endpoint_url=settings.aws_endpoint_url) as client:
        yield ParameterKeySource(client, name=settings.jwks_parameter)


# The issuer's public keys from its JWKS address.


_LONGEST_BYTES = 256 * 1024


class HttpKeySource:
    """A ``KeySource`` of the address ``url``. It follows no redirect and no proxy of the environment."""

    def __init__(self, url: str, *, timeout_s: float = 3.0) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def fetch(self) -> bytes:
        try:
            return await self._download()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DependencyError(f"The issuer's keys cannot be had: {type(error).__name__}.") from None

    async def _download(self) -> bytes:
        async with (
            aiohttp.ClientSession(timeout=self._timeout, trust_env=False) as session,
            session.get(self._url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise DependencyError(f"The issuer's keys cannot be had: status {response.status}.")
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > _LONGEST_BYTES:
                    raise DependencyError("The issuer's keys cannot be had: what it sends is too large.")
            return bytes(body)


# Chooses one tenant's stores by the settings of its process: embedded ones, AWS's, or some of each.


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
        from assistant.aws.sqs import SqsIngestionQueue

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
            from assistant.embedded.files import FilePower

            path = settings.state_dir / "tenants" / self.tenant.name / "power"
            return FilePower(path, clock=self.clock)
        from assistant.aws.parameters import ParameterPower

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
        from assistant.aws.dynamodb_states import DynamoDbWriteTurn

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
        from assistant.embedded.tenant import EmbeddedTenant
        from assistant.private_files import keep_private

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


# For commands on this machine: one tenant's embedded stores, without any other process.


@dataclass(frozen=True, slots=True)
class TenantStores:
    """What one tenant keeps: enough for commands that call no model."""

    knowledge: KnowledgeStores
    records: AnswerRecords


@asynccontextmanager
async def open_stores(tenant: TenantConfig, *, state_dir: Path) -> AsyncGenerator[TenantStores]:
    """Open one tenant's stores under the state folder."""
    from assistant.embedded.tenant import EmbeddedTenant
    from assistant.private_files import keep_private

    keep_private(state_dir)
    embedded = EmbeddedTenant(
        state_dir / "tenants" / tenant.name,
        embedding_model=tenant.embedding.model,
        dimensions=tenant.embedding.dimensions,
    )
    try:
        yield TenantStores(knowledge=knowledge_of(embedded), records=embedded.records)
    finally:
        await embedded.close()
