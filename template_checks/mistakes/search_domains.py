"""8 and 18: availability zones, and search domains with what an account has only once or ten times."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, cast

from template_checks.conditions import STRANGER, Context, conditions_hold
from template_checks.findings import Deployment, Finding, judge, or_passed, refused, unknown_parameter
from template_checks.networks import key_of
from template_checks.policies import Statement, statements
from template_checks.templates import Resource
from template_checks.values import Target, Unknown, Value, at, flag, integer, is_known, items, text

DOMAINS = ("AWS::OpenSearchService::Domain", "AWS::Elasticsearch::Domain")

# --- 8: zones ---------------------------------------------------------------------------------------------
_ZONE = re.compile(
    r"^((?:us|eu|ap|sa|ca|me|af|il|mx|cn|us-gov|us-iso[a-z]?|eu-isoe|eusc)(?:-[a-z]{2})?"
    r"-(?:north|south|east|west|central|northeast|northwest|southeast|southwest)-\d)"
    r"(?:[a-f]|-[a-z]{3}-\d[a-z]|-wl\d-[a-z]{3}-wlz-\d)$"
)
"""``us-east-1a`` to ``f``, a local zone (``us-east-1-bos-1a``), a Wavelength zone."""
_ZONE_ID = re.compile(r"^([a-z]{2,8}\d)-(?:[a-z]{3}\d-)?az\d$")
_LISTED = re.compile(r"\$\{Fn::GetAZs (\$\{[^}]*\}|[^}]*)\}")
_NAMES = ("AvailabilityZone", "AvailabilityZones", "AvailabilityZoneId", "AvailabilityZoneIds")
_WITH_STANDBY = 3


def _check_zones(deployment: Deployment) -> Iterator[Finding]:
    for resource in deployment.templates.of():
        raw = cast("Mapping[str, Any]", resource.raw.get("Properties") or {})
        for name in _NAMES:
            # Few resources have one; only theirs are resolved.
            for zone in items(resource.properties[name]) if name in raw else ():
                yield from _check_zone(deployment, resource, name, zone)
    for domain in deployment.templates.of(*DOMAINS):
        standby = _cluster(domain, "MultiAZWithStandbyEnabled")
        if flag(standby):
            yield from or_passed(_check_standby(domain), domain, "standby-zones")
        elif standby is not None and flag(standby) is None:
            yield unknown_parameter(domain, "standby-zones", at="ClusterConfig.MultiAZWithStandbyEnabled")


def _cluster(domain: Resource, *path: str) -> Value:
    return at(domain.properties.get("ClusterConfig"), *path)


def _check_zone(deployment: Deployment, resource: Resource, name: str, zone: Value) -> Iterator[Finding]:
    listed = _LISTED.search(text(zone))
    if isinstance(zone, str):
        yield _check_named(deployment, resource, name, zone)
    elif listed is not None:
        yield _check_listed(resource, name, listed[1])
    elif isinstance(zone, Unknown) and not _is_held_by_type(resource, zone):
        yield unknown_parameter(resource, "invented-zone", at=name)


def _is_held_by_type(resource: Resource, zone: Unknown) -> bool:
    """Return whether a parameter's type makes CloudFormation refuse anything but a zone of the region."""
    return any(
        "AvailabilityZone" in str(declared.get("Type")) and f".{name}" in text(zone)
        for name, declared in resource.template.section("Parameters").items()
    )


def _check_named(deployment: Deployment, resource: Resource, name: str, zone: str) -> Finding:
    facts, region = deployment.facts, resource.region
    is_id = name.endswith(("Id", "Ids"))
    match = (_ZONE_ID if is_id else _ZONE).match(zone)
    wanted = (_start_of_ids(region) if is_id else region) if "${" not in region else None
    is_other = match is not None and wanted is not None and match.group(1) != wanted
    is_missing = bool(facts.zones) and not is_id and zone not in facts.zones
    allowed = ", ".join(facts.zones) or f"{region}a, {region}b, …"
    return judge(
        match is not None and not is_other and not is_missing,
        resource,
        "invented-zone",
        at=name,
        message=f"{zone} is no availability zone of {region}.",
        fix=f"Name the account's own zones ({allowed}), or use Fn::GetAZs. With CDK, set the "
        "context availability-zones:account=…:region=… before any stack.",
    )


