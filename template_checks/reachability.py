"""Reachability, from templates alone: which ports every workload reaches.

``prove`` computes every path that the templates open (routes, security groups, network ACLs, gateway
endpoints), compares them with the intended paths, and checks that every called service is reachable, endpoint
policies included. What depends on something outside the templates (routes of an existing VPC, rules of an
existing group) is ``not proven``, and counts as open in the search for paths that should not exist.

Two lines of a report:

    from          to             port     by   judged
    orchestrator  search domain  tcp 443  VPC  declared
    functions     search domain  tcp 443  VPC  undeclared      (and a finding: reach-undeclared-path)

Stations, openings and kinds are those of ``template_checks.scene``. There, ``sure=True`` asks for what is
open whatever the unknown values are; without it, for what some values would open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from template_checks.facts import (
    Facts,
    Finding,
    IntendedPaths,
    Status,
    finding_as_text,
    not_proven,
    refused,
    worst,
)
from template_checks.networks import Endpoint, Network, Peer, network_of, ports_of_group
from template_checks.scene import (
    GATEWAY,
    GATEWAYS,
    SEARCH,
    VPC,
    Call,
    Kind,
    Opening,
    Scene,
    Station,
    holds,
    is_private,
)
from template_checks.templates import Resource, Templates, at, flag, items, text

_HTTPS = 443
_GATEWAY_KINDS = {"s3": Kind.S3, "dynamodb": Kind.DYNAMODB}


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """``source`` reaches ``port`` of ``target``."""

    source: str
    target: str
    port: str
    by: str
    """The VPC's own route, a gateway endpoint, PrivateLink, an address, or a route out."""
    judged: str
    """``declared``, ``undeclared``, or ``not proven`` with the reason."""


@dataclass(frozen=True, slots=True, order=True)
class CallRow:
    """``caller`` calls ``actions`` of a service, by an endpoint."""

    caller: str
    service: str
    by: str
    actions: tuple[str, ...]
    judged: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A row for every path and call, and a finding for each path that should not exist or is missing."""

    rows: tuple[Row, ...]
    calls: tuple[CallRow, ...]
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """The worst of all findings."""
        return worst(self.findings) or Status.PASSED

    def as_text(self) -> str:
        """Return both tables, then the findings, then one line with the result."""
        paths = [(row.source, row.target, row.port, row.by, row.judged) for row in self.rows]
        calls = [(row.caller, row.service, row.by, ", ".join(row.actions), row.judged) for row in self.calls]
        parts = [
            _text_table(("from", "to", "port", "by", ""), paths),
            _text_table(("caller", "service", "by", "actions", ""), calls),
            *map(finding_as_text, self.findings),
            f"{len(self.rows)} paths, {len(self.calls)} called services: {self.status}\n",
        ]
        return "\n".join(parts)


def prove(
    templates: Templates, *, facts: Facts | None = None, intended: IntendedPaths | None = None
) -> Report:
    """Return what can be reached, and what is wrong with it, over all worlds of the templates (on, paused).

    ``templates``: all of one deployment. Without ``intended`` every path is undeclared.
    """
    results: dict[Row | CallRow | Finding, None] = {}
    for world in templates.worlds():
        scene = Scene(world, facts=facts or Facts(), intended=intended or IntendedPaths())
        for result in (*open_paths(scene), *check_borders(scene), *required_paths(scene)):
            results[result] = None
    return Report(
        rows=tuple(sorted(result for result in results if isinstance(result, Row))),
        calls=tuple(sorted(result for result in results if isinstance(result, CallRow))),
        findings=tuple(result for result in results if isinstance(result, Finding)),
    )


def _text_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


# --- open paths -------------------------------------------------------------------------------------------
def open_paths(scene: Scene) -> Iterator[Row | Finding]:
    """Yield every path that the templates open, and a finding for each that is not intended."""
    yield from _within_vpcs(scene)
    yield from _to_gateways(scene)
    yield from _from_addresses(scene)
    yield from _by_routes(scene)
    yield from _callers_of_systems(scene)


def _within_vpcs(scene: Scene) -> Iterator[Row | Finding]:
    """Yield what stations of one VPC reach of each other; one finding for each pair of kinds and port."""
    reported: set[tuple[str, str, Opening]] = set()
    for source, target in scene.pairs():
        for opening in scene.connections.between(source, target):
            judged, finding = _judge(scene, source, target, opening)
            yield Row(
                source=str(source.kind), target=target.row_name, port=str(opening), by="VPC", judged=judged
            )
            pair_and_port = (source.kind, target.kind, opening)
            if finding is not None and pair_and_port not in reported:
                reported.add(pair_and_port)
                yield finding


def _judge(scene: Scene, source: Station, target: Station, opening: Opening) -> tuple[str, Finding | None]:
    """Return the last column of a row for a path within a VPC, and a finding unless the path is declared."""
    # A path to a load balancer is declared only if it also listens on the port.
    is_used = target.kind not in (Kind.ALB, Kind.NLB) or opening.first in scene.listens_on(target)
    if is_used and _is_intended(scene, source.kind, target.kind, opening):
        return _declared(source), None
    if not _depends_on_addresses(scene, source, target, opening):
        return "undeclared", _undeclared(source.finding_name, target.finding_name, opening, target)
    return "not proven: addresses not in template", not_proven(
        target.resource,
        "reach-addresses-untold",
        f"{source.finding_name} reaches {target.finding_name} on {opening} if addresses that are not "
        "in the templates are in the block of a rule.",
        "Check that the blocks of the rules and those of the existing subnets do not overlap.",
    )


def _depends_on_addresses(scene: Scene, source: Station, target: Station, opening: Opening) -> bool:
    """Return whether a path exists only if unknown addresses are in a rule's block."""
    if source.networks and target.networks:
        return False
    surely = scene.connections.between(source, target, sure=True)
    return not any(opening_of_rule.meet(opening) for opening_of_rule in surely)


