"""The keys stack: six KMS keys, deployed first and never deleted.

A key policy is a second check on everything that a key encrypts. It allows and never denies
(docs/decisions/0017-key-policies-that-only-allow.md): services use keys through grants, as principals without
any tag (EBS as ``aws:ec2-infrastructure``, for OpenSearch and SageMaker; DynamoDB), and an explicit Deny
would override the grant. Identities of the account get administration only; for use, the caller needs the
tenant's tag (``use_by_tenant``) besides a policy of its own.

In a key policy the resource ``*`` is this key. A statement for the account with conditions stands in place of
a named role, because a later stack's role does not exist yet.
"""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from assistant.tenant.deployed_names import RECEIPT_KEY_OUTPUT
from assistant.tenant.deployment import RECOVERY
from stacks.options import option_stacks
from stacks.outputs import KeysOutputs
from stacks.processes import ask_for_locks
from stacks.roles import (
    ONLY_ES256,
    TENANT_TAG,
    Conditions,
    allow,
    allow_service,
    execution_role_arn,
    log_group_arn,
    system_secret_arn,
    via,
)
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import OUTLIVES, TenantStack, endpoint_log_group, pin

_USE = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey")
_READ = ("kms:Decrypt", "kms:DescribeKey")
_WRAP = ("kms:GenerateDataKey*", "kms:Decrypt")
"""What SQS and SNS need of a service that sends to an encrypted queue or topic."""
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
"""The console's actions of key administrators without ``kms:Create*``: with CreateGrant an administrator
could grant himself Decrypt."""
_FOR_RESOURCE = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
"""Only grants that a service creates for a resource (a table, a volume), not those of a caller."""


