"""What opens a network to another one, whichever way anything uses it; and what the templates do not tell."""

from __future__ import annotations

from collections.abc import Iterator

from template_checks.findings import Finding, not_proven, refused
from template_checks.reachability.routes import openers
from template_checks.reachability.scene import Scene
from template_checks.reachability.stations import VPC, Kind, Station
from template_checks.templates import Resource
from template_checks.values import flag


def opened(scene: Scene) -> Iterator[Finding]:
    """Refuse gateways, peerings, public addresses, and routes that lead out."""
    for resource, how in openers(scene.templates):
        yield refused(
            resource,
            "reach-opening",
            at="",
            message=f"{resource.logical_id} ({resource.type}) {how}.",
            mend="Take it away: the tenant's network has one door, its endpoint service.",
        )
    for route in scene.routes.all():
        yield refused(
            route.resource,
            "reach-route",
            at="DestinationCidrBlock",
            message=f"A route leads to {route.destination} by {route.by}.",
            mend="Take it away: AWS services are reached by endpoints, systems by [[reach]] entries.",
        )


def doors(scene: Scene) -> Iterator[Finding]:
    """Refuse more than one endpoint service, one that lets in whoever asks, and a network without any."""
    balancers = scene.of_kind(Kind.NLB)
    for service in scene.services:
        if flag(service.properties.get("AcceptanceRequired")) is not True:
            yield refused(
                service,
                "reach-acceptance",
                at="AcceptanceRequired",
                message="The endpoint service connects whoever asks, without being accepted.",
                mend="Set AcceptanceRequired to true.",
            )
    if balancers and len(scene.services) != 1:
        yield refused(
            balancers[0].resource,
            "reach-doors",
            at="",
            message=f"{len(scene.services)} endpoint services lead into the network; there is one way in.",
            mend="Keep one AWS::EC2::VPCEndpointService, in front of the network load balancer.",
        )


def default_groups(scene: Scene) -> Iterator[Finding]:
    """Refuse what carries the VPC's default group, by name or because it was given none."""
    for station in scene.stations:
        named = any(isinstance(group, Resource) and group.type == VPC for group in station.groups)
        if named or not station.groups:
            yield refused(
                station.resource,
                "reach-default-group",
                at="SecurityGroupIds",
                message=f"{station.resource_name} has the VPC's default group, or none: all may leave by it.",
                mend="Give it a security group of its own.",
            )


def untold(scene: Scene) -> Iterator[Finding]:
    """Say what stands in no template: routes of an existing VPC, rules of its groups, foreign policies."""
    yield from _untold_routes(scene)
    for station in scene.stations:
        foreign = [str(group) for group in station.groups if not isinstance(group, Resource)]
        if foreign:
            yield not_proven(
                station.resource,
                "reach-rules-untold",
                at="SecurityGroupIds",
                message=f"The rules of {', '.join(foreign)} are not in the templates: not proven.",
                mend="Give the template that makes the group too.",
            )
        for name in scene.calls.untold(station):
            yield not_proven(
                station.resource,
                "reach-policy-untold",
                at="",
                message=f"What {name} allows is not in the templates, so what it calls is not proven.",
                mend="Give the template that makes it too, or statements of its own to the role.",
            )


def _untold_routes(scene: Scene) -> Iterator[Finding]:
    seen: dict[str, Station] = {}
    for station in scene.stations:
        if scene.routes.of(station.subnets) is None:
            seen.setdefault(str(station.vpc), station)
    for vpc, station in seen.items():
        yield not_proven(
            station.resource,
            "reach-routes-untold",
            at="SubnetIds",
            message=f"{vpc}: routes not in template: not proven.",
            mend="Look at the route tables and network ACLs of the subnets: aws ec2 describe-route-tables, "
            "aws ec2 describe-network-acls.",
        )
