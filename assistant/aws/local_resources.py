"""Creates on an emulator the resources that the deployment creates on AWS.

Every function may be repeated, also by two processes at once: existing resources stay unchanged.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from assistant.knowledge.ports import MAX_ATTEMPTS
from assistant.settings.deployed_names import PARTITION, SORT, TableDefinition

_LONGEST_RETENTION_S = 14 * 24 * 3600


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


def _bucket_place(s3: Any) -> dict[str, Any]:
    region = s3.meta.region_name
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}


async def create_queue(sqs: Any, *, name: str) -> str:
    """Create a queue and its dead-letter queue, ``<name>-dead``; return the first one's URL."""
    dead_url = await _create_queue(sqs, f"{name}-dead", {})
    found = await sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])
    redrive = {"deadLetterTargetArn": found["Attributes"]["QueueArn"], "maxReceiveCount": MAX_ATTEMPTS}
    return await _create_queue(sqs, name, {"RedrivePolicy": json.dumps(redrive)})


async def _create_queue(sqs: Any, name: str, attributes: dict[str, str]) -> str:
    kept = {"MessageRetentionPeriod": str(_LONGEST_RETENTION_S), "SqsManagedSseEnabled": "true"}
    made = await sqs.create_queue(QueueName=name, Attributes=kept | attributes)
    return str(made["QueueUrl"])


async def create_key(kms: Any, *, alias: str) -> str:
    """Create a key under ``alias/<alias>`` and return its ARN."""
    name = f"alias/{alias}"
    try:
        found = await kms.describe_key(KeyId=name)
    except kms.exceptions.NotFoundException:
        found = await kms.create_key(Description=f"Local stand-in of {alias}")
        await kms.create_alias(AliasName=name, TargetKeyId=found["KeyMetadata"]["KeyId"])
    return str(found["KeyMetadata"]["Arn"])


async def put_parameter(ssm: Any, *, name: str, value: str) -> None:
    """Write a parameter's next version."""
    await ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)


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
    if (index := definition.index) is not None:
        names |= {index.partition, index.sort}
        projection = {"ProjectionType": "ALL" if index.whole_items else "KEYS_ONLY"}
        keys = _key_schema(index.partition, index.sort)
        second = {"IndexName": index.name, "KeySchema": keys, "Projection": projection}
        shape["GlobalSecondaryIndexes"] = [second]
    attributes = [{"AttributeName": name, "AttributeType": "S"} for name in sorted(names)]
    return shape | {"AttributeDefinitions": attributes}


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]
