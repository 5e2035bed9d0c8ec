"""The one trail of an account, with its locked bucket and its key, and what sends events to other regions.

CloudTrail takes five trails a region, and one of all regions counts in each. So tenants share one: it records
by the beginning of names, which a new tenant does not change. Each tenant's own rules select its events
(``stacks.observability.audit``, docs/decisions/0162-one-trail-an-account.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_kms as kms
from aws_cdk.region_info import RegionInfo
from constructs import Construct

from assistant.tenant.deployment import ACCOUNT_TRAIL, RETENTION, PlaceSection
from stacks.buckets import ClosedBucket, Keeping, trail_delivery, trail_lock
from stacks.observability.audit import add_rule, identity_events
from stacks.policy import exceptions, hipaa, nag
from stacks.roles import ServiceRole, allow, allow_service, bucket_arn, resource_arn
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import OUTLIVES


class AccountTrail(Construct):
    """The trail of all management events, and of each call on objects and items of stores whose names begin
    with a tenant's prefix.

    The strictest profile of the account's tenants decides how long files are kept and how they are locked.
    """

    def __init__(self, scope: Construct, *, tenants: Sequence[DeployedTenant], others: Sequence[str]) -> None:
        """``tenants``: all of the account. ``others``: further regions, with tenants of other clones."""
        super().__init__(scope, "Trail")
        arn = resource_arn(self, "cloudtrail", "trail", ACCOUNT_TRAIL)
        from_trail = {"StringEquals": {"aws:SourceArn": arn}}
        key = kms.Key(self, "Key", description="Files of the account's trail", enable_key_rotation=True)
        # Decrypt, because the bucket has a bucket key:
        # https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-kms-key-policy-for-cloudtrail.html
        uses = ["kms:GenerateDataKey*", "kms:Decrypt", "kms:DescribeKey"]
        key.add_to_resource_policy(allow_service("cloudtrail", uses, "*", conditions=from_trail))
        # RETENTION lists profiles from the least strict to the strictest.
        profiles = [each.place.profile for each in tenants]
        profile, days = [row for row in RETENTION.items() if row[0] in profiles][-1]
        keeping = Keeping(days=days.logs, replaced_days=days.replaced, lock=trail_lock(profile))
        bucket = ClosedBucket(self, "Bucket", keeping, key=cast("kms.IKey", key), removal=OUTLIVES)
        bucket.add_statements(trail_delivery(bucket, from_trail))
        prefixes = sorted({f"{tenant.place.name_prefix}-" for tenant in tenants})
        places = sorted({*others, *(tenant.place.region for tenant in tenants)})
        form = f"arn:{cdk.Aws.PARTITION}:dynamodb:%s:{cdk.Aws.ACCOUNT_ID}:table/%s"
        tables = [form % (region, prefix) for region in places for prefix in prefixes]
        buckets = [bucket_arn(self, prefix) for prefix in prefixes]
        objects, own = "AWS::S3::Object", [bucket.bucket_arn]
        trail = cloudtrail.CfnTrail(
            self,
            "Trail",
            trail_name=ACCOUNT_TRAIL,
            is_logging=True,
            s3_bucket_name=bucket.bucket_name,
            kms_key_id=key.key_arn,
            enable_log_file_validation=True,
            include_global_service_events=True,
            is_multi_region_trail=True,
            advanced_event_selectors=[
                _selector("Management"),
                _selector("Objects", objects, starts_with=buckets, not_starts_with=own),
                # Only reads: each file that the trail writes would be an event for the next one.
                _selector("Reads of the trail", objects, read_only=True, starts_with=own),
                _selector("Items", "AWS::DynamoDB::Table", starts_with=tables),
            ],
        )
        trail.node.add_dependency(bucket.node.find_child("Policy"))  # CloudTrail asks it at once


_Field = cloudtrail.CfnTrail.AdvancedFieldSelectorProperty
_Selector = cloudtrail.CfnTrail.AdvancedEventSelectorProperty


def _selector(name: str, kind: str = "", *, read_only: bool = False, **arns: list[str]) -> _Selector:
    """Return an advanced event selector of management events; with a ``kind`` of resources, of data events on
    those whose ARN meets the conditions."""
    equal = {"eventCategory": "Data", "resources.type": kind} if kind else {"eventCategory": "Management"}
    equal |= {"readOnly": "true"} if read_only else {}
    fields = [_Field(field=key, equal_to=[value]) for key, value in equal.items()]
    fields += [_Field(field="resources.ARN", **arns)] if kind else []
    return _Selector(name=name, field_selectors=fields)


_IAM_REGIONS = {"aws-us-gov": "us-gov-west-1", "aws-cn": "cn-north-1"}
"""By partition, the one region in which EventBridge gets IAM's events; us-east-1 in any other:
https://repost.aws/knowledge-center/eventbridge-rule-triggers-iam-single-region"""


def add_relay(scope: Construct, place: PlaceSection) -> None:
    """Add the stack that sends changes of identities from IAM's region to that of ``place``, if it is
    another."""
    source = _IAM_REGIONS.get(RegionInfo.get(place.region).partition or "aws", "us-east-1")
    if source == place.region:
        return
    stack = cdk.Stack(
        scope,
        f"IdentitiesFor-{place.region}",
        env=cdk.Environment(account=place.account, region=source),
        synthesizer=cdk.DefaultStackSynthesizer(qualifier=place.bootstrap_qualifier),
    )
    bus = f"arn:{stack.partition}:events:{place.region}:{place.account}:event-bus/default"
    sends = [allow("events:PutEvents", bus)]
    role = ServiceRole(stack, "Role", service="events.amazonaws.com", description="Relay", statements=sends)
    rule = add_rule(stack, "Rule", identity_events(source), arn=bus, role_arn=role.arn)
    rule.node.add_dependency(role.policy)


_UNMET = ("CloudTrailCloudWatchLogsEnabled", "S3BucketLoggingEnabled", "S3BucketReplicationEnabled")
EXCEPTIONS = exceptions(
    "Account/Trail",
    (nag("S1"), "checkov::CKV_AWS_18", *map(hipaa, _UNMET)),
    "Its events reach each tenant's own log group by EventBridge. The trail itself records who reads its "
    "bucket: access logs would need one without a lock. A copy in a second region is the company's choice.",
)
