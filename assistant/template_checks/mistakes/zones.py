"""8: availability zones."""

from __future__ import annotations

import re
from collections.abc import Iterator

from assistant.template_checks.findings import Finding, not_proven, passed, refused
from assistant.template_checks.mistakes.mistake import Deployment, Mistake
from assistant.template_checks.templates import Resource
from assistant.template_checks.values import Target, Value, at, flag, integer, is_known, items, text

DOMAINS = ("AWS::OpenSearchService::Domain", "AWS::Elasticsearch::Domain")
_ZONE = re.compile(
    r"^((?:us|eu|ap|sa|ca|me|af|il|mx|cn|us-gov|us-iso[a-z]?|eu-isoe|eusc)(?:-[a-z]{2})?"
    r"-(?:north|south|east|west|central|northeast|northwest|southeast|southwest)-\d)"
    r"(?:[a-f]|-[a-z]{3}-\d[a-z]|-wl\d-[a-z]{3}-wlz-\d)$"
)
"""``us-east-1a`` to ``f``, a local zone (``us-east-1-bos-1a``), a Wavelength zone."""
_WITH_STANDBY = 3


def _check(deployment: Deployment) -> Iterator[Finding]:
    for resource in deployment.templates.of():
        for name in ("AvailabilityZone", "AvailabilityZones"):
            # Few have one; only theirs are resolved.
            named = name in (resource.raw.get("Properties") or {})
            for zone in items(resource.properties[name]) if named else ():
                if isinstance(zone, str):
                    yield _check_zone(deployment, resource, name, zone)
    for domain in deployment.templates.of(*DOMAINS):
        if has_standby(domain):
            yield from _check_standby(domain)


def has_standby(domain: Resource) -> bool:
    """Return whether a domain is Multi-AZ with standby."""
    return flag(at(domain.properties.get("ClusterConfig"), "MultiAZWithStandbyEnabled")) is True


def _check_zone(deployment: Deployment, resource: Resource, name: str, zone: str) -> Finding:
    facts = deployment.facts
    region = resource.template.region or facts.region
    match = _ZONE.match(zone)
    if match is None or (region and match.group(1) != region) or (facts.zones and zone not in facts.zones):
        allowed = ", ".join(facts.zones) or f"{region or '<region>'}a, {region or '<region>'}b, …"
        return refused(
            resource,
            "invented-zone",
            at=name,
            message=f"{zone} is no availability zone of {region or 'a region'}.",
            mend=f"Name the account's own zones ({allowed}), or take them by Fn::GetAZs. With CDK, set the "
            "context availability-zones:account=…:region=… before any stack.",
        )
    return passed(resource, "invented-zone")


def _check_standby(domain: Resource) -> Iterator[Finding]:
    cluster = domain.properties.get("ClusterConfig")
    zones = at(cluster, "ZoneAwarenessConfig", "AvailabilityZoneCount")
    masters, nodes = at(cluster, "DedicatedMasterCount"), at(cluster, "InstanceCount")
    wrong = [
        *_fewer_zones(domain, zones),
        *_not_three(domain, "ClusterConfig.DedicatedMasterCount", masters, "3 dedicated masters"),
        *_not_three(domain, "ClusterConfig.InstanceCount", nodes, "data nodes in multiples of 3"),
    ]
    yield from wrong
    if not wrong:
        yield passed(domain, "standby-zones")


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
        return  # a parameter: the service refuses a wrong one at once
    if not count or count % _WITH_STANDBY or (at_.endswith("MasterCount") and count != _WITH_STANDBY):
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
            "invented-zone": "a zone that no region, or not the stack's, has (CDK's dummy1a)",
            "standby-zones": "a search domain with standby in fewer than 3 zones",
            "standby-nodes": "with standby, not 3 dedicated masters or data nodes not in threes",
        },
        why="Without credentials CDK invents the zones of an explicit environment (dummy1a), and the "
        "deployment fails. OpenSearch refuses standby on anything but three zones, three masters and "
        "nodes in threes.",
        mend="The account's own zones; three of them where there is a standby.",
        absent="no zone is named, and no search domain has a standby",
        check=_check,
    ),
)
