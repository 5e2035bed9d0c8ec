"""One run of a source's connector over the stores of a deployment."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assistant.options.sources.run import SourceRun, StoredSourceRuns
from assistant.options.sources.settings import SOURCE_READ, SyncingSettings
from assistant.options.sources.task import sync
from assistant.process.aws import AwsService, open_client
from assistant.stores.documents import StoredWriteTurn
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.store import LockOf
from assistant.tenant.deployed_names import STATES
from tests.stage.aws_server import REGION
from tests.stage.emulated_aws import create_documents_bucket, create_queue, create_table
from tests.stage.tenant_stores import TenantStores

TENANT_FILE = """schema_version = 1
name = "clinic"
display_name = "Clinic"
embedding = { endpoint = "e", model = "tiny", dimensions = 8 }
[[sources]]
name = "rows"
access = "everyone"
[sources.connector]
kind = "sql"
url = "sqlite:///DATABASE"
query = "SELECT id, changed, body FROM pages"
key = "id"
changed = "changed"
title = "Page {id}"
text = "{body}"
[[sources]]
name = "wiki"
access = "everyone"
connector = { kind = "mediawiki", api = "https://w.example/api.php", user = "R", secret = "secretsmanager:w" }
"""


@pytest.fixture
async def states(
    aws_server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, Any]]:
    """Where the states are of a deployment with a database of one row, and with a wiki without a secret."""
    name = f"sync-{uuid.uuid4().hex[:12]}"
    services: tuple[AwsService, ...] = ("s3", "sqs", "dynamodb")
    pages = sqlite3.connect(tmp_path / "pages")
    pages.execute("CREATE TABLE pages AS SELECT 1 AS id, '2026' AS changed, 'Refills take a day.' AS body")
    pages.close()
    async with AsyncExitStack() as stack:

        async def client(service: AwsService) -> Any:
            opening = open_client(service, region=REGION, endpoint_url=aws_server_url)
            return await stack.enter_async_context(opening)

        s3, sqs, dynamodb = [await client(service) for service in services]
        await create_documents_bucket(s3, bucket=name)
        await create_queue(sqs, name=name)
        await create_table(dynamodb, STATES, name=name)
        file = TENANT_FILE.replace("DATABASE", str(tmp_path / "pages")).encode()
        await s3.put_object(Bucket=name, Key="3fa9.toml", Body=file)
        given = dict.fromkeys(("documents_bucket", "states_table", "metrics_service"), name)
        given |= {
            "region": REGION,
            "aws_endpoint_url": aws_server_url,
            "tenants_dir": str(tmp_path / "files"),
        }
        queues = ("ingestion_queue_url", "withdrawals_queue_url")
        given |= dict.fromkeys(queues, f"{aws_server_url}/123456789012/{name}")
        given["tenant_file_s3"] = f"s3://{name}/3fa9.toml"
        for variable, value in SyncingSettings.variables(given).items():
            monkeypatch.setenv(variable, value)
        yield {"client": dynamodb, "name": name}


async def outcome(states: dict[str, Any], printed: bytes) -> tuple[float, list[tuple[str, int, str]]]:
    """Return the metric, and of each run its source, what it changed, and its first error."""
    (line,) = [json.loads(line) for line in printed.splitlines() if SOURCE_READ.encode() in line]
    store_table = DynamoDbTable(**states)
    store = StoredSourceRuns(store_table)
    runs = [(run.source, run.changed, "".join(run.errors[:1])) for run in await store.runs()]
    await store_table.close()
    return line[SOURCE_READ], runs


async def test_a_run_brings_documents_and_leaves_its_record(
    states: dict[str, Any], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert await sync("rows")
    assert await outcome(states, capfdbinary.readouterr().out) == (1.0, [("rows", 1, "")])


async def test_a_run_without_its_secret_says_so_and_fails(
    states: dict[str, Any], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert not await sync("wiki")
    was_read, ((source, changed, error),) = await outcome(states, capfdbinary.readouterr().out)
    assert (was_read, source, changed) == (0.0, "wiki", 0)
    assert "The secret w cannot be read" in error


async def test_a_second_run_beside_the_first_does_not_begin(
    states: dict[str, Any], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    table = DynamoDbTable(**states)
    turn = StoredWriteTurn(table, LockOf("", key="source:rows", late="", late_here="", lasts_s=90.0))
    async with turn:
        assert not await sync("rows")
    await table.close()
    assert await outcome(states, capfdbinary.readouterr().out) == (0.0, [])


AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


async def test_the_last_run_of_each_source_into_each_place_is_kept(stores: TenantStores) -> None:
    wiki = SourceRun(source="wiki", started_at=AT, cursor='["é", null]', errors=("late",))
    await stores.source_runs.put_run(wiki)
    await stores.source_runs.put_run(SourceRun(source="base", started_at=AT, changed=3))
    await stores.source_runs.put_run(SourceRun(source="base", into="https://a.example", started_at=AT))
    ended = wiki.model_copy(update={"ended_at": AT + timedelta(minutes=1), "errors": ()})
    await stores.source_runs.put_run(ended)
    runs = await stores.source_runs.runs()
    assert [run.key for run in runs] == ["base", "base https://a.example", "wiki"]
    assert runs[2] == ended
