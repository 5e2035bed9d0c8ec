"""A bucket of a tenant: closed, versioned, under a key, its accesses logged, its content bounded in time."""

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
    log_delivery,
    no_pushers,
    only_with_key,
    pushers_in_their_folders,
    quarantine,
    trail_delivery,
)
from stacks.keys import trail_arns
from stacks.outputs import KeysOutputs
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import NEVER_DELETED, OUTLIVES, pin, removal_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long a bucket keeps what it holds."""

    days: int | None = None
    """Of an object; forever when absent."""
    replaced_days: int
    """Of what was overwritten or deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Locking:
    """How long S3 itself refuses to delete or change an object (Object Lock), from the day it is written."""

    days: int
    is_final: bool
    """Compliance mode: nobody shortens it, the account's root and AWS included. Else governance mode."""

    def retention(self) -> s3.ObjectLockRetention:
        days = cdk.Duration.days(self.days)
        kinds = s3.ObjectLockRetention
        return kinds.compliance(days) if self.is_final else kinds.governance(days)


class TenantBucket(s3.Bucket):
    """``key_arn`` and ``log_bucket`` are absent for the bucket of logs itself: balancers and S3's own access
    logs can write only to SSE-S3, and not where a lock is."""

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
        locking: Locking | None = None,
    ) -> None:
        keyed = key_arn is not None
        # S3 logs from the first minute on, and deletes no bucket with an object in it.
        removal = removal_of(tenant, otherwise=OUTLIVES if log_bucket is not None else NEVER_DELETED)
        super().__init__(
            scope,
            construct_id,
            versioned=True,
            encryption=s3.BucketEncryption.KMS if keyed else s3.BucketEncryption.S3_MANAGED,
            encryption_key=kms.Key.from_key_arn(scope, f"{construct_id}Key", key_arn) if key_arn else None,
            # One data key a bucket and a while, not one an object: KMS is called, and paid, far less.
            bucket_key_enabled=keyed,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=_lifecycle(keeping),
            object_lock_enabled=True if locking is not None else None,
            object_lock_default_retention=locking.retention() if locking is not None else None,
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
        # Pushers have business in the inbox alone.
        self.add_statements(pushers_in_their_folders(self) if is_inbox else [no_pushers(self)])
        if key_arn is not None:
            self.add_statements([only_with_key(self, key_arn=key_arn)])
        if self.policy is not None:
            # A bucket that outlives its stack must not stand without its policy.
            self.policy.apply_removal_policy(removal)

    def add_statements(self, statements: Sequence[iam.PolicyStatement]) -> None:
        for statement in statements:
            self.add_to_resource_policy(statement)

    def send_events(self) -> None:
        """Tell EventBridge of each change. As a property: `event_bridge_enabled` would add a helper function
        outside the VPC."""
        self._resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(
                event_bridge_enabled=True
            )
        )


def _lifecycle(keeping: Keeping) -> list[s3.LifecycleRule]:
    """S3 counts from midnight after the day, so a day is between one and two."""
    return [
        s3.LifecycleRule(
            id="Bounded",
            expiration=None if keeping.days is None else cdk.Duration.days(keeping.days),
            noncurrent_version_expiration=cdk.Duration.days(keeping.replaced_days),
            abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
        ),
        # S3 takes no expiry in days and of delete markers in one rule.
        s3.LifecycleRule(id="DeleteMarkers", expired_object_delete_marker=True),
    ]


# The tenant's buckets: what each holds, how long, and who alone may write or read it.


_REPLACED_DAYS = {"dev": 1, "standard": 14, "hipaa": 35}
"""A mistake can be undone for so long; a withdrawal is complete only after it. The tables' recovery takes 35
days too."""
_CAPTURE_DAYS = {"dev": 7, "standard": 90, "hipaa": 365}
_INBOX_DAYS = {"dev": 7, "standard": 30, "hipaa": 30}
"""A pushed file is read within minutes; until then it may be pushed again."""


class TenantBuckets(Construct):
    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, keys: KeysOutputs
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        profile = tenant.place.profile
        replaced_days = _REPLACED_DAYS[profile]
        kept = Keeping(replaced_days=replaced_days)
        self.logs = TenantBucket(
            self,
            "LogsBucket",
            tenant=tenant,
            keeping=Keeping(days=tenant.log_retention_days, replaced_days=replaced_days),
            key_arn=None,
            log_bucket=None,
        )
        self.trail = TenantBucket(
            self,
            "TrailBucket",
            tenant=tenant,
            keeping=Keeping(days=tenant.log_retention_days, replaced_days=replaced_days),
            key_arn=keys.logs_key_arn,
            log_bucket=self.logs,
            # What tells who did what must outlive whoever would rather it did not. A sandbox can go.
            locking=Locking(days=1 if tenant.is_dev else tenant.log_retention_days, is_final=tenant.is_hipaa),
        )
        self.documents = self._bucket("DocumentsBucket", kept, keys.data_key_arn)
        self.models = self._bucket("ModelsBucket", kept, keys.models_key_arn)
        self.feedback = self._bucket("FeedbackBucket", kept, keys.data_key_arn)
        # The net under the redactor, which deletes within the hour: one day is the least that S3 takes.
        self.quarantine = self._bucket(
            "QuarantineBucket", Keeping(days=1, replaced_days=1), keys.capture_key_arn
        )
        self.capture = self._bucket(
            "CaptureBucket",
            Keeping(days=_CAPTURE_DAYS[profile], replaced_days=replaced_days),
            keys.capture_key_arn,
        )
        self.inbox = self._bucket(
            "InboxBucket",
            Keeping(days=_INBOX_DAYS[profile], replaced_days=1),
            keys.data_key_arn,
            is_inbox=True,
        )
        for bucket in (self.documents, self.inbox, self.quarantine):
            bucket.send_events()
        self._close()

    def _bucket(
        self, construct_id: str, keeping: Keeping, key_arn: str, *, is_inbox: bool = False
    ) -> TenantBucket:
        return TenantBucket(
            self,
            construct_id,
            tenant=self._tenant,
            keeping=keeping,
            key_arn=key_arn,
            log_bucket=self.logs,
            is_inbox=is_inbox,
        )

    def _close(self) -> None:
        self.quarantine.add_statements(quarantine(self.quarantine, tenant=self._tenant))
        self.capture.add_statements(clean_capture(self.capture, tenant=self._tenant))
        self.models.add_statements(artifacts(self.models))
        self.logs.add_statements(log_delivery(self.logs, tenant=self._tenant))
        trails = trail_arns(self, tenant=self._tenant)
        self.trail.add_statements(trail_delivery(self.trail, tenant=self._tenant, trails=trails))
