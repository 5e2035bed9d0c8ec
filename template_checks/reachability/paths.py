"""Every path that the templates open, and whether it is a declared one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from template_checks.findings import Finding, not_proven, refused
from template_checks.networks import Endpoint, Network, network_of, port_of
from template_checks.reachability.connections import GATEWAY, Opening, Peer, holds, is_private
from template_checks.reachability.report import CallRow, Row
from template_checks.reachability.routes import Route
from template_checks.reachability.scene import GATEWAYS, SEARCH, Call, Scene, passes
from template_checks.reachability.stations import DECLARED, SYSTEM_CALLERS, Kind, Station
from template_checks.templates import Resource
from template_checks.values import Value, integer, text

_MEND = (
    "Take away the rule that opens it. A path that is meant to be stands in "
    "template_checks/reachability/stations.py."
)
_GATEWAY_KINDS = {"s3": Kind.S3, "dynamodb": Kind.DYNAMODB}
Found = Iterator[Row | Finding]


def within_vpcs(scene: Scene) -> Found:
    """Yield what stations reach of each other; of kinds that do, one finding."""
    said: set[tuple[Kind | str, Kind | str, Opening]] = set()
    for source, target in scene.pairs():
        for opening in scene.connections.between(source, target):
            row, finding = _within(scene, source, target, opening)
            yield row
            about = (source.kind, target.kind, opening)
            if finding is not None and about not in said:
                said.add(about)
                yield finding


def _within(scene: Scene, source: Station, target: Station, opening: Opening) -> tuple[Row, Finding | None]:
    is_meant = _is_declared(source.kind, target.kind, opening) and _is_used(scene, target, opening)
    judged, finding = _judged(source, is_meant=is_meant), None
    if not is_meant and _hangs_on_addresses(scene, source, target, opening):
        judged = "not proven: addresses not in template"
        finding = _untold_addresses(source, target, opening)
    elif not is_meant:
        finding = _undeclared(source.resource_name, target.resource_name, opening, target)
    row = Row(source=str(source.kind), target=_named(target), port=str(opening), by="VPC", judged=judged)
    return row, finding


def _hangs_on_addresses(scene: Scene, source: Station, target: Station, opening: Opening) -> bool:
    """Return whether a path is there only if addresses that no template tells lie in a rule's block."""
    if source.networks and target.networks:
        return False
    surely = scene.connections.between(source, target, sure=True)
    return not any(one.meet(opening) for one in surely)


def to_gateways(scene: Scene) -> Found:
    """Yield who reaches S3 and DynamoDB by gateway endpoints."""
    for endpoint in scene.endpoints.endpoints:
        if endpoint.service not in GATEWAYS or endpoint.is_interface:
            continue
        tables = scene.tables_of_gateway(endpoint.resource)
        for source in scene.stations:
            own = scene.routes.of(source.subnets)
            if source.vpc != endpoint.vpc or (own is not None and not own & tables):
                continue
            for opening in scene.connections.leaving(source, GATEWAY):
                kind = _GATEWAY_KINDS[endpoint.service]
                is_meant = _is_declared(source.kind, kind, opening)
                yield Row(
                    source=str(source.kind),
                    target=str(kind),
                    port=str(opening),
                    by="gateway endpoint",
                    judged=_judged(source, is_meant=is_meant),
                )
                if not is_meant:
                    yield _undeclared(source.resource_name, str(kind), opening, source)


def from_addresses(scene: Scene) -> Found:
    """Yield what lets addresses from outside the VPC in."""
    for station in scene.stations:
        for block, opening in scene.connections.rules_by_address(station):
            network = network_of(block)
            if network is not None and holds_all(scene, station, network):
                continue  # the VPC's own addresses: paths within it
            is_meant = _is_care_side(scene, station, network, opening)
            by = "PrivateLink" if scene.services_of(station.resource) else "address"
            yield Row(
                source=f"{Kind.CARE_SIDE} {text(block)}" if is_meant is not False else text(block),
                target=_named(station),
                port=str(opening),
                by=by,
                judged={True: "declared", False: "undeclared", None: "not proven: addresses not known"}[
                    is_meant
                ],
            )
            yield from _about_address(station, block, opening, is_meant)


