"""Everything that the proof reads of the templates in one world: stations, connections, and calls of AWS.

A station is everything with a security group or an address in a subnet (a function, a service, an endpoint);
a connection, the ports that rules of security groups and network ACLs open between two ends. Parameters
``sure``: with True, only what holds whatever the unknown values are; with False, what some values would
allow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Network, ip_network

from template_checks.facts import Facts, IntendedPaths
from template_checks.networks import (
    Direction,
    Key,
    LoadBalancing,
    Network,
    Peer,
    SecurityGroups,
    Vpcs,
    is_within,
    key_of,
    network_of,
    networks_of,
    port_of,
    rule_end,
)
from template_checks.policies import (
    STRANGER,
    Context,
    Policies,
    Request,
    Statement,
    all_of,
    endpoint_allows,
    is_for_kms_through_service,
    plain,
    services_of,
    statements,
    trusted_services,
)
from template_checks.templates import (
    Resource,
    Target,
    Templates,
    Value,
    at,
    flag,
    integer,
    items,
    refers_to,
    targets,
    text,
)

_LAST_PORT = 65535
_PROTOCOLS = {"6": "tcp", "17": "udp", "1": "icmp", "-1": "all"}
"""Names by IANA's numbers, which templates may use; -1 is AWS's."""


@dataclass(frozen=True, slots=True, order=True)
class Opening:
    """A range of ports of a protocol, ``Opening("tcp", 443, 443)``; the protocol ``all`` is every
    protocol."""

    protocol: str
    first: int
    last: int

    def __str__(self) -> str:
        if self.protocol == "all":
            return "everything"
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return self.protocol if self == _whole(self.protocol) else f"{self.protocol} {ports}"

    def meet(self, other: Opening) -> Opening | None:
        """Return what both allow; None if that is nothing."""
        if "all" not in (self.protocol, other.protocol) and self.protocol != other.protocol:
            return None
        protocol = other.protocol if self.protocol == "all" else self.protocol
        first, last = max(self.first, other.first), min(self.last, other.last)
        return Opening(protocol, first, last) if first <= last else None

    def without(self, other: Opening) -> list[Opening]:
        """Return what is left of one protocol's ports without those of the other."""
        if self.meet(other) is None:
            return [self]
        left = Opening(self.protocol, self.first, other.first - 1)
        right = Opening(self.protocol, other.last + 1, self.last)
        return [part for part in (left, right) if part.first <= part.last]

    def holds(self, port: int) -> bool:
        """Return whether a TCP port is open."""
        return self.protocol in ("all", "tcp") and self.first <= port <= self.last


def _whole(protocol: str) -> Opening:
    """Return all ports of a protocol."""
    return Opening(protocol, 0, _LAST_PORT)


EVERYTHING = _whole("all")
_ANSWERS = Opening("tcp", 1024, _LAST_PORT)
"""Ephemeral ports, where answers arrive: balancers, functions and Linux tasks use ports from 1024 on (Amazon
VPC User Guide, "Ephemeral ports")."""


def meets(some: Iterable[Opening], others: Iterable[Opening]) -> list[Opening]:
    """Return what two sets of openings, of the rules at each end, allow together, without those that lie in
    another: tcp 1-500 with tcp 443 and udp 53 is tcp 443."""
    second = list(others)
    met = {both for opening in some for other in second if (both := opening.meet(other)) is not None}
    return sorted(opening for opening in met if not any(_inside(opening, other) for other in met - {opening}))


def _inside(one: Opening, other: Opening) -> bool:
    return other.protocol in ("all", one.protocol) and other.first <= one.first and one.last <= other.last


def _opening(protocol: Value, first: Value, last: Value, *, sure: bool) -> Opening | None:
    """Return what a rule opens; None for nothing. A rule with an unknown part opens everything that it may
    mean, or nothing with ``sure``."""
    name = _protocol(protocol)
    if name is None:
        return None if sure else EVERYTHING
    if name not in ("tcp", "udp") or (first is None and last is None):
        return _whole(name)
    start, end = integer(first), integer(last)
    if start is None or end is None:
        return None if sure else _whole(name)
    return _whole(name) if start == -1 else Opening(name, start, end)


def _opening_of_rule(rule: Mapping[str, Value], *, sure: bool) -> Opening | None:
    return _opening(rule.get("IpProtocol"), rule.get("FromPort"), rule.get("ToPort"), sure=sure)


