"""Networks in templates: security groups, VPCs with their routes and endpoints, and load balancers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal, TypeAlias

from template_checks.templates import (
    Resource,
    Target,
    Templates,
    Value,
    at,
    flag,
    integer,
    items,
    mapping,
    refers_to,
    targets,
    text,
)

Direction = Literal["Ingress", "Egress"]
Network: TypeAlias = IPv4Network | IPv6Network
Key: TypeAlias = Resource | str
"""What a reference leads to: a resource of the templates, or text (``sg-0a1b``, an unknown
``${Parameter}``)."""


def key_of(value: Value) -> Key:
    """Return the same key for every reference to the same thing: ``Ref`` and ``GetAtt`` of a group are one
    key."""
    return value.resource if isinstance(value, Target) else text(value)


def network_of(value: Value) -> Network | None:
    """Return an address block, given as text or as a VPC's or subnet's attribute; None if unknown."""
    if isinstance(value, Target) and value.attribute == "CidrBlock":
        value = value.resource.properties.get("CidrBlock")
    try:
        return ip_network(text(value), strict=False)
    except ValueError:
        return None


def networks_of(subnets: Sequence[Value]) -> tuple[Network, ...]:
    """Return the address blocks of subnets; that of their VPC where a subnet's own is unknown."""
    networks: list[Network] = []
    for subnet in subnets:
        if isinstance(subnet, Target):
            block = network_of(subnet.resource.properties.get("CidrBlock"))
            vpc = subnet.resource.properties.get("VpcId")
            whole = network_of(vpc.resource.properties.get("CidrBlock")) if isinstance(vpc, Target) else None
            networks += [known for known in (block or whole,) if known is not None]
    return tuple(networks)


def is_within(inner: Network, block: Network) -> bool:
    """Return whether a block contains all of another."""
    return inner.version == block.version and block.prefixlen <= inner.prefixlen and inner.overlaps(block)


# --- security groups --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end of a connection: its groups, and its addresses (empty where they are unknown)."""

    groups: tuple[Key, ...] = ()
    networks: tuple[Network, ...] = ()
    is_gateway: bool = False
    """Whether a prefix list leads to it: S3 or DynamoDB behind a gateway endpoint."""


class SecurityGroups:
    """The rules of all groups, inline and standalone, as properties of the rule:
    ``{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "10.0.0.0/16"}``."""

    def __init__(self, templates: Templates) -> None:
        self._standalone: dict[tuple[str, Key], list[Mapping[str, Value]]] = {}
        for direction in ("Ingress", "Egress"):
            for rule in templates.of(f"AWS::EC2::SecurityGroup{direction}"):
                key = key_of(rule.properties.get("GroupId"))
                self._standalone.setdefault((direction, key), []).append(rule.properties)

    def rules(self, group: Key, direction: Direction) -> list[Mapping[str, Value]]:
        """Return a group's rules."""
        inline = group.properties.get(f"SecurityGroup{direction}") if isinstance(group, Resource) else None
        return [*map(mapping, items(inline)), *self._standalone.get((direction, group), [])]


def rule_end(rule: Mapping[str, Value], direction: Direction) -> tuple[Key | None, Network | None]:
    """Return the other end of a rule: its group, or its address block. Both are None for a prefix list or an
    unknown value."""
    side = "Source" if direction == "Ingress" else "Destination"
    group = rule.get(f"{side}SecurityGroupId") or rule.get(f"{side}SecurityGroupName")
    if group is not None:
        return key_of(group), None
    return None, network_of(rule.get("CidrIp") or rule.get("CidrIpv6"))


# --- VPCs -------------------------------------------------------------------------------------------------
_AWS_SERVICE = re.compile(r"^(?:cn\.)?com\.amazonaws\.(?!vpce\.)(\$\{[^}]*\}|[a-z0-9-]+)\.(.+)$")
"""Region and service of ``com.amazonaws.us-east-1.ecr.api``; the region may be unknown (``${AWS::Region}``).
``com.amazonaws.vpce.…`` is an endpoint service of some account, not AWS's."""
_ROUTE_TARGETS = (
    "GatewayId",
    "NatGatewayId",
    "EgressOnlyInternetGatewayId",
    "VpcPeeringConnectionId",
    "TransitGatewayId",
    "CarrierGatewayId",
    "LocalGatewayId",
    "CoreNetworkArn",
    "NetworkInterfaceId",
    "InstanceId",
    "VpcEndpointId",
)
"""Properties of a route that name where it leads."""
_DESTINATIONS = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route out of a VPC. ``network`` is None for a prefix list or an unknown destination; ``by`` is for
    messages: ``NatGatewayId ${Network.Nat.Ref}``."""

    resource: Resource
    destination: str
    network: Network | None
    by: str


class RouteTables:
    """The route tables of subnets, and the routes in them."""

    def __init__(self, templates: Templates) -> None:
        self._of_subnet = {
            key_of(association.properties.get("SubnetId")): key_of(association.properties.get("RouteTableId"))
            for association in templates.of("AWS::EC2::SubnetRouteTableAssociation")
        }
        self._routes: dict[Key, list[Route]] = {}
        for route in templates.of("AWS::EC2::Route"):
            key = key_of(route.properties.get("RouteTableId"))
            self._routes.setdefault(key, []).append(_route(route))

    def of(self, subnets: Sequence[Value]) -> set[Key] | None:
        """Return the route tables of subnets; None where any of them is unknown.

        A subnet without an association uses the VPC's main table. A template can add routes to that table
        only by its id, so it counts as unknown.
        """
        # None among them: a subnet without an association, or one outside the templates.
        tables = {
            self._of_subnet.get(key_of(subnet)) if isinstance(subnet, Target) else None for subnet in subnets
        }
        return {table for table in tables if table is not None} if tables and None not in tables else None

    def leaving(self, subnets: Sequence[Value]) -> list[Route]:
        """Return the routes out of the VPC that the templates have for the subnets."""
        tables = {self._of_subnet.get(key_of(subnet)) for subnet in subnets} - {None}
        return [route for table in tables if table is not None for route in self._routes.get(table, [])]

    def all(self) -> list[Route]:
        """Return every route in the templates, also of tables outside them."""
        return [route for routes in self._routes.values() for route in routes]


def _route(resource: Resource) -> Route:
    values = resource.properties
    destination = next((values[name] for name in _DESTINATIONS if values.get(name) is not None), None)
    target_property = next((name for name in _ROUTE_TARGETS if name in values), None)
    return Route(
        resource=resource,
        destination=text(destination),
        network=network_of(destination),
        by=f"{target_property} {text(values[target_property])}" if target_property else "an unknown way",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A VPC endpoint of an AWS service."""

    service: str
    """Without region: ``ecr.api``, ``sagemaker.runtime``."""
    region: str
    """The region in the service's name. A caller uses the name of its own region, so an endpoint of another
    region's service does not serve it."""
    resource: Resource
    vpc: Key
    is_interface: bool

    @property
    def is_of_own_region(self) -> bool | None:
        """Whether the service is in the endpoint's own region; None if unknown."""
        region = self.resource.region
        if self.region == region:
            return True
        return None if "${" in region or "${" in self.region else False

    @property
    def has_private_dns(self) -> bool | None:
        """Whether the service's own name resolves to the endpoint; None if unknown."""
        value = self.resource.properties.get("PrivateDnsEnabled")
        return False if value is None else flag(value)  # CloudFormation's default is false


