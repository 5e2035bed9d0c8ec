"""Everything that the proof reads of the templates in one world: stations, connections, and calls of AWS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from template_checks.called_services import is_for_kms_through_service, is_private_registry, services_of
from template_checks.conditions import STRANGER, Context, all_of
from template_checks.facts import Facts, IntendedPaths
from template_checks.networks import Key, LoadBalancing, Network, Vpcs, key_of, network_of, port_of
from template_checks.permissions import Request, endpoint_allows
from template_checks.policies import Policies, Statement, plain, statements, trusted_services
from template_checks.reachability.connections import Connections
from template_checks.reachability.stations import SERVICE, Station, stations
from template_checks.templates import Resource, Templates
from template_checks.values import Target, at, items, refers_to, targets, text

_BY_PLATFORM = {
    "lambda.amazonaws.com": ("ec2", "logs", "xray"),
    "sagemaker.amazonaws.com": ("cloudwatch", "ec2", "ecr", "logs"),
    "emr-serverless.amazonaws.com": ("ec2",),
}
"""A service that a role trusts = services that it calls with the role over its own network: for network
interfaces, log lines and traces of functions; images, logs and metrics of model containers and jobs."""
_ACCOUNT_OF_ARN = re.compile(r"^arn:[^:]*:[^:]*:[^:]*:(\d{12}):")
GATEWAYS = ("s3", "dynamodb")
SEARCH = "es"


class Scene:
    """The stations of the templates, and what decides whether they are connected."""

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
        found = {port_of(listener) for listener in self.balancing.listeners(station.resource)}
        return {port for port in found if port is not None}

    def forwards(self, station: Station) -> list[Resource]:
        """Return the target groups that a load balancer forwards to."""
        listeners = self.balancing.listeners(station.resource)
        return list(dict.fromkeys(group for one in listeners for group in self.balancing.forwards(one)))

    def registered(self, group: Resource) -> list[Station]:
        """Return the targets of a target group: the balancer it names, or services that register there."""
        named = self.balancing.named_target(group)
        return [
            station
            for station in self.stations
            if station.resource is named
            or (named is None and refers_to(station.resource.properties.get("LoadBalancers"), group))
        ]

    def tables_of_gateway(self, endpoint: Resource) -> set[Key]:
        return {key_of(table) for table in items(endpoint.properties.get("RouteTableIds"))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A station calls an action of a service.

    ``service`` is that of the endpoint, ``es`` the search domain, empty if unknown. ``role`` is None if AWS
    itself makes the call (a presigned address).
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
            named = _ACCOUNT_OF_ARN.match(resource)
            known["aws:resourceaccount"] = (named[1] if named else self.station.resource.account,)
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
        """Functions behind custom resources. Their answer goes to CloudFormation's bucket."""

    def of(self, station: Station) -> list[Call]:
        """Return every call that a station's roles allow it, and that its platform makes from its place."""
        return [*self._by_roles(station), *self._by_platform(station)]

    def unknown_policies(self, station: Station) -> list[str]:
        """Return roles and managed policies of a station that are not in the templates."""
        found: list[str] = []
        for value in station.roles:
            role = self._policies.role(value)
            if role is not None:
                found += self._policies.managed(role)
            elif value is not None:
                found.append(text(value))
        return found

    def _by_roles(self, station: Station) -> Iterator[Call]:
        for value in station.roles:
            role = self._policies.role(value)
            if role is not None:
                for statement in self._policies.of_role(role):
                    yield from self._of_statement(station, statement, role)

    def _of_statement(self, station: Station, statement: Statement, role: Resource) -> Iterator[Call]:
        by_platform = [one for service in trusted_services(role) for one in _BY_PLATFORM.get(service, ())]
        for action in statement.actions or ("*",) if statement.allows else ():
            prefix = action.partition(":")[0].lower()
            if prefix in by_platform or is_for_kms_through_service(statement, action):
                continue
            for service in (SEARCH,) if prefix == SEARCH else services_of(action) or ("",):
                yield Call(
                    station=station, service=service, action=action, resources=statement.resources, role=role
                )

    def _by_platform(self, station: Station) -> Iterator[Call]:
        region = station.resource.template.region
        if region is None:
            return
        if _pulls_images(station.resource):
            layers = f"arn:aws:s3:::prod-{region}-starport-layer-bucket/*"
            yield Call(station=station, service="s3", action="s3:GetObject", resources=(layers,), role=None)
        if station.resource in self._providers:
            bucket = f"cloudformation-custom-resource-response-{region.replace('-', '')}"
            answer = f"arn:aws:s3:::{bucket}/*"
            yield Call(station=station, service="s3", action="s3:PutObject", resources=(answer,), role=None)


def _pulls_images(resource: Resource) -> bool:
    return resource.type == SERVICE and any(
        is_private_registry(text(at(container, "Image")))
        for definition in targets(resource.properties.get("TaskDefinition"))
        for container in items(definition.resource.properties.get("ContainerDefinitions"))
    )
