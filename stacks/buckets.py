"""The tenant's buckets: closed, versioned, encrypted, with access logs.

First their policies, then what roles of other stacks may do with them, then the buckets themselves and how
long each keeps its content.

Bucket policies refuse with conditional Denies on negated operators: "deny unless the tag ``tenant`` is
``pharmacy``" (``StringNotEquals``) also matches a caller without any tag. Every condition that is called
"unless" holds for all callers but those that it names. Conditions of IAM, used below: ``{"Null": {key:
"false"}}`` holds where the request has the key, ``"true"`` where it lacks it. Several operators of one
statement must all hold; several values of one key are alternatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from assistant.process.settings import PARSING_PREFIX, PUSHED_PREFIX, UPLOADS_PREFIX, ServiceSettings
from assistant.tenant.deployment import RETENTION, Profile
from assistant.tenant.manifests import CALLERS_PREFIX, COMPILED_PREFIX, EVALUATION_PREFIX
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
    via_s3,
)
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import NEVER_DELETED, OUTLIVES, pin, removal_of, tenant_of

ACCESS_LOGS = "s3"
"""Folder of the logs bucket: S3's access logs, by bucket role."""
_USE_OF_CONTENT = (
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
_READ = ("s3:GetObject*",)
_OWN_FOLDER = "${" + INBOX_TAG + "}/"
"""Folder that a pusher puts files into: a policy variable, which IAM replaces by the caller's tag
``inbox``."""
_OWN_RESULTS = f"{PUSHED_PREFIX}{_OWN_FOLDER}"
"""Folder in which a pusher reads what became of its files."""
_IS_PUSHER: Conditions = {"StringEquals": {DUTY_TAG: Duty.PUSHER}}
_UNLESS_SERVICE: Conditions = {"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}
"""The caller is no AWS service: those have no tags, and call only where an Allow admits them. IfExists: an
anonymous request lacks the key, and the condition holds for it."""


def _unless(duty: Duty | list[Duty]) -> Conditions:
    """Return the condition that the caller's role has another duty than these, or none."""
    return {"StringNotEquals": {DUTY_TAG: duty}}


def _unless_arn(arns: Sequence[str]) -> Conditions:
    """Return the condition that the caller is none of these principals, ARNs in which ``*`` is any text. It
    always holds if there are none."""
    return {"ArnNotLike": {"aws:PrincipalArn": list(arns)}} if arns else {}


def _deny_on(
    bucket: s3.IBucket, sid: str, actions: Sequence[str], conditions: Conditions
) -> iam.PolicyStatement:
    """Refuse these actions on the bucket and its objects to every caller for whom all conditions hold."""
    everything = [bucket.bucket_arn, bucket.arn_for_objects("*")]
    return deny(sid, actions=actions, resources=everything, conditions=conditions)


def isolation(bucket: s3.Bucket, *, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Refuse the content to every caller but the tenant's roles, AWS services, the deployment and principals
    that the tenant file declares; refuse everything to another tenant's roles."""
    unless_ours = {"StringNotEquals": {TENANT_TAG: tenant.name}}
    tagged = {"Null": {TENANT_TAG: "false"}}
    unless_exempt = _unless_arn(exempt_principals(bucket, tenant=tenant))
    strangers = {**unless_ours, **_UNLESS_SERVICE, **unless_exempt}
    return [
        _deny_on(bucket, "RefuseStrangers", _USE_OF_CONTENT, strangers),
        _deny_on(bucket, "RefuseOtherTenants", ["s3:*"], {**unless_ours, **tagged, **unless_exempt}),
    ]


def only_with_key(bucket: s3.IBucket, *, key_arn: str) -> iam.PolicyStatement:
    """Refuse a write that names another key than the bucket's. A write that names none uses the bucket's."""
    header = "s3:x-amz-server-side-encryption-aws-kms-key-id"
    conditions = {"StringNotEquals": {header: key_arn}, "Null": {header: "false"}}
    return _deny_on(bucket, "RefuseOtherKeys", ["s3:PutObject"], conditions)


def no_pushers(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    """Refuse pushers, who may use the inbox only."""
    return [_deny_on(bucket, "RefusePushers", ["s3:*"], _IS_PUSHER)]


def pushers_in_their_folders(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    """Return the Denies of the inbox. A pusher puts into ``<inbox tag>/`` and reads the results of that, and
    does nothing else. Uploaders alone put below ``UPLOADS_PREFIX``, so a pusher whose tag equals that prefix
    puts nothing. Nobody else puts anything."""
    uploads = [bucket.arn_for_objects(f"{UPLOADS_PREFIX}*")]
    unlisted = {**_IS_PUSHER, "StringNotLike": {"s3:prefix": f"{_OWN_RESULTS}*"}}
    without_folder = {**_IS_PUSHER, "Null": {INBOX_TAG: "true"}}
    everything = [bucket.bucket_arn, bucket.arn_for_objects("*")]
    own_folder, results = ([bucket.arn_for_objects(f"{folder}*")] for folder in (_OWN_FOLDER, _OWN_RESULTS))
    needed = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket"]
    return [
        deny("PushIntoOwnFolder", actions=["s3:PutObject"], not_resources=own_folder, conditions=_IS_PUSHER),
        deny("PushAndNothingElse", not_actions=needed, resources=everything, conditions=_IS_PUSHER),
        deny("ReadOwnResults", actions=["s3:GetObject"], not_resources=results, conditions=_IS_PUSHER),
        _deny_on(bucket, "ListOwnResults", ["s3:ListBucket"], unlisted),
        _deny_on(bucket, "PushOnlyWithFolder", ["s3:*"], without_folder),
        deny("OnlyPushersPut", actions=_PUT, not_resources=uploads, conditions=_unless(Duty.PUSHER)),
        deny("OnlyUploadersPut", actions=_PUT, resources=uploads, conditions=_unless(Duty.UPLOADER)),
    ]


def quarantine_policy(bucket: s3.IBucket, *, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Raw captured calls: only SageMaker's role puts them; only the redactor reads and deletes them;
    break-glass principals may read them."""
    unless_reader = {**_unless(Duty.REDACTOR), **_unless_arn(tenant.place.break_glass)}
    return [
        _deny_on(bucket, "OnlySageMakerPuts", _PUT, _unless(Duty.CAPTURE_WRITER)),
        _deny_on(bucket, "OnlyRedactorReads", _READ, unless_reader),
        _deny_on(bucket, "OnlyRedactorDeletes", _DELETE, _unless(Duty.REDACTOR)),
    ]


def capture_policy(bucket: s3.IBucket, *, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Clean captured calls: the redactor puts and deletes them. With ``capture = "direct"`` in the tenant
    file SageMaker's role puts them itself."""
    writer = Duty.CAPTURE_WRITER if tenant.models.capture == "direct" else Duty.REDACTOR
    return [
        _deny_on(bucket, "OnlyOneWriterPuts", _PUT, _unless(writer)),
        _deny_on(bucket, "OnlyRedactorDeletes", _DELETE, _unless(Duty.REDACTOR)),
    ]


def feedback_policy(
    bucket: s3.IBucket, readers: Duty | list[Duty], *, tenant: DeployedTenant
) -> list[iam.PolicyStatement]:
    """Labels or sealed texts of feedback: only the mover puts them; only roles of these duties, break-glass
    principals and declared readers read them; no workload deletes them."""
    persons = [*tenant.place.break_glass, *tenant.config.observability.declared_principals]
    return [
        _deny_on(bucket, "OnlyMoverPuts", _PUT, _unless(Duty.MOVER)),
        _deny_on(bucket, "OnlyTheseRead", _READ, {**_unless(readers), **_unless_arn(persons)}),
        _deny_on(bucket, "NoWorkloadDeletes", _DELETE, {"StringEquals": {TENANT_TAG: tenant.name}}),
    ]


def models_policy(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    """Models: no workload writes what an endpoint loads; a compile job's output lies beside it until a
    publisher promotes it."""
    compiled = [bucket.arn_for_objects(f"{COMPILED_PREFIX}*")]
    return [
        deny("OnlyPublishersPut", actions=_PUT, not_resources=compiled, conditions=_unless(Duty.PUBLISHER)),
        deny("OnlyCompileJobsPut", actions=_PUT, resources=compiled, conditions=_unless(Duty.COMPILER)),
    ]


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


def trail_delivery(bucket: s3.IBucket, from_trail: Conditions) -> list[iam.PolicyStatement]:
    """Let only the account's trail write (``from_trail``: the condition that it does); refuse tenants' roles
    the content, which has the events of all tenants, and everybody changes to locked retention.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-s3-bucket-policy-for-cloudtrail.html
    """
    objects = bucket.arn_for_objects(f"AWSLogs/{cdk.Stack.of(bucket).account}/*")
    owned = {"StringEquals": {**from_trail["StringEquals"], "s3:x-amz-acl": "bucket-owner-full-control"}}
    return [
        allow_service("cloudtrail", "s3:GetBucketAcl", bucket.bucket_arn, conditions=from_trail),
        allow_service("cloudtrail", "s3:PutObject", objects, conditions=owned),
        _deny_on(bucket, "OnlyTrailPuts", _PUT, _UNLESS_SERVICE),
        _deny_on(bucket, "RefuseTenants", _USE_OF_CONTENT, {"Null": {TENANT_TAG: "false"}}),
        _deny_on(bucket, "NobodyUnlocks", _UNLOCK, {}),
    ]


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


# --- buckets ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long a bucket keeps its content."""

    days: int | None = None
    """Age at which an object expires; None: never."""
    replaced_days: int
    """Days that overwritten and deleted versions stay."""
    lock: s3.ObjectLockRetention | None = None
    """S3's Object Lock: how long S3 refuses to delete or change an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What every bucket has but that of access logs: load balancers and S3's own access logs can write only
    to a bucket with SSE-S3 and no lock."""

    key_arn: str
    """The KMS key that encrypts the content."""
    logs: str
    """Name of the bucket of access logs."""


class ClosedBucket(s3.Bucket):
    """A bucket without public access, for TLS alone, with versions. ``key``: None for S3's own keys."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        keeping: Keeping,
        *,
        key: kms.IKey | None,
        removal: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            versioned=True,
            encryption=s3.BucketEncryption.KMS if key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=key,
            # One data key per bucket and period, not one per object: KMS is called, and paid, far less.
            bucket_key_enabled=key is not None,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=_lifecycle(keeping),
            object_lock_enabled=None if keeping.lock is None else True,
            object_lock_default_retention=keeping.lock,
            removal_policy=removal,
        )

    def add_statements(self, statements: Sequence[iam.PolicyStatement]) -> None:
        for statement in statements:
            self.add_to_resource_policy(statement)


class TenantBucket(ClosedBucket):
    """A bucket that admits the tenant's roles only, with the logical id ``construct_id``."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        keeping: Keeping,
        protection: Protection | None,
        is_inbox: bool = False,
    ) -> None:
        """``protection``: None for the bucket of access logs itself. ``is_inbox``: pushers may use the
        bucket; all others refuse them."""
        tenant = tenant_of(scope)
        # The logs bucket has objects from the first minute, and S3 deletes no bucket with objects.
        removal = removal_of(tenant, otherwise=OUTLIVES if protection else NEVER_DELETED)
        key = kms.Key.from_key_arn(scope, f"{construct_id}Key", protection.key_arn) if protection else None
        super().__init__(scope, construct_id, keeping, key=key, removal=removal)
        self._resource = cast("s3.CfnBucket", self.node.default_child)
        pin(self, construct_id)
        self.add_statements(isolation(self, tenant=tenant))
        self.add_statements(pushers_in_their_folders(self) if is_inbox else no_pushers(self))
        if protection is not None:
            self.add_statements([only_with_key(self, key_arn=protection.key_arn)])
            # Set on the resource: `server_access_logs_bucket` would give the log bucket an ACL, which it
            # refuses.
            self._resource.logging_configuration = s3.CfnBucket.LoggingConfigurationProperty(
                destination_bucket_name=protection.logs, log_file_prefix=f"{ACCESS_LOGS}/{construct_id}/"
            )
        if self.policy is not None:
            # A bucket that outlives its stack must keep its policy.
            self.policy.apply_removal_policy(removal)

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
        logs = Keeping(days=tenant.log_retention_days, replaced_days=replaced_days)
        self.logs = TenantBucket(self, "LogsBucket", keeping=logs, protection=None)
        self.logs.add_statements(log_delivery(self.logs, tenant=tenant))

        def bucket(
            construct_id: str, key_arn: str, keeping: Keeping, *, is_inbox: bool = False
        ) -> TenantBucket:
            protection = Protection(key_arn=key_arn, logs=self.logs.bucket_name)
            return TenantBucket(self, construct_id, keeping=keeping, protection=protection, is_inbox=is_inbox)

        # Digests of audit days; of a deployment before account version 5 also the files of its trail.
        locked = replace(logs, lock=trail_lock(tenant.place.profile))
        self.trail = bucket("TrailBucket", keys.logs_key_arn, locked)
        only_closer = _deny_on(self.trail, "OnlyCloserPuts", _PUT, _unless(Duty.AUDIT_CLOSER))
        self.trail.add_statements([only_closer, _deny_on(self.trail, "NobodyUnlocks", _UNLOCK, {})])

        forever = Keeping(replaced_days=replaced_days)
        self.documents = bucket("DocumentsBucket", keys.data_key_arn, forever)
        # Each call deletes what it put there to be parsed; this rule deletes what an interrupted call left.
        self.documents.add_lifecycle_rule(
            id="Parsing",
            prefix=PARSING_PREFIX,
            expiration=cdk.Duration.days(1),
            noncurrent_version_expiration=cdk.Duration.days(1),
        )
        self.documents.send_events()
        self.models = bucket("ModelsBucket", keys.models_key_arn, forever)
        self.models.add_statements(models_policy(self.models))
        self.models.add_lifecycle_rule(
            id="Compiled", prefix=COMPILED_PREFIX, expiration=cdk.Duration.days(_COMPILED_DAYS)
        )

        feedback = Keeping(days=retention.feedback, replaced_days=replaced_days)
        labels = replace(feedback, lock=_labels_lock(tenant))
        self.labels = bucket("LabelsBucket", keys.feedback_key_arn, labels)
        self.labels.add_statements(feedback_policy(self.labels, Duty.PREPARER, tenant=tenant))
        # Training sets are derived from labels: nobody may shorten their lock.
        self.labels.add_statements([_deny_on(self.labels, "NobodyUnlocks", _UNLOCK, {})])
        self.texts = bucket("FeedbackBucket", keys.feedback_key_arn, feedback)
        # An erasure destroys a key, and the mover reads which texts it sealed, for the receipt.
        readers = [Duty.MOVER, Duty.PREPARER]
        self.texts.add_statements(feedback_policy(self.texts, readers, tenant=tenant))

        quarantined = Keeping(days=retention.quarantine, replaced_days=retention.quarantine)
        self.quarantine = bucket("QuarantineBucket", keys.capture_key_arn, quarantined)
        self.quarantine.add_statements(quarantine_policy(self.quarantine, tenant=tenant))
        self.quarantine.send_events()
        capture_days = retention.capture_texts if tenant.models.keeps_captured_texts else retention.capture
        captured = Keeping(days=capture_days, replaced_days=replaced_days)
        self.capture = bucket("CaptureBucket", keys.capture_key_arn, captured)
        self.capture.add_statements(capture_policy(self.capture, tenant=tenant))

        inbox = Keeping(days=retention.inbox, replaced_days=retention.inbox_replaced)
        self.inbox = bucket("InboxBucket", keys.data_key_arn, inbox, is_inbox=True)
        self.inbox.send_events()


def trail_lock(profile: Profile) -> s3.ObjectLockRetention:
    """Return the lock of a trail and of audit digests: for as long as logs are kept, and one day for a
    sandbox, which may be deleted.

    In compliance mode nobody shortens it, neither the account's root nor AWS; in governance mode an
    administrator may.
    """
    days = cdk.Duration.days(1 if profile == "dev" else RETENTION[profile].logs)
    retention = s3.ObjectLockRetention
    return retention.compliance(days) if profile == "hipaa" else retention.governance(days)


def _labels_lock(tenant: DeployedTenant) -> s3.ObjectLockRetention | None:
    """Return the lock of labels under ``hipaa``: for as long as they are kept, in governance mode.

    Labels are pseudonymised data of workers. In compliance mode no court and no works council could have one
    erased (docs/decisions/0050-feedback-on-aws.md).
    """
    if not tenant.is_hipaa:
        return None
    return s3.ObjectLockRetention.governance(cdk.Duration.days(RETENTION[tenant.place.profile].feedback))