def _protocol(value: Value) -> str | None:
    """Return a protocol given by name or number, ``all`` for every one; None if unknown."""
    name = text(value).lower()
    return None if not name or "${" in name else _PROTOCOLS.get(name, name)


# --- peers ------------------------------------------------------------------------------------------------
_PRIVATE = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)
GATEWAY = Peer(networks=(IPv4Network("0.0.0.0/0"),), is_gateway=True)
"""S3 or DynamoDB behind a gateway endpoint: no template contains their addresses."""


def is_private(block: Network) -> bool:
    """Return whether all addresses of a block are private (RFC 1918, 6598 and 4193)."""
    return any(is_within(block, private) for private in _PRIVATE)


def holds(block: Network | None, networks: Sequence[Network], *, sure: bool) -> bool:
    """Return whether a block may contain one of the addresses; with ``sure``, whether it contains all of
    them.

    ``block`` is None, and ``networks`` empty, where the addresses are unknown.
    """
    if block is None:
        return not sure
    if sure:
        return block.prefixlen == 0 or (
            bool(networks) and all(is_within(network, block) for network in networks)
        )
    same = [network for network in networks if network.version == block.version]
    return not networks or any(network.overlaps(block) for network in same)


def _allows_peer(rule: Mapping[str, Value], direction: Direction, *, peer: Peer, sure: bool) -> bool:
    """Return whether a rule of a security group may apply to the peer; with ``sure``, whether it applies to
    all of it."""
    key, block = rule_end(rule, direction)
    if key is not None:
        is_id = isinstance(key, Resource) or key.startswith("sg-")
        return key in peer.groups or (not sure and not is_id)
    if rule.get(f"{'Source' if direction == 'Ingress' else 'Destination'}PrefixListId") is not None:
        # No template contains the addresses of a list: a gateway's, and maybe others.
        return peer.is_gateway or not sure
    if peer.is_gateway and block is not None and is_private(block):
        return False
    return holds(block, peer.networks, sure=sure)


