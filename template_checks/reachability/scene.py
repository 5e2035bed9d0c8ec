"""What each workload calls of AWS, by the policies of its roles, and what its platform needs besides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from template_checks.conditions import STRANGER, Context
from template_checks.facts import Facts
from template_checks.networks import Key, LoadBalancing, Network, VpcView, key_of, network_of, port_of
from template_checks.permissions import Request, endpoint_lets
from template_checks.policies import Policies, Statement, plain, statements
from template_checks.reachability.connections import Connections
from template_checks.reachability.routes import RouteTables
from template_checks.reachability.stations import Kind, Station, stations
from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, at, items, targets, text
from template_checks.workloads import is_private_registry, services_of

_BY_PLATFORM = {
    "lambda.amazonaws.com": ("ec2", "logs", "xray"),
    "sagemaker.amazonaws.com": ("cloudwatch", "ec2", "ecr", "logs"),
    "emr-serverless.amazonaws.com": ("ec2",),
}
"""Who a role is for, and what that service does with it over its own network: network interfaces, log lines
and traces of functions; images, logs and metrics of model containers and jobs."""
GATEWAYS = ("s3", "dynamodb")
SEARCH = "es"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A workload calls an action of a service. ``service`` is that of the endpoint, ``es`` the search domain,
    empty where none is known. ``role`` is None where the caller is AWS itself (a presigned address)."""

    station: Station
    service: str
    action: str
    resources: tuple[str, ...]
    role: Resource | None


class Calls:
    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._policies = Policies(templates)

    def of(self, station: Station) -> list[Call]:
        """Return every call that a station's roles allow it, and that its platform makes from its place."""
        return [*self._by_roles(station), *self._by_platform(station)]

    def untold(self, station: Station) -> list[str]:
        """Return roles and managed policies of a station that the templates do not hold."""
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
            for statement in self._policies.of_role(role) if role is not None else ():
                yield from self._of_statement(station, statement, role)

    def _of_statement(self, station: Station, statement: Statement, role: Resource | None) -> Iterator[Call]:
        if not statement.allows:
            return
        platform = [one for service in _trusted(role) for one in _BY_PLATFORM.get(service, ())]
        through_service = any("kms:ViaService" in keys for keys in statement.conditions.values())
        for action in statement.actions or ("*",):
            prefix = action.partition(":")[0].lower()
            if prefix in platform:
                continue
            if prefix == "kms" and through_service:
                continue  # a service asks KMS on the caller's behalf, from its own network
            for service in _endpoints_of(prefix, action):
                yield Call(
                    station=station,
                    service=service,
                    action=action,
                    resources=statement.resources,
                    role=role,
                )

    def _by_platform(self, station: Station) -> Iterator[Call]:
        region = station.resource.template.region
        if region is not None and self._pulls_images(station):
            layers = f"arn:aws:s3:::prod-{region}-starport-layer-bucket/*"
            yield Call(station=station, service="s3", action="s3:GetObject", resources=(layers,), role=None)
        if region is not None and self._answers_cloudformation(station.resource):
            bucket = f"cloudformation-custom-resource-response-{region.replace('-', '')}"
            answer = f"arn:aws:s3:::{bucket}/*"
            yield Call(station=station, service="s3", action="s3:PutObject", resources=(answer,), role=None)

    def _pulls_images(self, station: Station) -> bool:
        return station.kind == Kind.ORCHESTRATOR and any(
            is_private_registry(text(container.get("Image")))
            for definition in targets(station.resource.properties.get("TaskDefinition"))
            for container in _containers(definition.resource)
        )

    def _answers_cloudformation(self, function: Resource) -> bool:
        """Return whether it serves a custom resource, whose answer goes to CloudFormation's bucket."""
        return function in self._providers

    @cached_property
    def _providers(self) -> frozenset[Resource]:
        return frozenset(
            target.resource
            for resource in self._templates.of()
            for target in targets(resource.properties.get("ServiceToken"))
        )


def _trusted(role: Resource | None) -> list[str]:
    """Return the services that a role is for."""
    trust = None if role is None else role.properties.get("AssumeRolePolicyDocument")
    return [
        text(service)
        for statement in items(at(trust, "Statement"))
        for service in items(at(statement, "Principal", "Service"))
    ]


def _endpoints_of(prefix: str, action: str) -> tuple[str, ...]:
    """Return the endpoints that an action goes through; one without a name where none is known."""
    return (SEARCH,) if prefix == SEARCH else services_of(action) or ("",)


