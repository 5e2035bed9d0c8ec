"""Every path that the templates open, and whether it is a declared one."""

from __future__ import annotations

from collections.abc import Iterator

from template_checks.findings import Finding, not_proven, refused
from template_checks.reachability.calls import GATEWAYS
from template_checks.reachability.connections import GATEWAY
from template_checks.reachability.kinds import DECLARED, SYSTEM_CALLERS, Kind
from template_checks.reachability.openings import Opening
from template_checks.reachability.peers import Peer, holds, is_private
from template_checks.reachability.report import Row
from template_checks.reachability.routes import Route
from template_checks.reachability.scene import Scene
from template_checks.reachability.stations import Station
from template_checks.security_groups import Network, network_of
from template_checks.values import Value, text

_MEND = (
    "Take away the rule that opens it. A path that is meant to be stands in "
    "template_checks/reachability/kinds.py."
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
