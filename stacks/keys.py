"""Statements of the tenant's key policies. Each says who, for what, and under which condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.outputs import KeysOutputs
from stacks.roles import TENANT_TAG, execution_role_arn
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import OUTLIVES, TenantStack, pin

_USE = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey")
_READ = ("kms:Decrypt", "kms:DescribeKey")
_WRAP = ("kms:GenerateDataKey*", "kms:Decrypt")
"""What SQS and SNS ask of a service that sends to an encrypted queue or topic."""
_ADMINISTER = (
    "kms:Describe*",
    "kms:Enable*",
    "kms:List*",
    "kms:Put*",
    "kms:Update*",
    "kms:Revoke*",
    "kms:Disable*",
    "kms:Get*",
    "kms:Delete*",
    "kms:RotateKeyOnDemand",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:ScheduleKeyDeletion",
    "kms:CancelKeyDeletion",
)
"""As the console gives to key administrators, without ``kms:Create*``: with CreateGrant an administrator
could grant himself Decrypt."""


def administration(scope: Construct, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Whom the account lets administer keys, and who is no workload: none of those has a tenant's tag.

    The execution role is named, because ``cdk bootstrap --tags`` may have put that tag on it, and as the
    principal, without a condition: KMS makes no key whose policy does not let who makes it change that policy
    (API reference, CreateKey, ``BypassPolicyLockoutSafetyCheck``), and does not say whether it looks at
    conditions for that. The role is older than the key, so naming it is no race.
    """
    deployment = iam.PolicyStatement(sid="AdministerByDeployment", actions=list(_ADMINISTER), resources=["*"])
    deployment.add_arn_principal(execution_role_arn(scope, tenant=tenant))
    return [_allow("Administer", tenant, _ADMINISTER, {"Null": {TENANT_TAG: "true"}}), deployment]


