"""A tenant's deployment as ``assistant learn --deployed`` finds it: stores by moto, the index in a real
OpenSearch node, and an embedding endpoint on a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.options.desk.feedback_store import FEEDBACK_FILES, TEXTS, StoredFeedback
from assistant.options.desk.settings import MovingSettings
from assistant.options.models_lab.settings import MakingSetsSettings
from assistant.process.aws import create_link_secret
from assistant.process.settings import PreparingSettings
from assistant.stores.desk import StoredDesk
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.events import StoredErasureKeys
from assistant.stores.records import StoredRecords
from assistant.stores.s3 import S3Blobs
from assistant.tenant.deployed_names import FEEDBACK_SECRET_PURPOSE
from tests.emulated_aws import create_documents_bucket
from tests.fakes.aws_server import REGION
from tests.fakes.aws_tenants import AwsTenants, aws_tenants
from tests.fakes.running_service import DIGEST
from tests.fakes.sagemaker_socket import DIMENSIONS, SageMakerSocket, sagemaker_socket
from tests.node.lambdas.deployment import called_once, entry_of, word_tokenizer

TENANT = "pharmacy"
TENANT_FILE = """
schema_version = 1
name = "pharmacy"
display_name = "Pharmacy"
[[sources]]
name = "handbook"
namespace = ""
access = "everyone"
kind = "catalogue"
deadline_s = 10.0
[[sources]]
name = "chatter"
access = "everyone"
kind = "community"
deadline_s = 10.0
[embedding]
endpoint = "pharmacy-embedding"
model = "tiny-embedding"
dimensions = {dimensions}
[generation]
endpoint = "pharmacy-llm"
model = "tiny-llm"
[limits]
search_timeout_s = 30.0
[secrets]
document_links = "kms:{links}"
"""


@dataclass
class LearningDeployment:
    aws: AwsTenants
    sagemaker: SageMakerSocket
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    feedback: StoredFeedback
    desk: StoredDesk
    records: StoredRecords

    def named(self, what: str) -> str:
        return self.aws.named(what, TENANT)

    def bucket(self, what: str) -> str:
        return f"s3://{self.named(what)}/"

    def _stores(self, *buckets_of: str) -> dict[str, str]:
        tables = {f"{role}_table": self.named(role) for role in ("states", "records", "events", "desk")}
        buckets = {f"{kind}_bucket": self.named(kind) for kind in ("documents", *buckets_of)}
        return tables | buckets | {"region": REGION, "aws_endpoint_url": self.aws.aws_url}

    async def learn(self, *arguments: str) -> Result:
        """Run ``assistant learn --deployed`` with the variables that a task in the network would have."""
        given = self._stores() | {
            "tenant_file_s3": f"{self.bucket('models')}pharmacy.toml",
            "ingestion_queue_url": self.aws.queue_url("ingestion", TENANT),
            "withdrawals_queue_url": self.aws.queue_url("withdrawals", TENANT),
            "opensearch_url": self.aws.opensearch_url,
            "opensearch_index": self.named("passages"),
            "opensearch_auth": "none",
            "sagemaker_endpoint_url": self.sagemaker.url,
            "model_artifacts_dir": str(self.folder / "models"),
            "model_artifacts_s3": f"{self.bucket('models')}callers/",
            "evaluation_s3": f"{self.bucket('models')}evaluation/",
        }
        folders = ("--tenants", str(self.folder / "tenants"), "--state", str(self.folder / "state"))
        command = [*folders, "--json", "learn", "--deployed", *arguments, "--tenant", TENANT]
        return await asyncio.to_thread(
            CliRunner().invoke, app, command, env=PreparingSettings.variables(given)
        )

    async def learned(self, *arguments: str) -> Any:
        done = await self.learn(*arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    async def move(self) -> dict[str, Any]:
        """Call the mover as its schedule does."""
        given = self._stores("labels", "texts") | {
            "pseudonyms_parameter": self.aws.parameter("feedback", TENANT),
            "tenant_file_s3": f"{self.bucket('models')}pharmacy.toml",
            "tenants_dir": str(self.folder / "moving"),
            "metrics_service": "test",
        }
        entry = entry_of("move_feedback", MovingSettings, given, self.monkeypatch)
        return await called_once(entry, {"source": "aws.scheduler"})

    def set_task(self) -> None:
        """Set the variables of the task that makes training sets."""
        given = self._stores("labels", "texts") | {
            "tenant_file_s3": f"{self.bucket('models')}pharmacy.toml",
            "tenants_dir": str(self.folder / "task"),
            "sets_dir": str(self.folder / "made"),
            "sets_s3": f"{self.bucket('training')}sets/",
            "metrics_service": "test",
        }
        for name, value in MakingSetsSettings.variables(given).items():
            self.monkeypatch.setenv(name, value)

    async def put(self, key: str, content: bytes) -> None:
        """Put an object into the bucket of models."""
        await self.aws.clients["s3"].put_object(Bucket=self.named("models"), Key=key, Body=content)

    async def put_lines(self, key: str, rows: Sequence[object]) -> None:
        await self.put(key, b"".join(orjson.dumps(row) + b"\n" for row in rows))

    async def files(self, place: str) -> dict[str, bytes]:
        """Return the objects below ``s3://bucket/prefix/`` by name."""
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        s3 = self.aws.clients["s3"]
        listed = (await s3.list_objects_v2(Bucket=bucket, Prefix=prefix)).get("Contents", ())
        found = {each["Key"].removeprefix(prefix): each["Key"] for each in listed}
        return {
            name: await (await s3.get_object(Bucket=bucket, Key=key))["Body"].read()
            for name, key in found.items()
        }