# --- network ACLs -----------------------------------------------------------------------------------------
_ENTRY = "AWS::EC2::NetworkAclEntry"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One entry of a network ACL. ``surely`` and ``possibly``: the ports that it decides (None: none),
    without and with what unknown parts may mean."""

    egress: bool
    allows: bool
    block: Network | None
    surely: Opening | None
    possibly: Opening | None


class NetworkAcls:
    """What network ACLs allow through a subnet's border. They keep no state: answers need an entry too.

    Entries of an ACL are tried in the order of their numbers, and the first that applies decides. A subnet
    without an association has the VPC's default ACL, which allows everything.
    """

    def __init__(self, templates: Templates) -> None:
        self._of_subnet: dict[Key, Key] = {
            key_of(association.properties.get("SubnetId")): key_of(association.properties.get("NetworkAclId"))
            for association in templates.of("AWS::EC2::SubnetNetworkAclAssociation")
        }
        # Each protocol is decided for itself: an entry for one leaves the others to later entries.
        self._protocols = {"tcp", "udp", "icmp", *_protocols(templates)} - {"all"}
        self._entries: dict[Key, list[_Entry]] = {}
        for entry in sorted(templates.of(_ENTRY), key=lambda row: integer(row.properties["RuleNumber"]) or 0):
            acl = key_of(entry.properties.get("NetworkAclId"))
            self._entries.setdefault(acl, []).append(_entry(entry.properties))

    def passes(
        self, subnets: Sequence[Value], *, egress: bool, networks: Sequence[Network], sure: bool
    ) -> list[Opening]:
        """Return what passes the border of any of the subnets; with ``sure``, of each of them.

        ``networks`` are the addresses on the other side; none if they are unknown.
        """
        allowed = [self._of_one(subnet, egress, networks, sure) for subnet in subnets]
        if not allowed:
            return [EVERYTHING]
        if not sure:
            return sorted({opening for openings in allowed for opening in openings})
        common = allowed[0]
        for openings in allowed[1:]:
            common = meets(common, openings)
        return common

    def _of_one(self, subnet: Value, egress: bool, networks: Sequence[Network], sure: bool) -> list[Opening]:
        """Return what passes the border of one subnet."""
        acl = self._of_subnet.get(key_of(subnet)) if isinstance(subnet, Target) else None
        if acl is None:
            return [EVERYTHING]
        undecided, passed = [_whole(protocol) for protocol in sorted(self._protocols)], list[Opening]()
        for entry in self._entries.get(acl, []):
            ports = entry.surely if sure else entry.possibly
            if entry.egress is not egress or ports is None:
                continue
            decided = [both for opening in undecided if (both := opening.meet(ports)) is not None]
            if entry.allows and holds(entry.block, networks, sure=sure):
                passed += decided
            # An entry that decides for all of the addresses leaves nothing of its ports to later ones. With
            # `sure` a deny counts where it may apply, an allow where it surely does; without it the other way
            # round.
            if holds(entry.block, networks, sure=entry.allows or not sure):
                undecided = [rest for opening in undecided for rest in opening.without(ports)]
        return passed


def _entry(properties: Mapping[str, Value]) -> _Entry:
    ports = properties.get("PortRange")
    about = (properties.get("Protocol"), at(ports, "From"), at(ports, "To"))
    return _Entry(
        egress=flag(properties.get("Egress")) is True,  # CloudFormation's default is false
        allows=text(properties.get("RuleAction")) == "allow",
        block=network_of(properties.get("CidrBlock") or properties.get("Ipv6CidrBlock")),
        surely=_opening(*about, sure=True),
        possibly=_opening(*about, sure=False),
    )


def _protocols(templates: Templates) -> Iterator[str]:
    """Yield every protocol that a rule of a security group or a network ACL names."""
    kinds = ("AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress")
    for resource in templates.of(*kinds, _ENTRY):
        values = resource.properties
        rules = [*items(values.get("SecurityGroupIngress")), *items(values.get("SecurityGroupEgress"))]
        protocols = [at(rule, "IpProtocol") for rule in rules]
        for value in (*protocols, values.get("IpProtocol"), values.get("Protocol")):
            protocol = _protocol(value)
            if protocol is not None:
                yield protocol


# --- both together ----------------------------------------------------------------------------------------
class Connections:
    """Ports that may be open between stations; with ``sure``, those that are open whatever is unknown."""

    def __init__(self, templates: Templates) -> None:
        self._groups = SecurityGroups(templates)
        self._acls = NetworkAcls(templates)

    def between(self, source: Station, target: Station, *, sure: bool = False) -> list[Opening]:
        """Return the ports of ``target`` that ``source`` reaches, both in one VPC."""
        if not (leaving := self.leaving(source, target.peer, sure=sure)):
            return []
        return meets(leaving, self.entering(target, source.peer, sure=sure))

    def leaving(self, source: Station, peer: Peer, *, sure: bool = False) -> list[Opening]:
        """Return the ports of a peer that ``source`` reaches, as far as the source's side decides."""
        return self._side(source, "Egress", peer=peer, sure=sure)

    def entering(self, target: Station, peer: Peer, *, sure: bool = False) -> list[Opening]:
        """Return the ports of ``target`` that a peer reaches, as far as the target's side decides."""
        return self._side(target, "Ingress", peer=peer, sure=sure)

    def _side(self, station: Station, direction: Direction, *, peer: Peer, sure: bool) -> list[Opening]:
        """Return what a station's groups and the ACLs of its subnets allow in one direction."""
        opened = self._openings(station.groups, direction, peer=peer, sure=sure)
        if not opened:
            return []
        out = direction == "Egress"
        passed = self._acls.passes(station.subnets, egress=out, networks=peer.networks, sure=sure)
        if sure:  # answers cross the border in the other direction
            back = self._acls.passes(station.subnets, egress=not out, networks=peer.networks, sure=True)
            if not any(opening.meet(_ANSWERS) == _ANSWERS for opening in back):
                return []
        return meets(opened, passed)

    def rules_by_address(self, station: Station) -> list[tuple[Value, Opening]]:
        """Return the rules that allow addresses into a station: the block or prefix list, and the ports."""
        rules: list[tuple[Value, Opening]] = []
        for group in station.groups:
            for rule in self._groups.rules(group, "Ingress"):
                block = rule.get("CidrIp") or rule.get("CidrIpv6") or rule.get("SourcePrefixListId")
                opening = _opening_of_rule(rule, sure=False)
                if block is not None and opening is not None:
                    rules.append((block, opening))
        return rules

    def _openings(
        self, groups: Sequence[Key], direction: Direction, *, peer: Peer, sure: bool
    ) -> list[Opening]:
        """Return what the rules of groups open to a peer."""
        openings: list[Opening] = []
        for group in groups:
            rules = self._groups.rules(group, direction)
            if not isinstance(group, Resource):
                openings += [] if sure else [EVERYTHING]  # its rules are in no template
            elif not rules and direction == "Egress":
                openings.append(EVERYTHING)  # CloudFormation's default for a group without egress rules
            for rule in rules:
                opening = None if _leads_nowhere(rule) else _opening_of_rule(rule, sure=sure)
                if opening is not None and _allows_peer(rule, direction, peer=peer, sure=sure):
                    openings.append(opening)
        return openings


