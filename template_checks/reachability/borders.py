"""What opens a network to another one, whether anything uses it or not, and what the templates leave open."""

from __future__ import annotations

from collections.abc import Iterator

from template_checks.findings import Finding, not_proven, refused
from template_checks.reachability.scene import Scene
from template_checks.reachability.stations import VPC, Kind, Station
from template_checks.templates import Resource
from template_checks.values import at, flag, items, text

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
            yield refused(resource, "reach-opening", at="", message=message, fix=fix)
    for route in scene.vpcs.routes.all():
        message = f"A route leads to {route.destination} by {route.by}."
        fix = "Remove it: use VPC endpoints for AWS services and for company systems."
        yield refused(route.resource, "reach-route", at="DestinationCidrBlock", message=message, fix=fix)


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
            yield refused(service, "reach-acceptance", at="AcceptanceRequired", message=message, fix=fix)
    if balancers and len(scene.services) != 1:
        message = f"{len(scene.services)} endpoint services lead into the network; there must be one."
        fix = "Keep one AWS::EC2::VPCEndpointService, in front of the network load balancer."
        yield refused(balancers[0].resource, "reach-doors", at="", message=message, fix=fix)


def _default_groups(scene: Scene) -> Iterator[Finding]:
    """Refuse stations with the VPC's default security group, by name or because they name none."""
    for station in scene.stations:
        named = any(isinstance(group, Resource) and group.type == VPC for group in station.groups)
        if named or not station.groups:
            yield refused(
                station.resource,
                "reach-default-group",
                at="SecurityGroupIds",
                message=f"{station.finding_name} has the VPC's default group, or none: it may connect to "
                "everything.",
                fix="Give it a security group of its own.",
            )


def _unknown_rules_and_policies(scene: Scene) -> Iterator[Finding]:
    """Name what is in no template: routes of an existing VPC, rules of its groups, other policies."""
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
        yield not_proven(station.resource, "reach-routes-untold", at="SubnetIds", message=message, fix=fix)
    for station in scene.stations:
        foreign = [str(group) for group in station.groups if not isinstance(group, Resource)]
        if foreign:
            message = f"The rules of {', '.join(foreign)} are not in the templates: not proven."
            fix = "Add the template with the group to the same check."
            yield not_proven(
                station.resource, "reach-rules-untold", at="SecurityGroupIds", message=message, fix=fix
            )
        for name in scene.calls.unknown_policies(station):
            message = f"The permissions of {name} are not in the templates, so its calls are not proven."
            fix = "Add its template to the same check, or give the role statements of its own."
            yield not_proven(station.resource, "reach-policy-untold", at="", message=message, fix=fix)
