"""What runs: Fargate tasks, functions, and SageMaker models behind endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, at, flag, items, mapping, targets, text

FUNCTIONS = ("AWS::Lambda::Function", "AWS::Serverless::Function")
MODEL = "AWS::SageMaker::Model"
ENDPOINT_CONFIG = "AWS::SageMaker::EndpointConfig"
ENDPOINT = "AWS::SageMaker::Endpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task definition with the services that run it."""

    definition: Resource
    services: tuple[Resource, ...]

    @property
    def containers(self) -> list[Mapping[str, Value]]:
        return [mapping(entry) for entry in items(self.definition.properties.get("ContainerDefinitions"))]

    @property
    def is_fargate(self) -> bool:
        """Whether its definition or a service of it says so."""
        asked = [text(name) for name in items(self.definition.properties.get("RequiresCompatibilities"))]
        for service in self.services:
            asked.append(text(service.properties.get("LaunchType")))
            for entry in items(service.properties.get("CapacityProviderStrategy")):
                asked.append(text(at(entry, "CapacityProvider")))
        return any(name.startswith("FARGATE") for name in asked)

    @property
    def subnets(self) -> list[Value]:
        return [subnet for service in self.services for subnet in _subnets_of_service(service)]

    @property
    def pulls_from_ecr(self) -> bool:
        return any(is_private_registry(text(container.get("Image"))) for container in self.containers)

    @property
    def has_exec(self) -> bool:
        return any(flag(service.properties.get("EnableExecuteCommand")) for service in self.services)


def _subnets_of_service(service: Resource) -> list[Value]:
    return items(at(service.properties.get("NetworkConfiguration"), "AwsvpcConfiguration", "Subnets"))


def is_private_registry(image: str) -> bool:
    """Return whether an image's address is one of a private ECR registry."""
    return ".dkr.ecr." in image


class Workloads:
    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    def tasks(self) -> list[Task]:
        """Return every task definition with its services."""
        services = self._templates.of("AWS::ECS::Service")
        return [
            Task(
                definition=definition,
                services=tuple(
                    service
                    for service in services
                    if any(
                        target.resource is definition
                        for target in targets(service.properties.get("TaskDefinition"))
                    )
                ),
            )
            for definition in self._templates.of("AWS::ECS::TaskDefinition")
        ]

    def functions(self) -> list[Resource]:
        """Return every Lambda function."""
        return self._templates.of(*FUNCTIONS)

    def functions_subnets(self, function: Resource) -> list[Value]:
        """Return the subnets of a function, its template's globals included; none outside a VPC."""
        own = at(function.properties.get("VpcConfig"), "SubnetIds")
        if own is None and function.type == "AWS::Serverless::Function":
            shared = self._templates.resolve(function.template.section("Globals"), within=function.template)
            own = at(shared, "Function", "VpcConfig", "SubnetIds")
        return items(own)

    def models(self) -> list[Resource]:
        """Return every SageMaker model."""
        return self._templates.of(MODEL)

    def variants(self) -> list[tuple[Resource, Mapping[str, Value]]]:
        """Return every variant of every endpoint configuration, shadow variants included."""
        return [
            (config, mapping(variant))
            for config in self._templates.of(ENDPOINT_CONFIG)
            for name in ("ProductionVariants", "ShadowProductionVariants")
            for variant in items(config.properties.get(name))
        ]

    def model_of(self, variant: Mapping[str, Value]) -> Resource | None:
        """Return the model of a variant; None where it is not in the templates."""
        name = variant.get("ModelName")
        if isinstance(name, Target):
            return name.resource
        return next(
            (
                m
                for m in self.models()
                if name is not None and text(m.properties.get("ModelName")) == text(name)
            ),
            None,
        )


def instance_types(variant: Mapping[str, Value]) -> list[Value]:
    """Return every instance type that a variant may stand on; none of a serverless one."""
    pools = [at(pool, "InstanceType") for pool in items(variant.get("InstancePools"))]
    return [value for value in (variant.get("InstanceType"), *pools) if value is not None]


def containers_of(model: Resource) -> list[Mapping[str, Value]]:
    """Return the containers of a SageMaker model."""
    return [
        mapping(entry)
        for name in ("PrimaryContainer", "Containers")
        for entry in items(model.properties.get(name))
    ]


def data_sources(container: Mapping[str, Value]) -> list[Mapping[str, Value]]:
    """Return the S3 data sources of a model's container (``S3Uri``, ``S3DataType``…)."""
    sources = [at(container.get("ModelDataSource"), "S3DataSource")]
    for entry in items(container.get("AdditionalModelDataSources")):
        sources.append(at(entry, "S3DataSource"))
    return [mapping(source) for source in sources if source is not None]


def model_addresses(container: Mapping[str, Value]) -> list[Value]:
    """Return the S3 addresses of everything that a container loads."""
    single = container.get("ModelDataUrl")
    return [source.get("S3Uri") for source in data_sources(container)] + ([single] if single else [])


def environment_of(container: Mapping[str, Value]) -> dict[str, Value]:
    """Return a container's environment, written as a mapping (SageMaker) or a list of pairs (ECS)."""
    found = container.get("Environment")
    if isinstance(found, dict):
        return {name: value for name, value in found.items() if name != "Variables"} | dict(
            mapping(found.get("Variables"))
        )
    return {text(at(pair, "Name")): at(pair, "Value") for pair in items(found)}