def _leads_nowhere(rule: Mapping[str, Value]) -> bool:
    """Return whether a rule is only about the broadcast address, which nothing has.

    CDK writes such a rule, because a group without any may connect to everything.
    """
    return rule.get("CidrIp") == "255.255.255.255/32"


GROUP = "AWS::EC2::SecurityGroup"
SERVICE = "AWS::ECS::Service"
VPC = "AWS::EC2::VPC"
_GROUP_ID = re.compile(r"^sg-[0-9a-z]+$")
_SUBNET_ID = re.compile(r"^subnet-[0-9a-z-]+$")
_WITHOUT_ADDRESS = (
    GROUP,
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::SubnetNetworkAclAssociation",
    "AWS::EC2::SubnetCidrBlock",
    "AWS::EC2::FlowLog",
    "AWS::EC2::NatGateway",
    "AWS::SSM::Parameter",
    "AWS::IAM::Role",
    "AWS::IAM::Policy",
    "AWS::IAM::ManagedPolicy",
)
"""Types that name groups or subnets, but have no address in them, or are checked as routes (NAT gateways)."""
_JOB_PRINCIPALS = ("sagemaker.amazonaws.com", "emr-serverless.amazonaws.com")
"""Services that run jobs. A role that trusts one of them and that no resource uses belongs to jobs started
later."""


class Kind(StrEnum):
    """Kinds of stations that a resource's type decides. Functions and tasks have names of the owner
    (``IntendedPaths``)."""

    NLB = "network load balancer"
    ALB = "application load balancer"
    SEARCH = "search domain"
    MODELS = "model instances"
    JOBS = "jobs"
    AWS = "endpoints of AWS services"
    SYSTEM = "company system"
    S3 = "S3"
    DYNAMODB = "DynamoDB"


_KIND_OF_TYPE = {
    "AWS::OpenSearchService::Domain": Kind.SEARCH,
    "AWS::SageMaker::Model": Kind.MODELS,
    "AWS::EMRServerless::Application": Kind.JOBS,
    "AWS::SSM::Document": Kind.JOBS,  # a runbook has no address; what it starts has
}


def _kind(resource: Resource, intended: IntendedPaths) -> str:
    """Return what a resource is for; its type and name if neither its type nor its owner says."""
    properties = resource.properties
    kind: str | None = _KIND_OF_TYPE.get(resource.type)
    match resource.type:
        case "AWS::ElasticLoadBalancingV2::LoadBalancer":
            kind = Kind.NLB if text(properties.get("Type")) == "network" else Kind.ALB
        case "AWS::Lambda::Function":
            # The entry point of an image gets the handler's name as its command.
            command = items(at(properties.get("ImageConfig"), "Command"))
            handler = text(properties.get("Handler") or next(iter(command), None))
            kind = next((k for name, k in intended.functions.items() if handler.startswith(f"{name}.")), None)
        case "AWS::EC2::VPCEndpoint":
            is_aws = re.match(r"(cn\.)?com\.amazonaws\.(?!vpce\.)", text(properties.get("ServiceName")))
            kind = Kind.AWS if is_aws else Kind.SYSTEM
        case "AWS::EC2::SecurityGroup":
            kind = intended.unattached_groups.get(text(properties.get("GroupDescription")))
        case "AWS::ECS::Service":
            kind = intended.tasks
        case "AWS::StepFunctions::StateMachine":
            modules = [
                text(step)
                for definition in _definitions_of(resource)
                for container in items(definition.properties.get("ContainerDefinitions"))
                for step in items(at(container, "EntryPoint"))
            ]
            kind = next(
                (intended.scheduled_tasks[name] for name in modules if name in intended.scheduled_tasks), None
            )
        case _:
            pass
    return kind or f"{resource.type} {resource.logical_id}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Station:
    """One thing with addresses in a VPC. Of jobs that start later there is only the security group, which is
    then ``resource``. ``networks``: the blocks of its subnets, empty where unknown."""

    name: str
    kind: str
    resource: Resource
    vpc: Key
    groups: tuple[Key, ...]
    subnets: tuple[Value, ...]
    networks: tuple[Network, ...]
    roles: tuple[Value, ...] = field(default=())
    """Roles with which it calls AWS."""

    @property
    def peer(self) -> Peer:
        return Peer(groups=self.groups, networks=self.networks)

    @property
    def row_name(self) -> str:
        """The name in rows: a company system's own, else the kind."""
        return f"{self.kind} {self.name}" if self.kind == Kind.SYSTEM else str(self.kind)

    @property
    def finding_name(self) -> str:
        """The name in findings: kind and own name."""
        return f"{self.kind} ({self.name})"

    @property
    def has_known_subnets(self) -> bool:
        """Whether the templates contain its subnets, and so their routes and network ACLs."""
        return bool(self.subnets) and all(isinstance(subnet, Target) for subnet in self.subnets)


