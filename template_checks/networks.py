"""Security groups: whether a connection may leave one and enter another, by the rules in the templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Literal, TypeAlias

from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, at, flag, integer, items, mapping, targets, text

Direction = Literal["Ingress", "Egress"]
Network: TypeAlias = IPv4Network | IPv6Network
Key: TypeAlias = Resource | str
"""What a reference leads to: a resource of the templates, or its text (an id, an unknown)."""


def key_of(value: Value) -> Key:
    """Return what two references to the same thing have in common."""
    return value.resource if isinstance(value, Target) else text(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end of a connection: its groups, and its addresses (none where they are not known)."""

    groups: tuple[Key, ...] = ()
    networks: tuple[Network, ...] = ()
    is_gateway: bool = False
    """Whether a prefix list leads there: S3 or DynamoDB behind a gateway endpoint."""


class SecurityGroups:
    """The rules of all groups, inline and standalone."""

    def __init__(self, templates: Templates) -> None:
        self._standalone: dict[tuple[Direction, Key], list[Mapping[str, Value]]] = {}
        directions: tuple[Direction, ...] = ("Ingress", "Egress")
        for direction in directions:
            for rule in templates.of(f"AWS::EC2::SecurityGroup{direction}"):
                key = key_of(rule.properties.get("GroupId"))
                self._standalone.setdefault((direction, key), []).append(rule.properties)

    def rules(self, group: Key, direction: Direction) -> list[Mapping[str, Value]]:
        """Return a group's rules."""
        inline = group.properties.get(f"SecurityGroup{direction}") if isinstance(group, Resource) else None
        return [*map(mapping, items(inline)), *self._standalone.get((direction, group), [])]

    def allow(self, groups: Iterable[Key], direction: Direction, *, port: int, peer: Peer) -> bool | None:
        """Return whether any of the groups lets TCP pass to or from every address of the peer.

        None where a rule or a group that the templates do not tell may decide it.
        """
        verdicts = [self._allows(group, direction, port=port, peer=peer) for group in groups]
        if True in verdicts:
            return True
        return None if None in verdicts else False

    def _allows(self, group: Key, direction: Direction, *, port: int, peer: Peer) -> bool | None:
        rules = self.rules(group, direction)
        if not rules and direction == "Egress" and isinstance(group, Resource):
            return True  # a group made without any egress rule may connect to everything
        peers = [_peer(rule, direction) for rule in rules if _covers(rule, port) is True]
        if any(key in peer.groups for key, _ in peers if key is not None):
            return True
        blocks = [block for _, block in peers if block is not None]
        if _all_within(peer.networks, blocks) or any(block.prefixlen == 0 for block in blocks):
            return True
        is_open = any(key is None and block is None for key, block in peers)
        is_open = is_open or any(_covers(rule, port) is None for rule in rules)
        # A peer known by its groups alone may still have addresses that a block holds.
        is_open = is_open or (bool(peer.groups) and not peer.networks and bool(blocks))
        return None if is_open or not isinstance(group, Resource) else False

    def has_source(self, groups: Iterable[Key], *, port: int) -> bool:
        """Return whether any rule lets anything in on the port (unknown rules count as such)."""
        return any(
            _covers(rule, port) is not False for group in groups for rule in self.rules(group, "Ingress")
        )


def _covers(rule: Mapping[str, Value], port: int) -> bool | None:
    protocol = text(rule.get("IpProtocol"))
    if protocol in ("-1", "all"):
        return True
    if protocol not in ("tcp", "6"):
        return None if "${" in protocol else False
    first, last = integer(rule.get("FromPort")), integer(rule.get("ToPort"))
    if first is None or last is None:
        return None
    return first <= port <= last or first == -1


def _peer(rule: Mapping[str, Value], direction: Direction) -> tuple[Key | None, Network | None]:
    """Return a rule's group or address block; neither where it is another or an unknown thing."""
    side = "Source" if direction == "Ingress" else "Destination"
    group = rule.get(f"{side}SecurityGroupId") or rule.get(f"{side}SecurityGroupName")
    if group is not None:
        return key_of(group), None
    return None, network_of(rule.get("CidrIp") or rule.get("CidrIpv6"))


def network_of(value: Value) -> Network | None:
    """Return an address block, given as text or as a VPC's or subnet's; None where it is not known."""
    if isinstance(value, Target) and value.attribute == "CidrBlock":
        value = value.resource.properties.get("CidrBlock")
    try:
        return ip_network(text(value), strict=False)
    except ValueError:
        return None


