"""Where in a network things stand: which VPC, whether it is closed, and its endpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from template_checks.security_groups import Key, key_of
from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, flag, items, text

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
