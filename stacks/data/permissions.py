"""What bucket policies of a tenant refuse, and whom the logs bucket lets write.

Refusals are conditional Denies on negated operators, which also match when a caller has no tag at all. AWS
services are left out of them: they come without tags, and only where an Allow lets them in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.roles import DUTY_TAG, INBOX_TAG, TENANT_TAG, Duty, exempt_principals
from stacks.tenant import DeployedTenant

_OBJECTS = (
    "s3:GetObject*",
    "s3:PutObject*",
    "s3:DeleteObject*",
    "s3:RestoreObject",
    "s3:AbortMultipartUpload",
    "s3:ListBucket*",
    "s3:ListMultipartUploadParts",
)
_READ = ("s3:GetObject*",)
_TAKE_AWAY = ("s3:DeleteObject*", "s3:RestoreObject")
_UNLOCK = ("s3:BypassGovernanceRetention", "s3:PutObjectRetention", "s3:PutObjectLegalHold")
"""Who would do so changes the bucket's policy first, and that sets off an alarm."""
_PUT = ("s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectTagging")

Conditions = Mapping[str, Mapping[str, Any]]


def isolation(scope: Construct, bucket: s3.IBucket, *, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Refuse the content to whoever is neither the tenant's, an AWS service, the deployment nor declared in
    the tenant file; and everything to another tenant's roles."""
    not_ours: Conditions = {
        "StringNotEquals": {TENANT_TAG: tenant.name},
        # IfExists: an anonymous request has no such key, and is refused.
        "BoolIfExists": {"aws:PrincipalIsAWSService": "false"},
        "ArnNotLike": {"aws:PrincipalArn": exempt_principals(scope, tenant=tenant)},
    }
    others: Conditions = {
        "StringNotEquals": {TENANT_TAG: tenant.name},
        "Null": {TENANT_TAG: "false"},
        "ArnNotLike": {"aws:PrincipalArn": exempt_principals(scope, tenant=tenant)},
    }
    return [
        deny("RefuseStrangers", bucket, _OBJECTS, not_ours),
        deny("RefuseOtherTenants", bucket, ["s3:*"], others),
    ]


def only_with_key(bucket: s3.IBucket, *, key_arn: str) -> iam.PolicyStatement:
    """Refuse a writer who names another key than the bucket's own, which is used when none is named."""
    header = "s3:x-amz-server-side-encryption-aws-kms-key-id"
    conditions: Conditions = {"StringNotEquals": {header: key_arn}, "Null": {header: "false"}}
    return deny("RefuseOtherKeys", bucket, ["s3:PutObject"], conditions)


def no_pushers(bucket: s3.IBucket) -> iam.PolicyStatement:
    """Refuse those who have business in the inbox alone."""
    return deny("RefusePushers", bucket, ["s3:*"], {"StringEquals": {DUTY_TAG: Duty.PUSHER.value}})


def pushers_in_their_folders(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    """A pusher puts into ``<inbox tag>/`` and can do nothing else; nobody else puts."""
    pusher = {"StringEquals": {DUTY_TAG: Duty.PUSHER.value}}
    elsewhere = iam.PolicyStatement(
        sid="PushIntoOwnFolder",
        effect=iam.Effect.DENY,
        actions=["s3:PutObject"],
        not_resources=[bucket.arn_for_objects("${" + INBOX_TAG + "}/*")],
        conditions=pusher,
    )
    anything_else = iam.PolicyStatement(
        sid="PushAndNothingElse",
        effect=iam.Effect.DENY,
        not_actions=["s3:PutObject", "s3:AbortMultipartUpload"],
        resources=[bucket.bucket_arn, bucket.arn_for_objects("*")],
        conditions=pusher,
    )
    for statement in (elsewhere, anything_else):
        statement.add_any_principal()
    without_folder = {**pusher, "Null": {INBOX_TAG: "true"}}
    return [
        elsewhere,
        anything_else,
        deny("PushOnlyWithFolder", bucket, ["s3:*"], without_folder),
        _only(Duty.PUSHER, "OnlyPushersPut", bucket, _PUT),
    ]


def quarantine(bucket: s3.IBucket, *, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """SageMaker's role puts; the redactor reads and deletes; who breaks glass may read."""
    return [
        _only(Duty.CAPTURE_WRITER, "OnlySageMakerPuts", bucket, _PUT),
        _only(Duty.REDACTOR, "OnlyRedactorReads", bucket, _READ, beside=tenant.place.break_glass),
        _only(Duty.REDACTOR, "OnlyRedactorDeletes", bucket, _TAKE_AWAY),
    ]


def clean_capture(bucket: s3.IBucket, *, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """The redactor puts; where the tenant file wants raw capture kept (``direct``), SageMaker's role does."""
    writer = Duty.CAPTURE_WRITER if tenant.models.capture == "direct" else Duty.REDACTOR
    return [
        _only(writer, "OnlyOneWriterPuts", bucket, _PUT),
        _only(Duty.REDACTOR, "OnlyRedactorDeletes", bucket, _TAKE_AWAY),
    ]


def artifacts(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    """Publishers alone put: what an endpoint loads comes from no workload."""
    return [_only(Duty.PUBLISHER, "OnlyPublishersPut", bucket, _PUT)]


def log_delivery(bucket: s3.IBucket, *, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Let S3's access logs (of any bucket of the account: later stacks have some) and load balancers write.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-server-access-logging.html,
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    """
    account = tenant.place.account
    of_buckets: Conditions = {"StringEquals": {"aws:SourceAccount": account}}
    objects = bucket.arn_for_objects(f"*/AWSLogs/{account}/*")
    return [
        _let("logging.s3", "s3:PutObject", bucket.arn_for_objects(f"{ACCESS_LOGS}/*"), of_buckets),
        # The path has the account that the balancer is of; the documented policy has no condition.
        _let("logdelivery.elasticloadbalancing", "s3:PutObject", objects),
    ]


def trail_delivery(bucket: s3.IBucket, *, tenant: DeployedTenant, trails: str) -> list[iam.PolicyStatement]:
    """Let the tenant's trails write, nobody else, and nobody shorten what a lock keeps.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-s3-bucket-policy-for-cloudtrail.html
    """
    trail: Conditions = {"ArnLike": {"aws:SourceArn": trails}}
    objects = bucket.arn_for_objects(f"{TRAILS}/AWSLogs/{tenant.place.account}/*")
    written: Conditions = {**trail, "StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}}
    no_service: Conditions = {"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}
    return [
        _let("cloudtrail", "s3:GetBucketAcl", bucket.bucket_arn, trail),
        _let("cloudtrail", "s3:PutObject", objects, written),
        deny("OnlyTrailsPut", bucket, _PUT, no_service),
        deny("NobodyUnlocks", bucket, _UNLOCK, {}),
    ]


ACCESS_LOGS = "s3"
"""Folder of the logs bucket: S3's access logs, by bucket role."""
TRAILS = "cloudtrail"
"""Folder (``S3KeyPrefix``) of the trail bucket that the tenant's trails write to."""


def deny(sid: str, bucket: s3.IBucket, actions: Sequence[str], conditions: Conditions) -> iam.PolicyStatement:
    statement = iam.PolicyStatement(
        sid=sid,
        effect=iam.Effect.DENY,
        actions=list(actions),
        resources=[bucket.bucket_arn, bucket.arn_for_objects("*")],
        conditions=dict(conditions),
    )
    statement.add_any_principal()
    return statement


def _only(
    duty: Duty, sid: str, bucket: s3.IBucket, actions: Sequence[str], *, beside: Sequence[str] = ()
) -> iam.PolicyStatement:
    conditions: dict[str, Mapping[str, Any]] = {"StringNotEquals": {DUTY_TAG: duty.value}}
    if beside:
        conditions["ArnNotLike"] = {"aws:PrincipalArn": list(beside)}
    return deny(sid, bucket, actions, conditions)


def _let(
    service: str, action: str, resource: str, conditions: Conditions | None = None
) -> iam.PolicyStatement:
    statement = iam.PolicyStatement(
        actions=[action],
        resources=[resource],
        conditions=None if conditions is None else dict(conditions),
    )
    statement.add_service_principal(f"{service}.amazonaws.com")
    return statement
