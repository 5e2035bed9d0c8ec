"""The tenant's buckets: closed, versioned, encrypted, with access logs; how long each keeps its content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.data.permissions import (
    ACCESS_LOGS,
    artifacts,
    clean_capture,
    isolation,
    labels,
    log_delivery,
    no_pushers,
    only_with_key,
    pushers_in_their_folders,
    quarantine,
    texts,
    trail_delivery,
)
from stacks.keys import trail_arns
from stacks.outputs import KeysOutputs
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import NEVER_DELETED, OUTLIVES, pin, removal_of

_REPLACED_DAYS = {"dev": 1, "standard": 14, "hipaa": 35}
"""A mistake can be undone for so long; a withdrawal is complete only after it. The tables' recovery takes 35
days too."""
_CAPTURE_DAYS = {"dev": 7, "standard": 90, "hipaa": 365}
_FEEDBACK_DAYS = {"dev": 30, "standard": 400, "hipaa": 400}
"""Thirteen months, so that a month can be compared with that of the year before. Nothing that learns needs
more, and agents are workers (docs/decisions/0050-feedback-on-aws.md)."""
_INBOX_DAYS = {"dev": 7, "standard": 30, "hipaa": 30}
"""A pushed file is read within minutes; until then it may be pushed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long a bucket keeps its content."""

    days: int | None = None
    """Age at which an object expires; None: never."""
    replaced_days: int
    """How long overwritten and deleted versions stay."""


class TenantBucket(s3.Bucket):
    """A bucket under the tenant's key, admitting the tenant's roles only."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keeping: Keeping,
        key_arn: str | None,
        log_bucket: s3.IBucket | None,
        is_inbox: bool = False,
        lock: s3.ObjectLockRetention | None = None,
    ) -> None:
        """``key_arn`` and ``log_bucket`` are None for the bucket of logs itself: load balancers and S3's own
        access logs can write only to SSE-S3, and not where a lock is. ``lock`` is S3's Object Lock: how long
        S3 refuses to delete or change an object."""
        # S3 logs from the first minute on, and deletes no bucket that contains an object.
        removal = removal_of(tenant, otherwise=NEVER_DELETED if log_bucket is None else OUTLIVES)
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
            object_lock_enabled=None if lock is None else True,
            object_lock_default_retention=lock,
            removal_policy=removal,
        )
        self._resource = cast("s3.CfnBucket", self.node.default_child)
        pin(self, construct_id)
        if log_bucket is not None:
            # As a property: `server_access_logs_bucket` would give the log bucket an ACL, which it refuses.
            self._resource.logging_configuration = s3.CfnBucket.LoggingConfigurationProperty(
                destination_bucket_name=log_bucket.bucket_name,
                log_file_prefix=f"{ACCESS_LOGS}/{construct_id}/",
            )
        self.add_statements(isolation(self, self, tenant=tenant))
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
        """Send changes to EventBridge. As a property: `event_bridge_enabled` would add a helper function
        outside the VPC."""
        self._resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(
                event_bridge_enabled=True
            )
        )


def _lifecycle(keeping: Keeping) -> list[s3.LifecycleRule]:
    """S3 counts from the midnight after, so one day is between one and two."""
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
    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, keys: KeysOutputs
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        profile = tenant.place.profile
        replaced_days = _REPLACED_DAYS[profile]
        forever = Keeping(replaced_days=replaced_days)
        logs = Keeping(days=tenant.log_retention_days, replaced_days=replaced_days)
        capture = Keeping(days=_CAPTURE_DAYS[profile], replaced_days=replaced_days)
        feedback = Keeping(days=_FEEDBACK_DAYS[profile], replaced_days=replaced_days)
        inbox = Keeping(days=_INBOX_DAYS[profile], replaced_days=1)
        # The redactor deletes within the hour; this is the safety net, and one day is S3's minimum.
        quarantined = Keeping(days=1, replaced_days=1)
        self.logs = self._bucket("LogsBucket", logs, None)
        self.trail = self._bucket("TrailBucket", logs, keys.logs_key_arn, lock=_trail_lock(tenant))
        self.documents = self._bucket("DocumentsBucket", forever, keys.data_key_arn)
        self.models = self._bucket("ModelsBucket", forever, keys.models_key_arn)
        self.labels = self._bucket("LabelsBucket", feedback, keys.feedback_key_arn, lock=_labels_lock(tenant))
        self.texts = self._bucket("FeedbackBucket", feedback, keys.feedback_key_arn)
        self.quarantine = self._bucket("QuarantineBucket", quarantined, keys.capture_key_arn)
        self.capture = self._bucket("CaptureBucket", capture, keys.capture_key_arn)
        self.inbox = self._bucket("InboxBucket", inbox, keys.data_key_arn, is_inbox=True)
        for bucket in (self.documents, self.inbox, self.quarantine):
            bucket.send_events()
        self.quarantine.add_statements(quarantine(self.quarantine, tenant=tenant))
        self.capture.add_statements(clean_capture(self.capture, tenant=tenant))
        self.labels.add_statements(labels(self.labels, tenant=tenant))
        self.texts.add_statements(texts(self.texts, tenant=tenant))
        self.models.add_statements(artifacts(self.models))
        self.logs.add_statements(log_delivery(self.logs, tenant=tenant))
        trails = trail_arns(self, tenant=tenant)
        self.trail.add_statements(trail_delivery(self.trail, tenant=tenant, trails=trails))

    def _bucket(
        self,
        construct_id: str,
        keeping: Keeping,
        key_arn: str | None,
        *,
        is_inbox: bool = False,
        lock: s3.ObjectLockRetention | None = None,
    ) -> TenantBucket:
        return TenantBucket(
            self,
            construct_id,
            tenant=self._tenant,
            keeping=keeping,
            key_arn=key_arn,
            log_bucket=None if construct_id == "LogsBucket" else self.logs,
            is_inbox=is_inbox,
            lock=lock,
        )


def _trail_lock(tenant: DeployedTenant) -> s3.ObjectLockRetention:
    """Return the trail's lock. The audit must outlive whoever wants it gone; a sandbox may be deleted.

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
    return s3.ObjectLockRetention.governance(cdk.Duration.days(_FEEDBACK_DAYS[tenant.place.profile]))