def _to_gateways(scene: Scene) -> Iterator[Row | Finding]:
    """Yield which stations reach S3 and DynamoDB by gateway endpoints."""
    for endpoint in scene.vpcs.endpoints:
        if endpoint.service not in GATEWAYS or endpoint.is_interface:
            continue
        tables, kind = scene.tables_of_gateway(endpoint.resource), _GATEWAY_KINDS[endpoint.service]
        for source in scene.stations:
            source_routes = scene.vpcs.routes.of(source.subnets)
            if source.vpc != endpoint.vpc or (source_routes is not None and not source_routes & tables):
                continue
            for opening in scene.connections.leaving(source, GATEWAY):
                is_intended = _is_intended(scene, source.kind, kind, opening)
                yield Row(
                    source=str(source.kind),
                    target=str(kind),
                    port=str(opening),
                    by="gateway endpoint",
                    judged=_declared(source) if is_intended else "undeclared",
                )
                if not is_intended:
                    yield _undeclared(source.finding_name, str(kind), opening, source)


def _from_addresses(scene: Scene) -> Iterator[Row | Finding]:
    """Yield the rules that allow addresses from outside the VPC in."""
    for station in scene.stations:
        for block, opening in scene.connections.rules_by_address(station):
            network = network_of(block)
            whole = scene.network_of_vpc(station.vpc)
            if network is not None and whole is not None and holds(whole, (network,), sure=True):
                continue  # the VPC's own addresses: paths within it
            is_client = _is_client(scene, station, network, opening)
            yield Row(
                source=text(block) if is_client is False else f"{scene.intended.clients} {text(block)}",
                target=station.row_name,
                port=str(opening),
                by="PrivateLink" if scene.has_endpoint_service(station.resource) else "address",
                judged={True: "declared", False: "undeclared", None: "not proven: addresses not known"}[
                    is_client
                ],
            )
            if is_client is False:
                yield _undeclared(text(block), station.finding_name, opening, station)
            elif is_client is None:
                yield not_proven(
                    station.resource,
                    "reach-unknown-addresses",
                    f"{text(block)} may come in on {opening}; its addresses are unknown.",
                    "Name the address block.",
                )


