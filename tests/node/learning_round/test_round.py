"""A tenant's deployment learns on the emulator of AWS: marks, events and a set; a router, by
``assistant learn --deployed routing``, whose index is in a real OpenSearch node."""

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
from assistant.documents.parsing import parse_document
from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.desk import DeskKind, ReleaseState, RouterRelease
from assistant.domain.documents import DocumentState
from assistant.domain.errors import ConfigurationError
from assistant.options.desk.feedback_store import FEEDBACK_FILES, TEXTS, StoredFeedback
from assistant.options.desk.settings import MovingSettings
from assistant.options.models_lab.make_sets import prepare
from assistant.options.models_lab.settings import MakingSetsSettings
from assistant.process.aws import create_link_secret
from assistant.process.settings import PreparingSettings
from assistant.stores.desk import StoredDesk
from assistant.stores.documents import StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.events import StoredErasureKeys
from assistant.stores.records import StoredRecords
from assistant.stores.s3 import S3Blobs
from assistant.tenant.deployed_names import FEEDBACK_SECRET_PURPOSE, SETS_RUN
from tests.contracts import samples
from tests.node.lambdas.conftest import called_once, entry_of, word_tokenizer
from tests.options.desk.moving import QUOTE, answered
from tests.stage.aws_server import REGION
from tests.stage.aws_tenants import AwsTenants, aws_tenants
from tests.stage.emulated_aws import create_documents_bucket, documents_in
from tests.stage.running_service import DIGEST
from tests.stage.sagemaker_runtime import DIMENSIONS, SageMakerSocket, sagemaker_socket

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


PATIENT = "Marguerite Oyelaran"
CANARIES = ("Marguerite", "Oyelaran", "4711-2208", "555-0132")
EDIT = f"Take 5 mg twice a day, Mrs. {PATIENT}. Do not take it with alcohol. Call 415-555-0132."
QUESTION = f"How does {PATIENT}, member M-4711-2208, take it?"
GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
EDITED = Verdict(verdict_id="v2", label=VerdictLabel.BAD, better_text=EDIT)


async def mark(deployment: LearningDeployment) -> None:
    """Let agents mark two answers about a live document, one of them with a better text."""
    clients = deployment.aws.clients
    documents = documents_in(clients["s3"], bucket=deployment.named("documents"))
    states_table = DynamoDbTable(clients["dynamodb"], name=deployment.named("states"))
    states = StoredStates(states_table)
    for name in ("refill", "claims"):
        document = samples.document(name, content=QUOTE)
        await documents.put(document)
        await documents.put_parsed(name, "hash", parse_document(document))
        await states.put_many([samples.status(name, state=DocumentState.LIVE, content_hash="hash")])
    await states_table.close()
    await deployment.records.put_answer(answered("a1"))
    await deployment.records.append_verdict("a1", GOOD, agent="ana")
    await deployment.records.put_answer(answered("a2", question=QUESTION))
    await deployment.records.append_verdict("a2", EDITED, agent="ben")


async def make_set(deployment: LearningDeployment, capsys: pytest.CaptureFixture[str]) -> str:
    """Move the marks, run the scheduled task, and return the set's folder below ``sets/``."""
    await mark(deployment)
    assert (await deployment.move())["rows"] == 2
    deployment.set_task()
    capsys.readouterr()
    assert await prepare()
    assert metric(capsys.readouterr().out) == 1.0
    files = await deployment.files(deployment.bucket("training"))
    (folder,) = {name.split("/")[1] for name in files if name.startswith("sets/")}
    return f"{folder}/"


def metric(printed: str) -> float:
    (line,) = [
        json.loads(line) for line in printed.splitlines() if f'"{SETS_RUN}"' in line and "_aws" in line
    ]
    return float(line[SETS_RUN][0])


async def test_marks_become_a_set_that_holds_nothing_of_the_patient(
    deployment: LearningDeployment, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = await make_set(deployment, capsys)
    table = await deployment.aws.clients["dynamodb"].scan(TableName=deployment.named("records"))
    assert all(canary in str(table["Items"]) for canary in CANARIES), "the service's records have the words"

    files = await deployment.files(f"{deployment.bucket('training')}sets/{folder}")
    rows = [
        json.loads(line) for name in files if name.startswith("sft.") for line in files[name].splitlines()
    ]
    assert len(rows) == 2
    assert any("Take 5 mg twice a day, Mrs. <PERSON>." in json.dumps(row, ensure_ascii=False) for row in rows)
    preferences = [
        line for name in files if name.startswith("preference.") for line in files[name].splitlines()
    ]
    assert len(preferences) == 1, "the draft that the better text replaced is the rejected one"
    assert {"manifest.json", "card.md"} <= files.keys()

    for bucket in ("training", "labels", "texts"):
        for name, content in (await deployment.files(deployment.bucket(bucket))).items():
            assert not [one for one in CANARIES if one.encode() in content], f"{bucket}/{name}"


PAGES = {
    "refills": "# Refills\n\nA refill takes two days. The patient may collect it until nine.\n",
    "insulin": "# Insulin\n\nKeep insulin in the fridge. It is stable for a month at room temperature.\n",
    "claims": "# Claims\n\nA claim needs the receipt. The insurer pays within three weeks of it.\n",
}
SAYS = ("grams of the {}", "folks on the {}")
"""No word of a kind of source is among them, so that keywords know nothing."""


async def know(deployment: LearningDeployment) -> None:
    for name, text in PAGES.items():
        await deployment.aws.know(name, text, tenant="pharmacy")


async def test_a_router_is_learned_released_and_taken_back(deployment: LearningDeployment) -> None:
    await know(deployment)
    rows = [
        {
            "id": f"q{at}",
            "question": SAYS[at % 2].format(f"item{at // 2}"),
            "kind": "fact",
            "sources": ["handbook", "chatter"] if at % 2 == 0 else ["chatter"],
            "items": [f"item{at}"],
        }
        for at in range(40)
    ]
    await deployment.put_lines("evaluation/pharmacy/routing.jsonl", rows)
    told = await deployment.learned("routing")
    assert (told["state"], told["questions"]) == ("live", 40)
    assert len(deployment.sagemaker.embeddings) > 0, "the questions' vectors come from the endpoint"
    (item,) = await deployment.desk.list(DeskKind.ROUTER_RELEASE)
    assert RouterRelease.model_validate_json(item.body).state is ReleaseState.LIVE
    assert (await deployment.learned("routing", "--rollback"))["rolled_back"] == told["release"]
    (item,) = await deployment.desk.list(DeskKind.ROUTER_RELEASE)
    assert RouterRelease.model_validate_json(item.body).state is not ReleaseState.LIVE


async def test_a_tenant_without_labelled_questions_is_told_so(deployment: LearningDeployment) -> None:
    done = await deployment.learn("routing")
    assert done.exit_code == 1
    assert isinstance(done.exception, ConfigurationError)
    assert "tuning.jsonl or routing.jsonl" in str(done.exception)
