"""``assistant knowledge prepare``: a corpus of a thousand stored documents, here and by a job on AWS."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
import orjson
import pyarrow.dataset
import pytest
import tomlkit
from botocore.session import get_session
from botocore.validate import validate_parameters
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.domain.documents import Document, DocumentState
from assistant.options.models_lab.commands import preparing
from assistant.process.aws import open_client
from assistant.process.settings import PreparingSettings
from assistant.stores.documents import StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.tenant.deployed_names import STATES
from assistant.terminal.account import AwsAccount
from tests.emulated_aws import create_table
from tests.fakes.aws_server import REGION
from tests.fakes.corpus_documents import TENANT, documents, statuses
from tests.fakes.tenant_stores import open_tenant_stores

LOCAL = 1000
ROLE = "arn:aws:iam::123456789012:role/corpus-job"


def prepare(folder: Path, *given: str) -> Result:
    (folder / "tenants").mkdir(exist_ok=True)
    content = TENANT.model_dump(mode="json", exclude_unset=True)
    (folder / "tenants/clinic.toml").write_text(tomlkit.dumps(content), encoding="utf-8")
    options = ["--tenants", str(folder / "tenants"), "--state", str(folder / "state"), "--json"]
    command = [*options, "knowledge", "prepare", "--tenant", "clinic", "--out", str(folder / "corpus")]
    return CliRunner().invoke(app, [*command, *given])


def made(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def stored(tmp_path: Path) -> list[Document]:
    """Documents of which every seventh was withdrawn and each eleventh is withheld."""
    found = list(documents(LOCAL))

    async def store() -> None:
        async with open_tenant_stores(TENANT, state_dir=tmp_path / "state") as stores:
            for document in found:
                await stores.documents.put(document)
            await stores.states.put_many(statuses(found))
            await stores.states.put_many(statuses(found[::7], DocumentState.WITHDRAWN))
            await stores.states.put_many(statuses(found[::11], DocumentState.WITHHELD))

    asyncio.run(store())
    return found


def test_a_corpus_of_a_thousand_documents_holds_what_answers_now(
    tmp_path: Path, stored: list[Document]
) -> None:
    manifest = made(prepare(tmp_path, "--weight", "wiki=0.5", "--weight", "handbook=2"))

    corpus = tmp_path / "corpus"
    rows = pyarrow.dataset.dataset(corpus / "rows", format="parquet").to_table().to_pylist()
    hidden = {document.document_id for document in [*stored[::7], *stored[::11]]}
    assert len(rows) == sum(manifest["rows"].values()) > 300
    assert {row["document_id"] for row in rows} & hidden == set()
    assert sum(manifest["left_out"].values()) == LOCAL - len(hidden) - len(rows)
    by_id = {document.document_id: document for document in stored}
    for row in rows:
        document = by_id[row["document_id"]]
        assert row["content_hash"] == document.content_hash()
        assert tuple(row["labels"]) == document.labels
        assert row["weight"] == (1.0 if row["source"] == "wiki" else 2.0)
        assert row["licence"] == ("" if row["source"] == "wiki" else "own texts")
    assert [row["document_id"] for row in rows] == sorted(row["document_id"] for row in rows)
    assert json.loads((corpus / "manifest.json").read_bytes()) == manifest
    assert corpus.stat().st_mode & 0o077 == 0


def test_a_corpus_is_never_changed_and_none_is_left_half_done(tmp_path: Path, stored: list[Document]) -> None:
    nothing = prepare(tmp_path, "--weight", "wiki=0", "--weight", "handbook=0")
    assert nothing.exit_code == 1
    assert "No document became a row" in str(nothing.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "tenants"]

    (tmp_path / "corpus").mkdir()
    assert "exists. Name a new folder" in str(prepare(tmp_path).exception)


class FakeEmr:
    """EMR Serverless beside an emulator of the other services: its job tells these states, one a look.

    Calls are checked against the service's own description.
    """

    def __init__(self, *states: str) -> None:
        self.states, self.started = list(states), list[Mapping[str, Any]]()
        self._model = get_session().get_service_model("emr-serverless")

    def call(self, account: AwsAccount, service: str, call: str, **given: Any) -> Any:
        client: Any = boto3.client(service, region_name=account.region)
        if service != "emr-serverless":
            return getattr(client, call)(**given)
        operation = client.meta.method_to_api_mapping[call]
        validate_parameters(given, self._model.operation_model(operation).input_shape)
        if call == "start_job_run":
            self.started.append(given)
            return {"jobRunId": "00job"}
        state = self.states.pop(0)
        if state == "SUCCESS":
            self._write_counts()
        details = "Disk full" if state == "FAILED" else ""
        return {
            "jobRun": {
                "state": state,
                "stateDetails": details,
                "billedResourceUtilization": {"vCPUHour": 0.5},
            }
        }

    @property
    def argument(self) -> dict[str, Any]:
        """What the job is started with."""
        (text,) = self.started[0]["jobDriver"]["sparkSubmit"]["entryPointArguments"]
        return json.loads(text)

    def _write_counts(self) -> None:
        bucket, _, key = self.argument["folder"].removeprefix("s3://").partition("/")
        counts = {"rows": {"handbook": 7}, "left_out": {"near-duplicates": 2}}
        s3: Any = boto3.client("s3", region_name=REGION)
        s3.put_object(Bucket=bucket, Key=f"{key}/counts/part-00000", Body=json.dumps(counts))


@pytest.fixture
def deployed(aws_server_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The deployment of a tenant with ten documents; gives the bucket of corpora."""
    name = f"corpus-{uuid.uuid4().hex[:12]}"
    for variable in [name for name in os.environ if name.startswith("ASSISTANT_")]:
        if variable != "ASSISTANT_TESTS_AWS_URL":
            monkeypatch.delenv(variable)
    settings: dict[str, Any] = dict.fromkeys(PreparingSettings.on_aws, name)
    settings |= {"region": REGION, "aws_endpoint_url": aws_server_url, "opensearch_url": "http://127.0.0.1:1"}
    settings |= {"corpus_bucket": name, "corpus_application": "00app", "corpus_role": ROLE}
    for variable, value in PreparingSettings.variables(settings).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setattr(preparing, "_POLL_S", 0.0)

    async def make() -> None:
        async with open_client("dynamodb", region=REGION, endpoint_url=aws_server_url) as dynamodb:
            await create_table(dynamodb, STATES, name=name)
            states_table = DynamoDbTable(dynamodb, name=name)
            states = StoredStates(states_table)
            found = list(documents(10))
            await states.put_many(statuses(found))
            await states.put_many(statuses(found[:1], DocumentState.WITHDRAWN))
            await states_table.close()
        async with open_client("s3", region=REGION, endpoint_url=aws_server_url) as s3:
            await s3.create_bucket(Bucket=name)

    asyncio.run(make())
    return name


