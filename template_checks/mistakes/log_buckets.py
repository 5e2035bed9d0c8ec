"""19: buckets that logs are delivered to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from template_checks.conditions import MADE_UP, Context, any_of
from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.networks import LOAD_BALANCER, attribute
from template_checks.permissions import (
    Request,
    account_may,
    bucket_named,
    policy_of_bucket,
    policy_of_key,
    service_may,
)
from template_checks.policies import BUCKET, bucket_and_key, is_of_aws, key_named, plain, spellings
from template_checks.templates import Resource
from template_checks.values import Target, Value, at, flag, items, text

_ELB = "logdelivery.elasticloadbalancing.amazonaws.com"
_ELB_ACCOUNTS = {
    "us-east-1": "127311923021",
    "us-east-2": "033677994240",
    "us-west-1": "027434742980",
    "us-west-2": "797873946194",
    "af-south-1": "098369216593",
    "ap-east-1": "754344448648",
    "ap-southeast-3": "589379963580",
    "ap-south-1": "718504428378",
    "ap-northeast-3": "383597477331",
    "ap-northeast-2": "600734575887",
    "ap-southeast-1": "114774131450",
    "ap-southeast-2": "783225319266",
    "ap-northeast-1": "582318560864",
    "ca-central-1": "985666609251",
    "eu-central-1": "054676820928",
    "eu-west-1": "156460612806",
    "eu-west-2": "652711504416",
    "eu-south-1": "635631232127",
    "eu-west-3": "009996457667",
    "eu-north-1": "897822967062",
    "me-south-1": "076674570225",
    "sa-east-1": "507241528517",
}
"""Accounts by which load balancers wrote before they had a service principal, and still may."""
_DELIVERY = "delivery.logs.amazonaws.com"
_OWNER_HAS_ALL = {"s3:x-amz-acl": ("bucket-owner-full-control",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    """Logs that a writer delivers to a bucket. ``service`` writes them, into the folder ``inside``.

    ``encrypts``: it can use a key whose policy names it. ``key`` is its own, used in place of the bucket's.
    """

    source: Resource
    bucket: Value
    writer: str
    service: str
    inside: str
    encrypts: bool = True
    key: Value = None
    asks_acl: bool = False
    """Whether it reads the bucket's access control list first."""
    brings_policy: bool = False
    """Whether AWS puts the statement on a bucket that has no policy."""
    source_arns: tuple[str, ...] = field(default=())


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
        found = [
            *_check_key(deployment, delivery, bucket),
            *_check_lock(delivery, bucket),
            *_check_policy(deployment, delivery, bucket),
        ]
        yield from found
        if not found:
            yield passed(bucket, "log-bucket-key")


def _folder(prefix: Value) -> str:
    folder = plain(prefix).strip("/")
    return f"{folder}/" if folder else ""


def _of_load_balancers(deployment: Deployment) -> Iterator[_Delivery]:
    for balancer in deployment.templates.of(LOAD_BALANCER):
        is_network = text(balancer.properties.get("Type")) == "network"
        for kind in ("access_logs", "connection_logs", "health_check_logs"):
            enabled = attribute(balancer, f"{kind}.s3.enabled", of="LoadBalancerAttributes")
            bucket = attribute(balancer, f"{kind}.s3.bucket", of="LoadBalancerAttributes")
            prefix = attribute(balancer, f"{kind}.s3.prefix", of="LoadBalancerAttributes")
            if flag(enabled) is not False and enabled is not None and bucket is not None:
                yield _Delivery(
                    source=balancer,
                    bucket=bucket,
                    writer="a Network Load Balancer" if is_network else "an Application Load Balancer",
                    service=_DELIVERY if is_network else _ELB,
                    inside=f"{_folder(prefix)}AWSLogs/{balancer.account}/*",
                    encrypts=is_network,
                    asks_acl=is_network,
                    source_arns=_arns_of_balancer(balancer, is_network=is_network),
                )


