"""``assistant knowledge prepare``: lists the documents of a deployment for the job that makes a corpus."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
import tomlkit
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.domain.documents import DocumentState
from assistant.process.aws import open_client
from assistant.process.settings import PreparingSettings
from assistant.stores.documents import StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.tenant.deployed_names import STATES
from tests.stage.aws_server import REGION
from tests.stage.emulated_aws import create_table
from tests.stage.knowledge import TENANT, documents, statuses


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
def deployed(aws_server_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The deployment of a tenant with ten documents; gives the bucket of corpora."""
    name = f"corpus-{uuid.uuid4().hex[:12]}"
    for variable in [name for name in os.environ if name.startswith("ASSISTANT_")]:
        if variable != "ASSISTANT_TESTS_AWS_URL":
            monkeypatch.delenv(variable)
    settings: dict[str, Any] = dict.fromkeys(PreparingSettings.on_aws, name)
    settings |= {"region": REGION, "aws_endpoint_url": aws_server_url, "opensearch_url": "http://127.0.0.1:1"}
    for variable, value in PreparingSettings.variables(settings).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")

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


def test_of_a_deployment_what_answers_now_is_listed_for_the_job(tmp_path: Path, deployed: str) -> None:
    manifest = made(prepare(tmp_path, "--weight", "wiki=0.5"))

    assert (manifest["documents"], manifest["mix"]) == (9, {"handbook": 1.0, "wiki": 0.5})
    parts = sorted((tmp_path / "corpus/wanted").iterdir())
    lines = [orjson.loads(line) for part in parts for line in part.read_bytes().splitlines()]
    assert [line["document_id"] for line in lines] == sorted(
        each.document_id for each in list(documents(10))[1:]
    )
    assert {"document_id", "content_hash", "source", "licence"} == lines[0].keys()
    assert json.loads((tmp_path / "corpus/manifest.json").read_bytes()) == manifest
    assert (tmp_path / "corpus").stat().st_mode & 0o077 == 0
    assert "exists. Name a new folder" in str(prepare(tmp_path).exception)
