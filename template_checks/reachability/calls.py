"""What each workload calls of AWS, by the policies of its roles, and what its platform needs besides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from template_checks.called import services_of
from template_checks.policies import Policies, Statement
from template_checks.reachability.kinds import Kind
from template_checks.reachability.stations import Station
from template_checks.templates import Resource, Templates
from template_checks.values import Value, at, items, targets, text
from template_checks.workloads import is_private_registry

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
