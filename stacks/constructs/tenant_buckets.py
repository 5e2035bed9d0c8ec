"""The tenant's buckets: what each holds, how long, and who alone may write or read it."""

from __future__ import annotations

from constructs import Construct

from stacks.constructs.bucket_statements import (
    artifacts,
    clean_capture,
    log_delivery,
    quarantine,
    trail_delivery,
)
from stacks.constructs.key_statements import trail_arns
from stacks.constructs.tenant_bucket import Keeping, Locking, TenantBucket
from stacks.outputs import KeysOutputs
from stacks.tenant import DeployedTenant

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