def stations(templates: Templates, intended: IntendedPaths) -> list[Station]:
    """Return everything in a VPC, then the security groups that no resource here has."""
    all_stations = [station for resource in templates.of() for station in _station(resource, intended)]
    attached = {group for station in all_stations for group in station.groups}
    known = tuple({key_of(subnet): subnet for station in all_stations for subnet in station.subnets}.values())
    unattached = [
        Station(
            name=group.logical_id,
            kind=_kind(group, intended),
            resource=group,
            vpc=key_of(group.properties.get("VpcId")),
            groups=(group,),
            subnets=known,
            networks=networks_of(known),
        )
        for group in templates.of(GROUP)
        if group not in attached
    ]
    used_roles = {key_of(role) for station in all_stations for role in station.roles}
    roles_of_jobs = tuple(
        Target(role, "Arn")
        for role in templates.of("AWS::IAM::Role")
        if role not in used_roles
        and any(trusted_service in _JOB_PRINCIPALS for trusted_service in trusted_services(role))
    )
    return [
        replace(station, roles=roles_of_jobs) if station.kind == Kind.JOBS else station
        for station in (*all_stations, *unattached)
    ]


def _station(resource: Resource, intended: IntendedPaths) -> Iterator[Station]:
    """Yield the station of a resource, if any of its properties refers to a group or a subnet, by reference
    or id."""
    if resource.type in _WITHOUT_ADDRESS:
        return
    properties = dict(resource.properties)
    references, ids = targets(properties), list(_texts(properties))
    groups = _unique([*filter(_is_group, references), *filter(_GROUP_ID.match, ids)])
    own_subnets = [Target(target.resource) for target in references if _is_subnet(target)]
    subnets = _unique([*own_subnets, *filter(_SUBNET_ID.match, ids)])
    if not groups and not subnets:
        return
    keys = tuple(key_of(group) for group in groups)
    tags = items(properties.get("Tags"))
    names = (text(at(tag, "Value")) for tag in tags if text(at(tag, "Key")) == "Name")
    yield Station(
        name=next(names, resource.logical_id),
        kind=_kind(resource, intended),
        resource=resource,
        vpc=_vpc(keys, subnets),
        groups=keys,
        subnets=tuple(subnets),
        networks=networks_of(subnets),
        roles=tuple(_roles(resource)),
    )


def _is_group(target: Target) -> bool:
    is_default = target.resource.type == VPC and target.attribute == "DefaultSecurityGroup"
    return target.resource.type == GROUP or is_default


def _is_subnet(target: Target) -> bool:
    return target.resource.type == "AWS::EC2::Subnet" and target.attribute in ("Ref", "SubnetId")


def _vpc(groups: tuple[Key, ...], subnets: list[Value]) -> Key:
    """Return the VPC of the first group or subnet in the templates."""
    for group in groups:
        if isinstance(group, Resource) and "VpcId" in group.properties:
            return key_of(group.properties["VpcId"])
    for subnet in subnets:
        if isinstance(subnet, Target):
            return key_of(subnet.resource.properties.get("VpcId"))
    return "an unknown VPC"