def _is_client(scene: Scene, station: Station, network: Network | None, opening: Opening) -> bool | None:
    """Return whether a block holds clients behind the private link; None if its addresses are unknown."""
    if station.kind != Kind.NLB or not _is_intended(scene, scene.intended.clients, Kind.NLB, opening):
        return False
    if network is None:
        return None
    known = [network_of(cidr) for cidr in scene.facts.consumer_cidrs]
    return any(holds(block, (network,), sure=True) for block in known) if known else is_private(network)


def _by_routes(scene: Scene) -> Iterator[Row | Finding]:
    """Yield what stations reach over routes out of their VPC, and what the other side reaches of them; none
    of it is ever intended."""
    for station in scene.stations:
        for route in scene.vpcs.routes.leaving(station.subnets):
            peer = Peer(networks=() if route.network is None else (route.network,))
            outside, inside = f"{route.destination} by {route.by}", station.finding_name
            paths = [
                (str(station.kind), route.destination, inside, outside, opening)
                for opening in scene.connections.leaving(station, peer)
            ]
            paths += [
                (route.destination, station.row_name, outside, inside, opening)
                for opening in scene.connections.entering(station, peer)
            ]
            for source, target, source_text, target_text, opening in paths:
                yield Row(source=source, target=target, port=str(opening), by=route.by, judged="undeclared")
                yield _undeclared(source_text, target_text, opening, station)


def _callers_of_systems(scene: Scene) -> Iterator[Finding]:
    """Refuse a company system that does not have exactly one kind of caller, on one port."""
    for system in scene.of_kind(Kind.SYSTEM):
        near = [source for source in scene.stations if source.vpc == system.vpc]  # stations of its VPC
        reached = {
            (source.kind, opening) for source in near for opening in scene.connections.between(source, system)
        }
        if len(reached) != 1 or not any(
            scene.connections.between(station, system, sure=True) for station in near
        ):
            callers = ", ".join(sorted(f"{kind} on {opening}" for kind, opening in reached)) or "nobody"
            message = f"{system.finding_name} is reached by {callers}; a system has one caller, on one port."
            fix = "Give each company system a security group of its own, with one rule."
            yield refused(system.resource, "reach-system-callers", message, fix)


def _is_intended(scene: Scene, source: str, target: str, opening: Opening) -> bool:
    """Return whether an intended path is between these kinds on exactly this TCP port."""
    if opening.protocol != "tcp" or opening.first != opening.last:
        return False
    if target == Kind.SYSTEM:
        return source in scene.intended.system_callers
    return any(
        path.source == source and path.target == target and opening.first in path.ports
        for path in scene.intended.paths
    )


def _declared(source: Station) -> str:
    return "declared" if source.has_known_subnets else "declared; routes not in template: not proven"


def _undeclared(source: str, target: str, opening: Opening, at: Station) -> Finding:
    message = f"{source} reaches {target} on {opening}, and no declared path allows it."
    fix = "Remove the rule that opens it, or add the path to the intended paths."
    return refused(at.resource, "reach-undeclared-path", message, fix)


# --- required paths ---------------------------------------------------------------------------------------
def required_paths(scene: Scene) -> Iterator[CallRow | Finding]:
    """Yield every called service with how it is reached, and a finding for each path that is missing."""
    yield from _way_in(scene)
    for station in scene.stations:
        by_service: dict[str, list[Call]] = defaultdict(list)
        for call in scene.calls.of(station):
            by_service[call.service].append(call)
        for service, calls in sorted(by_service.items()):
            findings = list(_check_service(scene, station, service, calls))
            is_refused = any(finding.status is Status.REFUSED for finding in findings)
            yield CallRow(
                caller=str(station.kind),
                service=service or "unknown",
                by=_by(scene, station, service),
                actions=tuple(sorted({call.action for call in calls})),
                judged=str(Status.REFUSED if is_refused else Status.NOT_PROVEN) if findings else "reachable",
            )
            yield from findings


