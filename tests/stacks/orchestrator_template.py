"""The orchestrator stack alone, as its tests read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dockerfile_parse import DockerfileParser  # pyright: ignore[reportMissingTypeStubs]

from stacks.orchestrator import OrchestratorStack
from stacks.tenant import DeployedTenant
from tests.stacks.values import NETWORK, resources_of, stack_with, template_of

Template = Mapping[str, Any]
DOCKERFILE = Path(__file__).parents[2] / "containers" / "orchestrator" / "Dockerfile"


def orchestrator_of(tenant: DeployedTenant, **others: Any) -> Template:
    """Return the template of the stack; ``others`` replace the outputs of the stacks before it."""
    network = replace(NETWORK, subnet_ids=NETWORK.subnet_ids[: len(tenant.place.zones)])
    given: dict[str, Any] = {"network": network, **others}
    return template_of(stack_with(OrchestratorStack, tenant, **given))


def only(template: Template, kind: str) -> dict[str, Any]:
    (body,) = resources_of(template, kind).values()
    return body["Properties"]


def container(template: Template, name: str = "Service") -> dict[str, Any]:
    containers = only(template, "AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    return next(each for each in containers if each["Name"] == name)


def environment(template: Template) -> dict[str, Any]:
    return {each["Name"]: each["Value"] for each in container(template)["Environment"]}


def of_dockerfile(instruction: str) -> str:
    steps = DockerfileParser(str(DOCKERFILE), cache_content=True).structure
    return next(step["value"] for step in reversed(steps) if step["instruction"] == instruction)
