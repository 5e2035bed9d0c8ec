"""Makes every tenant's tables, buckets and queues on an emulator of AWS, and prints the environment for them.

``python -m tests.stage.emulated_aws --url http://127.0.0.1:5000`` makes what is missing and prints
variables for the service and the worker, beside the local issuer and the model's artifact.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from assistant.domain.errors import AssistantError
from assistant.laptop.layout import HOST
from assistant.process.aws import open_client
from assistant.process.settings import LocalSettings, ServiceSettings, WorkerSettings
from assistant.stores.documents import DOCUMENT_BLOBS, StoredDocuments
from assistant.stores.ports import MAX_ATTEMPTS
from assistant.stores.s3 import S3Blobs
from assistant.tenant.deployed_names import PARTITION, SORT, TABLES, TableDefinition
from assistant.tenant.tenant import load_tenants

_QUEUES = ("documents", "withdrawals")
_LONGEST_RETENTION_S = 14 * 24 * 3600


@dataclass(frozen=True, slots=True)
class EmulatedAws:
    """The resources of all tenants on one emulator, named after the tenants."""

    url: str
    region: str
    queues: str
    """URL of a tenant's queue without its role at the end, with ``{tenant}`` in it."""

    def settings(self) -> dict[str, str]:
        """Return the settings that the service and the worker share."""
        return {
            "stores": "aws",
            "aws_endpoint_url": self.url,
            "region": self.region,
            "documents_bucket": "{tenant}-documents",
            "states_table": "{tenant}-states",
            "desk_table": "{tenant}-desk",
            "ingestion_queue_url": f"{self.queues}-documents",
            "withdrawals_queue_url": f"{self.queues}-withdrawals",
        }

    def answer_settings(self) -> dict[str, str]:
        """Return the settings that only the service has."""
        return {"records_table": "{tenant}-records", "events_table": "{tenant}-events"}


async def make_resources(url: str, tenants: Sequence[str], *, region: str = "us-east-1") -> EmulatedAws:
    """Make each tenant's bucket, tables and queues unless they exist; at least one tenant."""
    queue_url = ""
    async with (
        open_client("s3", region=region, endpoint_url=url) as s3,
        open_client("dynamodb", region=region, endpoint_url=url) as dynamodb,
        open_client("sqs", region=region, endpoint_url=url) as sqs,
    ):
        for tenant in tenants:
            await create_documents_bucket(s3, bucket=f"{tenant}-documents")
            for table in TABLES:
                await create_table(dynamodb, table, name=f"{tenant}-{table.role}")
            for queue in _QUEUES:
                queue_url = await create_queue(sqs, name=f"{tenant}-{queue}")
    account_url = queue_url.rpartition("/")[0]
    return EmulatedAws(url, region, queues=f"{account_url}/{{tenant}}")


async def create_documents_bucket(s3: Any, *, bucket: str, kms_key_id: str | None = None) -> None:
    """Create a versioned bucket, encrypted by default with the key or, without one, with S3's own."""
    try:
        await s3.create_bucket(Bucket=bucket, **_bucket_place(s3))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "BucketAlreadyOwnedByYou":
            raise
    await s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    default: dict[str, str] = {"SSEAlgorithm": "AES256"}
    if kms_key_id is not None:
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms_key_id}
    rules = [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}]
    await s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})


def documents_in(s3: Any, *, bucket: str, kms_key_id: str | None = None) -> StoredDocuments:
    return StoredDocuments(S3Blobs.of(DOCUMENT_BLOBS, s3, bucket=bucket, kms_key_id=kms_key_id))


def _bucket_place(s3: Any) -> dict[str, Any]:
    region = s3.meta.region_name
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}


async def create_queue(sqs: Any, *, name: str) -> str:
    """Create a queue and its dead-letter queue, ``<name>-dead``; return the first one's URL."""
    dead_url = await _create_queue(sqs, f"{name}-dead", {})
    attributes = await sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])
    redrive = {"deadLetterTargetArn": attributes["Attributes"]["QueueArn"], "maxReceiveCount": MAX_ATTEMPTS}
    return await _create_queue(sqs, name, {"RedrivePolicy": json.dumps(redrive)})


async def _create_queue(sqs: Any, name: str, attributes: dict[str, str]) -> str:
    kept = {"MessageRetentionPeriod": str(_LONGEST_RETENTION_S), "SqsManagedSseEnabled": "true"}
    made = await sqs.create_queue(QueueName=name, Attributes=kept | attributes)
    return str(made["QueueUrl"])


async def create_table(dynamodb: Any, definition: TableDefinition, *, name: str) -> None:
    """Create a table by its definition, ready on return."""
    try:
        await dynamodb.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", **_table_shape(definition))
    except dynamodb.exceptions.ResourceInUseException:
        pass
    else:
        await _set_table_lifetime(dynamodb, definition, name=name)
    waiter = dynamodb.get_waiter("table_exists")
    await waiter.wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})


async def _set_table_lifetime(dynamodb: Any, definition: TableDefinition, *, name: str) -> None:
    if definition.expiry_attribute is not None:
        expiry = {"Enabled": True, "AttributeName": definition.expiry_attribute}
        await dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=expiry)
    if definition.recoverable:
        recovery = {"PointInTimeRecoveryEnabled": True}
        await dynamodb.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)


def _table_shape(definition: TableDefinition) -> dict[str, Any]:
    names = {PARTITION, SORT}
    shape: dict[str, Any] = {"KeySchema": _key_schema(PARTITION, SORT)}
    seconds: list[dict[str, Any]] = []
    for index in definition.indexes:
        names |= {index.partition, index.sort}
        projection = {"ProjectionType": "ALL" if index.whole_items else "KEYS_ONLY"}
        keys = _key_schema(index.partition, index.sort)
        seconds.append({"IndexName": index.name, "KeySchema": keys, "Projection": projection})
    if seconds:
        shape["GlobalSecondaryIndexes"] = seconds
    attributes = [{"AttributeName": name, "AttributeType": "S"} for name in sorted(names)]
    return shape | {"AttributeDefinitions": attributes}


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def environment(aws: EmulatedAws, *, tenants_dir: Path, state_dir: Path) -> dict[str, str]:
    """Return the variables of both processes beside what ``assistant tenant up`` runs."""
    local = LocalSettings.read()
    issuer = f"http://{HOST}:{local.port + 1}"
    shared = aws.settings() | {
        "tenants_dir": str(tenants_dir.resolve()),
        "state_dir": str(state_dir.resolve()),
        "model_artifacts_dir": str(state_dir.resolve() / "models"),
        "models": "embedded",
        "search": "opensearch",
        "opensearch_url": "http://127.0.0.1:9200",
        "opensearch_auth": "none",
    }
    service = shared | aws.answer_settings() | {"issuer": issuer, "jwks_url": f"{issuer}/jwks.json"}
    worker = shared | {"opensearch_applies_schema": "true"}
    named = {ServiceSettings.variable(name): value for name, value in service.items()}
    return named | {WorkerSettings.variable(name): value for name, value in worker.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", required=True, help="base URL of the emulator")
    parser.add_argument("--tenants", type=Path, default=Path("tenants"), metavar="DIR")
    parser.add_argument("--state", type=Path, default=Path(".state"), metavar="DIR")
    given = parser.parse_args()
    try:
        aws = asyncio.run(make_resources(given.url, list(load_tenants(given.tenants).tenants)))
        variables = environment(aws, tenants_dir=given.tenants, state_dir=given.state)
    except AssistantError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    for name, value in variables.items():
        sys.stdout.write(f"{name}={shlex.quote(value)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