def _way_in(scene: Scene) -> Iterator[Finding]:
    """Refuse each hop from the clients over the balancers to the tasks that the rules do not surely allow:
    for traffic and for health checks."""
    for balancer in scene.of_kind(Kind.NLB):
        for cidr in scene.facts.consumer_cidrs:
            network = network_of(cidr)
            peer = Peer(networks=() if network is None else (network,))
            if not _allow(scene.connections.entering(balancer, peer, sure=True), _HTTPS):
                yield _blocked(balancer, f"{scene.intended.clients} {cidr}", balancer.finding_name, _HTTPS)
    for balancer in [*scene.of_kind(Kind.NLB), *scene.of_kind(Kind.ALB)]:
        for group in scene.forwards(balancer):
            for target, port in product(scene.registered(group), ports_of_group(group)):
                if not _allow(scene.connections.between(balancer, target, sure=True), port):
                    yield _blocked(target, balancer.finding_name, target.finding_name, port)


def _check_service(scene: Scene, station: Station, service: str, calls: Sequence[Call]) -> Iterator[Finding]:
    """Yield why a station does not reach a service that it calls. ``service``: as in ``Call``."""
    if not service:
        actions = ", ".join(sorted({call.action for call in calls}))
        message = f"{station.finding_name} may call {actions}, and no endpoint is known for that."
        fix = "Remove the action, or add the service and its endpoint to template_checks/policies.py."
        yield refused(station.resource, "reach-unknown-service", message, fix)
        return
    if service == SEARCH:
        yield from _check_search(scene, station)
        return
    endpoints = scene.vpcs.endpoints_of(service, station.vpc)
    if not endpoints:
        yield _no_endpoint(scene, station, service, calls[0].action)
    for endpoint in endpoints:
        check = _check_interface if endpoint.is_interface else _check_gateway
        yield from check(scene, station, endpoint)
        for call in calls:
            yield from _check_policy(endpoint.resource, call)


def _check_search(scene: Scene, station: Station) -> Iterator[Finding]:
    domains = [domain for domain in scene.of_kind(Kind.SEARCH) if domain.vpc == station.vpc]
    if not domains:
        message = f"{station.finding_name} calls a search domain that is not in the templates."
        fix = "Add the template of the domain to the same check."
        yield not_proven(station.resource, "reach-domain-untold", message, fix)
    for domain in domains:
        if not _allow(scene.connections.between(station, domain, sure=True), _HTTPS):
            yield _blocked(domain, station.finding_name, domain.finding_name, _HTTPS)


def _no_endpoint(scene: Scene, station: Station, service: str, action: str) -> Finding:
    if service in scene.facts.existing_endpoints:
        message = f"The endpoint of {service}, which {action} needs, is not in the templates: not proven."
        fix = "Check its groups and policy: aws ec2 describe-vpc-endpoints."
        return not_proven(station.resource, "reach-endpoint-untold", message, fix)
    message = f"{station.finding_name} may call {action}, and its VPC has no endpoint of {service}."
    fix = f"Add an endpoint of {service} to that VPC, or name an existing one in the facts file."
    return refused(station.resource, "reach-no-endpoint", message, fix)


def _check_interface(scene: Scene, station: Station, endpoint: Endpoint) -> Iterator[Finding]:
    """Check the rules between station and endpoint, and that the service's name resolves to it."""
    target = scene.station_of(endpoint.resource)
    if target is None or not _allow(scene.connections.between(station, target, sure=True), _HTTPS):
        yield _blocked(station, station.finding_name, f"the endpoint of {endpoint.service}", _HTTPS)
    if endpoint.has_private_dns is not True:
        message = f"The name of {endpoint.service} does not resolve to its endpoint."
        fix = "Set PrivateDnsEnabled to true."
        yield refused(endpoint.resource, "reach-no-name", message, fix)


