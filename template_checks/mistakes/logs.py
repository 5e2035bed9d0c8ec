"""17 and 19: keys and permissions for captured data and logs, and the buckets that logs are delivered to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from template_checks.conditions import MADE_UP, Context, all_of, any_of
from template_checks.findings import GIVE_TEMPLATE, Deployment, Finding, judge, not_proven, or_passed, refused
from template_checks.networks import LOAD_BALANCER, attribute
from template_checks.permissions import (
    Request,
    account_may,
    bucket_named,
    policy_of_bucket,
    policy_of_key,
    service_may,
)
from template_checks.policies import (
    BUCKET,
    bucket_and_key,
    is_aws_managed_key,
    key_named,
    objects_in,
    plain,
    spellings,
)
from template_checks.templates import Resource
from template_checks.values import Target, Value, at, flag, items, text


# --- 17: captured data and log groups ---------------------------------------------------------------------
def _check_keys(deployment: Deployment) -> Iterator[Finding]:
    for config in dict.fromkeys(config for config, _ in deployment.workloads.variants()):
        capture = config.properties.get("DataCaptureConfig")
        if capture is not None and flag(at(capture, "EnableCapture")) is not False:
            yield from _check_capture(deployment, config, capture)
    for group in deployment.templates.of("AWS::Logs::LogGroup"):
        if "KmsKeyId" in group.properties:
            yield _check_log_group(deployment, group)


def _check_capture(deployment: Deployment, config: Resource, capture: Value) -> Iterator[Finding]:
    key = at(capture, "KmsKeyId")
    if key is None:
        message = "Requests and responses of the model are captured without a key of your own."
        fix = "Set DataCaptureConfig.KmsKeyId, and allow the model's execution role to use the key."
        yield refused(
            config, "capture-without-key", at="DataCaptureConfig.KmsKeyId", message=message, fix=fix
        )
    models = [
        deployment.workloads.model_of(variant)
        for owner, variant in deployment.workloads.variants()
        if owner is config
    ]
    known = list(dict.fromkeys(model for model in models if model is not None))
    for model in known:
        role = deployment.policies.role(model.properties.get("ExecutionRoleArn"))
        if role is None:
            yield _unknown_writer(config, f"the execution role of {model.logical_id}")
            continue
        yield _check_put(deployment, role, capture)
        if key is not None and not is_aws_managed_key(key):
            yield _check_use_by_role(deployment, role, key)
    if not known:
        yield _unknown_writer(config, "the model of its variants")


def _unknown_writer(config: Resource, what: str) -> Finding:
    message = f"The permissions to write captured data are unknown: {what} is not in the templates."
    return not_proven(
        config, "capture-put-rights", at="DataCaptureConfig", message=message, fix=GIVE_TEMPLATE
    )


def _check_put(deployment: Deployment, role: Resource, capture: Value) -> Finding:
    bucket, prefix = bucket_and_key(at(capture, "DestinationS3Uri"))
    inside, key = objects_in(bucket, prefix), at(capture, "KmsKeyId")
    encrypted: dict[str, tuple[str, ...]] = {}
    if key is not None:
        encrypted = {
            "s3:x-amz-server-side-encryption": ("aws:kms",),
            "s3:x-amz-server-side-encryption-aws-kms-key-id": _names_of_key(deployment, key),
        }
    request = Request(
        action="s3:PutObject",
        resources=(inside,),
        context=Context(known=encrypted, absent=() if encrypted else ("s3:x-amz-server-side-encryption",)),
    )
    found = bucket_named(deployment.templates, bucket)
    policy = policy_of_bucket(deployment.templates, found) if found else []
    verdict = deployment.permissions.role_may(role, request, resource_policy=policy)
    return _permission(role, "capture-put-rights", verdict=verdict, needed=f"s3:PutObject on {inside}")


def _check_use_by_role(deployment: Deployment, role: Resource, value: Value) -> Finding:
    """Check a role against the key's policy and its own, as KMS does if S3 calls it for the role."""
    key = key_named(deployment.templates, value)
    context = {"kms:viaservice": (f"s3.{role.region}.amazonaws.com",), "kms:calleraccount": (role.account,)}
    request = Request(
        action="kms:GenerateDataKey",
        resources=_names_of_key(deployment, value),
        context=Context(known=context),
    )
    if key is None:  # its policy is unknown, so it can only be refused by the role's
        verdict = False if deployment.permissions.role_may(role, request) is False else None
    else:
        verdict = deployment.permissions.role_may(
            role, request, resource_policy=policy_of_key(key), needs_both=True
        )
    needed = f"kms:GenerateDataKey on {plain(value)}"
    return _permission(role, "capture-key-rights", verdict=verdict, needed=needed)


