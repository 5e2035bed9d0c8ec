"""The permissions boundary of every role of every tenant: what none may do, whatever its policies say."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.policy import Acknowledgement

SHARED = "shared"
"""Value of the tag ``tenant`` on what all tenants of an account use."""

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
    "kms:*",
    "lambda:*",
    "logs:*",
    "s3:*",
    "sagemaker:*",
    "sqs:*",
    "ssm:*",
    "ssmmessages:*",
    "states:*",
    "xray:*",
)
"""All that the roles of a tenant may ever be allowed: what their policies use, and ``ssmmessages`` where a
tenant file wants ECS Exec. A policy beyond it grants nothing."""

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
"""Ways to open or destroy a store, a key or a trace of what was done: matters of a deployment."""

_PULLING = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


class TenantBoundary(iam.ManagedPolicy):
    """Managed policy ``<name_prefix>-boundary``.

    Named, because tenant stages and CDK's own bootstrap refer to it by name; at the root path, because a
    boundary is looked up there.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name_prefix: str,
        regions: Sequence[str],
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            managed_policy_name=f"{name_prefix}-boundary",
            description="Bounds every role of every tenant: its services, its account, regions and tenant",
            statements=[
                _allow_services(),
                _deny_undoing(),
                *_deny_escalation(),
                *_deny_leaving(cdk.Stack.of(scope), regions=regions),
                *_deny_other_tenants(),
            ],
        )


def _allow_services() -> iam.PolicyStatement:
    return iam.PolicyStatement(sid="OnlyTheseServices", actions=list(SERVICES), resources=["*"])


def _deny_undoing() -> iam.PolicyStatement:
    return _deny("OpenOrDestroy", actions=_UNDOING)


def _deny_escalation() -> list[iam.PolicyStatement]:
    return [
        _deny("RightsGrow", actions=("iam:*", "organizations:*", "sts:AssumeRole*")),
        _deny(
            # a grant is a right to a key that no policy shows; services ask for theirs under this flag
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
            # ecr: AWS publishes its containers from accounts of its own; ec2: subnets may be a network
            # account's, shared by RAM
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
            # an untagged resource, and a service that does not tell the tag, is left to the other policies
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
        sid=sid,
        effect=iam.Effect.DENY,
        actions=list(actions),
        resources=["*"],
        conditions=conditions,
    )


# Findings that stay in the account stack, each with its reason.


_IAM5 = "AwsSolutions::AwsSolutions-IAM5"

EXCEPTIONS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Account/Boundaries",
        findings=(
            *(f"{_IAM5}[Action::{action}]" for action in SERVICES if "*" in action),
            f"{_IAM5}[Resource::*]",
            "HIPAA.Security::HIPAA.Security-IAMPolicyNoStatementsWithFullAccess",
            "checkov::CKV_AWS_109",
            "checkov::CKV_AWS_111",
        ),
        reason="A boundary grants nothing: a role may do what its own policies say and this allows. It names "
        "the services that tenants' roles need at all, and denies what none of them may do there.",
        decision="0022-what-an-account-shares-and-who-watches",
    ),
)