def _check_gateway(scene: Scene, station: Station, endpoint: Endpoint) -> Iterator[Finding]:
    """Check that all route tables of the station lead to the gateway, and the rules of its groups."""
    tables = scene.vpcs.routes.of(station.subnets)
    if tables is not None and not tables <= scene.tables_of_gateway(endpoint.resource):
        message = f"A subnet of {station.finding_name} has no route to {endpoint.service}."
        fix = "Name the route tables of all subnets in RouteTableIds."
        yield refused(endpoint.resource, "reach-no-route", message, fix)
    if not _allow(scene.connections.leaving(station, GATEWAY, sure=True), _HTTPS):
        yield _blocked(station, station.finding_name, endpoint.service, _HTTPS)


def _check_policy(endpoint: Resource, call: Call) -> Iterator[Finding]:
    verdict = call.passes(endpoint)
    what = f"{call.action} of {call.station.finding_name} on {', '.join(call.resources) or '*'}"
    if verdict is False:
        message = f"The endpoint's policy does not allow {what}."
        fix = "Allow it there, for the tenant's principals."
        yield refused(endpoint, "reach-endpoint-policy", message, fix)
    elif verdict is None:
        message = f"The templates do not show whether the endpoint's policy allows {what}."
        fix = "Use conditions on aws:PrincipalAccount, aws:PrincipalTag and aws:ResourceAccount alone."
        yield not_proven(endpoint, "reach-endpoint-policy", message, fix)


def _by(scene: Scene, station: Station, service: str) -> str:
    """Return the column ``by`` of a call: through what a station reaches a service."""
    if service == SEARCH:
        return "the domain's addresses"
    endpoints = scene.vpcs.endpoints_of(service, station.vpc) if service else []
    kinds = {"interface endpoint" if endpoint.is_interface else "gateway endpoint" for endpoint in endpoints}
    return ", ".join(sorted(kinds)) or "no endpoint in the templates"


def _allow(openings: Sequence[Opening], port: int) -> bool:
    return any(opening.holds(port) for opening in openings)


def _blocked(at: Station, source: str, target: str, port: int) -> Finding:
    message = f"{source} must reach {target} on tcp {port}, and the rules do not surely allow it."
    fix = "Add a rule to both security groups, and an entry in each direction to both network ACLs."
    return refused(at.resource, "reach-missing-path", message, fix)


# --- borders ----------------------------------------------------------------------------------------------
_OPENERS = {
    "AWS::EC2::InternetGateway": "leads to the internet",
    "AWS::EC2::EgressOnlyInternetGateway": "leads to the internet",
    "AWS::EC2::NatGateway": "leads to the internet",
    "AWS::EC2::CarrierGateway": "leads to a carrier's network",
    "AWS::EC2::VPCGatewayAttachment": "opens the VPC to a gateway",
    "AWS::EC2::VPCPeeringConnection": "joins the VPC to another one",
    "AWS::EC2::TransitGatewayAttachment": "joins the VPC to other networks",
    "AWS::EC2::TransitGatewayVpcAttachment": "joins the VPC to other networks",
    "AWS::EC2::VPNConnection": "joins the VPC to another network",
    "AWS::EC2::ClientVpnEndpoint": "lets clients into the VPC",
    "AWS::EC2::EIP": "is a public address",
    "AWS::Lambda::Url": "is an address on the internet",
    "AWS::ApiGateway::RestApi": "is an address on the internet unless private",
    "AWS::ApiGatewayV2::Api": "is an address on the internet",
    "AWS::CloudFront::Distribution": "is an address on the internet",
    "AWS::GlobalAccelerator::Accelerator": "is an address on the internet",
    "AWS::VpcLattice::ServiceNetworkVpcAssociation": "joins the VPC to a service network",
}
"""Resources that open a network by being there, before any route or rule uses them."""


def check_borders(scene: Scene) -> Iterator[Finding]:
    """Yield what opens a network, and what decides reachability outside the templates."""
    yield from _openers(scene)
    yield from _endpoint_services(scene)
    yield from _default_groups(scene)
    yield from _unknown_rules_and_policies(scene)