def _names_of_key(deployment: Deployment, value: Value) -> tuple[str, ...]:
    key = key_named(deployment.templates, value)
    return spellings(key) if key else (plain(value),)


def _permission(role: Resource, code: str, *, verdict: bool | None, needed: str) -> Finding:
    return judge(
        verdict,
        role,
        code,
        at="Policies",
        message=f"SageMaker writes captured data with this role, and policies do not allow it {needed}."
        if verdict is False
        else f"SageMaker writes captured data with this role; the templates do not decide whether policies "
        f"allow it {needed}.",
        fix=f"Allow it {needed}, in its own policies and in those of the bucket and the key."
        if verdict is False
        else "Add the templates of the bucket, the key and the policies to the same check.",
    )


def _check_log_group(deployment: Deployment, group: Resource) -> Finding:
    named = group.properties["KmsKeyId"]
    key = key_named(deployment.templates, named)
    if key is None:
        message = f"The policy of its key, {text(named)}, is not in the templates."
        fix = "Add the key's template to the same check."
        return not_proven(group, "log-key-principal", at="KmsKeyId", message=message, fix=fix)
    suffix = "amazonaws.com.cn" if group.region.startswith("cn-") else "amazonaws.com"
    context = {
        "kms:encryptioncontext:aws:logs:arn": spellings(group),
        "aws:sourcearn": spellings(group),
        "aws:sourceaccount": (group.account,),
        "kms:calleraccount": (group.account,),
    }
    verdicts = {
        action: service_may(
            (f"logs.{group.region}.{suffix}", f"logs.{suffix}"),
            Request(action=action, resources=spellings(key), context=Context(known=context)),
            resource_policy=policy_of_key(key),
        )
        for action in ("kms:GenerateDataKey", "kms:Decrypt")
    }
    verdict = all_of(verdicts.values())
    missing = " and ".join(action for action, allowed in verdicts.items() if allowed is not True)
    decided = "its policy does not allow"
    if verdict is None:
        decided = "the templates do not decide whether its policy allows"
    return judge(
        verdict,
        group if verdict else key,
        "log-key-principal",
        at="KeyPolicy",
        message=f"It encrypts the log group {group.logical_id}, and {decided} CloudWatch Logs {missing} for "
        "that group. The log group cannot be made without.",
        fix=f"Allow the service principal logs.{group.region}.{suffix} kms:Encrypt*, kms:Decrypt*, "
        "kms:ReEncrypt*, kms:GenerateDataKey* and kms:Describe* in the key policy, under the log group's "
        "encryption context.",
    )


# --- 19: log buckets --------------------------------------------------------------------------------------
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
"""Accounts with which load balancers wrote before they had a service principal, and still may."""
_DELIVERY = "delivery.logs.amazonaws.com"
_S3 = "logging.s3.amazonaws.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    """Logs that a writer delivers to a bucket. ``service`` writes them, into the folder ``inside``.

    ``encrypts``: it can use a key whose policy names it. ``key`` is its own, instead of the bucket's.
    """

    source: Resource
    bucket: Value
    writer: str
    service: str
    inside: str
    source_arns: tuple[str, ...]
    encrypts: bool = True
    key: Value = None
    asks_acl: bool = False
    """Whether it reads the bucket's access control list first."""
    brings_policy: bool = False
    """Whether AWS adds the statement to a bucket that has no policy."""

    @property
    def by(self) -> str:
        return f"{self.writer} ({self.source.logical_id})"

    def request(
        self, action: str, *, resources: tuple[str, ...], known: Mapping[str, tuple[str, ...]]
    ) -> Request:
        context = {"aws:sourceaccount": (self.source.account,), "aws:sourcearn": self.source_arns, **known}
        return Request(
            action=action,
            resources=resources,
            context=Context(known=context, absent=("s3:x-amz-server-side-encryption",)),
        )