class KeysStack(TenantStack):
    """One key for each kind of content (``KeysOutputs``), and one that signs receipts."""

    def __init__(self, scope: Construct, *, tenant: DeployedTenant) -> None:
        super().__init__(scope, "Keys", tenant=tenant, data_class="internal", stateful=True)
        ask_for_locks(self, tenant)  # this stack is deployed first: it stops a deployment without digests
        backup = ["backup"] if tenant.place.profile in RECOVERY else []
        data = self._key(
            "DataKey",
            "documents, tables, queues, search domain",
            use_by_tenant(tenant),
            use_by_deployment(self, tenant, through=["dynamodb", "lambda", "emr-serverless", *backup]),
            _queued_by_events(self),
            *_put_by_system_owners(self, tenant),
        )
        # Captured calls and feedback are files: only S3 uses their keys.
        capture = self._key("CaptureKey", "captured calls", use_by_tenant(tenant, through=["s3"]))
        feedback = self._key(
            "FeedbackKey", "feedback: labels, sealed texts", use_by_tenant(tenant, through=["s3"])
        )
        models = self._key("ModelsKey", "model artifacts, endpoint volumes", use_by_tenant(tenant))
        logs = self._key(
            "LogsKey",
            "log groups, alarm topics, audit digests",
            use_by_tenant(tenant),
            use_by_logs(self, tenant),
            *published_by_alarms(self, tenant),
        )
        receipt = self._signing_key()
        cdk.CfnOutput(
            self, RECEIPT_KEY_OUTPUT, value=receipt.key_arn, description="assistant aws receipt verify"
        )
        self.outputs = KeysOutputs(
            data_key_arn=data.key_arn,
            capture_key_arn=capture.key_arn,
            feedback_key_arn=feedback.key_arn,
            models_key_arn=models.key_arn,
            logs_key_arn=logs.key_arn,
            receipt_key_arn=receipt.key_arn,
        )

    def _key(self, construct_id: str, holds: str, *uses: iam.PolicyStatement) -> kms.Key:
        """Create a key. ``holds`` completes its description; ``uses`` are added to what each key's policy
        has."""
        tenant = self.tenant
        statements = [
            *administration(self, tenant),
            *grants_for_services(self, tenant),
            *_use_by_declared(tenant),
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

    def _signing_key(self) -> kms.Key:
        """Create the key of receipts. It outlives the tenant: a receipt is verified years later."""
        signs = _allow_account(
            "SignByTenant",
            self.tenant,
            ["kms:Sign"],
            {"StringEquals": {TENANT_TAG: self.tenant.name, **ONLY_ES256["StringEquals"]}},
        )
        key = kms.Key(
            self,
            "ReceiptKey",
            description=f"{self.tenant.config.display_name}: signs receipts of withdrawals",
            key_spec=kms.KeySpec.ECC_NIST_P256,
            key_usage=kms.KeyUsage.SIGN_VERIFY,
            removal_policy=OUTLIVES,
            policy=iam.PolicyDocument(statements=[*administration(self, self.tenant), signs]),
        )
        pin(key, "ReceiptKey")
        return key


def administration(scope: Construct, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Let identities administer a key if they have a policy for it and lack the tag ``tenant`` (workloads
    have it).

    CloudFormation's execution role has a statement of its own, because ``cdk bootstrap --tags`` may have put
    that tag on it. There it is the principal, without a condition: KMS creates no key whose policy does not
    let the creator change that policy (API reference, CreateKey, ``BypassPolicyLockoutSafetyCheck``), and
    does not say whether it evaluates conditions for that. The role is older than the key, so KMS knows it.
    """
    deployment = iam.PolicyStatement(sid="AdministerByDeployment", actions=list(_ADMINISTER), resources=["*"])
    deployment.add_arn_principal(execution_role_arn(scope, tenant=tenant))
    return [_allow_account("Administer", tenant, _ADMINISTER, {"Null": {TENANT_TAG: "true"}}), deployment]


def grants_for_services(scope: Construct, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Allow grants to a service that encrypts a resource: DynamoDB, OpenSearch, volumes of SageMaker."""
    by_deployment = {"ArnEquals": {"aws:PrincipalArn": execution_role_arn(scope, tenant=tenant)}}
    by_tenant = {"StringEquals": {TENANT_TAG: tenant.name}}
    grant = ["kms:CreateGrant"]
    return [
        _allow_account("GrantByDeployment", tenant, grant, {**_FOR_RESOURCE, **by_deployment}),
        _allow_account("GrantByTenant", tenant, grant, {**_FOR_RESOURCE, **by_tenant}),
    ]


def use_by_tenant(tenant: DeployedTenant, *, through: Sequence[str] = ()) -> iam.PolicyStatement:
    """Let roles with the tenant's tag use a key if they have a policy for it. ``through``: only through these
    services (``["s3"]``); empty: through any."""
    conditions = {**via(tenant, *through)} if through else {}
    conditions["StringEquals"] = {**conditions.get("StringEquals", {}), TENANT_TAG: tenant.name}
    return _allow_account("UseByTenant", tenant, _USE, conditions)


def use_by_deployment(
    scope: Construct, tenant: DeployedTenant, *, through: Sequence[str]
) -> iam.PolicyStatement:
    """Let CloudFormation create encrypted tables, functions, applications and vaults, for which it uses the
    key through their service.

    The actions are those of CloudFormation's schema of each type
    (https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schema.html, ``handlers``):
    a vault's has ``RetireGrant``.
    """
    deployment = {"ArnEquals": {"aws:PrincipalArn": execution_role_arn(scope, tenant=tenant)}}
    actions = (*_USE, "kms:RetireGrant")
    return _allow_account("UseByDeployment", tenant, actions, {**via(tenant, *through), **deployment})


def _use_by_declared(tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Let break-glass principals and declared readers decrypt; alarms report their reads."""
    declared = [*tenant.place.break_glass, *tenant.config.observability.declared_principals]
    if not declared:
        return []
    return [_allow_account("ReadByDeclared", tenant, _READ, {"ArnLike": {"aws:PrincipalArn": declared}})]


def _queued_by_events(scope: Construct) -> iam.PolicyStatement:
    """Let rules of EventBridge put events into encrypted queues.

    EventBridge gives KMS neither ``aws:SourceAccount`` nor ``aws:SourceArn``
    (https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html), so the queue restricts it: the
    encryption context of SQS is the queue's ARN.
    """
    queues = cdk.Stack.of(scope).format_arn(service="sqs", resource="*")
    context = {"ArnLike": {"kms:EncryptionContext:aws:sqs:arn": queues}}
    return allow_service("events", _WRAP, "*", sid="QueueEvents", conditions=context)


def _put_by_system_owners(scope: Construct, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Let identities without a tenant's tag put the secrets of systems, if they have a policy for it: through
    Secrets Manager, for secrets of this tenant alone.

    Putting needs ``GenerateDataKey`` and ``Decrypt``
    (https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html). Reading is refused
    to others by each secret's own policy.
    """
    if not tenant.own_secrets:
        return []
    secrets = [system_secret_arn(scope, str(tenant.secret_of(entry))) for entry in tenant.own_secrets]
    conditions = {
        **via(tenant, "secretsmanager"),
        "ArnLike": {"kms:EncryptionContext:SecretARN": secrets},
        "Null": {TENANT_TAG: "true"},
    }
    return [_allow_account("PutSystemSecrets", tenant, _WRAP, conditions)]


def published_by_alarms(scope: Construct, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    """Let alarms and rules publish to encrypted topics. Rules are restricted by the topic's ARN in the
    encryption context, as in ``_queued_by_events``."""
    topics = cdk.Stack.of(scope).format_arn(service="sns", resource="*")
    account = {"StringEquals": {"aws:SourceAccount": tenant.place.account}}
    context = {"ArnLike": {"kms:EncryptionContext:aws:sns:topicArn": topics}}
    return [
        allow_service("cloudwatch", _WRAP, "*", sid="PublishAlarms", conditions=account),
        allow_service("events", _WRAP, "*", sid="PublishEvents", conditions=context),
    ]


def use_by_logs(scope: Construct, tenant: DeployedTenant) -> iam.PolicyStatement:
    """Let CloudWatch Logs encrypt this tenant's groups: the encryption context is the group's ARN.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    """
    names = (
        f"{tenant.full_name}-*",
        f"/{tenant.place.name_prefix}/{tenant.name}/*",
        f"/aws/vendedlogs/{tenant.full_name}-*",
        tenant.insights_log_group,
        *(endpoint_log_group(section.endpoint) for section, _, _ in tenant.embeddings),
        *([] if tenant.llm is None else [endpoint_log_group(tenant.config.generation.endpoint)]),
        *(name for option in option_stacks() for name in option.log_groups(tenant)),
    )
    groups = [log_group_arn(scope, name) for name in names]
    return allow_service(
        f"logs.{tenant.place.region}",
        ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
        "*",
        sid="EncryptLogs",
        conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
    )


def _allow_account(
    sid: str, tenant: DeployedTenant, actions: Sequence[str], conditions: Conditions
) -> iam.PolicyStatement:
    """Return a statement for every identity of the account with a policy of its own that allows the
    action."""
    statement = allow(actions, "*", conditions=conditions)
    statement.sid = sid
    statement.add_aws_account_principal(tenant.place.account)
    return statement
