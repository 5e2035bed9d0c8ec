"""Where route tables lead out of a VPC, and everything else that opens one to another network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from template_checks.networks import Key, Network, key_of, network_of
from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, flag, items, text

_WAYS = (
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
OPENERS = {
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route out of a VPC. ``network`` is None where a prefix list or something unknown says it."""

    resource: Resource
    destination: str
    network: Network | None
    by: str


class RouteTables:
    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._of_subnet = {
            key_of(association.properties.get("SubnetId")): key_of(association.properties.get("RouteTableId"))
            for association in templates.of("AWS::EC2::SubnetRouteTableAssociation")
        }
        self._routes: dict[Key, list[Route]] = {}
        for route in templates.of("AWS::EC2::Route"):
            key = key_of(route.properties.get("RouteTableId"))
            self._routes.setdefault(key, []).append(_route(route))

    def of(self, subnets: tuple[Value, ...]) -> set[Key] | None:
        """Return the route tables of subnets; None where the templates do not tell of each.

        A subnet without an association has the VPC's main table, to which no template can add a route but by
        its id: it counts as not told.
        """
        found = {
            self._of_subnet.get(key_of(subnet)) if isinstance(subnet, Target) else None for subnet in subnets
        }
        return {table for table in found if table is not None} if found and None not in found else None

    def leaving(self, subnets: tuple[Value, ...]) -> list[Route]:
        """Return the routes out of the VPC that the templates have for the subnets."""
        tables = {self._of_subnet.get(key_of(subnet)) for subnet in subnets} - {None}
        return [route for table in tables if table is not None for route in self._routes.get(table, [])]

    def all(self) -> list[Route]:
        """Return every route in the templates, also of tables that they do not hold."""
        return [route for routes in self._routes.values() for route in routes]


def _route(resource: Resource) -> Route:
    destination = next(
        (value for name in _DESTINATIONS if (value := resource.properties.get(name)) is not None), None
    )
    way = next((name for name in _WAYS if name in resource.properties), None)
    by = f"{way} {text(resource.properties[way])}" if way else "an unknown way"
    return Route(resource=resource, destination=text(destination), network=network_of(destination), by=by)


def openers(templates: Templates) -> Iterator[tuple[Resource, str]]:
    """Yield every resource that opens a network, with how."""
    for resource in templates.of():
        if resource.type in OPENERS:
            yield resource, OPENERS[resource.type]
        elif _is_public(resource):
            yield resource, "has public addresses"


def _is_public(resource: Resource) -> bool:
    properties = resource.properties
    match resource.type:
        case "AWS::EC2::Subnet":
            return flag(properties.get("MapPublicIpOnLaunch")) is True
        case "AWS::ElasticLoadBalancingV2::LoadBalancer":
            return text(properties.get("Scheme") or "internet-facing") != "internal"
        case "AWS::ECS::Service":
            return '"ENABLED"' in _assigns(properties.get("NetworkConfiguration"))
        case "AWS::OpenSearchService::Domain":
            return not items(properties.get("VPCOptions"))
        case _:
            return False


def _assigns(configuration: Value) -> str:
    if isinstance(configuration, dict):
        inner = configuration.get("AwsvpcConfiguration")
        if isinstance(inner, dict):
            return f'"{text(inner.get("AssignPublicIp"))}"'
    return ""
