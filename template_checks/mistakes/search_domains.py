"""18: search domains, and what an account has only once or ten times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from template_checks.conditions import STRANGER, Context, conditions_hold
from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.mistakes.zones import DOMAINS, has_standby
from template_checks.networks import key_of
from template_checks.policies import Statement, statements
from template_checks.templates import Resource
from template_checks.values import at, items, text

_SEARCH_PRINCIPALS = ("es.amazonaws.com", "opensearchservice.amazonaws.com")
_MOST_LOG_POLICIES = 10
"""CloudWatch Logs resource policies in a region; the limit cannot be raised."""
_HTTPS = 443
_STRANGER = Context(
    known={
        "aws:principalarn": (f"{STRANGER}somebody",),
        "aws:principalaccount": (f"{STRANGER}somebody",),
        "aws:principalorgid": (f"{STRANGER}somebody",),
        "aws:principaltype": ("AssumedRole",),
        "aws:securetransport": ("true",),
        "aws:sourceip": ("203.0.113.7",),
    },
    absent=("aws:principaltag/", "aws:sourcevpc"),
)
"""Somebody of another account and another network."""


def _check(deployment: Deployment) -> Iterator[Finding]:
    yield from _check_linked_roles(deployment)
    yield from _check_log_policies(deployment)
    for domain in deployment.templates.of(*DOMAINS):
        found = [
            *_check_ingress(deployment, domain),
            *_check_instances(domain),
            *_check_access(domain),
        ]
        yield from found
        if not found:
            yield passed(domain, "domain-ingress")


def _check_linked_roles(deployment: Deployment) -> Iterator[Finding]:
    roles = [
        role
        for role in deployment.templates.of("AWS::IAM::ServiceLinkedRole")
        if text(role.properties.get("AWSServiceName")) in _SEARCH_PRINCIPALS
    ]
    with_domains = {domain.template for domain in deployment.templates.of(*DOMAINS)}
    per_account: dict[str | None, list[Resource]] = defaultdict(list)
    for role in roles:
        per_account[role.template.account].append(role)
    for role in roles:
        is_first = per_account[role.template.account][0] is role
        if is_first and role.template not in with_domains:
            yield passed(role, "service-linked-role")
        else:
            yield refused(
                role,
                "service-linked-role",
                at="AWSServiceName",
                message="An account has this role once; the second stack that makes it fails, and the "
                "first that is deleted takes it from all others.",
                mend="Make it once in a stack of the account, apart from every domain's.",
            )


def _check_log_policies(deployment: Deployment) -> Iterator[Finding]:
    places: dict[tuple[str | None, str | None], list[Resource]] = defaultdict(list)
    for policy in deployment.templates.of("AWS::Logs::ResourcePolicy", "Custom::CloudwatchLogResourcePolicy"):
        places[policy.template.account, policy.template.region].append(policy)
    for policies in places.values():
        if len(policies) <= _MOST_LOG_POLICIES:
            yield passed(policies[0], "log-policies")
        else:
            yield refused(
                policies[_MOST_LOG_POLICIES],
                "log-policies",
                at="PolicyDocument",
                message=f"These templates make {len(policies)} log resource policies in one region, where "
                f"there can be {_MOST_LOG_POLICIES}.",
                mend="Make one for all domains in a stack of the account, and none in a domain's stack.",
            )


def _check_ingress(deployment: Deployment, domain: Resource) -> Iterator[Finding]:
    groups = [key_of(group) for group in items(at(domain.properties.get("VPCOptions"), "SecurityGroupIds"))]
    is_in_vpc = domain.properties.get("VPCOptions") is not None
    if not is_in_vpc or deployment.groups.has_source(groups, port=_HTTPS):
        return
    is_told = all(isinstance(group, Resource) for group in groups)
    yield (refused if is_told else not_proven)(
        domain,
        "domain-ingress",
        at="VPCOptions.SecurityGroupIds",
        message=f"No rule of its security groups lets anybody in on {_HTTPS}: every search times out."
        if is_told
        else "Whether anybody is let in is not told: its security groups are not in the templates.",
        mend=f"Add an ingress rule for TCP {_HTTPS} from each group that searches."
        if is_told
        else "Give the template of its security groups to the same check.",
    )


def _check_instances(domain: Resource) -> Iterator[Finding]:
    cluster = domain.properties.get("ClusterConfig")
    for name in ("InstanceType", "DedicatedMasterType") if has_standby(domain) else ():
        kind = text(at(cluster, name))
        if kind.startswith(("t2.", "t3.")):
            yield refused(
                domain,
                "burstable-with-standby",
                at=f"ClusterConfig.{name}",
                message=f"{kind} takes no part in Multi-AZ with standby: the domain cannot be made.",
                mend="Take an m, c or r instance, or switch MultiAZWithStandbyEnabled off.",
            )


def _check_access(domain: Resource) -> Iterator[Finding]:
    for statement in statements(domain.properties.get("AccessPolicies")):
        if statement.allows and _names_everybody(statement):
            verdict = conditions_hold(statement.conditions, _STRANGER)
            if verdict is not False:
                yield (refused if verdict else not_proven)(
                    domain,
                    "open-access-policy",
                    at="AccessPolicies",
                    message="It lets everybody who reaches the domain act on it."
                    if verdict
                    else "Whether its conditions keep anybody out is not told.",
                    mend="Name the roles that search and index as principals.",
                )


def _names_everybody(statement: Statement) -> bool:
    if statement.not_principals:
        return True
    return any(
        "*" in name and (kind in ("*", "AWS"))
        for kind, names in statement.principals.items()
        for name in names
    )


MISTAKES = (
    Mistake(
        number=18,
        title="A service-linked role per stack, > 10 log policies, a domain with no ingress, t3 with "
        "standby, an open access policy",
        parts={
            "service-linked-role": "OpenSearch's service-linked role in a domain's stack, or twice",
            "log-policies": "more than 10 log resource policies in a region",
            "domain-ingress": "nobody is let into the domain's security groups on 443",
            "burstable-with-standby": "t2 or t3 data nodes or masters with standby",
            "open-access-policy": "an access policy that allows every principal without a condition",
        },
        why="Role and policies belong to the account, not to a domain. A domain's security group lets "
        "nobody in by default. OpenSearch refuses burstable instances with standby.",
        mend="Role and one log policy in a stack of the account; an ingress rule for each caller's group; "
        "named principals.",
        absent="no search domain, service-linked role or log resource policy",
        check=_check,
    ),
)
