"""19: buckets that logs are delivered to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from assistant.template_checks.findings import Finding, not_proven, passed, refused
from assistant.template_checks.keys import key_named, key_policy_lets_service
from assistant.template_checks.load_balancing import LOAD_BALANCER, attribute
from assistant.template_checks.mistakes.mistake import Deployment, Mistake
from assistant.template_checks.policies import BUCKET, bucket_and_key, plain
from assistant.template_checks.templates import Resource
from assistant.template_checks.values import Value, at, flag, items, text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    """Logs that a writer delivers to a bucket. ``service`` can use a key whose policy names it."""

    source: Resource
    bucket: Value
    writer: str
    service: str | None = None


def _check(deployment: Deployment) -> Iterator[Finding]:
    for delivery in [*_of_load_balancers(deployment), *_of_buckets(deployment), *_of_others(deployment)]:
        bucket = _bucket(deployment, delivery.bucket)
        if bucket is None:
            yield not_proven(
                delivery.source,
                "log-bucket-key",
                at="Bucket",
                message=f"Whether {delivery.writer} can write to {plain(delivery.bucket)} is not told: the "
                "bucket is not in the templates.",
                mend="Give the bucket's template to the same check.",
            )
            continue
        found = [*_check_key(deployment, delivery, bucket), *_check_lock(delivery, bucket)]
        yield from found
        if not found:
            yield passed(bucket, "log-bucket-key")


def _of_load_balancers(deployment: Deployment) -> Iterator[_Delivery]:
    for balancer in deployment.templates.of(LOAD_BALANCER):
        is_network = text(balancer.properties.get("Type")) == "network"
        for kind in ("access_logs", "connection_logs"):
            enabled = attribute(balancer, f"{kind}.s3.enabled", of="LoadBalancerAttributes")
            bucket = attribute(balancer, f"{kind}.s3.bucket", of="LoadBalancerAttributes")
            if flag(enabled) and bucket is not None:
                yield _Delivery(
                    source=balancer,
                    bucket=bucket,
                    writer="a Network Load Balancer" if is_network else "an Application Load Balancer",
                    service="delivery.logs.amazonaws.com" if is_network else None,
                )


def _of_buckets(deployment: Deployment) -> Iterator[_Delivery]:
    for bucket in deployment.templates.of(BUCKET):
        logging = bucket.properties.get("LoggingConfiguration")
        destination = at(logging, "DestinationBucketName")
        if destination is not None:
            yield _Delivery(source=bucket, bucket=destination, writer="S3's server access logging")


def _of_others(deployment: Deployment) -> Iterator[_Delivery]:
    for log in deployment.templates.of("AWS::EC2::FlowLog"):
        if text(log.properties.get("LogDestinationType")) == "s3":
            destination = log.properties.get("LogDestination")
            yield _Delivery(
                source=log,
                bucket=destination,
                writer="the delivery of flow logs",
                service="delivery.logs.amazonaws.com",
            )
    for trail in deployment.templates.of("AWS::CloudTrail::Trail"):
        # A trail with a key of its own encrypts by that; the bucket's default is then not used.
        if "KMSKeyId" not in trail.properties:
            yield _Delivery(
                source=trail,
                bucket=trail.properties.get("S3BucketName"),
                writer="CloudTrail",
                service="cloudtrail.amazonaws.com",
            )


def _bucket(deployment: Deployment, value: Value) -> Resource | None:
    name = bucket_and_key(plain(value).removeprefix("arn:aws:s3:::"))[0]
    for bucket in deployment.templates.of(BUCKET):
        own = bucket.properties.get("BucketName")
        label = f"<{bucket.template.name}.{bucket.logical_id}>"
        if name in (label, plain(own) if own is not None else label):
            return bucket
    return None


def _check_key(deployment: Deployment, delivery: _Delivery, bucket: Resource) -> Iterator[Finding]:
    for rule in items(at(bucket.properties.get("BucketEncryption"), "ServerSideEncryptionConfiguration")):
        default = at(rule, "ServerSideEncryptionByDefault")
        if not text(at(default, "SSEAlgorithm")).startswith("aws:kms"):
            continue
        named = at(default, "KMSMasterKeyID")
        key = key_named(deployment.templates, named)
        if delivery.service and key and key_policy_lets_service(key, delivery.service, "kms:GenerateDataKey"):
            continue
        is_told = delivery.service is None or named is None or key is not None
        yield (refused if is_told else not_proven)(
            bucket,
            "log-bucket-key",
            at="BucketEncryption",
            message=f"It encrypts by KMS, and {delivery.writer} ({delivery.source.logical_id}) cannot use "
            + ("any key: nothing is delivered." if delivery.service is None else "that key."),
            mend="Use SSE-S3 (SSEAlgorithm: AES256) on the bucket of logs."
            if delivery.service is None
            else f"Use SSE-S3, or let {delivery.service} call kms:GenerateDataKey* in the policy of the key.",
        )


def _check_lock(delivery: _Delivery, bucket: Resource) -> Iterator[Finding]:
    is_locked = flag(bucket.properties.get("ObjectLockEnabled"))
    # Delivery by CloudTrail and of flow logs sends the checksum that a locked bucket asks for.
    if (is_locked or "ObjectLockConfiguration" in bucket.properties) and delivery.service is None:
        yield refused(
            bucket,
            "log-bucket-object-lock",
            at="ObjectLockEnabled",
            message=f"A bucket with Object Lock cannot be the destination of {delivery.writer} "
            f"({delivery.source.logical_id}): nothing is delivered.",
            mend="Take Object Lock off this bucket, and copy logs that must not change into a locked one.",
        )


MISTAKES = (
    Mistake(
        number=19,
        title="A log bucket with KMS or Object Lock where the writer cannot use it",
        parts={
            "log-bucket-key": "default encryption by a key that the writer of the logs cannot use",
            "log-bucket-object-lock": "Object Lock on the destination of load balancers' or S3's access logs",
        },
        why="Application Load Balancers and S3's server access logging write to SSE-S3 buckets only, and "
        "S3 never to one with Object Lock. Other writers need the key's policy to name them. Nothing says "
        "that logs are missing.",
        mend="SSE-S3 and no Object Lock on the bucket of access logs.",
        absent="nothing delivers logs to a bucket",
        check=_check,
    ),
)