def grants_for_services(scope: Construct, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """A grant to a service that keeps a resource encrypted: DynamoDB, OpenSearch, volumes of SageMaker."""
    for_resource = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    deployment = {"ArnEquals": {"aws:PrincipalArn": execution_role_arn(scope, tenant=tenant)}}
    return [
        _allow("GrantByDeployment", tenant, ["kms:CreateGrant"], {**for_resource, **deployment}),
        _allow(
            "GrantByTenant",
            tenant,
            ["kms:CreateGrant"],
            {**for_resource, "StringEquals": {TENANT_TAG: tenant.name}},
        ),
    ]


def use_by_tenant(
    tenant: DeployedTenant, *, through: Sequence[str] = (), sid: str = "UseByTenant"
) -> iam.PolicyStatement:
    """Roles with the tenant's tag that have a policy for it; ``through`` (``s3``) through those services
    alone."""
    conditions: dict[str, dict[str, Any]] = {"StringEquals": {TENANT_TAG: tenant.name}}
    if through:
        conditions["StringEquals"]["kms:ViaService"] = _services(tenant, through)
    return _allow(sid, tenant, _USE, conditions)


def use_by_deployment(
    scope: Construct, tenant: DeployedTenant, *, through: Sequence[str]
) -> iam.PolicyStatement:
    """CloudFormation makes encrypted tables and functions, and for that uses the key through their service.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html
    """
    conditions = {
        "StringEquals": {"kms:ViaService": _services(tenant, through)},
        "ArnEquals": {"aws:PrincipalArn": execution_role_arn(scope, tenant=tenant)},
    }
    return _allow("UseByDeployment", tenant, _USE, conditions)


def use_by_declared(tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Break-glass and the readers that the tenant file declares: they read, and an alarm says who did."""
    declared = [*tenant.place.break_glass, *tenant.config.observability.declared_principals]
    if not declared:
        return []
    conditions = {"ArnLike": {"aws:PrincipalArn": declared}}
    return [_allow("ReadByDeclared", tenant, _READ, conditions)]


def queued_by_events(scope: Construct) -> iam.PolicyStatement:
    """A rule of EventBridge puts events into encrypted queues.

    EventBridge gives KMS neither ``aws:SourceAccount`` nor ``aws:SourceArn``
    (https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html), so what it may do is bounded by the
    queue: the encryption context of SQS is the queue's ARN.
    """
    queues = cdk.Stack.of(scope).format_arn(service="sqs", resource="*")
    return _allow(
        "QueueEvents",
        "events.amazonaws.com",
        _WRAP,
        {"ArnLike": {"kms:EncryptionContext:aws:sqs:arn": queues}},
    )


def published_by_alarms(scope: Construct, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Alarms and rules publish to encrypted topics, bounded as queues are."""
    topics = {
        "kms:EncryptionContext:aws:sns:topicArn": cdk.Stack.of(scope).format_arn(service="sns", resource="*")
    }
    account = {"StringEquals": {"aws:SourceAccount": tenant.place.account}}
    return [
        _allow("PublishAlarms", "cloudwatch.amazonaws.com", _WRAP, account),
        _allow("PublishEvents", "events.amazonaws.com", _WRAP, {"ArnLike": topics}),
    ]


def use_by_logs(scope: Construct, tenant: DeployedTenant) -> iam.PolicyStatement:
    """CloudWatch Logs, for this tenant's groups: the context of each call is the group's ARN.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    """
    groups = [_log_group(scope, name) for name in _log_group_names(tenant)]
    return _allow(
        "EncryptLogs",
        f"logs.{tenant.place.region}.amazonaws.com",
        ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
        {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
    )


def generated_log_groups(scope: Construct, *, tenant: DeployedTenant) -> str:
    """Return the pattern of the ARNs of log groups that have no name of their own: CloudFormation begins it
    with the stack's."""
    return _log_group(scope, f"{_stack_prefix(tenant)}-*")


def _log_group_names(tenant: DeployedTenant) -> tuple[str, ...]:
    endpoints = (tenant.config.embedding.endpoint, tenant.config.generation.endpoint)
    return (
        f"{_stack_prefix(tenant)}-*",
        f"/{tenant.place.name_prefix}/{tenant.name}/*",
        f"/aws/vendedlogs/{_stack_prefix(tenant)}-*",
        tenant.insights_log_group,
        *(f"/aws/sagemaker/Endpoints/{name}" for name in endpoints),
    )


def _log_group(scope: Construct, name: str) -> str:
    return cdk.Stack.of(scope).format_arn(
        service="logs",
        resource="log-group",
        resource_name=name,
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )


def _stack_prefix(tenant: DeployedTenant) -> str:
    return f"{tenant.place.name_prefix}-{tenant.name}"


def use_by_trails(scope: Construct, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """CloudTrail, for this tenant's trails.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-kms-key-policy-for-cloudtrail.html
    """
    trails = trail_arns(scope, tenant=tenant)
    source = {"aws:SourceArn": trails}
    context = {"kms:EncryptionContext:aws:cloudtrail:arn": trails}
    service = "cloudtrail.amazonaws.com"
    return [
        _allow("EncryptTrails", service, ["kms:GenerateDataKey*"], {"ArnLike": {**source, **context}}),
        _allow("DescribeForTrails", service, ["kms:DescribeKey"], {"ArnLike": source}),
    ]


def trail_arns(scope: Construct, *, tenant: DeployedTenant) -> str:
    """Return the pattern of the ARNs of the tenant's trails: their names are generated."""
    return cdk.Stack.of(scope).format_arn(
        service="cloudtrail",
        resource="trail",
        resource_name=f"{_stack_prefix(tenant)}-*",
    )


def _services(tenant: DeployedTenant, names: Sequence[str]) -> list[str]:
    return [f"{name}.{tenant.place.region}.amazonaws.com" for name in names]


def _allow(
    sid: str, who: DeployedTenant | str, actions: Sequence[str], conditions: Mapping[str, Mapping[str, Any]]
) -> iam.PolicyStatement:
    """``who`` is a service's principal, or the account of the tenant: whoever in it has a policy of its own
    that allows the action."""
    statement = iam.PolicyStatement(
        sid=sid, actions=list(actions), resources=["*"], conditions=dict(conditions)
    )
    if isinstance(who, str):
        statement.add_service_principal(who)
    else:
        statement.add_aws_account_principal(who.place.account)
    return statement


# The keys stack: four KMS keys, deployed first and never deleted.


class KeysStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
    ) -> None:
        super().__init__(
            scope, construct_id, tenant=tenant, data_class="internal", description="keys", stateful=True
        )
        data = self._key(
            "DataKey",
            "documents, tables, queues, feedback, search domain",
            use_by_tenant(tenant),
            use_by_deployment(self, tenant, through=["dynamodb", "lambda"]),
            queued_by_events(self),
        )
        # Captured calls are files: nobody has business with their key but through S3.
        capture = self._key("CaptureKey", "captured calls", use_by_tenant(tenant, through=["s3"]))
        models = self._key("ModelsKey", "model artifacts, endpoint volumes", use_by_tenant(tenant))
        logs = self._key(
            "LogsKey",
            "log groups, alarm topics, trails",
            use_by_tenant(tenant),
            use_by_logs(self, tenant),
            *use_by_trails(self, tenant),
            *published_by_alarms(self, tenant),
        )
        self.outputs = KeysOutputs(
            data_key_arn=data.key_arn,
            capture_key_arn=capture.key_arn,
            models_key_arn=models.key_arn,
            logs_key_arn=logs.key_arn,
        )

    def _key(self, construct_id: str, holds: str, *uses: iam.PolicyStatement) -> kms.Key:
        tenant = self.tenant
        statements = [
            *administration(self, tenant),
            *grants_for_services(self, tenant),
            *use_by_declared(tenant),
            *uses,
        ]
        key = kms.Key(
            self,
            construct_id,
            description=f"{tenant.config.display_name}: {holds}",
            enable_key_rotation=True,
            removal_policy=OUTLIVES,
            policy=iam.PolicyDocument(statements=statements),
        )
        pin(key, construct_id)
        return key
