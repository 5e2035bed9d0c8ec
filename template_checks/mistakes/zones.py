"""8: availability zones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.templates import Resource
from template_checks.values import Target, Unknown, Value, at, flag, integer, is_known, items, text

DOMAINS = ("AWS::OpenSearchService::Domain", "AWS::Elasticsearch::Domain")
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


def _check(deployment: Deployment) -> Iterator[Finding]:
    for resource in deployment.templates.of():
        raw = cast("Mapping[str, Any]", resource.raw.get("Properties") or {})
        for name in _NAMES:
            # Few have one; only theirs are resolved.
            for zone in items(resource.properties[name]) if name in raw else ():
                yield from _check_zone(deployment, resource, name, zone)
    for domain in deployment.templates.of(*DOMAINS):
        standby = at(domain.properties.get("ClusterConfig"), "MultiAZWithStandbyEnabled")
        if has_standby(domain):
            yield from _check_standby(domain)
        elif standby is not None and flag(standby) is None:
            yield _untold(domain, "standby-zones", "ClusterConfig.MultiAZWithStandbyEnabled")


def has_standby(domain: Resource) -> bool:
    """Return whether a domain is Multi-AZ with standby."""
    return flag(at(domain.properties.get("ClusterConfig"), "MultiAZWithStandbyEnabled")) is True


def _check_zone(deployment: Deployment, resource: Resource, name: str, zone: Value) -> Iterator[Finding]:
    listed = _LISTED.search(text(zone))
    if isinstance(zone, str):
        yield _check_named(deployment, resource, name, zone)
    elif listed is not None:
        yield _check_listed(resource, name, listed[1])
    elif isinstance(zone, Unknown) and not _is_held_by_type(resource, zone):
        yield _untold(resource, "invented-zone", name)


def _is_held_by_type(resource: Resource, zone: Unknown) -> bool:
    """Return whether a parameter's type makes CloudFormation refuse what is no zone of the region."""
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
    if match is not None and not is_other and not is_missing:
        return passed(resource, "invented-zone")
    allowed = ", ".join(facts.zones) or f"{region}a, {region}b, …"
    return refused(
        resource,
        "invented-zone",
        at=name,
        message=f"{zone} is no availability zone of {region}.",
        mend=f"Name the account's own zones ({allowed}), or take them by Fn::GetAZs. With CDK, set the "
        "context availability-zones:account=…:region=… before any stack.",
    )


def _check_listed(resource: Resource, name: str, asked: str) -> Finding:
    """Hold the region whose zones ``Fn::GetAZs`` lists against the stack's own."""
    if asked in ("", resource.region):
        return passed(resource, "invented-zone")
    is_told = "${" not in asked and "${" not in resource.region
    return (refused if is_told else not_proven)(
        resource,
        "invented-zone",
        at=name,
        message=f"It takes a zone of {asked}, and the stack is made in {resource.region}."
        if is_told
        else f"Whether the stack is made in {asked}, whose zones it takes, is not told.",
        mend='Take the zones of the stack\'s own region: Fn::GetAZs "".'
        if is_told
        else "Say the region in the facts: region.",
    )


def _start_of_ids(region: str) -> str:
    """Return how the ids of a region's zones begin: ``use1`` for ``us-east-1``, ``apse2``, ``usgw1``."""
    *places, number = region.split("-")
    area, side = places[0], places[-1]
    between = "".join(place[0] for place in places[1:-1])
    letters = re.findall("north|south|east|west|central", side)
    return f"{area}{between}{''.join(one[0] for one in letters)}{number}"


def _untold(resource: Resource, code: str, at_: str) -> Finding:
    return not_proven(
        resource,
        code,
        at=at_,
        message=f"Its {at_} is not told.",
        mend="Give the parameter a default, or its value in the facts: parameters.",
    )


