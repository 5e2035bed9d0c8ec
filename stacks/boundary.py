"""The permissions boundary of every tenant's roles: the most that any of them may do, whatever its policies
allow."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.policy import exceptions, hipaa, nag, wildcard

SHARED = "shared"
"""Value of the tag ``tenant`` on resources that all tenants of an account use."""

SERVICES = (
    "cloudformation:*",
    "cloudwatch:*",
    "dynamodb:*",
    "ec2:AssignPrivateIpAddresses",
    "ec2:*NetworkInterface*",
    "ec2:Describe*",
    "ec2:UnassignPrivateIpAddresses",
    "ecr:*",
    "es:*",
    "execute-api:Invoke",
    "kms:*",
    "lambda:*",
    "logs:*",
    "s3:*",
    "sagemaker:*",
    "secretsmanager:GetSecretValue",
    "sqs:*",
    "ssm:*",
    "ssmmessages:*",
    "states:*",
    "vpc-lattice-svcs:Invoke",
    "xray:*",
)
"""Actions that roles of a tenant can have: those of their policies; where a tenant file asks for it,
``ssmmessages`` for ECS Exec and ``Invoke`` for live systems that want signed requests. A policy beyond them
grants nothing."""

_UNDOING = (
    "dynamodb:DeleteTable*",
    "dynamodb:DeleteBackup",
    "dynamodb:PutResourcePolicy",
    "dynamodb:UpdateContinuousBackups",
    "ecr:BatchDeleteImage",
    "ecr:DeleteRepository*",
    "ecr:PutImage*",
    "ecr:SetRepositoryPolicy",
    "es:DeleteDomain",
    "es:UpdateDomainConfig",
    "kms:CancelKeyDeletion",
    "kms:Disable*",
    "kms:PutKeyPolicy",
    "kms:ScheduleKeyDeletion",
    "lambda:AddPermission",
    "lambda:CreateFunctionUrlConfig",
    "logs:DeleteLogGroup",
    "logs:DeleteLogStream",
    "logs:DeleteRetentionPolicy",
    "logs:PutRetentionPolicy",
    "s3:DeleteBucket*",
    "s3:PutAccountPublicAccessBlock",
    "s3:PutBucket*",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "sns:AddPermission",
    "sqs:AddPermission",
)
"""Actions that open or destroy a store, a key or an audit log: only a deployment needs them."""

_PULLING = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


class TenantBoundary(iam.ManagedPolicy):
    """Managed policy ``<name_prefix>-boundary``.

    It has a fixed name, because tenant stages and CDK's own bootstrap refer to it by name, and the root path,
    where IAM looks a boundary up.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, name_prefix: str, regions: Sequence[str]
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            managed_policy_name=f"{name_prefix}-boundary",
            description="Bounds every role of every tenant: its services, its account, regions and tenant",
            statements=[
                iam.PolicyStatement(sid="OnlyTheseServices", actions=list(SERVICES), resources=["*"]),
                _deny("OpenOrDestroy", actions=_UNDOING),
                *_deny_escalation(),
                *_deny_leaving(cdk.Stack.of(scope), regions=regions),
                *_deny_other_tenants(),
            ],
        )


def _deny_escalation() -> list[iam.PolicyStatement]:
    return [
        _deny("RightsGrow", actions=("iam:*", "organizations:*", "sts:AssumeRole*")),
        _deny(
            # a grant is a permission on a key that no policy shows; services set this flag for theirs
            "GrantKeyToPerson",
            actions=("kms:CreateGrant",),
            conditions={"BoolIfExists": {"kms:GrantIsForAWSResource": "false"}},
        ),
    ]


def _deny_leaving(stack: cdk.Stack, *, regions: Sequence[str]) -> list[iam.PolicyStatement]:
    return [
        iam.PolicyStatement(
            sid="LeaveRegion",
            effect=iam.Effect.DENY,
            not_actions=["iam:*"],  # denied above; IAM answers from one region for all
            resources=["*"],
            conditions={"StringNotEquals": {"aws:RequestedRegion": sorted(set(regions))}},
        ),
        iam.PolicyStatement(
            # ecr: AWS publishes its containers from accounts of its own; ec2: subnets may belong to a network
            # account, shared by RAM
            sid="LeaveAccount",
            effect=iam.Effect.DENY,
            not_actions=[*_PULLING, "ec2:*"],
            resources=["*"],
            conditions={
                "StringNotEquals": {"aws:ResourceAccount": stack.account},
                "Null": {"aws:ResourceAccount": "false"},
            },
        ),
    ]


def _deny_other_tenants() -> list[iam.PolicyStatement]:
    own = "${aws:PrincipalTag/tenant}"
    return [
        _deny("NoTenant", actions=("*",), conditions={"Null": {"aws:PrincipalTag/tenant": "true"}}),
        _deny(
            # the other policies decide on an untagged resource, and on a service that does not report the tag
            "OtherTenant",
            actions=("*",),
            conditions={
                "StringNotEquals": {"aws:ResourceTag/tenant": [own, SHARED]},
                "Null": {"aws:ResourceTag/tenant": "false"},
            },
        ),
        _deny(
            "TagAsOtherTenant",
            actions=("*",),
            conditions={
                "StringNotEquals": {"aws:RequestTag/tenant": own},
                "Null": {"aws:RequestTag/tenant": "false"},
            },
        ),
        _deny(
            "TakeTenantTagAway",
            actions=("*",),
            conditions={
                "ForAnyValue:StringEquals": {"aws:TagKeys": ["tenant"]},
                "Null": {"aws:RequestTag/tenant": "true"},
            },
        ),
    ]


def _deny(
    sid: str, *, actions: Sequence[str], conditions: dict[str, dict[str, str | list[str]]] | None = None
) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid=sid, effect=iam.Effect.DENY, actions=list(actions), resources=["*"], conditions=conditions
    )


EXCEPTIONS = exceptions(
    "Account/Boundaries",
    (
        *(nag(f"IAM5[Action::{action}]") for action in SERVICES if "*" in action),
        *wildcard("*"),
        hipaa("IAMPolicyNoStatementsWithFullAccess"),
        "checkov::CKV_AWS_109",
        "checkov::CKV_AWS_111",
    ),
    "A boundary grants nothing: a role may do what its own policies and the boundary both allow. It lists "
    "the services that tenants' roles need, and denies what none of them may do there.",
    decision="0022-what-an-account-shares-and-who-watches",
)
