"""Each right of each process is asked twice: for what its tenant has, and for the same of a neighbour."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.stacks.rights.isolation import TELL_TAGS
from tests.stacks.rights.model import Account, Role, Store, change_role
from tests.stacks.rights.requests import (
    ACTIONS,
    Request,
    allow_statements,
    context_of,
    fulfilled,
    judge,
    listed,
    own,
    request,
)

_TAG = "aws:ResourceTag/tenant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One action on one resource, as a statement of a role's policy names them."""

    role: Role
    action: str
    resource: str
    conditions: Mapping[str, Mapping[str, Any]]

    def __str__(self) -> str:
        return f"{self.role}: {self.action} on {self.resource}"

    @property
    def names_one(self) -> bool:
        """Whether it names a single thing, which is the tenant's or of no tenant."""
        return not re.search(r"[*?]", self.resource)


def rights_of(account: Account, tenant: str) -> Iterator[Right]:
    """Yield what the statements of the tenant's roles allow."""
    for role in account.of(tenant)[0]:
        for statement in allow_statements(role):
            conditions = statement.get("Condition", {})
            for action in _expanded(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    yield Right(role=role, action=action, resource=resource, conditions=conditions)


def asked_twice(account: Account, right: Right, *, neighbour: str) -> Iterator[tuple[Request, Request]]:
    """Yield requests by the right, for what its tenant has and for the same of a neighbour: the neighbour's
    store of the same role, else what has the neighbour's name. With the owner's tag, where the service is
    known to tell it or the right asks for it."""
    role, tenant = right.role, right.role.tenant
    resource = _one_of(own(role, right.resource), right.action)
    store = next((one for one in account.of(tenant)[1] if _is_in(resource, one.arn)), None)
    twin = account.twin(store, tenant=neighbour) if store else None
    there = resource.replace(store.arn, twin.arn) if store and twin else resource.replace(tenant, neighbour)
    tells = _TAG in str(right.conditions) or (store is not None and store.kind in TELL_TAGS)
    for given in fulfilled(right.conditions) or [{}]:
        kept = {key: own(role, value) for key, value in given.items()}
        turned = {key: value.replace(tenant, neighbour) for key, value in kept.items()}
        yield (
            _request(account, right, resource, kept | ({_TAG: tenant} if tells else {}), store),
            _request(account, right, there, turned | ({_TAG: neighbour} if tells else {}), twin),
        )


def _request(
    account: Account, right: Right, resource: str, context: Mapping[str, str], store: Store | None
) -> Request:
    role = right.role
    store = store or Store(tenant=role.tenant, stack="", logical_id=resource, kind="", arn=resource)
    context = context_of(role, **context)
    return request(account, role, right.action, store, resource=resource, context=context)


def _one_of(pattern: str, action: str) -> str:
    """Return the ARN of a resource that a pattern names, of the kind that the action takes."""
    if pattern == "*":
        return pattern
    named = pattern.replace("*", "x").replace("?", "a")
    if action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        return f"{named.partition(':log-stream:')[0].removesuffix(':x')}:log-stream:x"
    return re.sub(r"^(arn:aws:logs:.*):x$", r"\1:*", named)


def _is_in(resource: str, arn: str) -> bool:
    rest = resource.removeprefix(arn)
    return rest != resource and (rest == "" or rest[0] in "/:")


_KNOWN = sorted({action for actions in ACTIONS.values() for action in actions})


def _expanded(actions: object) -> Iterator[str]:
    for action in listed(actions):
        if "*" in action:
            yield from (each for each in _KNOWN if fnmatch.fnmatchcase(each, action))
        else:
            yield action


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