def _arns_of_balancer(balancer: Resource, *, is_network: bool) -> tuple[str, ...]:
    if is_network:
        return _arns_of_delivery(balancer)
    kind = f"arn:aws:elasticloadbalancing:{balancer.region}:{balancer.account}:loadbalancer/app"
    return plain(Target(balancer)), f"{kind}/{MADE_UP}{balancer.logical_id}}}"


def _arns_of_delivery(source: Resource) -> tuple[str, ...]:
    return (f"arn:aws:logs:{source.region}:{source.account}:${{delivery of {source.logical_id}}}",)


def _of_buckets(deployment: Deployment) -> Iterator[_Delivery]:
    for bucket in deployment.templates.of(BUCKET):
        logging = bucket.properties.get("LoggingConfiguration")
        destination = at(logging, "DestinationBucketName")
        if destination is not None:
            yield _Delivery(
                source=bucket,
                bucket=destination,
                writer="S3's server access logging",
                service="logging.s3.amazonaws.com",
                inside=f"{plain(at(logging, 'LogFilePrefix'))}*",
                encrypts=False,
                source_arns=(plain(Target(bucket, "Arn")),),
            )


def _of_others(deployment: Deployment) -> Iterator[_Delivery]:
    for log in deployment.templates.of("AWS::EC2::FlowLog"):
        if text(log.properties.get("LogDestinationType")) == "s3":
            destination = log.properties.get("LogDestination")
            folder = bucket_and_key(plain(destination).removeprefix("arn:aws:s3:::"))[1]
            yield _Delivery(
                source=log,
                bucket=destination,
                writer="the delivery of flow logs",
                service=_DELIVERY,
                inside=f"{_folder(folder)}AWSLogs/{log.account}/*",
                brings_policy=True,
                source_arns=_arns_of_delivery(log),
            )
    for trail in deployment.templates.of("AWS::CloudTrail::Trail"):
        yield _Delivery(
            source=trail,
            bucket=trail.properties.get("S3BucketName"),
            writer="CloudTrail",
            service="cloudtrail.amazonaws.com",
            inside=f"{_folder(trail.properties.get('S3KeyPrefix'))}AWSLogs/{trail.account}/*",
            key=trail.properties.get("KMSKeyId"),
            asks_acl=True,
            source_arns=spellings(trail),
        )


def _bucket(deployment: Deployment, value: Value) -> Resource | None:
    name = bucket_and_key(plain(value).removeprefix("arn:aws:s3:::"))[0]
    return bucket_named(deployment.templates, name)


def _context(delivery: _Delivery, **known: tuple[str, ...]) -> Context:
    return Context(
        known={
            "aws:sourceaccount": (delivery.source.account,),
            "aws:sourcearn": delivery.source_arns,
            **known,
        },
        absent=("s3:x-amz-server-side-encryption",),
    )


def _check_policy(deployment: Deployment, delivery: _Delivery, bucket: Resource) -> Iterator[Finding]:
    """Hold the bucket's policy against what the writer does there."""
    policy = policy_of_bucket(deployment.templates, bucket)
    if (delivery.brings_policy and not policy) or _has_acl_for_logs(delivery, bucket):
        return
    arn = plain(Target(bucket, "Arn"))
    wanted = {"s3:PutObject": f"{arn}/{delivery.inside}"} | (
        {"s3:GetBucketAcl": arn} if delivery.asks_acl else {}
    )
    for action, resource in wanted.items():
        request = Request(action=action, resources=(resource,), context=_context(delivery, **_OWNER_HAS_ALL))
        verdict = service_may((delivery.service,), request, resource_policy=policy)
        if verdict is not True and delivery.service == _ELB:
            older = _ELB_ACCOUNTS.get(bucket.region)
            by_account = (
                account_may(older, request, resource_policy=policy) if older else None if policy else False
            )
            verdict = any_of([verdict, by_account])
        if verdict is True:
            continue
        yield (refused if verdict is False else not_proven)(
            bucket,
            "log-bucket-delivery",
            at="BucketPolicy",
            message=f"Its policy does not let {delivery.service} call {action} on {resource}, so "
            f"{delivery.writer} ({delivery.source.logical_id}) delivers nothing."
            if verdict is False
            else f"Whether its policy lets {delivery.service} call {action} on {resource} is not told.",
            mend=f"Allow the service principal {delivery.service} {action} on {resource} in the bucket's "
            "policy, with aws:SourceAccount as condition.",
        )