def _check_listed(resource: Resource, name: str, asked: str) -> Finding:
    """Compare the region whose zones ``Fn::GetAZs`` lists with the stack's own."""
    is_open = "${" in asked or "${" in resource.region
    return judge(
        asked in ("", resource.region) or (None if is_open else False),
        resource,
        "invented-zone",
        at=name,
        message=f"It uses a zone of {asked}; the stack's region is "
        f"{'unknown' if is_open else resource.region}.",
        fix="Give the region in the facts: region."
        if is_open
        else 'Use the zones of the stack\'s own region: Fn::GetAZs "".',
    )


def _start_of_ids(region: str) -> str:
    """Return how the ids of a region's zones begin: ``use1`` for ``us-east-1``, ``apse2``, ``usgw1``."""
    *places, number = region.split("-")
    area, side = places[0], places[-1]
    between = "".join(place[0] for place in places[1:-1])
    letters = re.findall("north|south|east|west|central", side)
    return f"{area}{between}{''.join(one[0] for one in letters)}{number}"


def _check_standby(domain: Resource) -> Iterator[Finding]:
    yield from _check_switch(domain, "standby-zones", "ZoneAwarenessEnabled", "zone awareness")
    yield from _check_zone_count(domain)
    yield from _check_switch(domain, "standby-nodes", "DedicatedMasterEnabled", "dedicated masters")
    yield from _check_nodes(domain, "DedicatedMasterCount", "3 dedicated masters")
    yield from _check_nodes(domain, "InstanceCount", "data nodes in multiples of 3")


def _check_switch(domain: Resource, code: str, name: str, wanted: str) -> Iterator[Finding]:
    value = _cluster(domain, name)
    if value is not None and flag(value) is None:
        yield unknown_parameter(domain, code, at=f"ClusterConfig.{name}")
    elif not flag(value):
        message = f"Multi-AZ with standby needs {wanted}; it is {text(value) or 'absent'}."
        fix = f"Set {name}: true, or switch MultiAZWithStandbyEnabled off."
        yield refused(domain, code, at=f"ClusterConfig.{name}", message=message, fix=fix)


def _check_zone_count(domain: Resource) -> Iterator[Finding]:
    place = "ClusterConfig.ZoneAwarenessConfig.AvailabilityZoneCount"
    subnets = items(at(domain.properties.get("VPCOptions"), "SubnetIds"))
    zones = {_zone_of(subnet) for subnet in subnets}
    are_known = all(isinstance(subnet, Target) or is_known(subnet) for subnet in subnets)
    too_few = are_known and bool(subnets) and len(zones) < _WITH_STANDBY
    count = _cluster(domain, "ZoneAwarenessConfig", "AvailabilityZoneCount")
    if count is not None and integer(count) is None:
        yield unknown_parameter(domain, "standby-zones", at=place, message="Its number of zones is unknown.")
    elif too_few or integer(count) != _WITH_STANDBY:
        yield refused(
            domain,
            "standby-zones",
            at="VPCOptions.SubnetIds" if too_few else place,
            message=f"Multi-AZ with standby needs {_WITH_STANDBY} zones; this domain has "
            f"{len(zones) if too_few else integer(count) or 2}.",
            fix="Set AvailabilityZoneCount: 3 and name one subnet in each of three zones, or switch "
            "MultiAZWithStandbyEnabled off.",
        )


def _zone_of(subnet: Value) -> str:
    """Return a subnet's zone; an unknown one counts as a zone of its own."""
    own = subnet.resource.properties.get("AvailabilityZone") if isinstance(subnet, Target) else None
    return text(subnet if own is None else own)


def _check_nodes(domain: Resource, name: str, wanted: str) -> Iterator[Finding]:
    value = _cluster(domain, name)
    count = integer(value)
    if value is not None and count is None:
        yield unknown_parameter(domain, "standby-nodes", at=f"ClusterConfig.{name}")
    elif not count or count % _WITH_STANDBY or (name == "DedicatedMasterCount" and count != _WITH_STANDBY):
        message = f"Multi-AZ with standby needs {wanted}; this domain has {count or 0}."
        fix = f"Give it {wanted}, or switch MultiAZWithStandbyEnabled off."
        yield refused(domain, "standby-nodes", at=f"ClusterConfig.{name}", message=message, fix=fix)