def _containers(definition: Resource) -> list[dict[str, Value]]:
    found = items(definition.properties.get("ContainerDefinitions"))
    return [container for container in found if isinstance(container, dict)]


# Whether an endpoint's policy lets a call through.


_ACCOUNT_OF_ARN = re.compile(r"^arn:[^:]*:[^:]*:[^:]*:(\d{12}):")


def passes(endpoint: Resource, call: Call) -> bool | None:
    """Return whether the policy of ``endpoint`` lets a call through; None where the templates do not tell.

    An endpoint without a policy lets everything through.
    """
    document = endpoint.properties.get("PolicyDocument")
    if document is None:
        return True
    policy = statements(document)
    verdicts = [
        endpoint_lets(policy, _request(endpoint, call, resource), role=call.role)
        for resource in call.resources or ("*",)
    ]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _request(endpoint: Resource, call: Call, resource: str) -> Request:
    known = {
        "aws:sourcevpce": (plain(Target(endpoint)),),
        "aws:sourcevpc": (plain(endpoint.properties.get("VpcId")),),
    }
    if call.role is None:
        # AWS signs for its own buckets itself: its principals have neither our account nor our tags.
        stranger = (f"{STRANGER}AWS",)
        known |= {
            "aws:principalaccount": stranger,
            "aws:principalarn": stranger,
            "aws:securetransport": ("true",),
        }
        context = Context(known=known, absent=("aws:principaltag/", "aws:principalorg"))
    else:
        named = _ACCOUNT_OF_ARN.match(resource)
        known["aws:resourceaccount"] = (named.group(1) if named else call.station.resource.account,)
        context = Context(known=known)
    return Request(action=call.action, resources=(resource,), context=context)


# Everything that the proof looks at, of templates in one world.


class Scene:
    def __init__(self, templates: Templates, *, facts: Facts) -> None:
        self.templates = templates
        self.facts = facts
        self.stations = stations(templates)
        self.connections = Connections(templates)
        self.routes = RouteTables(templates)
        self.endpoints = VpcView(templates)
        self.calls = Calls(templates)
        self.balancing = LoadBalancing(templates)

    def of_kind(self, kind: Kind) -> list[Station]:
        return [station for station in self.stations if station.kind == kind]

    def pairs(self) -> Iterator[tuple[Station, Station]]:
        """Yield every two stations of one VPC in both directions, and each with others of its own kind."""
        for source in self.stations:
            for target in self.stations:
                if source.vpc == target.vpc:
                    yield source, target

    def station_of(self, resource: Resource) -> Station | None:
        return next((station for station in self.stations if station.resource is resource), None)

    def networks_of_vpc(self, vpc: Key) -> tuple[Network, ...]:
        """Return a VPC's address block; nothing where the templates do not hold it."""
        block = network_of(vpc.properties.get("CidrBlock")) if isinstance(vpc, Resource) else None
        return () if block is None else (block,)

    @cached_property
    def services(self) -> list[Resource]:
        """Endpoint services: the doors that PrivateLink gives to other accounts."""
        return self.templates.of("AWS::EC2::VPCEndpointService")

    def services_of(self, load_balancer: Resource) -> list[Resource]:
        return [
            service
            for service in self.services
            for name in ("NetworkLoadBalancerArns", "GatewayLoadBalancerArns")
            if any(target.resource is load_balancer for target in targets(service.properties.get(name)))
        ]

    def listens_on(self, station: Station) -> set[int]:
        """Return the ports of a load balancer's listeners."""
        found = {port_of(listener) for listener in self.balancing.listeners(station.resource)}
        return {port for port in found if port is not None}

    def forwards(self, station: Station) -> list[Resource]:
        """Return the target groups that a load balancer forwards to."""
        found = [
            group
            for listener in self.balancing.listeners(station.resource)
            for group in self.balancing.forwards(listener)
        ]
        return list(dict.fromkeys(found))

    def registered(self, group: Resource) -> list[Station]:
        """Return what a target group sends to: the balancer it names, or services that register there."""
        named = self.balancing.target_of(group)
        if named is not None:
            return [station for station in self.stations if station.resource is named]
        return [
            station
            for station in self.stations
            for entry in items(station.resource.properties.get("LoadBalancers"))
            if any(target.resource is group for target in targets(entry))
        ]

    def tables_of_gateway(self, endpoint: Resource) -> set[Key]:
        return {key_of(table) for table in items(endpoint.properties.get("RouteTableIds"))}