def _has_acl_for_logs(delivery: _Delivery, bucket: Resource) -> bool:
    """Return whether S3 may write its logs by the bucket's access control list, as it once did."""
    rules = items(at(bucket.properties.get("OwnershipControls"), "Rules"))
    has_lists = any(text(at(rule, "ObjectOwnership")) not in ("", "BucketOwnerEnforced") for rule in rules)
    is_for_logs = text(bucket.properties.get("AccessControl")) == "LogDeliveryWrite"
    return delivery.service == "logging.s3.amazonaws.com" and has_lists and is_for_logs


def _check_key(deployment: Deployment, delivery: _Delivery, bucket: Resource) -> Iterator[Finding]:
    if delivery.key is not None:  # the bucket's default is then not used
        yield from _check_use(deployment, delivery, bucket, delivery.key)
        return
    for rule in items(at(bucket.properties.get("BucketEncryption"), "ServerSideEncryptionConfiguration")):
        default = at(rule, "ServerSideEncryptionByDefault")
        algorithm = text(at(default, "SSEAlgorithm"))
        if algorithm.startswith("aws:kms") or "${" in algorithm:
            yield from _check_use(deployment, delivery, bucket, at(default, "KMSMasterKeyID"))


def _check_use(
    deployment: Deployment, delivery: _Delivery, bucket: Resource, named: Value
) -> Iterator[Finding]:
    key = key_named(deployment.templates, named)
    verdict: bool | None = False if not delivery.encrypts or named is None or is_of_aws(named) else None
    if delivery.encrypts and key is not None:
        trail = f"arn:aws:cloudtrail:{delivery.source.region}:{delivery.source.account}:trail/"
        encryption = {
            "kms:encryptioncontext:aws:cloudtrail:arn": (*delivery.source_arns, f"{trail}${{name}}")
        }
        verdict = service_may(
            (delivery.service,),
            Request(
                action="kms:GenerateDataKey",
                resources=spellings(key),
                context=_context(delivery, **encryption),
            ),
            resource_policy=policy_of_key(key),
        )
    if verdict is True:
        return
    yield (refused if verdict is False else not_proven)(
        bucket,
        "log-bucket-key",
        at="BucketEncryption",
        message=f"It encrypts by KMS, and {delivery.writer} ({delivery.source.logical_id}) cannot use "
        + ("any key: nothing is delivered." if not delivery.encrypts else "that key.")
        if verdict is False
        else f"Whether {delivery.writer} ({delivery.source.logical_id}) can use the key {plain(named)} is "
        "not told.",
        mend="Use SSE-S3 (SSEAlgorithm: AES256) on the bucket of logs."
        if not delivery.encrypts
        else f"Use SSE-S3, or let {delivery.service} call kms:GenerateDataKey* in the policy of the key.",
    )


def _check_lock(delivery: _Delivery, bucket: Resource) -> Iterator[Finding]:
    is_locked = flag(bucket.properties.get("ObjectLockEnabled"))
    # Delivery by CloudTrail and of flow logs sends the checksum that a locked bucket asks for.
    if (is_locked or "ObjectLockConfiguration" in bucket.properties) and not delivery.encrypts:
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
        title="A log bucket with KMS, Object Lock or a policy by which the writer cannot use it",
        parts={
            "log-bucket-key": "default encryption by a key that the writer of the logs cannot use",
            "log-bucket-delivery": "a policy (or none) that does not let the writer of the logs put them",
            "log-bucket-object-lock": "Object Lock on the destination of load balancers' or S3's access logs",
        },
        why="Application Load Balancers and S3's server access logging write to SSE-S3 buckets only, and "
        "S3 never to one with Object Lock. Other writers need the key's policy to name them. All but flow "
        "logs need a statement in the bucket's policy. Nothing says that logs are missing.",
        mend="SSE-S3 and no Object Lock on the bucket of access logs; a statement for the writer in its "
        "policy.",
        absent="nothing delivers logs to a bucket",
        check=_check,
    ),
)