# --- 18: domains, and what an account has once or ten times -----------------------------------------------
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


def _check_domains(deployment: Deployment) -> Iterator[Finding]:
    yield from _check_linked_roles(deployment)
    yield from _check_log_policies(deployment)
    for domain in deployment.templates.of(*DOMAINS):
        found = [*_check_ingress(deployment, domain), *_check_instances(domain), *_check_access(domain)]
        yield from or_passed(found, domain, "domain-ingress")


def _check_linked_roles(deployment: Deployment) -> Iterator[Finding]:
    with_domains = {domain.template for domain in deployment.templates.of(*DOMAINS)}
    accounts: set[str | None] = set()
    for role in deployment.templates.of("AWS::IAM::ServiceLinkedRole"):
        if text(role.properties.get("AWSServiceName")) in _SEARCH_PRINCIPALS:
            is_first = role.template.account not in accounts
            accounts.add(role.template.account)
            yield judge(
                is_first and role.template not in with_domains,
                role,
                "service-linked-role",
                at="AWSServiceName",
                message="An account has this role once. A second stack with it fails, and the first one that "
                "is deleted deletes it for all others.",
                fix="Make it once in a stack of the account, apart from every domain's.",
            )


def _check_log_policies(deployment: Deployment) -> Iterator[Finding]:
    places: dict[tuple[str | None, str | None], list[Resource]] = defaultdict(list)
    for policy in deployment.templates.of("AWS::Logs::ResourcePolicy", "Custom::CloudwatchLogResourcePolicy"):
        places[policy.template.account, policy.template.region].append(policy)
    for policies in places.values():
        is_right = len(policies) <= _MOST_LOG_POLICIES
        yield judge(
            is_right,
            policies[0 if is_right else _MOST_LOG_POLICIES],
            "log-policies",
            at="PolicyDocument",
            message=f"These templates make {len(policies)} log resource policies in one region, where "
            f"{_MOST_LOG_POLICIES} are possible.",
            fix="Make one for all domains in a stack of the account, and none in a domain's stack.",
        )


def _check_ingress(deployment: Deployment, domain: Resource) -> Iterator[Finding]:
    options = domain.properties.get("VPCOptions")
    groups = [key_of(group) for group in items(at(options, "SecurityGroupIds"))]
    if options is None or deployment.groups.has_source(groups, port=_HTTPS):
        return
    is_closed = all(isinstance(group, Resource) for group in groups)
    yield judge(
        False if is_closed else None,
        domain,
        "domain-ingress",
        at="VPCOptions.SecurityGroupIds",
        message=f"No rule of its security groups allows anything in on {_HTTPS}: every search times out."
        if is_closed
        else "Its security groups are not in the templates.",
        fix=f"Add an ingress rule for TCP {_HTTPS} from each group that searches."
        if is_closed
        else "Add the template of its security groups to the same check.",
    )


def _check_instances(domain: Resource) -> Iterator[Finding]:
    if not flag(_cluster(domain, "MultiAZWithStandbyEnabled")):
        return
    for name in ("InstanceType", "DedicatedMasterType"):
        kind = text(_cluster(domain, name))
        if kind.startswith(("t2.", "t3.")):
            message = f"Multi-AZ with standby does not support {kind}: the domain cannot be made."
            fix = "Use an m, c or r instance, or switch MultiAZWithStandbyEnabled off."
            yield refused(
                domain, "burstable-with-standby", at=f"ClusterConfig.{name}", message=message, fix=fix
            )


def _check_access(domain: Resource) -> Iterator[Finding]:
    for statement in statements(domain.properties.get("AccessPolicies")):
        if statement.allows and _names_everybody(statement):
            verdict = conditions_hold(statement.conditions, _STRANGER)
            if verdict is not False:
                yield judge(
                    False if verdict else None,
                    domain,
                    "open-access-policy",
                    at="AccessPolicies",
                    message="It allows everybody who reaches the domain to act on it."
                    if verdict
                    else "It allows everybody on conditions that the templates do not decide.",
                    fix="Name the roles that search and index as principals.",
                )


def _names_everybody(statement: Statement) -> bool:
    names = [name for kind in ("*", "AWS") for name in statement.principals.get(kind, ())]
    return bool(statement.not_principals) or any("*" in name for name in names)


CHECKS = {8: _check_zones, 18: _check_domains}
