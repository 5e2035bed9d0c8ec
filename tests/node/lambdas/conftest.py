"""One tenant's things on AWS, for functions that are called as Lambda calls them."""

from __future__ import annotations

import asyncio
import importlib
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from opensearchpy import AsyncOpenSearch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import BertPreTokenizer

from assistant.documents.withdraw import WithdrawDocuments
from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentStatus, IndexModel
from assistant.process.aws import AwsService, open_client
from assistant.process.settings import IngestingSettings, ProcessSettings, ReceivingSettings, RemovingSettings
from assistant.service.function import FunctionEntry
from assistant.stores.documents import KnowledgeStores, StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.index.opensearch_client import call, open_opensearch
from assistant.stores.index.opensearch_schema import PassageSchema, apply_schema
from assistant.stores.sqs_queue import SqsIngestionQueue
from assistant.tenant.deployed_names import RECORDS, STATES
from tests.stage.aws_server import REGION, put_parameter
from tests.stage.emulated_aws import create_documents_bucket, create_queue, create_table, documents_in
from tests.stage.lambda_events import Context, sqs_event
from tests.stage.opensearch_node import delete_index
from tests.stage.sagemaker_runtime import DIMENSIONS, SageMakerSocket, sagemaker_socket

KEY = "clinic-llm/primary/2026/11/20/12/calls.jsonl"


RAW = json.dumps(
    {
        "captureData": {"endpointInput": {"data": '{"model": "m"}', "encoding": "JSON"}},
        "eventMetadata": {"eventId": "e1", "customAttributes": ["Mrs Doe"]},
    }
).encode()


MODEL = "tiny-embedding"
TENANT_FILE = f"""
schema_version = 1
name = "clinic"
display_name = "Clinic"
labels = ["hr"]
[[sources]]
name = "handbook"
access = "everyone"
namespace = ""
[[sources]]
name = "intranet"
access = "folder"
folders = {{ "" = ["hr"] }}
[[sources]]
name = "team"
access = "declared"
[embedding]
endpoint = "clinic-embedding"
model = "{MODEL}"
dimensions = {DIMENSIONS}
"""
SCHEMA = PassageSchema(model=IndexModel(MODEL, DIMENSIONS, "d1"))


