"""Tenants whose stores are AWS's (tables, buckets and queues by moto, the index in a real OpenSearch node),
and the service over them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opensearchpy import AsyncOpenSearch

from assistant.documents.parsing import parse_document
from assistant.domain.documents import Document, IndexModel, MediaType
from assistant.process.aws import AwsService as ServiceName
from assistant.process.aws import create_link_secret, open_client
from assistant.process.settings import ServiceSettings
from assistant.stores.documents import StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.index.opensearch_client import open_opensearch
from assistant.stores.index.opensearch_schema import PassageSchema, apply_schema
from assistant.stores.index.opensearch_writer import OpenSearchPassageIndex
from assistant.stores.records import StoredRecords
from assistant.tenant.deployed_names import DESK, EVENTS, RECORDS, STATES, TABLES
from tests.contracts.samples import indexed
from tests.stage.aws_server import REGION, create_key, put_parameter
from tests.stage.emulated_aws import create_documents_bucket, create_queue, create_table, documents_in
from tests.stage.opensearch_node import delete_index
from tests.stage.running_service import (
    DIGEST,
    RunningService,
    Scene,
    live_status,
    passages_of,
    published_keys,
    service_on,
    service_settings,
)
from tests.stage.sagemaker_runtime import DIMENSIONS, sagemaker_socket, vector_of
from tests.stage.tokens import EC_KEY

SCHEMA = PassageSchema(model=IndexModel("tiny-embedding", DIMENSIONS, DIGEST))


@dataclass
class AwsTenants:
    """The things of some tenants, made under names that nobody else uses."""

    aws_url: str
    opensearch_url: str
    names: Sequence[str]
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")
    clients: dict[ServiceName, Any] = field(default_factory=dict[ServiceName, Any])
    opensearch: AsyncOpenSearch | None = None

    def named(self, what: str, tenant: str = "{tenant}") -> str:
        """Return the name of a thing of a tenant, or the template of it."""
        return f"{self.prefix}-{tenant}-{what}"

    def parameter(self, what: str, tenant: str = "{tenant}") -> str:
        return f"/{self.prefix}/{tenant}/{what}"

    def queue_url(self, what: str, tenant: str = "{tenant}") -> str:
        return f"{self.aws_url}/123456789012/{self.named(what, tenant)}"

    def settings(self, settings: ServiceSettings) -> ServiceSettings:
        """Return settings that keep everything here."""
        return settings.model_copy(
            update={
                "region": REGION,
                "stores": "aws",
                "search": "opensearch",
                "aws_endpoint_url": self.aws_url,
                "documents_bucket": self.named("documents"),
                "states_table": self.named(STATES.role),
                "records_table": self.named(RECORDS.role),
                "desk_table": self.named(DESK.role),
                "events_table": self.named(EVENTS.role),
                "ingestion_queue_url": self.queue_url("ingestion"),
                "withdrawals_queue_url": self.queue_url("withdrawals"),
                "opensearch_url": self.opensearch_url,
                "opensearch_index": self.named("passages"),
                "opensearch_auth": "none",
                "power_parameter": self.parameter("power"),
            }
        )

    def records(self, tenant: str) -> StoredRecords:
        return StoredRecords(DynamoDbTable(self.clients["dynamodb"], name=self.named(RECORDS.role, tenant)))

    async def make(self, tenant: str) -> None:
        """Make what a deployment makes."""
        dynamodb, kms, sqs = self.clients["dynamodb"], self.clients["kms"], self.clients["sqs"]
        for definition in TABLES:
            await create_table(dynamodb, definition, name=self.named(definition.role, tenant))
        key_id = await create_key(kms, alias=self.named("key", tenant))
        await create_documents_bucket(
            self.clients["s3"], bucket=self.named("documents", tenant), kms_key_id=key_id
        )
        for queue in ("ingestion", "withdrawals"):
            await create_queue(sqs, name=self.named(queue, tenant))
        await put_parameter(self.clients["ssm"], name=self.parameter("power", tenant), value="on")
        await create_link_secret(
            ssm=self.clients["ssm"],
            kms=kms,
            name=self.parameter("document-links", tenant),
            tenant=tenant,
            key_id=key_id,
        )
        await apply_schema(self._node(), alias=self.named("passages", tenant), schema=SCHEMA)

    async def know(
        self,
        document_id: str,
        text: str,
        *,
        tenant: str = "clinic",
        labels: tuple[str, ...] = (),
        media_type: MediaType = "text/plain",
    ) -> Document:
        """Make a document live, as the worker would."""
        document = Document(
            document_id=document_id,
            title=f"Title of {document_id}",
            content=text,
            media_type=media_type,
            source="handbook",
            labels=labels,
        )
        documents = documents_in(self.clients["s3"], bucket=self.named("documents", tenant))
        await documents.put(document)
        parsed = parse_document(document)
        await documents.put_parsed(document_id, document.content_hash(), parsed)
        passages = passages_of(document, parsed)
        vectors = [(passage, vector_of(passage.embedding_input)) for passage in passages]
        index = OpenSearchPassageIndex(self._node(), alias=self.named("passages", tenant), schema=SCHEMA)
        await index.replace_documents([indexed(*vectors)])
        states_table = DynamoDbTable(self.clients["dynamodb"], name=self.named(STATES.role, tenant))
        states = StoredStates(states_table)
        await states.put_many([live_status(document)])
        await states_table.close()
        return document

    async def forget(self, tenant: str) -> None:
        """Empty tables, bucket and index of a tenant, which is faster than making them anew; queues stay."""
        for definition in TABLES:
            await self._empty_table(self.named(definition.role, tenant))
        s3, bucket = self.clients["s3"], self.named("documents", tenant)
        listed = await s3.list_object_versions(Bucket=bucket)
        versions = [*listed.get("Versions", ()), *listed.get("DeleteMarkers", ())]
        if versions:
            objects = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in versions]
            await s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
        await self._node().delete_by_query(
            index=self.named("passages", tenant),
            body={"query": {"match_all": {}}},
            params={"refresh": "true"},
        )

    async def _empty_table(self, table: str) -> None:
        dynamodb = self.clients["dynamodb"]
        for item in (await dynamodb.scan(TableName=table, ConsistentRead=True))["Items"]:
            await dynamodb.delete_item(TableName=table, Key={name: item[name] for name in ("pk", "sk")})

    def _node(self) -> AsyncOpenSearch:
        assert self.opensearch is not None
        return self.opensearch


@asynccontextmanager
async def aws_tenants(
    *, aws_url: str, opensearch_url: str, names: Sequence[str]
) -> AsyncGenerator[AwsTenants]:
    """Make the tenants' things; their indices are removed in the end."""
    made = AwsTenants(aws_url, opensearch_url, names)
    async with _clients(made), open_opensearch(url=opensearch_url, auth="none") as made.opensearch:
        for name in names:
            await made.make(name)
        try:
            yield made
        finally:
            for name in names:
                await delete_index(made.opensearch, alias=made.named("passages", name))


