"""The tenant's buckets: closed, versioned, encrypted, with access logs. How long each keeps its content,
their policies, and what roles of other stacks may do with stores.

Bucket policies refuse with conditional Denies on negated operators: "deny unless the tag ``tenant`` is
``pharmacy``" (``StringNotEquals``) also matches a caller without any tag. Denies of content except AWS
services (``_NO_SERVICE``): those call without tags, and only where an Allow admits them. Conditions of IAM,
used below: ``{"Null": {key: "false"}}`` holds where the request has the key, ``"true"`` where it lacks it.
Several operators of one statement must all hold; several values of one key are alternatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from assistant.process.settings import PARSING_PREFIX, PUSHED_PREFIX, UPLOADS_PREFIX, ServiceSettings
from assistant.tenant.deployed_names import AUDIT_FOLDER, TableDefinition
from assistant.tenant.deployment import RETENTION
from assistant.tenant.manifests import CALLERS_PREFIX, COMPILED_PREFIX, EVALUATION_PREFIX
from stacks.keys import trail_arns
from stacks.outputs import KeysOutputs
from stacks.roles import (
    DUTY_TAG,
    INBOX_TAG,
    TENANT_TAG,
    USE_KEY,
    Conditions,
    Duty,
    allow,
    allow_service,
    bucket_arn,
    deny,
    exempt_principals,
    parameter_arn,
    resource_arn,
    via_s3,
)
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import NEVER_DELETED, OUTLIVES, pin, removal_of, tenant_of

ACCESS_LOGS = "s3"
"""Folder of the logs bucket: S3's access logs, by bucket role."""
TRAILS = "cloudtrail"
"""Folder (``S3KeyPrefix``) of the trail bucket that the tenant's trails write to."""
_USE_OF_OBJECTS = (
    "s3:GetObject*",
    "s3:PutObject*",
    "s3:DeleteObject*",
    "s3:RestoreObject",
    "s3:AbortMultipartUpload",
    "s3:ListBucket*",
    "s3:ListMultipartUploadParts",
)
_DELETE = ("s3:DeleteObject*", "s3:RestoreObject")
_UNLOCK = ("s3:BypassGovernanceRetention", "s3:PutObjectRetention", "s3:PutObjectLegalHold")
"""Actions that unlock an object: the bucket's policy denies them, and a change of it raises an alarm."""
_COMPILED_DAYS = 30
"""Age at which a compile job's output expires; ``assistant models compile --promote`` copies what is used."""
_PUT = ("s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectTagging")
_NO_SERVICE: Conditions = {"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}
"""IfExists: an anonymous request has no such key, and is refused."""


def isolation(bucket: s3.Bucket, *, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Refuse the content to every caller but the tenant's roles, AWS services, the deployment and principals
    that the tenant file declares; refuse everything to another tenant's roles."""
    not_exempt = {"ArnNotLike": {"aws:PrincipalArn": exempt_principals(bucket, tenant=tenant)}}
    not_ours = {"StringNotEquals": {TENANT_TAG: tenant.name}}
    tagged = {"Null": {TENANT_TAG: "false"}}
    return [
        _deny("RefuseStrangers", bucket, _USE_OF_OBJECTS, {**not_ours, **_NO_SERVICE, **not_exempt}),
        _deny("RefuseOtherTenants", bucket, ["s3:*"], {**not_ours, **tagged, **not_exempt}),
    ]


def only_with_key(bucket: s3.IBucket, *, key_arn: str) -> iam.PolicyStatement:
    """Refuse a write that names another key than the bucket's. A write that names none uses the bucket's."""
    header = "s3:x-amz-server-side-encryption-aws-kms-key-id"
    conditions = {"StringNotEquals": {header: key_arn}, "Null": {header: "false"}}
    return _deny("RefuseOtherKeys", bucket, ["s3:PutObject"], conditions)


def no_pushers(bucket: s3.IBucket) -> iam.PolicyStatement:
    """Refuse pushers, who may use the inbox only."""
    return _deny("RefusePushers", bucket, ["s3:*"], {"StringEquals": {DUTY_TAG: Duty.PUSHER.value}})


_OWN_FOLDER = "${" + INBOX_TAG + "}/"
"""Folder that a pusher puts files into: a policy variable, which IAM replaces by the caller's tag
``inbox``."""
_OWN_RESULTS = f"{PUSHED_PREFIX}{_OWN_FOLDER}"
"""Folder in which a pusher reads what became of its files."""


def pushers_in_their_folders(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    """Return the Denies of the inbox: a pusher only puts into ``<inbox tag>/`` and reads the results of that,
    and nobody else puts anything, except uploaders, who alone put below ``UPLOADS_PREFIX``. So a pusher whose
    tag equals that prefix puts nothing there."""
    uploads = bucket.arn_for_objects(f"{UPLOADS_PREFIX}*")
    pusher = {"StringEquals": {DUTY_TAG: Duty.PUSHER.value}}
    unlisted = {**pusher, "StringNotLike": {"s3:prefix": f"{_OWN_RESULTS}*"}}
    without_folder = {**pusher, "Null": {INBOX_TAG: "true"}}
    everything = [bucket.bucket_arn, bucket.arn_for_objects("*")]
    own_folder, results = ([bucket.arn_for_objects(f"{folder}*")] for folder in (_OWN_FOLDER, _OWN_RESULTS))
    needed = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket"]
    return [
        deny("PushIntoOwnFolder", actions=["s3:PutObject"], not_resources=own_folder, conditions=pusher),
        deny("PushAndNothingElse", not_actions=needed, resources=everything, conditions=pusher),
        deny("ReadOwnResults", actions=["s3:GetObject"], not_resources=results, conditions=pusher),
        _deny("ListOwnResults", bucket, ["s3:ListBucket"], unlisted),
        _deny("PushOnlyWithFolder", bucket, ["s3:*"], without_folder),
        _put_only_by(Duty.PUSHER, "OnlyPushersPut", not_resources=[uploads]),
        _put_only_by(Duty.UPLOADER, "OnlyUploadersPut", resources=[uploads]),
    ]


def _put_only_by(duty: Duty, sid: str, **where: list[str]) -> iam.PolicyStatement:
    """Refuse puts by roles of another duty. ``where``: ``resources``, or ``not_resources`` for all but
    these."""
    others = {"StringNotEquals": {DUTY_TAG: duty.value}}
    return deny(sid, actions=_PUT, conditions=others, **where)


def admissions(
    buckets: TenantBuckets, *, tenant: DeployedTenant
) -> Iterator[tuple[TenantBucket, iam.PolicyStatement]]:
    """Yield pairs of a bucket (of captured calls, feedback or artifacts) and a Deny of whoever may not put,
    read or delete there.

    Quarantine: only SageMaker's role puts; only the redactor reads and deletes; break-glass principals may
    read. With ``capture = "direct"`` in the tenant file SageMaker's role puts clean captured calls itself.
    Feedback: only the mover puts. Learners and the preparing job read labels; the mover and that job read
    sealed texts: an erasure destroys a key, and the mover reads which texts it sealed, for the receipt. No
    workload deletes either. Models: no workload writes what an endpoint loads; a compile job's output lies
    beside it until a publisher promotes it.

    The rows below: bucket, statement id, the duties admitted, actions, and ARNs of principals admitted too.
    """
    break_glass = tenant.place.break_glass
    persons = [*break_glass, *tenant.config.observability.declared_principals]
    read = ["s3:GetObject*"]
    capture_writer = Duty.CAPTURE_WRITER if tenant.models.capture == "direct" else Duty.REDACTOR
    for bucket, sid, duties, actions, beside in (
        (buckets.quarantine, "OnlySageMakerPuts", Duty.CAPTURE_WRITER, _PUT, ()),
        (buckets.quarantine, "OnlyRedactorReads", Duty.REDACTOR, read, break_glass),
        (buckets.quarantine, "OnlyRedactorDeletes", Duty.REDACTOR, _DELETE, ()),
        (buckets.capture, "OnlyOneWriterPuts", capture_writer, _PUT, ()),
        (buckets.capture, "OnlyRedactorDeletes", Duty.REDACTOR, _DELETE, ()),
        (buckets.labels, "OnlyMoverPuts", Duty.MOVER, _PUT, ()),
        (buckets.labels, "OnlyTheseRead", Duty.PREPARER, read, persons),
        (buckets.texts, "OnlyMoverPuts", Duty.MOVER, _PUT, ()),
        (buckets.texts, "OnlyTheseRead", (Duty.MOVER, Duty.PREPARER), read, persons),
    ):
        yield bucket, _only(duties, sid, bucket, actions, beside=beside)
    compiled = [buckets.models.arn_for_objects(f"{COMPILED_PREFIX}*")]
    yield buckets.models, _put_only_by(Duty.PUBLISHER, "OnlyPublishersPut", not_resources=compiled)
    yield buckets.models, _put_only_by(Duty.COMPILER, "OnlyCompileJobsPut", resources=compiled)
    for bucket in (buckets.labels, buckets.texts):
        yield bucket, _deny("NoWorkloadDeletes", bucket, _DELETE, {"StringEquals": {TENANT_TAG: tenant.name}})
    # Training sets are derived from labels: nobody may shorten their lock.
    yield buckets.labels, _deny("NobodyUnlocks", buckets.labels, _UNLOCK, {})


def log_delivery(bucket: s3.IBucket, *, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Let load balancers write, and S3's access logs of any bucket of the account, because later stacks have
    buckets too.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-server-access-logging.html,
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    """
    account = tenant.place.account
    from_account = {"StringEquals": {"aws:SourceAccount": account}}
    access_logs = bucket.arn_for_objects(f"{ACCESS_LOGS}/*")
    # The path contains the balancer's account; the documented policy has no condition.
    balancer_logs = bucket.arn_for_objects(f"*/AWSLogs/{account}/*")
    return [
        allow_service("logging.s3", "s3:PutObject", access_logs, conditions=from_account),
        allow_service("logdelivery.elasticloadbalancing", "s3:PutObject", balancer_logs),
    ]


def trail_delivery(bucket: s3.IBucket, *, tenant: DeployedTenant, trails: str) -> list[iam.PolicyStatement]:
    """Return statements that let only the tenant's trails and the closer of audit days write, and deny
    changes to locked retention.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-s3-bucket-policy-for-cloudtrail.html
    """
    trail = {"ArnLike": {"aws:SourceArn": trails}}
    objects = bucket.arn_for_objects(f"{TRAILS}/AWSLogs/{tenant.place.account}/*")
    digests = bucket.arn_for_objects(f"{AUDIT_FOLDER}*")
    owned = {**trail, "StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}}
    return [
        allow_service("cloudtrail", "s3:GetBucketAcl", bucket.bucket_arn, conditions=trail),
        allow_service("cloudtrail", "s3:PutObject", objects, conditions=owned),
        _deny(
            "OnlyTrailsPut",
            bucket,
            _PUT,
            {**_NO_SERVICE, "StringNotEquals": {DUTY_TAG: Duty.AUDIT_CLOSER.value}},
        ),
        _put_only_by(Duty.AUDIT_CLOSER, "OnlyCloserPutsDigests", resources=[digests]),
        _deny("NobodyUnlocks", bucket, _UNLOCK, {}),
    ]


def _deny(
    sid: str, bucket: s3.IBucket, actions: Sequence[str], conditions: Conditions
) -> iam.PolicyStatement:
    """Refuse these actions on the bucket and its objects to every caller for whom all conditions hold."""
    everything = [bucket.bucket_arn, bucket.arn_for_objects("*")]
    return deny(sid, actions=actions, resources=everything, conditions=conditions)


def _only(
    duty: Duty | Sequence[Duty],
    sid: str,
    bucket: s3.IBucket,
    actions: Sequence[str],
    *,
    beside: Sequence[str] = (),
) -> iam.PolicyStatement:
    """Refuse these actions to roles of another duty; principals ``beside`` (ARNs, with ``*``) are
    admitted."""
    exempt = {"ArnNotLike": {"aws:PrincipalArn": list(beside)}} if beside else {}
    duties = duty.value if isinstance(duty, Duty) else [member.value for member in duty]
    return _deny(sid, bucket, actions, {"StringNotEquals": {DUTY_TAG: duties}, **exempt})


# --- identities --------------------------------------------------------------------------------------------

ARTIFACT_PREFIXES = ("llm/", "embedding/", CALLERS_PREFIX, EVALUATION_PREFIX)
"""Folders of the models bucket: artifacts by task, what callers of the endpoints need of them, and questions
with known answers."""


def publisher_statements(scope: Construct, bucket: s3.IBucket, *, key_arn: str) -> list[iam.PolicyStatement]:
    """Let a publisher put artifacts and read them again.

    S3 decrypts the parts of a large upload when it joins them: "Uploading and copying objects using multipart
    upload", Amazon S3 user guide.
    """
    objects = [bucket.arn_for_objects(f"{prefix}*") for prefix in ARTIFACT_PREFIXES]
    folders = {
        "StringLike": {"s3:prefix": [f"{prefix}*" for prefix in (*ARTIFACT_PREFIXES, COMPILED_PREFIX)]}
    }
    return [
        allow("s3:GetObject", bucket.arn_for_objects(f"{COMPILED_PREFIX}*")),
        allow(("s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject"), *objects),
        allow("s3:ListBucket", bucket.bucket_arn, conditions=folders),
        allow(("kms:GenerateDataKey", "kms:Decrypt"), key_arn, conditions=via_s3(scope)),
    ]


def pusher_statements(
    scope: Construct, bucket: s3.IBucket, *, key_arn: str, parameter: str
) -> list[iam.PolicyStatement]:
    """Let a pusher put files into its folder of the inbox, and read what became of them.

    ``parameter``: name of the SSM parameter that holds the bucket's name.
    """
    results = {"StringLike": {"s3:prefix": f"{_OWN_RESULTS}*"}}
    return [
        allow(("s3:PutObject", "s3:AbortMultipartUpload"), bucket.arn_for_objects(f"{_OWN_FOLDER}*")),
        allow("s3:GetObject", bucket.arn_for_objects(f"{_OWN_RESULTS}*")),
        allow("s3:ListBucket", bucket.bucket_arn, conditions=results),
        allow("ssm:GetParameter", parameter_arn(scope, parameter)),
        allow(USE_KEY, key_arn, conditions=via_s3(scope)),
    ]


def document_statements(scope: Construct, bucket: str) -> list[iam.PolicyStatement]:
    """Let a role read, write and withdraw documents (delete every version, by its id). ``bucket``: its name.

    ``s3:ListBucket`` is for reads: without it S3 answers "access denied" for a missing object. A condition on
    the prefix would not hold then, because a read of an object has no ``s3:prefix``.
    """
    arn, prefix = bucket_arn(scope, bucket), ServiceSettings.documents_prefix
    return [
        allow(("s3:GetObject", "s3:PutObject", "s3:DeleteObjectVersion"), f"{arn}/{prefix}*"),
        allow("s3:ListBucket", arn),
        allow("s3:ListBucketVersions", arn, conditions={"StringLike": {"s3:prefix": f"{prefix}*"}}),
    ]


def of_partitions(patterns: Sequence[str]) -> Conditions:
    """Return the condition that a call on a table touches only partitions of these patterns (``*``).

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html
    """
    return {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(patterns)}}


def table_statements(
    scope: Construct, definition: TableDefinition, name: str, *, actions: Sequence[str]
) -> list[iam.PolicyStatement]:
    """Let a role call these actions on a table, and query its index."""
    arn = resource_arn(scope, "dynamodb", "table", name)
    statements = [allow(actions, arn)]
    if definition.index is not None:
        statements.append(allow("dynamodb:Query", f"{arn}/index/{definition.index.name}"))
    return statements


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long a bucket keeps its content."""

    days: int | None = None
    """Age at which an object expires; None: never."""
    replaced_days: int
    """Days that overwritten and deleted versions stay."""
    lock: s3.ObjectLockRetention | None = None
    """S3's Object Lock: how long S3 refuses to delete or change an object."""


class TenantBucket(s3.Bucket):
    """A bucket under the tenant's key, admitting the tenant's roles only."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        keeping: Keeping,
        key_arn: str | None,
        logs: str | None,
        is_inbox: bool = False,
    ) -> None:
        """``logs`` is the name of the bucket of access logs. It and ``key_arn`` are None for that bucket
        itself: load balancers and S3's own access logs can write only to a bucket with SSE-S3 and no lock.
        ``is_inbox``: pushers may use the bucket; all others refuse them."""
        tenant = tenant_of(scope)
        # The logs bucket has objects from the first minute, and S3 deletes no bucket with objects.
        removal = removal_of(tenant, otherwise=NEVER_DELETED if logs is None else OUTLIVES)
        super().__init__(
            scope,
            construct_id,
            versioned=True,
            encryption=s3.BucketEncryption.KMS if key_arn else s3.BucketEncryption.S3_MANAGED,
            encryption_key=kms.Key.from_key_arn(scope, f"{construct_id}Key", key_arn) if key_arn else None,
            # One data key per bucket and period, not one per object: KMS is called, and paid, far less.
            bucket_key_enabled=key_arn is not None,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=_lifecycle(keeping),
            object_lock_enabled=None if keeping.lock is None else True,
            object_lock_default_retention=keeping.lock,
            removal_policy=removal,
        )
        self._resource = cast("s3.CfnBucket", self.node.default_child)
        pin(self, construct_id)
        if logs is not None:
            # Set on the resource: `server_access_logs_bucket` would give the log bucket an ACL, which it
            # refuses.
            self._resource.logging_configuration = s3.CfnBucket.LoggingConfigurationProperty(
                destination_bucket_name=logs, log_file_prefix=f"{ACCESS_LOGS}/{construct_id}/"
            )
        self.add_statements(isolation(self, tenant=tenant))
        self.add_statements(pushers_in_their_folders(self) if is_inbox else [no_pushers(self)])
        if key_arn is not None:
            self.add_statements([only_with_key(self, key_arn=key_arn)])
        if self.policy is not None:
            # A bucket that outlives its stack must keep its policy.
            self.policy.apply_removal_policy(removal)

    def add_statements(self, statements: Sequence[iam.PolicyStatement]) -> None:
        for statement in statements:
            self.add_to_resource_policy(statement)

    def send_events(self) -> None:
        """Send changes to EventBridge. It is set on the resource, because CDK's `event_bridge_enabled` would
        add a helper function outside the VPC."""
        self._resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(
                event_bridge_enabled=True
            )
        )


def _lifecycle(keeping: Keeping) -> list[s3.LifecycleRule]:
    """Return the rules of a bucket. S3 counts days from the next midnight: one day takes 24 to 48 hours."""
    return [
        s3.LifecycleRule(
            id="Bounded",
            expiration=None if keeping.days is None else cdk.Duration.days(keeping.days),
            noncurrent_version_expiration=cdk.Duration.days(keeping.replaced_days),
            abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
        ),
        # S3 does not take an expiry in days and one of delete markers in one rule.
        s3.LifecycleRule(id="DeleteMarkers", expired_object_delete_marker=True),
    ]


class TenantBuckets(Construct):
    """All buckets of a tenant, as attributes (``documents``, ``texts``: sealed feedback), with their
    policies."""

    def __init__(self, scope: Construct, construct_id: str, *, keys: KeysOutputs) -> None:
        super().__init__(scope, construct_id)
        tenant = tenant_of(self)
        retention = RETENTION[tenant.place.profile]  # in days
        replaced_days = retention.replaced
        forever = Keeping(replaced_days=replaced_days)
        logs = Keeping(days=tenant.log_retention_days, replaced_days=replaced_days)
        trail = replace(logs, lock=_trail_lock(tenant))
        capture_days = retention.capture_texts if tenant.models.keeps_captured_texts else retention.capture
        capture = Keeping(days=capture_days, replaced_days=replaced_days)
        feedback = Keeping(days=retention.feedback, replaced_days=replaced_days)
        labels = replace(feedback, lock=_labels_lock(tenant))
        inbox = Keeping(days=retention.inbox, replaced_days=retention.inbox_replaced)
        quarantined = Keeping(days=retention.quarantine, replaced_days=retention.quarantine)
        self.logs = self._bucket("LogsBucket", logs, None)
        self.trail = self._bucket("TrailBucket", trail, keys.logs_key_arn)
        self.documents = self._bucket("DocumentsBucket", forever, keys.data_key_arn)
        self.models = self._bucket("ModelsBucket", forever, keys.models_key_arn)
        self.labels = self._bucket("LabelsBucket", labels, keys.feedback_key_arn)
        self.texts = self._bucket("FeedbackBucket", feedback, keys.feedback_key_arn)
        self.quarantine = self._bucket("QuarantineBucket", quarantined, keys.capture_key_arn)
        self.capture = self._bucket("CaptureBucket", capture, keys.capture_key_arn)
        self.inbox = self._bucket("InboxBucket", inbox, keys.data_key_arn, is_inbox=True)
        self.models.add_lifecycle_rule(
            id="Compiled", prefix=COMPILED_PREFIX, expiration=cdk.Duration.days(_COMPILED_DAYS)
        )
        # Each call deletes what it put there to be parsed; this rule deletes what an interrupted call left.
        self.documents.add_lifecycle_rule(
            id="Parsing",
            prefix=PARSING_PREFIX,
            expiration=cdk.Duration.days(1),
            noncurrent_version_expiration=cdk.Duration.days(1),
        )
        for bucket in (self.documents, self.inbox, self.quarantine):
            bucket.send_events()
        for bucket, statement in admissions(self, tenant=tenant):
            bucket.add_statements([statement])
        self.logs.add_statements(log_delivery(self.logs, tenant=tenant))
        trails = trail_arns(self, tenant=tenant)
        self.trail.add_statements(trail_delivery(self.trail, tenant=tenant, trails=trails))

    def _bucket(
        self, construct_id: str, keeping: Keeping, key_arn: str | None, *, is_inbox: bool = False
    ) -> TenantBucket:
        """Create a bucket that logs to ``self.logs``, which must be made first."""
        logs = None if construct_id == "LogsBucket" else self.logs.bucket_name
        return TenantBucket(
            self, construct_id, keeping=keeping, key_arn=key_arn, logs=logs, is_inbox=is_inbox
        )


def _trail_lock(tenant: DeployedTenant) -> s3.ObjectLockRetention:
    """Return the trail's lock: for as long as logs are kept, and one day for a sandbox, which may be deleted.

    In compliance mode nobody shortens it, neither the account's root nor AWS; in governance mode an
    administrator may.
    """
    days = cdk.Duration.days(1 if tenant.is_dev else tenant.log_retention_days)
    locks = s3.ObjectLockRetention
    return locks.compliance(days) if tenant.is_hipaa else locks.governance(days)


def _labels_lock(tenant: DeployedTenant) -> s3.ObjectLockRetention | None:
    """Return the lock of labels under ``hipaa``: for as long as they are kept, in governance mode.

    Labels are pseudonymised data of workers. In compliance mode no court and no works council could have one
    erased (docs/decisions/0050-feedback-on-aws.md).
    """
    if not tenant.is_hipaa:
        return None
    return s3.ObjectLockRetention.governance(cdk.Duration.days(RETENTION[tenant.place.profile].feedback))