def entry_of(
    module: str, settings: type[ProcessSettings], given: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> FunctionEntry[Any, Any]:
    """Return a function's entry, and set the environment that the stack would give it."""
    for name, value in settings.variables(given).items():
        monkeypatch.setenv(name, value)
    return importlib.import_module(f"lambdas.{module}").handle


async def called_once(entry: FunctionEntry[Any, Any], event: Mapping[str, Any]) -> Any:
    """Call a function as Lambda does, and close what it opened."""
    try:
        return await asyncio.to_thread(entry, event, Context())
    finally:
        await asyncio.to_thread(entry.close)


@dataclass
class Deployment:
    aws_url: str
    opensearch_url: str
    sagemaker: SageMakerSocket
    monkeypatch: pytest.MonkeyPatch
    folder: Path
    prefix: str = field(default_factory=lambda: f"f{uuid.uuid4().hex[:12]}")
    clients: dict[AwsService, Any] = field(default_factory=dict[AwsService, Any])
    opensearch: AsyncOpenSearch | None = None
    entries: list[FunctionEntry[Any, Any]] = field(default_factory=list[FunctionEntry[Any, Any]])

    def named(self, what: str) -> str:
        return f"{self.prefix}-{what}"

    def queue_url(self, what: str) -> str:
        return f"{self.aws_url}/123456789012/{self.named(what)}"

    def function(self, module: str, settings: type[ProcessSettings], given: Mapping[str, Any]) -> Any:
        """Return the deployed handler, with the environment that the stack would give it."""
        entry = entry_of(module, settings, given, self.monkeypatch)
        self.entries.append(entry)

        async def handle(event: Mapping[str, Any], context: Context | None = None) -> Any:
            return await asyncio.to_thread(entry, event, context or Context())

        return handle

    def receiving(self) -> Callable[..., Any]:
        given = {
            "region": REGION,
            "aws_endpoint_url": self.aws_url,
            "documents_bucket": self.named("documents"),
            "states_table": self.named("states"),
            "ingestion_queue_url": self.queue_url("ids"),
            "bulk_queue_url": self.queue_url("bulk"),
            "withdrawals_queue_url": self.queue_url("withdrawals"),
            "tenant_file_s3": f"s3://{self.named('artifacts')}/3fa9.toml",
            "tenants_dir": str(self.folder / "tenants"),
            "inbox_bucket": self.named("inbox"),
            "records_table": self.named("records"),
            "metrics_service": "test",
        }
        return self.function("receive_documents", ReceivingSettings, given)

    def ingesting(self) -> Callable[..., Any]:
        given = self._index_settings() | {
            "bulk_queue_url": self.queue_url("bulk"),
            "power_parameter": f"/{self.prefix}/power",
            "metrics_service": "test",
        }
        return self.function("ingest_documents", IngestingSettings, given)

    def removing(self, module: str) -> Callable[..., Any]:
        return self.function(module, RemovingSettings, self._index_settings())

    def _index_settings(self) -> dict[str, Any]:
        return {
            "region": REGION,
            "aws_endpoint_url": self.aws_url,
            "tenant_file_s3": f"s3://{self.named('artifacts')}/3fa9.toml",
            "tenants_dir": str(self.folder / "tenants"),
            "state_dir": str(self.folder / "state"),
            "model_artifacts_dir": str(self.folder / "models"),
            "model_artifacts_s3": f"s3://{self.named('artifacts')}/callers/",
            "sagemaker_endpoint_url": self.sagemaker.url,
            "stores": "aws",
            "search": "opensearch",
            "documents_bucket": self.named("documents"),
            "states_table": self.named("states"),
            "ingestion_queue_url": self.queue_url("ids"),
            "withdrawals_queue_url": self.queue_url("withdrawals"),
            "opensearch_url": self.opensearch_url,
            "opensearch_index": self.named("passages"),
            "opensearch_auth": "none",
        }

    async def put_raw(self, key: str, content: bytes) -> str:
        """Return the version; empty where the bucket keeps none."""
        done = await self.clients["s3"].put_object(Bucket=self.named("inbox"), Key=key, Body=content)
        return str(done.get("VersionId", ""))

    async def set_power(self, word: str) -> None:
        await put_parameter(self.clients["ssm"], name=f"/{self.prefix}/power", value=word)

    async def withdraw(self, document_id: str) -> None:
        """Withdraw it as the service does."""
        sqs = self.clients["sqs"]
        states_table = DynamoDbTable(self.clients["dynamodb"], name=self.named("states"))
        states = StoredStates(states_table)
        stores = KnowledgeStores(
            documents=documents_in(self.clients["s3"], bucket=self.named("documents")),
            states=states,
            queue=SqsIngestionQueue(sqs, queue_url=self.queue_url("ids")),
            withdrawals=SqsIngestionQueue(sqs, queue_url=self.queue_url("withdrawals")),
        )
        await WithdrawDocuments(stores, clock=SystemClock())([document_id])
        await states_table.close()

    async def messages(self, queue: str) -> list[str]:
        """Take everything that can be received now, and return the bodies."""
        found = await self.clients["sqs"].receive_message(
            QueueUrl=self.queue_url(queue), MaxNumberOfMessages=10
        )
        for message in found.get("Messages", ()):
            await self.clients["sqs"].delete_message(
                QueueUrl=self.queue_url(queue), ReceiptHandle=message["ReceiptHandle"]
            )
        return [message["Body"] for message in found.get("Messages", ())]

    async def delayed(self, queue: str) -> int:
        """Return the number of delayed messages."""
        name = "ApproximateNumberOfMessagesDelayed"
        found = await self.clients["sqs"].get_queue_attributes(
            QueueUrl=self.queue_url(queue), AttributeNames=[name]
        )
        return int(found["Attributes"][name])

    async def event(self, queue: str) -> dict[str, Any]:
        """Return what is in a queue as the event that Lambda would make of it."""
        return sqs_event(self.named(queue), await self.messages(queue))

    async def status(self, document_id: str) -> DocumentStatus | None:
        states_table = DynamoDbTable(self.clients["dynamodb"], name=self.named("states"))
        states = StoredStates(states_table)
        try:
            return await states.get(document_id)
        finally:
            await states_table.close()

    async def found(self) -> list[str]:
        """Return the documents of the passages that a search finds."""
        assert self.opensearch is not None
        request = f"POST /{self.named('passages')}/_search"
        hits = await call(
            self.opensearch,
            request,
            body={"size": 100, "query": {"match_all": {}}, "docvalue_fields": ["document_id"]},
            timeout_s=30,
        )
        return sorted({hit["fields"]["document_id"][0] for hit in hits["hits"]["hits"]})


def message(document_id: str) -> str:
    return json.dumps({"schema_version": 1, "document_id": document_id})


@asynccontextmanager
async def deployed(
    *, aws_url: str, opensearch_url: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> AsyncGenerator[Deployment]:
    async with AsyncExitStack() as stack:
        sagemaker = await stack.enter_async_context(sagemaker_socket())
        made = Deployment(aws_url, opensearch_url, sagemaker, monkeypatch, folder)
        services: Sequence[AwsService] = ("s3", "sqs", "dynamodb", "ssm")
        for service in services:
            opening = open_client(service, region=REGION, endpoint_url=aws_url)
            made.clients[service] = await stack.enter_async_context(opening)
        made.opensearch = await stack.enter_async_context(open_opensearch(url=opensearch_url, auth="none"))
        await _make(made)
        try:
            yield made
        finally:
            for entry in made.entries:
                await asyncio.to_thread(entry.close)
            await delete_index(made.opensearch, alias=made.named("passages"))


async def _make(made: Deployment) -> None:
    s3 = made.clients["s3"]
    for bucket in ("documents", "inbox", "artifacts"):
        await create_documents_bucket(s3, bucket=made.named(bucket))
    for queue in ("ids", "bulk", "withdrawals"):
        await create_queue(made.clients["sqs"], name=made.named(queue))
    for table in (STATES, RECORDS):
        await create_table(made.clients["dynamodb"], table, name=made.named(table.role))
    await put_parameter(made.clients["ssm"], name=f"/{made.prefix}/power", value="on")
    facts = {"schema_version": 1, "model": MODEL, "digest": "d1", "max_input_tokens": 256}
    objects = {
        "3fa9.toml": TENANT_FILE.encode(),
        f"callers/{MODEL}/artifact.json": orjson.dumps(facts),
        f"callers/{MODEL}/tokenizer.json": word_tokenizer(),
    }
    for key, content in objects.items():
        await s3.put_object(Bucket=made.named("artifacts"), Key=key, Body=content)
    assert made.opensearch is not None
    await apply_schema(made.opensearch, alias=made.named("passages"), schema=SCHEMA)


def word_tokenizer() -> bytes:
    """A tokenizer whose tokens are words and marks."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer.to_str().encode()


@pytest.fixture
async def deployment(
    aws_server_url: str, opensearch_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Deployment]:
    async with deployed(
        aws_url=aws_server_url, opensearch_url=opensearch_url, monkeypatch=monkeypatch, folder=tmp_path
    ) as made:
        yield made