class Vpcs:
    """The VPCs of the templates, with what leads out of them."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self.routes = RouteTables(templates)
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
            and "vpce-svc-" not in match.group(2)  # an endpoint service, whatever its prefix
        ]

    def endpoints_of(self, service: str, vpc: Key | None) -> list[Endpoint]:
        """Return the endpoints of a service in a VPC; in every VPC if ``vpc`` is None.

        An endpoint of another region's service is left out; one of an unknown region is not.
        """
        return [
            endpoint
            for endpoint in self.endpoints
            if endpoint.service == service
            and (vpc is None or endpoint.vpc == vpc)
            and endpoint.is_of_own_region is not False
        ]


# --- load balancers ---------------------------------------------------------------------------------------
LOAD_BALANCER = "AWS::ElasticLoadBalancingV2::LoadBalancer"
LISTENER = "AWS::ElasticLoadBalancingV2::Listener"
TARGET_GROUP = "AWS::ElasticLoadBalancingV2::TargetGroup"


class LoadBalancing:
    """Load balancers with their listeners and target groups."""

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
            if refers_to(listener.properties["LoadBalancerArn"], load_balancer)
        ]

    def actions(self, listener: Resource) -> list[Value]:
        """Return the actions of a listener and of its rules."""
        actions = items(listener.properties.get("DefaultActions"))
        for rule in self._templates.of("AWS::ElasticLoadBalancingV2::ListenerRule"):
            if refers_to(rule.properties.get("ListenerArn"), listener):
                actions = [*actions, *items(rule.properties.get("Actions"))]
        return actions

    def forwards(self, listener: Resource) -> list[Resource]:
        """Return the target groups that a listener and its rules forward to."""
        groups: list[Value] = []
        for action in self.actions(listener):
            groups.append(at(action, "TargetGroupArn"))
            groups += [
                at(entry, "TargetGroupArn") for entry in items(at(action, "ForwardConfig", "TargetGroups"))
            ]
        return [target.resource for target in targets(groups)]

    def groups_of_load_balancers(self) -> list[Resource]:
        """Return the target groups whose target is an Application Load Balancer."""
        return [
            group
            for group in self._templates.of(TARGET_GROUP)
            if text(group.properties.get("TargetType")) == "alb" or self.named_target(group)
        ]

    def named_target(self, group: Resource) -> Resource | None:
        """Return the Application Load Balancer that a target group names; None if it names none here."""
        for entry in items(group.properties.get("Targets")):
            for target in targets(mapping(entry).get("Id")):
                resource = target.resource
                if resource.type == LISTENER:  # the listener's LoadBalancerArn attribute
                    resource = targets(resource.properties["LoadBalancerArn"])[0].resource
                if resource in self.application:
                    return resource
        return None

    def target_of(self, group: Resource) -> Resource | None:
        """Return the Application Load Balancer that a target group names; if it names none, the only one."""
        only = self.application[0] if len(self.application) == 1 else None
        return self.named_target(group) or only

    def listener_on(self, load_balancer: Resource, port: int | None) -> Resource | None:
        """Return the listener on a port."""
        matching = (
            listener
            for listener in self.listeners(load_balancer)
            if port is not None and port_of(listener) == port
        )
        return next(matching, None)


def port_of(resource: Resource) -> int | None:
    """Return the port of a listener or target group, also if it refers to another listener's port."""
    port = resource.properties.get("Port")
    if isinstance(port, Target) and port.attribute == "Port":
        return port_of(port.resource)
    return integer(port)


def ports_of_group(group: Resource) -> list[int]:
    """Return the ports that a load balancer connects to: for traffic, and for health checks."""
    ports = [port_of(group), integer(group.properties.get("HealthCheckPort"))]
    return list(dict.fromkeys(port for port in ports if port is not None))


def attribute(resource: Resource, key: str, *, of: str) -> Value:
    """Return one attribute of a list of Key and Value (``LoadBalancerAttributes``); None if absent."""
    for entry in items(resource.properties.get(of)):
        if text(at(entry, "Key")) == key:
            return at(entry, "Value")
    return None