def by_routes(scene: Scene) -> Found:
    """Yield what is reached over routes out of a VPC, and what that other side reaches."""
    for station in scene.stations:
        for route in scene.routes.leaving(station.subnets):
            peer = Peer(networks=() if route.network is None else (route.network,))
            for opening in scene.connections.leaving(station, peer):
                yield _by_route(str(station.kind), route.destination, route, opening)
                yield _undeclared(
                    station.resource_name, f"{route.destination} by {route.by}", opening, station
                )
            for opening in scene.connections.entering(station, peer):
                yield _by_route(route.destination, _named(station), route, opening)
                yield _undeclared(
                    f"{route.destination} by {route.by}", station.resource_name, opening, station
                )


def callers_of_systems(scene: Scene) -> Iterator[Finding]:
    """Refuse a company system that several kinds of workload, or none surely, reach, or on several ports."""
    for system in scene.of_kind(Kind.SYSTEM):
        near = [source for source in scene.stations if source.vpc == system.vpc]
        reached = {
            (source.kind, opening) for source in near for opening in scene.connections.between(source, system)
        }
        if len(reached) != 1 or not any(scene.connections.between(one, system, sure=True) for one in near):
            said = ", ".join(sorted(f"{kind} on {opening}" for kind, opening in reached)) or "nobody"
            yield refused(
                system.resource,
                "reach-system-callers",
                at="SecurityGroupIds",
                message=f"{system.resource_name} is reached by {said}; a system has one caller, on one port.",
                mend="Give each [[reach]] entry a security group of its own, with one rule.",
            )


def holds_all(scene: Scene, station: Station, network: Network) -> bool:
    """Return whether an address block lies within the station's VPC."""
    return any(holds(whole, (network,), sure=True) for whole in scene.networks_of_vpc(station.vpc))


def _is_declared(source: Kind | str, target: Kind | str, opening: Opening) -> bool:
    if opening.protocol != "tcp" or opening.first != opening.last:
        return False
    if target == Kind.SYSTEM:
        return source in SYSTEM_CALLERS
    return any(
        path.source == source and path.target == target and opening.first in path.ports for path in DECLARED
    )


def _is_used(scene: Scene, target: Station, opening: Opening) -> bool:
    """Return whether a load balancer that is reached listens there; anything else counts as listening."""
    return target.kind not in (Kind.ALB, Kind.NLB) or opening.first in scene.listens_on(target)


def _is_care_side(scene: Scene, station: Station, network: Network | None, opening: Opening) -> bool | None:
    if station.kind != Kind.NLB or not _is_declared(Kind.CARE_SIDE, Kind.NLB, opening):
        return False
    if network is None:
        return None
    known = [network_of(cidr) for cidr in scene.facts.consumer_cidrs]
    if known:
        return any(holds(block, (network,), sure=True) for block in known)
    return is_private(network)


def _about_address(
    station: Station, block: Value, opening: Opening, is_meant: bool | None
) -> Iterator[Finding]:
    if is_meant is False:
        yield _undeclared(text(block), station.resource_name, opening, station)
    elif is_meant is None:
        yield not_proven(
            station.resource,
            "reach-unknown-addresses",
            at="SecurityGroupIngress",
            message=f"{text(block)} may come in on {opening}; which addresses it holds is not told.",
            mend="Name the address block.",
        )


def _by_route(source: str, target: str, route: Route, opening: Opening) -> Row:
    return Row(source=source, target=target, port=str(opening), by=route.by, judged="undeclared")


def _named(station: Station) -> str:
    """Return a company system by its name; anything else by its kind."""
    return f"{station.kind} {station.name}" if station.kind == Kind.SYSTEM else str(station.kind)


def _judged(source: Station, *, is_meant: bool) -> str:
    if not is_meant:
        return "undeclared"
    return "declared" if source.has_known_subnets else "declared; routes not in template: not proven"


def _untold_addresses(source: Station, target: Station, opening: Opening) -> Finding:
    return not_proven(
        target.resource,
        "reach-addresses-untold",
        at="SubnetIds",
        message=f"{source.resource_name} reaches {target.resource_name} on {opening} if addresses that no "
        "template tells lie in the block of a rule.",
        mend="See that the blocks of the rules and those of the existing subnets have no address in common.",
    )


def _undeclared(source: str, target: str, opening: Opening, at: Station) -> Finding:
    return refused(
        at.resource,
        "reach-undeclared-path",
        at="",
        message=f"{source} reaches {target} on {opening}, and no declared path says that it may.",
        mend=_MEND,
    )


# Every path that has to be: the way in, hop by hop, and the way to all that is called.


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
            mend="Take the action away, or add the service and its endpoint to template_checks/workloads.py.",
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