def _openers(scene: Scene) -> Iterator[Finding]:
    """Refuse gateways, peerings, public addresses, and routes that lead out."""
    for resource in scene.templates.of():
        how = _OPENERS.get(resource.type) or ("has public addresses" if _is_public(resource) else "")
        if how:
            message = f"{resource.logical_id} ({resource.type}) {how}."
            fix = "Remove it: the only way into the network is its endpoint service."
            yield refused(resource, "reach-opening", message, fix)
    for route in scene.vpcs.routes.all():
        message = f"A route leads to {route.destination} by {route.by}."
        fix = "Remove it: use VPC endpoints for AWS services and for company systems."
        yield refused(route.resource, "reach-route", message, fix)


def _is_public(resource: Resource) -> bool:
    properties = resource.properties
    match resource.type:
        case "AWS::EC2::Subnet":
            return flag(properties.get("MapPublicIpOnLaunch")) is True
        case "AWS::ElasticLoadBalancingV2::LoadBalancer":
            return text(properties.get("Scheme") or "internet-facing") != "internal"
        case "AWS::ECS::Service":
            network = at(properties.get("NetworkConfiguration"), "AwsvpcConfiguration")
            return text(at(network, "AssignPublicIp")) == "ENABLED"
        case "AWS::OpenSearchService::Domain":
            return not items(properties.get("VPCOptions"))
        case _:
            return False


def _endpoint_services(scene: Scene) -> Iterator[Finding]:
    """Refuse an endpoint service that accepts every connection, and any number of them but one."""
    balancers = scene.of_kind(Kind.NLB)
    for service in scene.services:
        if flag(service.properties.get("AcceptanceRequired")) is not True:
            message = "The endpoint service accepts every connection without approval."
            fix = "Set AcceptanceRequired to true."
            yield refused(service, "reach-acceptance", message, fix)
    if balancers and len(scene.services) != 1:
        message = f"{len(scene.services)} endpoint services lead into the network; there must be one."
        fix = "Keep one AWS::EC2::VPCEndpointService, in front of the network load balancer."
        yield refused(balancers[0].resource, "reach-doors", message, fix)


def _default_groups(scene: Scene) -> Iterator[Finding]:
    """Refuse stations with the VPC's default security group, by name or because they name none."""
    for station in scene.stations:
        is_named = any(isinstance(group, Resource) and group.type == VPC for group in station.groups)
        if is_named or not station.groups:
            yield refused(
                station.resource,
                "reach-default-group",
                f"{station.finding_name} has the VPC's default group, or none: it may connect to everything.",
                "Give it a security group of its own.",
            )


def _unknown_rules_and_policies(scene: Scene) -> Iterator[Finding]:
    """Yield what is in no template, and so not proven: routes of an existing VPC, rules of its groups,
    policies that roles have from elsewhere."""
    by_vpc: dict[str, Station] = {}
    for station in scene.stations:
        if scene.vpcs.routes.of(station.subnets) is None:
            by_vpc.setdefault(str(station.vpc), station)
    for vpc, station in by_vpc.items():
        message = f"{vpc}: routes not in template: not proven."
        fix = (
            "Check the route tables and network ACLs of the subnets: aws ec2 describe-route-tables, "
            "aws ec2 describe-network-acls."
        )
        yield not_proven(station.resource, "reach-routes-untold", message, fix)
    for station in scene.stations:
        groups_elsewhere = [str(group) for group in station.groups if not isinstance(group, Resource)]
        if groups_elsewhere:
            message = f"The rules of {', '.join(groups_elsewhere)} are not in the templates: not proven."
            fix = "Add the template with the group to the same check."
            yield not_proven(station.resource, "reach-rules-untold", message, fix)
        for name in scene.calls.unknown_policies(station):
            message = f"The permissions of {name} are not in the templates, so its calls are not proven."
            fix = "Add its template to the same check, or give the role statements of its own."
            yield not_proven(station.resource, "reach-policy-untold", message, fix)
