"""Every path that has to be: the way in, hop by hop, and the way to all that is called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from template_checks.findings import Finding, not_proven, refused
from template_checks.load_balancing import port_of
from template_checks.reachability.calls import SEARCH, Call
from template_checks.reachability.connections import GATEWAY
from template_checks.reachability.endpoint_policies import passes
from template_checks.reachability.kinds import Kind
from template_checks.reachability.openings import Opening
from template_checks.reachability.peers import Peer
from template_checks.reachability.report import CallRow
from template_checks.reachability.scene import Scene
from template_checks.reachability.stations import Station
from template_checks.security_groups import network_of
from template_checks.templates import Resource
from template_checks.values import integer
from template_checks.vpc import Endpoint

_HTTPS = 443
_TWO_ENDS = "Both security groups need a rule, and the network ACLs of both subnets one each way."


def way_in(scene: Scene) -> Iterator[Finding]:
    """Refuse a hop between the care side and the tasks that no rules let through."""
    for balancer in scene.of_kind(Kind.NLB):
        for cidr in scene.facts.consumer_cidrs:
            network = network_of(cidr)
            peer = Peer(networks=() if network is None else (network,))
            if not _has(scene.connections.entering(balancer, peer, sure=True), _HTTPS):
                yield _blocked(balancer, f"{Kind.CARE_SIDE} {cidr}", balancer.resource_name, _HTTPS)
    for balancer in [*scene.of_kind(Kind.NLB), *scene.of_kind(Kind.ALB)]:
        for group in scene.forwards(balancer):
            for target in scene.registered(group):
                for port in _asked(group):
                    if not _has(scene.connections.between(balancer, target, sure=True), port):
                        yield _blocked(target, balancer.resource_name, target.resource_name, port)


def calls(scene: Scene) -> Iterator[CallRow | Finding]:
    """Yield how everything that is called is reached; refuse what is not."""
    for station in scene.stations:
        by_service: dict[str, list[Call]] = defaultdict(list)
        for call in scene.calls.of(station):
            by_service[call.service].append(call)
        for service, made in sorted(by_service.items()):
            findings = list(_reached(scene, station, service, made))
            yield CallRow(
                caller=str(station.kind),
                service=service or "unknown",
                by=_by(scene, station, service),
                actions=tuple(sorted({call.action for call in made})),
                judged=str(min((f.status for f in findings), default="reachable", key=_worst)),
            )
            yield from findings


def _worst(status: str) -> int:
    return ("refused", "not proven").index(status)


def _reached(scene: Scene, station: Station, service: str, made: Sequence[Call]) -> Iterator[Finding]:
    if not service:
        actions = ", ".join(sorted({call.action for call in made}))
        yield refused(
            station.resource,
            "reach-unknown-service",
            at="",
            message=f"{station.resource_name} may call {actions}, and no endpoint is known for that.",
            mend="Take the action away, or add the service and its endpoint to template_checks/called.py.",
        )
    elif service == SEARCH:
        yield from _reached_search(scene, station)
    else:
        yield from _reached_service(scene, station, service, made)


def _reached_search(scene: Scene, station: Station) -> Iterator[Finding]:
    domains = [domain for domain in scene.of_kind(Kind.SEARCH) if domain.vpc == station.vpc]
    if not domains:
        yield not_proven(
            station.resource,
            "reach-domain-untold",
            at="",
            message=f"{station.resource_name} asks a search domain that is not in the templates.",
            mend="Give the template of the domain too.",
        )
    for domain in domains:
        if not _has(scene.connections.between(station, domain, sure=True), _HTTPS):
            yield _blocked(domain, station.resource_name, domain.resource_name, _HTTPS)


def _reached_service(scene: Scene, station: Station, service: str, made: Sequence[Call]) -> Iterator[Finding]:
    endpoints = scene.endpoints.of_service(service, station.vpc)
    if not endpoints:
        yield _no_endpoint(scene, station, service, made)
    for endpoint in endpoints:
        way = _way_by_interface if endpoint.is_interface else _way_by_gateway
        yield from way(scene, station, endpoint)
        for call in made:
            yield from _policy(endpoint.resource, call)


def _no_endpoint(scene: Scene, station: Station, service: str, made: Sequence[Call]) -> Finding:
    action = made[0].action
    if service in scene.facts.existing_endpoints:
        return not_proven(
            station.resource,
            "reach-endpoint-untold",
            at="",
            message=f"The endpoint of {service}, which {action} needs, is not in the templates: not proven.",
            mend="Look at its groups and policy: aws ec2 describe-vpc-endpoints.",
        )
    return refused(
        station.resource,
        "reach-no-endpoint",
        at="",
        message=f"{station.resource_name} may call {action}, and its VPC has no endpoint of {service}.",
        mend=f"Make an endpoint of {service} in that VPC, or name one that is there in the facts file.",
    )


def _way_by_interface(scene: Scene, station: Station, endpoint: Endpoint) -> Iterator[Finding]:
    target = scene.station_of(endpoint.resource)
    if target is None or not _has(scene.connections.between(station, target, sure=True), _HTTPS):
        yield _blocked(station, station.resource_name, f"the endpoint of {endpoint.service}", _HTTPS)
    if endpoint.has_private_dns is not True:
        yield refused(
            endpoint.resource,
            "reach-no-name",
            at="PrivateDnsEnabled",
            message=f"The name of {endpoint.service} does not lead to its endpoint.",
            mend="Set PrivateDnsEnabled to true.",
        )


def _way_by_gateway(scene: Scene, station: Station, endpoint: Endpoint) -> Iterator[Finding]:
    tables, served = scene.routes.of(station.subnets), scene.tables_of_gateway(endpoint.resource)
    if tables is not None and not tables <= served:
        yield refused(
            endpoint.resource,
            "reach-no-route",
            at="RouteTableIds",
            message=f"A subnet of {station.resource_name} has no route to {endpoint.service}.",
            mend="Name the route tables of all subnets in RouteTableIds.",
        )
    if not _has(scene.connections.leaving(station, GATEWAY, sure=True), _HTTPS):
        yield _blocked(station, station.resource_name, endpoint.service, _HTTPS)


def _policy(endpoint: Resource, call: Call) -> Iterator[Finding]:
    verdict = passes(endpoint, call)
    what = f"{call.action} of {call.station.resource_name} on {', '.join(call.resources) or '*'}"
    if verdict is False:
        yield refused(
            endpoint,
            "reach-endpoint-policy",
            at="PolicyDocument",
            message=f"The endpoint's policy does not let {what} through.",
            mend="Allow it there, for the tenant's principals.",
        )
    elif verdict is None:
        yield not_proven(
            endpoint,
            "reach-endpoint-policy",
            at="PolicyDocument",
            message=f"Whether the endpoint's policy lets {what} through, the templates do not tell.",
            mend="Use conditions on aws:PrincipalAccount, aws:PrincipalTag and aws:ResourceAccount alone.",
        )


def _by(scene: Scene, station: Station, service: str) -> str:
    if service == SEARCH:
        return "the domain's addresses"
    found = scene.endpoints.of_service(service, station.vpc) if service else []
    kinds = {"interface endpoint" if endpoint.is_interface else "gateway endpoint" for endpoint in found}
    return ", ".join(sorted(kinds)) or "no endpoint in the templates"


def _asked(group: Resource) -> set[int]:
    """Return the ports that a balancer sends to and asks for health."""
    port = port_of(group)
    health = integer(group.properties.get("HealthCheckPort"))
    return {one for one in (port, health) if one is not None}


def _has(openings: Sequence[Opening], port: int) -> bool:
    return any(opening.holds(port) for opening in openings)


def _blocked(at: Station, source: str, target: str, port: int) -> Finding:
    return refused(
        at.resource,
        "reach-missing-path",
        at="",
        message=f"{source} has to reach {target} on tcp {port}, and the rules do not surely let it.",
        mend=_TWO_ENDS,
    )