@asynccontextmanager
async def _clients(made: AwsTenants) -> AsyncGenerator[None]:
    from contextlib import AsyncExitStack

    services: tuple[ServiceName, ...] = ("dynamodb", "s3", "sqs", "ssm", "kms")
    async with AsyncExitStack() as stack:
        for service in services:
            opening = open_client(service, region=REGION, endpoint_url=made.aws_url)
            made.clients[service] = await stack.enter_async_context(opening)
        yield


# --- the service ------------------------------------------------------------------------------------------
@dataclass
class AwsService(RunningService):
    """The service in this process, with every store on AWS."""

    aws: AwsTenants | None = None

    async def know(
        self,
        document_id: str,
        text: str,
        *,
        tenant: str = "clinic",
        labels: tuple[str, ...] = (),
        media_type: MediaType = "text/plain",
        original: tuple[str, bytes] | None = None,
    ) -> Document:
        assert original is None, "The contract suite of document stores covers originals."
        return await self.stores.know(document_id, text, tenant=tenant, labels=labels, media_type=media_type)

    @property
    def stores(self) -> AwsTenants:
        assert self.aws is not None
        return self.aws


@asynccontextmanager
async def aws_service(folder: Path, *, aws_url: str, opensearch_url: str) -> AsyncGenerator[AwsService]:
    """Serve two tenants that know nothing yet."""
    scene = Scene()
    async with AsyncExitStack() as stack:
        aws = await stack.enter_async_context(
            aws_tenants(aws_url=aws_url, opensearch_url=opensearch_url, names=scene.tenants)
        )
        sagemaker = await stack.enter_async_context(sagemaker_socket())
        jwks_url = await stack.enter_async_context(published_keys([EC_KEY]))
        settings = aws.settings(
            service_settings(folder, scene, sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        )
        key = await aws.clients["kms"].create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        settings = settings.model_copy(update={"receipt_key": key["KeyMetadata"]["Arn"]})
        made = await stack.enter_async_context(service_on(settings, scene, sagemaker))
        yield AwsService(
            made.url,
            sagemaker,
            made.tenants,
            made.state_dir,
            made.client,
            settings,
            made.operations_url,
            aws=aws,
        )