def _check_buckets(deployment: Deployment) -> Iterator[Finding]:
    for delivery in [*_of_load_balancers(deployment), *_of_buckets(deployment), *_of_others(deployment)]:
        bucket = bucket_named(deployment.templates, bucket_and_key(delivery.bucket)[0])
        if bucket is None:
            message = f"{plain(delivery.bucket)}, where {delivery.writer} writes, is not in the templates."
            fix = "Add the bucket's template to the same check."
            yield not_proven(delivery.source, "log-bucket-key", at="Bucket", message=message, fix=fix)
            continue
        found = [
            *_check_key(deployment, delivery, bucket),
            *_check_lock(delivery, bucket),
            *_check_policy(deployment, delivery, bucket),
        ]
        yield from or_passed(found, bucket, "log-bucket-key")


def _folder(prefix: Value, source: Resource) -> str:
    folder = plain(prefix).strip("/")
    return f"{folder}/AWSLogs/{source.account}/*" if folder else f"AWSLogs/{source.account}/*"


def _of_load_balancers(deployment: Deployment) -> Iterator[_Delivery]:
    for balancer in deployment.templates.of(LOAD_BALANCER):
        is_network = text(balancer.properties.get("Type")) == "network"
        kind = f"arn:aws:elasticloadbalancing:{balancer.region}:{balancer.account}:loadbalancer/app"
        own_arns = (plain(Target(balancer)), f"{kind}/{MADE_UP}{balancer.logical_id}}}")
        for kind in ("access_logs", "connection_logs", "health_check_logs"):
            enabled, bucket, prefix = (
                attribute(balancer, f"{kind}.s3.{name}", of="LoadBalancerAttributes")
                for name in ("enabled", "bucket", "prefix")
            )
            if flag(enabled) is not False and enabled is not None and bucket is not None:
                yield _Delivery(
                    source=balancer,
                    bucket=bucket,
                    writer="a Network Load Balancer" if is_network else "an Application Load Balancer",
                    service=_DELIVERY if is_network else _ELB,
                    inside=_folder(prefix, balancer),
                    source_arns=_arns_of_delivery(balancer) if is_network else own_arns,
                    encrypts=is_network,
                    asks_acl=is_network,
                )


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
                service=_S3,
                inside=f"{plain(at(logging, 'LogFilePrefix'))}*",
                source_arns=(plain(Target(bucket, "Arn")),),
                encrypts=False,
            )


def _of_others(deployment: Deployment) -> Iterator[_Delivery]:
    for log in deployment.templates.of("AWS::EC2::FlowLog"):
        if text(log.properties.get("LogDestinationType")) == "s3":
            destination = log.properties.get("LogDestination")
            yield _Delivery(
                source=log,
                bucket=destination,
                writer="the delivery of flow logs",
                service=_DELIVERY,
                inside=_folder(bucket_and_key(destination)[1], log),
                source_arns=_arns_of_delivery(log),
                brings_policy=True,
            )
    for trail in deployment.templates.of("AWS::CloudTrail::Trail"):
        yield _Delivery(
            source=trail,
            bucket=trail.properties.get("S3BucketName"),
            writer="CloudTrail",
            service="cloudtrail.amazonaws.com",
            inside=_folder(trail.properties.get("S3KeyPrefix"), trail),
            source_arns=spellings(trail),
            key=trail.properties.get("KMSKeyId"),
            asks_acl=True,
        )