@pytest.fixture
async def deployment(
    aws_server_url: str, opensearch_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LearningDeployment]:
    async with (
        sagemaker_socket() as sagemaker,
        aws_tenants(aws_url=aws_server_url, opensearch_url=opensearch_url, names=[TENANT]) as aws,
    ):
        dynamodb, name = aws.clients["dynamodb"], partial(aws.named, tenant=TENANT)
        keys_table = DynamoDbTable(dynamodb, name=name("events"))
        keys = StoredErasureKeys(keys_table)
        files = S3Blobs.of(
            FEEDBACK_FILES, aws.clients["s3"], bucket=name("labels"), beside={TEXTS: name("texts")}
        )
        feedback = StoredFeedback(files, tenant=TENANT, keys=keys)
        desk_table = DynamoDbTable(dynamodb, name=name("desk"))
        desk = StoredDesk(desk_table)
        records_table = DynamoDbTable(dynamodb, name=name("records"))
        records = StoredRecords(records_table)
        made = LearningDeployment(aws, sagemaker, tmp_path, monkeypatch, feedback, desk, records)
        for kind in ("labels", "texts", "models", "training"):
            await create_documents_bucket(aws.clients["s3"], bucket=made.named(kind))
        secret = partial(create_link_secret, ssm=aws.clients["ssm"], kms=aws.clients["kms"], tenant=TENANT)
        key_id = f"alias/{made.named('key')}"
        await secret(name=aws.parameter("feedback", TENANT), key_id=key_id, purpose=FEEDBACK_SECRET_PURPOSE)
        links = aws.parameter("document-links", TENANT)
        await made.put("pharmacy.toml", TENANT_FILE.format(dimensions=DIMENSIONS, links=links).encode())
        facts = {"schema_version": 1, "model": "tiny-embedding", "digest": DIGEST, "max_input_tokens": 256}
        await made.put("callers/tiny-embedding/artifact.json", orjson.dumps(facts))
        await made.put("callers/tiny-embedding/tokenizer.json", word_tokenizer())
        yield made
        for table in (keys_table, desk_table, records_table):
            await table.close()