def on_emr(folder: Path, emr: FakeEmr, monkeypatch: pytest.MonkeyPatch, *given: str) -> Result:
    monkeypatch.setattr(AwsAccount, "call", lambda account, *names, **sent: emr.call(account, *names, **sent))
    return prepare(folder, "--engine", "emr", *given)


def wanted_ids(argument: Mapping[str, Any]) -> Sequence[str]:
    bucket, _, key = argument["folder"].removeprefix("s3://").partition("/")
    s3: Any = boto3.client("s3", region_name=REGION)
    parts = s3.list_objects_v2(Bucket=bucket, Prefix=f"{key}/wanted/")["Contents"]
    lines = [s3.get_object(Bucket=bucket, Key=part["Key"])["Body"].read().splitlines() for part in parts]
    return [orjson.loads(line)["document_id"] for part in lines for line in part]


def test_a_job_gets_what_answers_now_and_its_states_are_told(
    tmp_path: Path, deployed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    emr = FakeEmr("SUBMITTED", "RUNNING", "RUNNING", "SUCCESS")

    options = ("--weight", "wiki=0.5", "--limit-minutes", "30")
    result = on_emr(tmp_path, emr, monkeypatch, *options)

    manifest = made(result)
    assert manifest["rows"] == {"handbook": 7}
    assert manifest["billed"] == {"vCPUHour": 0.5}
    assert manifest["folder"] == f"{emr.argument['folder']}/rows/"
    assert wanted_ids(emr.argument) == sorted(each.document_id for each in list(documents(10))[1:])
    assert emr.argument["mix"] == {"handbook": 1.0, "wiki": 0.5}
    assert emr.argument["bucket"] == deployed
    assert emr.argument["folder"].startswith(f"s3://{deployed}/corpora/clinic-")
    assert emr.started[0]["executionTimeoutMinutes"] == 30
    assert emr.started[0]["executionRoleArn"] == ROLE
    told = [line for line in result.stderr.splitlines() if line.isupper()]
    assert [line.split()[-1] for line in told] == ["SUBMITTED", "RUNNING", "SUCCESS"]
    assert sorted(path.name for path in (tmp_path / "corpus").iterdir()) == ["manifest.json"]


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_a_job_that_fails_leaves_no_corpus(
    tmp_path: Path, deployed: str, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    result = on_emr(tmp_path, FakeEmr("RUNNING", state), monkeypatch)

    assert result.exit_code == 1
    assert f"The job 00job is {state}, and there is no corpus" in str(result.exception)
    assert not (tmp_path / "corpus").exists()


def test_without_the_corpus_stack_no_job_is_started(
    tmp_path: Path, deployed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PreparingSettings.variable("corpus_role"))
    emr = FakeEmr()
    assert "ASSISTANT_PREPARE_CORPUS_ROLE are needed" in str(on_emr(tmp_path, emr, monkeypatch).exception)
    assert emr.started == []