def _check_policy(deployment: Deployment, delivery: _Delivery, bucket: Resource) -> Iterator[Finding]:
    """Check that the bucket's policy allows what the writer does there."""
    policy = policy_of_bucket(deployment.templates, bucket)
    if (delivery.brings_policy and not policy) or _has_acl_for_logs(delivery, bucket):
        return
    arn = plain(Target(bucket, "Arn"))
    needed = {"s3:PutObject": f"{arn}/{delivery.inside}"}
    needed |= {"s3:GetBucketAcl": arn} if delivery.asks_acl else {}
    for action, resource in needed.items():
        owner_has_all = {"s3:x-amz-acl": ("bucket-owner-full-control",)}
        request = delivery.request(action, resources=(resource,), known=owner_has_all)
        verdict = service_may((delivery.service,), request, resource_policy=policy)
        if delivery.service == _ELB and bucket.region in _ELB_ACCOUNTS:
            account = _ELB_ACCOUNTS[bucket.region]
            verdict = any_of([verdict, account_may(account, request, resource_policy=policy)])
        elif delivery.service == _ELB and policy:
            verdict = any_of([verdict, None])  # the region's account is unknown
        if verdict is not True:
            yield judge(
                verdict,
                bucket,
                "log-bucket-delivery",
                at="BucketPolicy",
                message=f"Its policy does not allow {delivery.service} {action} on {resource}, so "
                f"{delivery.by} delivers nothing."
                if verdict is False
                else f"The templates do not decide whether its policy allows {delivery.service} {action} on "
                f"{resource}.",
                fix=f"Allow the service principal {delivery.service} {action} on {resource} in the bucket's "
                "policy, with aws:SourceAccount as condition.",
            )


def _has_acl_for_logs(delivery: _Delivery, bucket: Resource) -> bool:
    """Return whether S3 may write its logs by the bucket's access control list, the older way."""
    rules = items(at(bucket.properties.get("OwnershipControls"), "Rules"))
    has_lists = any(text(at(rule, "ObjectOwnership")) not in ("", "BucketOwnerEnforced") for rule in rules)
    is_for_logs = text(bucket.properties.get("AccessControl")) == "LogDeliveryWrite"
    return delivery.service == _S3 and has_lists and is_for_logs


def _check_key(deployment: Deployment, delivery: _Delivery, bucket: Resource) -> Iterator[Finding]:
    if delivery.key is not None:  # the writer's own key is used instead of the bucket's
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
    verdict: bool | None = None
    if not delivery.encrypts or named is None or is_aws_managed_key(named):
        verdict = False
    if delivery.encrypts and key is not None:
        trail = f"arn:aws:cloudtrail:{delivery.source.region}:{delivery.source.account}:trail/${{name}}"
        trails = {"kms:encryptioncontext:aws:cloudtrail:arn": (*delivery.source_arns, trail)}
        request = delivery.request("kms:GenerateDataKey", resources=spellings(key), known=trails)
        verdict = service_may((delivery.service,), request, resource_policy=policy_of_key(key))
    if verdict is True:
        return
    message = f"The templates do not decide whether {delivery.by} can use the key {plain(named)}."
    if verdict is False:
        which = "that key." if delivery.encrypts else "any key: nothing is delivered."
        message = f"It encrypts by KMS, and {delivery.by} cannot use {which}"
    yield judge(
        verdict,
        bucket,
        "log-bucket-key",
        at="BucketEncryption",
        message=message,
        fix=f"Use SSE-S3, or allow {delivery.service} kms:GenerateDataKey* in the policy of the key."
        if delivery.encrypts
        else "Use SSE-S3 (SSEAlgorithm: AES256) on the bucket of logs.",
    )


def _check_lock(delivery: _Delivery, bucket: Resource) -> Iterator[Finding]:
    is_locked = flag(bucket.properties.get("ObjectLockEnabled"))
    # Delivery by CloudTrail and of flow logs sends the checksum that a locked bucket requires.
    if (is_locked or "ObjectLockConfiguration" in bucket.properties) and not delivery.encrypts:
        message = (
            f"A bucket with Object Lock cannot be the destination of {delivery.by}: nothing is delivered."
        )
        fix = "Remove Object Lock from this bucket, and copy logs that must not change into a locked one."
        yield refused(bucket, "log-bucket-object-lock", at="ObjectLockEnabled", message=message, fix=fix)


CHECKS = {17: _check_keys, 19: _check_buckets}
