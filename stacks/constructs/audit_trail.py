"""Who did what to the tenant's stores, keys and policies: CloudTrail, and what is counted in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.constructs import audit_patterns as patterns
from stacks.constructs.bucket_statements import TRAILS
from stacks.constructs.tenant_log_group import tenant_log_group
from stacks.constructs.tenant_metrics import BREAK_GLASS, KEY_REFUSED, POLICY_CHANGED, STRANGER_READ
from stacks.constructs.tenant_principals import execution_role_arn
from stacks.outputs import DataOutputs, KeysOutputs
from stacks.tenant import DeployedTenant


class AuditTrail(Construct):
    """A trail of all regions (IAM tells its changes in one), of management events and of each access to
    what holds patients' data."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        data: DataOutputs,
        namespace: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self._namespace = namespace
        self._group = tenant_log_group(self, "Events", tenant=tenant, logs_key_arn=keys.logs_key_arn)
        role, writes = self._writer()
        trail = cloudtrail.CfnTrail(
            self,
            "Trail",
            is_logging=True,
            s3_bucket_name=data.logs_bucket,
            s3_key_prefix=TRAILS,
            kms_key_id=keys.logs_key_arn,
            cloud_watch_logs_log_group_arn=self._group.log_group_arn,
            cloud_watch_logs_role_arn=role.role_arn,
            enable_log_file_validation=True,
            include_global_service_events=True,
            is_multi_region_trail=True,
            advanced_event_selectors=_selectors(self, data),
        )
        trail.node.add_dependency(writes)
        for name, (metric_name, pattern) in _counted(self, tenant=tenant, keys=keys).items():
            self._count(name, metric_name=metric_name, pattern=pattern)

    def _count(self, name: str, *, metric_name: str, pattern: str) -> None:
        logs.CfnMetricFilter(
            self,
            name,
            log_group_name=self._group.log_group_name,
            filter_pattern=pattern,
            metric_transformations=[
                logs.CfnMetricFilter.MetricTransformationProperty(
                    metric_namespace=self._namespace, metric_name=metric_name, metric_value="1"
                )
            ],
        )

    def _writer(self) -> tuple[iam.Role, iam.ManagedPolicy]:
        role = iam.Role(
            self,
            "Writer",
            assumed_by=cast("iam.IPrincipal", iam.ServicePrincipal("cloudtrail.amazonaws.com")),
            description="Writes the tenant's trail into its log group",
        )
        writes = iam.ManagedPolicy(
            self,
            "Writes",
            roles=[cast("iam.IRole", role)],
            statements=[
                iam.PolicyStatement(
                    actions=["logs:CreateLogStream", "logs:PutLogEvents"],
                    resources=[self._group.log_group_arn],
                )
            ],
        )
        return role, writes


def _selectors(
    scope: Construct, data: DataOutputs
) -> list[cloudtrail.CfnTrail.AdvancedEventSelectorProperty]:
    buckets = (data.documents_bucket, data.quarantine_bucket, data.capture_bucket, data.feedback_bucket)
    table = cdk.Stack.of(scope).format_arn(
        service="dynamodb", resource="table", resource_name=data.records_table
    )
    return [
        _selector("Management", ("eventCategory", "Management")),
        cloudtrail.CfnTrail.AdvancedEventSelectorProperty(
            name="Objects that hold patients' data",
            field_selectors=[
                _equals("eventCategory", "Data"),
                _equals("resources.type", "AWS::S3::Object"),
                cloudtrail.CfnTrail.AdvancedFieldSelectorProperty(
                    field="resources.ARN",
                    starts_with=[f"arn:{cdk.Aws.PARTITION}:s3:::{bucket}/" for bucket in buckets],
                ),
            ],
        ),
        _selector(
            "Records of answers",
            ("eventCategory", "Data"),
            ("resources.type", "AWS::DynamoDB::Table"),
            ("resources.ARN", table),
        ),
    ]


def _selector(name: str, *fields: tuple[str, str]) -> cloudtrail.CfnTrail.AdvancedEventSelectorProperty:
    return cloudtrail.CfnTrail.AdvancedEventSelectorProperty(
        name=name, field_selectors=[_equals(field, value) for field, value in fields]
    )


def _equals(field: str, value: str) -> cloudtrail.CfnTrail.AdvancedFieldSelectorProperty:
    return cloudtrail.CfnTrail.AdvancedFieldSelectorProperty(field=field, equal_to=[value])


def _counted(scope: Construct, *, tenant: DeployedTenant, keys: KeysOutputs) -> Mapping[str, tuple[str, str]]:
    """Return metric and pattern by the filter's id."""
    glass = tenant.place.break_glass
    declared = [*tenant.config.observability.declared_principals, *glass]
    strangers = patterns.read_by_strangers(roles=_of_path(scope, "role", tenant), declared=declared)
    return {
        "KeysRefused": (KEY_REFUSED, patterns.key_refused()),
        **{name: (POLICY_CHANGED, pattern) for name, pattern in _changes(scope, tenant, keys).items()},
        "StrangersRead": (STRANGER_READ, strangers),
        **({"GlassBroken": (BREAK_GLASS, patterns.read_by(glass))} if glass else {}),
    }


def _changes(scope: Construct, tenant: DeployedTenant, keys: KeysOutputs) -> Mapping[str, str]:
    """Changes of the tenant's policies: generated names begin with that of their stack.

    A pattern that is cut also sees those of tenants that begin alike: better twice than not at all.
    """
    deployment = execution_role_arn(scope, tenant=tenant)
    prefix = f"{f'{tenant.place.name_prefix}-{tenant.name}-'[:_LEFT_OF_STACK_NAME]}*"
    own_keys = (keys.data_key_arn, keys.capture_key_arn, keys.models_key_arn, keys.logs_key_arn)
    roles = {
        "$.requestParameters.roleName": [prefix],
        "$.requestParameters.policyArn": [_of_path(scope, "policy", tenant)],
    }
    of_others = patterns.changed_by_others
    return {
        "RolesChanged": of_others(patterns.IAM_CHANGES, deployment=deployment, of=roles),
        "BucketsChanged": of_others(
            patterns.BUCKET_CHANGES,
            deployment=deployment,
            of={"$.requestParameters.bucketName": [prefix]},
        ),
        "KeysChanged": of_others(
            patterns.KEY_CHANGES, deployment=deployment, of={"$.resources[0].ARN": own_keys}
        ),
        "TracesChanged": of_others(patterns.TRACE_CHANGES, deployment=deployment),
    }


_LEFT_OF_STACK_NAME = 25
"""Characters that CloudFormation leaves of a stack's name in the name of a role (64) or bucket (63) that
would be too long. AWS does not document it; read off names in an account:
https://github.com/KensioSoftware/yulin/issues/1113."""


def _of_path(scope: Construct, kind: str, tenant: DeployedTenant) -> str:
    """Return the ARN of all roles or policies of the tenant: they have a path of their own."""
    return cdk.Stack.of(scope).format_arn(
        service="iam",
        region="",
        resource=f"{kind}{tenant.role_path}*",
        arn_format=cdk.ArnFormat.NO_RESOURCE_NAME,
    )
