"""The deployed function closes days of audit records into the locked bucket; the command verifies them."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.domain.audit import AccessEntry
from assistant.process.aws import open_client
from assistant.process.settings import AuditSettings
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.records import StoredRecords
from assistant.tenant import deployed_names
from assistant.tenant.deployed_names import RECORDS
from assistant.terminal.account import AwsAccount
from tests.node.lambdas.conftest import entry_of
from tests.stage.aws_server import REGION
from tests.stage.emulated_aws import create_table
from tests.stage.lambda_events import Context
from tests.stage.tenant_files import committed_tenant

LOCK = {
    "ObjectLockEnabled": "Enabled",
    "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 2192}},
}
ACCOUNT = "123456789012"
"""The emulator's."""
STACK = "assistant-sandbox-Ingestion"


@dataclass
class Audit:
    s3: Any
    dynamodb: Any
    name: str
    function: Any
    folder: Path
    given: dict[str, str]
    day: date
    """The last that is over for an hour."""

    @property
    def key(self) -> str:
        return f"audit/{self.day}.json"

    @property
    def bucket(self) -> str:
        return f"{self.name}-trail"

    async def read(self, *agents: str) -> None:
        """Record reads of that day's noon, as a process of its own does."""
        at = datetime.combine(self.day, datetime.min.time(), UTC) + timedelta(hours=12)
        records_table = DynamoDbTable(self.dynamodb, name=f"{self.name}-records")
        records = StoredRecords(records_table)
        for agent in agents:
            await records.record_access(AccessEntry(at=at, agent=agent, kind="document", subject_id="d1"))
        await records_table.close()

    async def call(self) -> None:
        await asyncio.to_thread(self.function, {}, Context())

    async def verify(self, *more: str) -> Result:
        options = ["--tenants", str(self.folder), "--json", "aws", "audit", "verify", "--tenant", "sandbox"]
        command = [*options, "--from", str(self.day), "--to", str(self.day), *more]
        return await asyncio.to_thread(CliRunner().invoke, app, command)

    async def faults(self) -> list[str]:
        result = await self.verify()
        found = [finding["fault"] for finding in json.loads(result.stdout)["findings"]]
        assert result.exit_code == (1 if found else 0), result.output
        return found

    async def publish(self) -> None:
        """Put the output of the stack that the command reads, and the tenant's file."""
        text = committed_tenant("sandbox").replace("111122223333", ACCOUNT)
        (self.folder / "sandbox.toml").write_text(text, encoding="utf-8")
        template = {
            "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
            "Outputs": {deployed_names.AUDIT_OUTPUT: {"Value": json.dumps(self.given)}},
        }
        # A stack that is not there may be deleted.
        await asyncio.to_thread(stacks, "delete_stack", StackName=STACK)
        await asyncio.to_thread(stacks, "create_stack", StackName=STACK, TemplateBody=json.dumps(template))


def stacks(call: str, **given: str) -> None:
    AwsAccount(account=ACCOUNT, region=REGION).call("cloudformation", call, **given)


@pytest.fixture
async def audit(aws_server_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Audit]:
    name = f"t-{uuid.uuid4().hex[:12]}"
    given = {
        "region": REGION,
        "aws_endpoint_url": aws_server_url,
        "records_table": f"{name}-records",
        "trail_bucket": f"{name}-trail",
        "metrics_service": "assistant-sandbox",
        "kept_days": "30",
    }
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server_url)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "emulated")
    async with (
        open_client("s3", region=REGION, endpoint_url=aws_server_url) as s3,
        open_client("dynamodb", region=REGION, endpoint_url=aws_server_url) as dynamodb,
    ):
        await s3.create_bucket(Bucket=f"{name}-trail", ObjectLockEnabledForBucket=True)
        await s3.put_object_lock_configuration(Bucket=f"{name}-trail", ObjectLockConfiguration=LOCK)
        await create_table(dynamodb, RECORDS, name=f"{name}-records")
        function = entry_of("close_audit_days", AuditSettings, given, monkeypatch)
        day = (datetime.now(UTC) - timedelta(hours=1)).date() - timedelta(days=1)
        audit = Audit(s3, dynamodb, name, function, tmp_path, given, day)
        await audit.publish()
        yield audit
        await asyncio.to_thread(function.close)


async def test_a_day_is_closed_once_and_verifies(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    await audit.read("ana", "ben")
    await audit.call()
    assert f'"{deployed_names.AUDIT_CLOSED}":[1.0]' in capsys.readouterr().out.replace(" ", "")
    await audit.call()
    versions = await audit.s3.list_object_versions(Bucket=audit.bucket)
    assert [version["Key"] for version in versions["Versions"]] == [audit.key]
    report = json.loads((await audit.verify()).stdout)
    assert (report["days"], report["writers"], report["records"]) == (1, 1, 3)
    assert await audit.faults() == []


async def test_the_lock_keeps_a_digest(audit: Audit) -> None:
    await audit.call()
    (version,) = (await audit.s3.list_object_versions(Bucket=audit.bucket))["Versions"]
    with pytest.raises(ClientError, match="AccessDenied"):
        await audit.s3.delete_object(Bucket=audit.bucket, Key=version["Key"], VersionId=version["VersionId"])


async def test_a_delete_marker_hides_no_digest(audit: Audit) -> None:
    await audit.read("ana")
    await audit.call()
    await audit.s3.delete_object(Bucket=audit.bucket, Key=audit.key)
    report = json.loads((await audit.verify()).stdout)
    assert report["days"] == 1
    assert await audit.faults() == ["rewritten"]


async def test_a_digest_that_is_put_again_hides_no_removed_record(audit: Audit) -> None:
    await audit.read("ana", "ben")
    await audit.call()
    (last,) = [
        item
        for item in (await audit.dynamodb.scan(TableName=f"{audit.name}-records"))["Items"]
        if "ben" in item["body"]["S"]
    ]
    key = {name: last[name] for name in ("pk", "sk")}
    await audit.dynamodb.delete_item(TableName=f"{audit.name}-records", Key=key)
    assert await audit.faults() == ["truncated"]
    digest = json.loads(await (await audit.s3.get_object(Bucket=audit.bucket, Key=audit.key))["Body"].read())
    forged = json.dumps({**digest, "writers": []}).encode()
    await audit.s3.put_object(Bucket=audit.bucket, Key=audit.key, Body=forged)
    assert sorted(await audit.faults()) == ["rewritten", "truncated"]