def networks_of(subnets: Sequence[Value]) -> tuple[Network, ...]:
    """Return the address blocks of subnets, or of their VPC where the templates do not hold theirs."""
    return tuple(_networks(subnets))


def _networks(subnets: Sequence[Value]) -> Iterator[Network]:
    for subnet in subnets:
        if isinstance(subnet, Target):
            own = network_of(subnet.resource.properties.get("CidrBlock"))
            vpc = subnet.resource.properties.get("VpcId")
            whole = network_of(vpc.resource.properties.get("CidrBlock")) if isinstance(vpc, Target) else None
            found = own or whole
            if found is not None:
                yield found


def _all_within(networks: Sequence[Network], blocks: Sequence[Network]) -> bool:
    together = [
        *collapse_addresses(block for block in blocks if isinstance(block, IPv4Network)),
        *collapse_addresses(block for block in blocks if isinstance(block, IPv6Network)),
    ]
    return bool(networks) and all(any(_within(one, block) for block in together) for one in networks)


def _within(one: Network, block: Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(block, IPv4Network):
        return one.subnet_of(block)
    if isinstance(one, IPv6Network) and isinstance(block, IPv6Network):
        return one.subnet_of(block)
    return False


# Where in a network things stand: which VPC, whether it is closed, and its endpoints.


_AWS_SERVICE = re.compile(r"^(?:cn\.)?com\.amazonaws\.(?!vpce\.)(\$\{[^}]*\}|[a-z0-9-]+)\.(.+)$")
_DEFAULT_ROUTES = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint of an AWS service."""

    service: str
    """Without region: ``ecr.api``, ``sagemaker.runtime``."""
    region: str
    """Whose service it leads to: the name that callers in another region use does not."""
    resource: Resource
    vpc: Key
    is_interface: bool

    @property
    def is_of_own_region(self) -> bool | None:
        """Whether it leads to the service of the region that it stands in; None where that is not told."""
        own = self.resource.region
        if self.region == own:
            return True
        return None if "${" in own or "${" in self.region else False

    @property
    def has_private_dns(self) -> bool | None:
        """Whether the service's own name leads to it; None where the template leaves that open."""
        value = self.resource.properties.get("PrivateDnsEnabled")
        return False if value is None else flag(value)  # CloudFormation's default is false


class VpcView:
    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self.endpoints = [
            Endpoint(
                service=match.group(2),
                region=match.group(1),
                resource=resource,
                vpc=key_of(resource.properties.get("VpcId")),
                is_interface=text(resource.properties.get("VpcEndpointType")) == "Interface",
            )
            for resource in templates.of("AWS::EC2::VPCEndpoint")
            if (match := _AWS_SERVICE.match(text(resource.properties.get("ServiceName"))))
            and "vpce-svc-" not in match.group(2)
        ]

    def vpc_of(self, subnets: Sequence[Value]) -> Key | None:
        """Return the VPC of subnets; None where the templates do not tell."""
        for subnet in subnets:
            if isinstance(subnet, Target) and "VpcId" in subnet.resource.properties:
                return key_of(subnet.resource.properties["VpcId"])
        return None

    def is_closed(self, subnets: Sequence[Value]) -> bool | None:
        """Return whether nothing leads from the subnets to the internet; None where that is not told."""
        known = [subnet.resource for subnet in subnets if isinstance(subnet, Target)]
        if any(self._has_default_route(subnet) for subnet in known):
            return False
        return True if known and len(known) == len(subnets) else None

    def _has_default_route(self, subnet: Resource) -> bool:
        tables = [
            key_of(association.properties.get("RouteTableId"))
            for association in self._templates.of("AWS::EC2::SubnetRouteTableAssociation")
            if key_of(association.properties.get("SubnetId")) is subnet
        ]
        return any(
            text(
                route.properties.get("DestinationCidrBlock")
                or route.properties.get("DestinationIpv6CidrBlock")
            )
            in _DEFAULT_ROUTES
            for route in self._templates.of("AWS::EC2::Route")
            if key_of(route.properties.get("RouteTableId")) in tables
        )

    def of_service(self, service: str, vpc: Key | None) -> list[Endpoint]:
        """Return the endpoints of a service in a VPC; in any where the VPC is not told.

        One that surely leads to another region's service is none of them.
        """
        return [
            endpoint
            for endpoint in self.endpoints
            if endpoint.service == service
            and (vpc is None or endpoint.vpc == vpc)
            and endpoint.is_of_own_region is not False
        ]

    def has_private_zone(self, service_host: str) -> bool:
        """Return whether a private hosted zone takes a service's name (``kms.``) to an endpoint."""
        return any(
            text(zone.properties.get("Name")).startswith(service_host) and items(zone.properties.get("VPCs"))
            for zone in self._templates.of("AWS::Route53::HostedZone")
        )


# Load balancers, their listeners, and what they forward to.


LOAD_BALANCER = "AWS::ElasticLoadBalancingV2::LoadBalancer"
LISTENER = "AWS::ElasticLoadBalancingV2::Listener"
TARGET_GROUP = "AWS::ElasticLoadBalancingV2::TargetGroup"


class LoadBalancing:
    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    @cached_property
    def network(self) -> list[Resource]:
        """The Network Load Balancers."""
        return self._of_kind("network")

    @cached_property
    def application(self) -> list[Resource]:
        """The Application Load Balancers."""
        return self._of_kind("application")

    def _of_kind(self, kind: str) -> list[Resource]:
        return [
            resource
            for resource in self._templates.of(LOAD_BALANCER)
            if text(resource.properties.get("Type") or "application") == kind
        ]

    def listeners(self, load_balancer: Resource) -> list[Resource]:
        """Return a load balancer's listeners."""
        return [
            listener
            for listener in self._templates.of(LISTENER)
            if load_balancer
            in (target.resource for target in targets(listener.properties["LoadBalancerArn"]))
        ]

    def actions(self, listener: Resource) -> list[Value]:
        """Return the actions of a listener and of its rules."""
        actions = items(listener.properties.get("DefaultActions"))
        for rule in self._templates.of("AWS::ElasticLoadBalancingV2::ListenerRule"):
            if key_matches(rule.properties.get("ListenerArn"), listener):
                actions = [*actions, *items(rule.properties.get("Actions"))]
        return actions

    def forwards(self, listener: Resource) -> list[Resource]:
        """Return the target groups that a listener and its rules forward to."""
        found = [group for action in self.actions(listener) for group in _target_groups(action)]
        return [target.resource for group in found for target in targets(group)]

    def groups_of_load_balancers(self) -> list[Resource]:
        """Return the target groups whose target is an Application Load Balancer."""
        return [
            group
            for group in self._templates.of(TARGET_GROUP)
            if text(group.properties.get("TargetType")) == "alb" or self._named_target(group)
        ]

    def target_of(self, group: Resource) -> Resource | None:
        """Return the Application Load Balancer that a target group names; None where it names none here."""
        return self._named_target(group)

    def _named_target(self, group: Resource) -> Resource | None:
        for entry in items(group.properties.get("Targets")):
            for target in targets(mapping(entry).get("Id")):
                resource = target.resource
                if resource.type == LISTENER:  # its LoadBalancerArn attribute
                    resource = next(iter(t.resource for t in targets(resource.properties["LoadBalancerArn"])))
                if resource in self.application:
                    return resource
        return None

    def in_front_of(self, group: Resource) -> list[tuple[Resource, Resource]]:
        """Return each Network Load Balancer that forwards to a target group, with its listener."""
        return [
            (balancer, listener)
            for balancer in self.network
            for listener in self.listeners(balancer)
            if group in self.forwards(listener)
        ]

    def listener_on(self, load_balancer: Resource, port: int | None) -> Resource | None:
        """Return the listener on a port."""
        return next(
            (
                listener
                for listener in self.listeners(load_balancer)
                if port is not None and port_of(listener) == port
            ),
            None,
        )


def port_of(resource: Resource) -> int | None:
    """Return the port of a listener or target group, also where it is another listener's."""
    port = resource.properties.get("Port")
    if isinstance(port, Target) and port.attribute == "Port":
        return port_of(port.resource)
    return integer(port)


def attribute(resource: Resource, key: str, *, of: str) -> Value:
    """Return one attribute of a list of Key and Value (``LoadBalancerAttributes``); None if absent."""
    for entry in items(resource.properties.get(of)):
        if text(at(entry, "Key")) == key:
            return at(entry, "Value")
    return None


def key_matches(value: Value, resource: Resource) -> bool:
    """Return whether a value refers to a resource."""
    return any(target.resource is resource for target in targets(value))


def _target_groups(action: Value) -> Iterator[Value]:
    if at(action, "TargetGroupArn") is not None:
        yield at(action, "TargetGroupArn")
    for entry in items(at(action, "ForwardConfig", "TargetGroups")):
        yield at(entry, "TargetGroupArn")
