"""Each right of each process is asked twice: for what its tenant has, and for the same of a neighbour."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest

from tests.stacks.rights.changes import change_role
from tests.stacks.rights.evaluator import judge
from tests.stacks.rights.every_right import Right, asked_twice, rights_of
from tests.stacks.rights.model import Account

WAYS = [("clinic", "pharmacy"), ("pharmacy", "clinic")]
OF_THE_ACCOUNT: Mapping[str, str] = {
    r"backup:TagResource .*:recovery-point:\*": "AWS Backup names a point, and tags it when it makes it",
    r"cloudwatch:GetMetricData \*": "metrics take no resource; AWS Backup's role, which no code has",
    r"cloudwatch:PutMetricData \*": "metrics take no resource; the namespaces are SageMaker's",
    r"ec2:Describe\w+ \*": "lists of a VPC, which take no resource",
    r"ec2:(Assign|Unassign)PrivateIpAddresses \*": "Lambda does it before the function's code has the role",
    r"ec2:(Create|Delete)NetworkInterface \*": "likewise; EC2 reads no tag of an interface that Lambda makes",
    r"ec2:\w+NetworkInterface\w* .*network-interface/\*": "an interface has no id yet; its subnet bounds it",
    r"ecr:GetAuthorizationToken \*": "it takes no resource",
    r"ecr:\w+ .*:repository/\*": "images are the account's or AWS's",
    r"events:\w+ .*:rule/AwsBackupManagedRule\*": "AWS Backup names its rules; no code has the role",
    r"events:ListRules \*": "it takes no resource",
    r"logs:\w+LogDeliver\w+ \*": "what a state machine needs for its log; these take no resource",
    r"logs:Describe(LogGroups|ResourcePolicies) \*": "likewise",
    r"logs:PutResourcePolicy \*": "likewise",
    r"logs:\w+ .*:log-group:/aws/sagemaker/TrainingJobs\*": "SageMaker has one group for all jobs",
    r"s3:ListAllMyBuckets \*": "it takes no resource",
    r"xray:Put\w+ \*": "traces take no resource",
}
"""Action and resource of rights that end at no tenant = why."""


def crossing(account: Account, tenant: str, neighbour: str) -> Iterator[Right]:
    """Yield the rights by which a tenant's roles reach what a neighbour has."""
    asked = [
        (right, theirs)
        for right in rights_of(account, tenant)
        for ours, theirs in asked_twice(account, right, neighbour=neighbour)
        if not (right.names_one and ours.resource == theirs.resource)
    ]
    assert len({(str(right.role), right.action, right.resource) for right, _ in asked}) > 550
    judged = judge(theirs for _, theirs in asked)
    yield from (right for (right, _), one in zip(asked, judged, strict=True) if one.is_allowed)


def row_of(right: Right) -> str | None:
    text = f"{right.action} {right.resource}"
    return next((row for row in OF_THE_ACCOUNT if re.fullmatch(row, text)), None)


@pytest.mark.parametrize("tenant", ["pharmacy", "clinic"])
def test_each_right_is_held_in_the_role_s_own_tenant(account: Account, tenant: str) -> None:
    asked = [
        (right, ours)
        for right in rights_of(account, tenant)
        for ours, _ in asked_twice(account, right, neighbour="neighbour")
    ]
    judged = judge(ours for _, ours in asked)
    refused = {
        f"{right}: {one.result} {one.blocked_by}"
        for (right, _), one in zip(asked, judged, strict=True)
        if not one.is_allowed
    }
    assert refused == set()


def test_no_right_reaches_what_a_neighbour_has(account: Account) -> None:
    found = [right for tenant, neighbour in WAYS for right in crossing(account, tenant, neighbour)]
    assert {str(right) for right in found if row_of(right) is None} == set()
    assert set(OF_THE_ACCOUNT) - {row_of(right) for right in found} == set(), "a row without effect"


def test_a_right_on_the_parameters_of_every_tenant_is_named(account: Account) -> None:
    role = account.role("clinic", "RemoveRole")
    statement = {
        "Effect": "Allow",
        "Action": "ssm:PutParameter",
        "Resource": "arn:aws:ssm:us-east-1:111122223333:parameter/assistant/*",
    }
    stray = {"Version": "2012-10-17", "Statement": [statement]}
    change_role(account, role, policies={**role.policies, "stray": stray})
    named = {right.action for right in crossing(account, "clinic", "pharmacy") if row_of(right) is None}
    assert named == {"ssm:PutParameter"}