def _check_standby(domain: Resource) -> Iterator[Finding]:
    cluster = domain.properties.get("ClusterConfig")
    zones = at(cluster, "ZoneAwarenessConfig", "AvailabilityZoneCount")
    masters, nodes = at(cluster, "DedicatedMasterCount"), at(cluster, "InstanceCount")
    wrong = [
        *_not_on(domain, "standby-zones", "ZoneAwarenessEnabled", "zone awareness"),
        *_fewer_zones(domain, zones),
        *_not_on(domain, "standby-nodes", "DedicatedMasterEnabled", "dedicated masters"),
        *_not_three(domain, "ClusterConfig.DedicatedMasterCount", masters, "3 dedicated masters"),
        *_not_three(domain, "ClusterConfig.InstanceCount", nodes, "data nodes in multiples of 3"),
    ]
    yield from wrong
    if not wrong:
        yield passed(domain, "standby-zones")


def _not_on(domain: Resource, code: str, name: str, wanted: str) -> Iterator[Finding]:
    value = at(domain.properties.get("ClusterConfig"), name)
    if value is not None and flag(value) is None:
        yield _untold(domain, code, f"ClusterConfig.{name}")
    elif not flag(value):
        yield refused(
            domain,
            code,
            at=f"ClusterConfig.{name}",
            message=f"Multi-AZ with standby asks for {wanted}; it is {text(value) or 'absent'}.",
            mend=f"Set {name}: true, or switch MultiAZWithStandbyEnabled off.",
        )


def _fewer_zones(domain: Resource, zones: Value) -> Iterator[Finding]:
    subnets = items(at(domain.properties.get("VPCOptions"), "SubnetIds"))
    places = {_zone_of(subnet) for subnet in subnets}
    are_told = all(isinstance(subnet, Target) or is_known(subnet) for subnet in subnets)
    too_few = are_told and bool(subnets) and len(places) < _WITH_STANDBY
    counted = integer(zones)
    if zones is not None and counted is None:
        yield not_proven(
            domain,
            "standby-zones",
            at="ClusterConfig.ZoneAwarenessConfig.AvailabilityZoneCount",
            message="In how many zones it stands is not told.",
            mend="Give the parameter a default, or its value in the facts: parameters.",
        )
    elif too_few or counted != _WITH_STANDBY:
        at_ = "VPCOptions.SubnetIds" if too_few else "ClusterConfig.ZoneAwarenessConfig.AvailabilityZoneCount"
        yield refused(
            domain,
            "standby-zones",
            at=at_,
            message=f"Multi-AZ with standby stands in {_WITH_STANDBY} zones; here it has "
            f"{len(places) if too_few else counted or 2}.",
            mend="Set AvailabilityZoneCount: 3 and name one subnet in each of three zones, or switch "
            "MultiAZWithStandbyEnabled off.",
        )


def _zone_of(subnet: Value) -> str:
    """Return a subnet's zone; what cannot be told apart from another counts as one of its own."""
    if isinstance(subnet, Target):
        zone = subnet.resource.properties.get("AvailabilityZone")
        if zone is not None:
            return text(zone)
    return text(subnet)


def _not_three(domain: Resource, at_: str, value: Value, wanted: str) -> Iterator[Finding]:
    count = integer(value)
    if value is not None and count is None:
        yield _untold(domain, "standby-nodes", at_)
    elif not count or count % _WITH_STANDBY or (at_.endswith("MasterCount") and count != _WITH_STANDBY):
        yield refused(
            domain,
            "standby-nodes",
            at=at_,
            message=f"Multi-AZ with standby asks for {wanted}; here are {count or 0}.",
            mend=f"Give it {wanted}, or switch MultiAZWithStandbyEnabled off.",
        )


MISTAKES = (
    Mistake(
        number=8,
        title="Invented zones, or fewer than 3 with standby",
        parts={
            "invented-zone": "a zone that no region, or not the stack's, has (CDK's dummy1a; Fn::GetAZs of "
            "another region)",
            "standby-zones": "a search domain with standby in fewer than 3 zones, or not aware of zones",
            "standby-nodes": "with standby, dedicated masters off or not 3, or data nodes not in threes",
        },
        why="Without credentials CDK invents the zones of an explicit environment (dummy1a), and the "
        "deployment fails. OpenSearch refuses standby on anything but three zones, three masters and "
        "nodes in threes.",
        mend="The account's own zones; three of them where there is a standby.",
        absent="no zone is named, and no search domain has a standby",
        check=_check,
    ),
)