def _texts(value: Value) -> Iterator[str]:
    """Yield every text within a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _roles(resource: Resource) -> Iterator[Value]:
    """Yield the roles with which what a resource runs calls AWS; None for an absent one."""
    properties = resource.properties
    match resource.type:
        case "AWS::Lambda::Function":
            yield properties.get("Role")
        case "AWS::SageMaker::Model":
            yield properties.get("ExecutionRoleArn")
        case "AWS::ECS::Service" | "AWS::StepFunctions::StateMachine":
            for definition in _definitions_of(resource):
                for name in ("TaskRoleArn", "ExecutionRoleArn"):
                    yield definition.properties.get(name)
        case _:
            return


def _definitions_of(resource: Resource) -> list[Resource]:
    """Return the definitions of the tasks that a service or a state machine runs."""
    references = targets(resource.properties.get("TaskDefinition") or resource.properties.get("Definition"))
    return [target.resource for target in references if target.resource.type == "AWS::ECS::TaskDefinition"]


def _unique(values: Iterable[Value]) -> list[Value]:
    return list({text(value): value for value in values}.values())


_BY_PLATFORM = {
    "lambda.amazonaws.com": ("ec2", "logs", "xray"),
    "sagemaker.amazonaws.com": ("cloudwatch", "ec2", "ecr", "logs"),
    "emr-serverless.amazonaws.com": ("ec2",),
}
"""By a service that a role trusts, the prefixes of actions that it calls with the role over its own network:
network interfaces, log lines and traces of functions; images, logs and metrics of model containers and
jobs."""
_ACCOUNT_OF_ARN = re.compile(r"^arn:[^:]*:[^:]*:[^:]*:(\d{12}):")
GATEWAYS = ("s3", "dynamodb")
SEARCH = "es"
"""Service of calls to the search domain: the prefix of its actions."""


class Scene:
    """The stations of one world's templates, and what decides whether they are connected."""

    def __init__(self, templates: Templates, *, facts: Facts, intended: IntendedPaths) -> None:
        self.templates = templates
        self.facts = facts
        self.intended = intended
        self.stations = stations(templates, intended)
        self.connections = Connections(templates)
        self.vpcs = Vpcs(templates)
        self.calls = Calls(templates)
        self.balancing = LoadBalancing(templates)

    def of_kind(self, kind: str) -> list[Station]:
        return [station for station in self.stations if station.kind == kind]

    def pairs(self) -> Iterator[tuple[Station, Station]]:
        """Yield every two stations of one VPC in both directions, and each station with itself."""
        for source in self.stations:
            for target in self.stations:
                if source.vpc == target.vpc:
                    yield source, target

    def station_of(self, resource: Resource) -> Station | None:
        return next((station for station in self.stations if station.resource is resource), None)

    def network_of_vpc(self, vpc: Key) -> Network | None:
        """Return a VPC's address block; None if the VPC is not in the templates."""
        return network_of(vpc.properties.get("CidrBlock")) if isinstance(vpc, Resource) else None

    @cached_property
    def services(self) -> list[Resource]:
        """Endpoint services, with which PrivateLink lets other accounts in."""
        return self.templates.of("AWS::EC2::VPCEndpointService")

    def has_endpoint_service(self, load_balancer: Resource) -> bool:
        """Return whether a load balancer is behind an endpoint service."""
        return any(
            refers_to(service.properties.get(name), load_balancer)
            for service in self.services
            for name in ("NetworkLoadBalancerArns", "GatewayLoadBalancerArns")
        )

    def listens_on(self, station: Station) -> set[int]:
        """Return the ports of a load balancer's listeners."""
        ports = {port_of(listener) for listener in self.balancing.listeners(station.resource)}
        return {port for port in ports if port is not None}

    def forwards(self, station: Station) -> list[Resource]:
        """Return the target groups that a load balancer forwards to."""
        listeners = self.balancing.listeners(station.resource)
        return list(
            dict.fromkeys(group for listener in listeners for group in self.balancing.forwards(listener))
        )

    def registered(self, group: Resource) -> list[Station]:
        """Return the targets of a target group: the balancer it names, or services that register there."""
        balancer = self.balancing.named_target(group)
        return [
            station
            for station in self.stations
            if station.resource is balancer
            or (balancer is None and refers_to(station.resource.properties.get("LoadBalancers"), group))
        ]

    def tables_of_gateway(self, endpoint: Resource) -> set[Key]:
        """Return the route tables that lead to a gateway endpoint."""
        return {key_of(table) for table in items(endpoint.properties.get("RouteTableIds"))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A station calls an action of a service, on these resources (as ``policies.plain`` writes them).

    ``service`` is that of the endpoint (``sagemaker.runtime``), ``SEARCH`` for the search domain, empty if no
    endpoint is known. ``role`` is None if AWS itself signed the call (a presigned URL).
    """

    station: Station
    service: str
    action: str
    resources: tuple[str, ...]
    role: Resource | None

    def passes(self, endpoint: Resource) -> bool | None:
        """Return whether an endpoint's policy allows the call; None if unknown."""
        document = endpoint.properties.get("PolicyDocument")
        if document is None:
            return True  # an endpoint without a policy allows everything
        policy = statements(document)
        return all_of(
            endpoint_allows(policy, self._request(endpoint, resource), role=self.role)
            for resource in self.resources or ("*",)
        )

    def _request(self, endpoint: Resource, resource: str) -> Request:
        """Return the request on one resource, with the condition keys that an endpoint's policy may read."""
        known = {
            "aws:sourcevpce": (plain(Target(endpoint)),),
            "aws:sourcevpc": (plain(endpoint.properties.get("VpcId")),),
        }
        if self.role is None:
            # AWS signs requests to its own buckets: its principals have neither our account nor our tags.
            known |= {
                "aws:principalaccount": (f"{STRANGER}AWS",),
                "aws:principalarn": (f"{STRANGER}AWS",),
                "aws:resourceaccount": (f"{STRANGER}AWS",),
                "s3:resourceaccount": (f"{STRANGER}AWS",),
                "aws:securetransport": ("true",),
            }
            context = Context(known=known, absent=("aws:principaltag/", "aws:principalorg"))
        else:
            account = _ACCOUNT_OF_ARN.match(resource)
            known["aws:resourceaccount"] = (account[1] if account else self.station.resource.account,)
            context = Context(known=known)
        return Request(action=self.action, resources=(resource,), context=context)


class Calls:
    """What each station calls of AWS: what its roles' policies allow, and what its platform needs."""

    def __init__(self, templates: Templates) -> None:
        self._policies = Policies(templates)
        self._providers = {
            target.resource
            for resource in templates.of()
            for target in targets(resource.properties.get("ServiceToken"))
        }
        """Functions behind custom resources: they put their answers into a bucket of CloudFormation."""

    def of(self, station: Station) -> list[Call]:
        """Return every call that a station's roles allow, and those that it makes by URLs that AWS
        presigned."""
        return [*self._by_roles(station), *self._by_platform(station)]

    def unknown_policies(self, station: Station) -> list[str]:
        """Return roles and managed policies of a station that are not in the templates."""
        names: list[str] = []
        for value in station.roles:
            role = self._policies.role(value)
            if role is not None:
                names += self._policies.managed(role)
            elif value is not None:
                names.append(text(value))
        return names

    def _by_roles(self, station: Station) -> Iterator[Call]:
        for value in station.roles:
            role = self._policies.role(value)
            if role is not None:
                for statement in self._policies.of_role(role):
                    yield from self._of_statement(station, statement, role)

    def _of_statement(self, station: Station, statement: Statement, role: Resource) -> Iterator[Call]:
        by_platform = [name for service in trusted_services(role) for name in _BY_PLATFORM.get(service, ())]
        for action in statement.actions or ("*",) if statement.allows else ():
            prefix = action.partition(":")[0].lower()
            if prefix in by_platform or is_for_kms_through_service(statement, action):
                continue
            for service in (SEARCH,) if prefix == SEARCH else services_of(action) or ("",):
                yield Call(
                    station=station, service=service, action=action, resources=statement.resources, role=role
                )

    def _by_platform(self, station: Station) -> Iterator[Call]:
        """Yield calls by presigned URLs: layers of images, and answers of custom resources."""
        region, buckets = station.resource.template.region, f"arn:{station.resource.partition}:s3:::"
        if region is None:
            return
        if _pulls_images(station.resource):
            layers = f"{buckets}prod-{region}-starport-layer-bucket/*"
            yield Call(station=station, service="s3", action="s3:GetObject", resources=(layers,), role=None)
        if station.resource in self._providers:
            answer = f"{buckets}cloudformation-custom-resource-response-{region.replace('-', '')}/*"
            yield Call(station=station, service="s3", action="s3:PutObject", resources=(answer,), role=None)


def _pulls_images(resource: Resource) -> bool:
    return resource.type == SERVICE and any(
        ".dkr.ecr." in text(at(container, "Image"))  # a private ECR registry
        for definition in targets(resource.properties.get("TaskDefinition"))
        for container in items(definition.resource.properties.get("ContainerDefinitions"))
    )
