"""The boundary leaves every role of every tenant what its own policies say, and nothing beyond a tenant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from stacks.account import SERVICES, TenantBoundary
from stacks.options import option_stacks
from stacks.processes import PULL_IMAGE
from tests.stacks.synthesized import assembly_folder, templates_in
from tests.stacks.values import deployed, listed, resources_of, stage_for, template_of

TENANTS = ("pharmacy", "clinic", "sandbox")
OF_AWS = sorted(
    {action for name in TENANTS for option in option_stacks() for action in option.actions(deployed(name))}
)
"""Actions on what AWS owns, of these tenants."""


@pytest.fixture(scope="module")
def statements() -> dict[str, dict[str, Any]]:
    stack = cdk.Stack(stage_for(deployed("pharmacy")), "Stack")
    TenantBoundary(stack, "Boundary", name_prefix="assistant", regions=["us-east-1"], of_aws=OF_AWS)
    (policy,) = resources_of(template_of(stack), "AWS::IAM::ManagedPolicy").values()
    return {one["Sid"]: one for one in policy["Properties"]["PolicyDocument"]["Statement"]}


def granted(assembly: Path, *, tenants: Sequence[str] = TENANTS) -> Iterator[tuple[str, str]]:
    """Every action that some role's policy allows, with where it stands."""
    for tenant in tenants:
        for stack, template in templates_in(assembly_folder(assembly, tenant)).items():
            for name, body in template["Resources"].items():
                if body["Type"] in ("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
                    for action in _allowed(body["Properties"]):
                        yield f"{tenant}/{stack}/{name}", action


def _allowed(properties: Mapping[str, Any]) -> Iterator[str]:
    documents = [
        properties.get("PolicyDocument"),
        *(p["PolicyDocument"] for p in properties.get("Policies", ())),
    ]
    for document in documents:
        for statement in (document or {}).get("Statement", ()):
            if statement["Effect"] == "Allow":
                yield from listed(statement["Action"])


def _meets(pattern: str, action: str) -> bool:
    """Whether two actions, each perhaps with wildcards, may be the same."""
    return fnmatchcase(action.lower(), pattern.lower()) or fnmatchcase(pattern.lower(), action.lower())


def test_the_boundary_allows_every_service_that_a_role_uses(assembly: Path) -> None:
    beyond = {
        (where, action)
        for where, action in granted(assembly)
        if not any(fnmatchcase(action.lower(), allowed.lower()) for allowed in [*SERVICES, *OF_AWS])
    }

    assert not beyond


def test_the_boundary_denies_no_action_that_a_role_needs(
    assembly: Path, statements: Mapping[str, Mapping[str, Any]]
) -> None:
    denied = listed(statements["OpenOrDestroy"]["Action"])
    undone = {
        (where, action)
        for where, action in granted(assembly)
        if any(_meets(pattern, action) for pattern in denied)
    }

    assert not undone


WHOLE = """cloudformation cloudwatch dynamodb ecr es kms lambda logs s3 sagemaker sqs ssm ssmmessages states
    xray"""
"""Services of which the boundary allows every action but the denied ones."""
SIGNED = ("execute-api:Invoke", "vpc-lattice-svcs:Invoke")
"""For live systems that want signed requests, which no tenant here has."""
DENIED = """dynamodb:DeleteTable dynamodb:DeleteTableReplica dynamodb:PutResourcePolicy
    dynamodb:UpdateContinuousBackups ecr:BatchDeleteImage ecr:DeleteRepository ecr:DeleteRepositoryPolicy
    ecr:PutImage ecr:SetRepositoryPolicy es:DeleteDomain es:UpdateDomainConfig kms:CancelKeyDeletion
    kms:DisableKey kms:DisableKeyRotation kms:PutKeyPolicy kms:ScheduleKeyDeletion lambda:AddPermission
    lambda:CreateFunctionUrlConfig logs:DeleteLogGroup logs:DeleteLogStream logs:DeleteRetentionPolicy
    logs:PutRetentionPolicy s3:PutAccountPublicAccessBlock s3:PutEncryptionConfiguration sqs:AddPermission"""
BEDROCK = "bedrock:InvokeModelWithResponseStream"


def test_the_boundary_is_no_wider_than_what_roles_use(assembly: Path, company_assembly: Path) -> None:
    tenants = [*granted(assembly), *granted(company_assembly, tenants=("company",))]
    for allowed in {*SERVICES} - {*SIGNED}:
        assert (allowed.partition(":")[2] == "*") == (allowed.partition(":")[0] in WHOLE.split()), allowed
        assert any(_meets(allowed, action) for _, action in tenants), allowed


def test_of_bedrock_a_role_may_stream_an_answer_and_what_may_leave_region_and_account_is_named(
    assembly: Path, statements: Mapping[str, Mapping[str, Any]]
) -> None:
    copies = {
        "backup:CopyIntoBackupVault",
        "backup:DescribeBackupVault",
        "kms:CreateGrant",
        "kms:DescribeKey",
    }
    assert {*statements["LeaveRegion"]["NotAction"]} == {BEDROCK, "iam:*", *copies}
    assert {*statements["LeaveAccount"]["NotAction"]} == {BEDROCK, "ec2:*", *copies, *PULL_IMAGE}
    (folder,) = assembly.glob("assembly-Account-*")
    (policy,) = resources_of(templates_in(folder)["Account"], "AWS::IAM::ManagedPolicy").values()
    made = {one["Sid"]: one for one in policy["Properties"]["PolicyDocument"]["Statement"]}
    assert {*made["OnlyTheseServices"]["Action"]} - {*SERVICES} == {BEDROCK}


def test_no_role_opens_or_destroys_a_store_a_key_an_image_or_a_log(
    statements: Mapping[str, Mapping[str, Any]],
) -> None:
    denied = statements["OpenOrDestroy"]
    assert "Condition" not in denied
    assert [
        one for one in DENIED.split() if not any(fnmatchcase(one, each) for each in denied["Action"])
    ] == []


OF_A_BUCKET = (
    "Acl",
    "ObjectLockConfiguration",
    "OwnershipControls",
    "Policy",
    "PublicAccessBlock",
    "Versioning",
)
"""What of a bucket opens it, or ends how long its objects are kept: ``s3:PutBucket…``."""


def test_the_boundary_denies_whatever_opens_or_empties_a_bucket(
    statements: Mapping[str, Mapping[str, Any]],
) -> None:
    but_for_backup = statements["OpenOrDestroyBesideBackup"]
    assert but_for_backup["Condition"] == {"StringNotEquals": {"aws:PrincipalTag/duty": "backup"}}
    denied = [*listed(statements["OpenOrDestroy"]["Action"]), *listed(but_for_backup["Action"])]
    opening = [f"s3:PutBucket{part}" for part in OF_A_BUCKET]
    opening += ["s3:DeleteBucket", "s3:DeleteBucketPolicy", "s3:PutLifecycleConfiguration"]

    assert [action for action in opening if not any(fnmatchcase(action, each) for each in denied)] == []


def test_only_the_role_of_aws_backup_does_what_the_boundary_leaves_it(
    assembly: Path, statements: Mapping[str, Mapping[str, Any]]
) -> None:
    left = listed(statements["OpenOrDestroyBesideBackup"]["Action"])
    taken = {
        (where.partition("/Data/")[2][:8], action)
        for where, action in granted(assembly)
        if any(_meets(pattern, action) for pattern in left)
    }

    assert taken == {("Recovery", "dynamodb:DeleteBackup"), ("Recovery", "s3:PutBucketNotification")}


def test_a_resource_of_another_tenant_is_denied_and_a_shared_one_not(
    statements: Mapping[str, Mapping[str, Any]],
) -> None:
    assert statements["OtherTenant"]["Condition"] == {
        "StringNotEquals": {"aws:ResourceTag/tenant": ["${aws:PrincipalTag/tenant}", "shared"]},
        "Null": {"aws:ResourceTag/tenant": "false"},
    }
    assert statements["NoTenant"]["Condition"] == {"Null": {"aws:PrincipalTag/tenant": "true"}}


def test_a_role_cannot_extend_its_permissions(statements: Mapping[str, Mapping[str, Any]]) -> None:
    assert statements["RightsGrow"]["Action"] == ["iam:*", "organizations:*", "sts:AssumeRole*"]
    # Of these actions only PassRole has the key, so a role passes roles to tasks and does nothing else.
    assert statements["RightsGrow"]["Condition"] == {
        "StringNotEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    }


def test_a_role_stays_in_its_account_and_region(statements: Mapping[str, Mapping[str, Any]]) -> None:
    assert statements["LeaveRegion"]["Condition"] == {
        "StringNotEquals": {"aws:RequestedRegion": ["us-east-1"]}
    }
    assert statements["LeaveAccount"]["Condition"]["StringNotEquals"] == {
        "aws:ResourceAccount": "111122223333"
    }


def test_a_service_takes_a_role_for_its_own_account_alone(assembly: Path) -> None:
    """A service that was told to act for somebody else's resource is refused (the confused deputy)."""
    open_to: dict[str, set[str]] = {}
    for tenant in TENANTS:
        for template in templates_in(assembly_folder(assembly, tenant)).values():
            for name, role in resources_of(template, "AWS::IAM::Role").items():
                for trust in role["Properties"]["AssumeRolePolicyDocument"]["Statement"]:
                    for service in listed(trust["Principal"].get("Service", [])):
                        account = trust.get("Condition", {}).get("StringEquals", {}).get("aws:SourceAccount")
                        if account != deployed(tenant).place.account:
                            open_to.setdefault(service, set()).add(name)

    starting = {name for name in open_to.pop("ecs-tasks.amazonaws.com") if "ExecutionRole" not in name}
    assert not starting
    assert set(open_to) <= {
        "lambda.amazonaws.com",
        "emr-serverless.amazonaws.com",
        "cloudtrail.amazonaws.com",
        "backup.amazonaws.com",
    }
