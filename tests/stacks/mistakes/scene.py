"""Templates in memory that a test changes to plant a mistake."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assistant.cli.aws.templates import prove
from template_checks.facts import Facts, Finding, Status
from template_checks.rules import check_rules
from template_checks.templates import (
    Resource,
    Template,
    Templates,
    World,
    items,
    read_templates,
    text,
)

Raw = dict[str, Any]


class Scene:
    """A set of templates with its facts. Every change is made to a copy of the documents."""

    def __init__(self, templates: Sequence[Template], *, facts: Facts) -> None:
        self.templates = [
            # Twice as fast as a deep copy.
            replace(template, document=pickle.loads(pickle.dumps(template.document)))  # noqa: S301
            for template in templates
        ]
        self.facts = facts

    @classmethod
    def read(cls, paths: Sequence[Path], *, facts: Facts) -> Scene:
        return cls(read_templates(paths), facts=facts)

    def copy(self) -> Scene:
        return Scene(self.templates, facts=self.facts)

    def broken(self) -> list[Finding]:
        """Return what breaks a rule of an AWS service."""
        return check_rules(self.world(), facts=self.facts)

    def refused(self) -> list[Finding]:
        """Return everything that a deployment refuses: broken rules, and paths opened or missing."""
        paths = prove(self.world(), facts=self.facts).findings
        return [*self.broken(), *(one for one in paths if one.status is Status.REFUSED)]

    def world(self) -> Templates:
        return Templates(self.templates, world=World(account=self.facts.account, region=self.facts.region))

    def know(self, **facts: Any) -> None:
        self.facts = self.facts.model_copy(update=facts)

    # --- finding ------------------------------------------------------------------------------------------
    def all(self, kind: str, **having: str) -> list[Resource]:
        """Return resources of a type whose properties, resolved, contain these texts."""
        return [
            resource
            for resource in self.world().of(kind)
            if all(wanted in text_of(resource, name) for name, wanted in having.items())
        ]

    def one(self, kind: str, **having: str) -> Resource:
        """Return the first of them; there must be one."""
        return self.all(kind, **having)[0]

    def properties(self, kind: str, **having: str) -> Raw:
        """Return the raw properties of the first of them, to be changed."""
        return raw_properties(self.one(kind, **having))

    def add(self, beside: Resource, logical_id: str, kind: str, properties: Raw, **more: Any) -> None:
        """Add a resource to the template of another."""
        self._resources(beside.template)[logical_id] = {"Type": kind, "Properties": properties, **more}

    def _resources(self, template: Template) -> Raw:
        (found,) = (one for one in self.templates if one.path == template.path)
        return found.document["Resources"]

    # --- parts of a deployment ----------------------------------------------------------------------------

    def endpoint(self, service: str) -> Resource:
        """Return the endpoint of an AWS service."""
        return next(
            one
            for one in self.all("AWS::EC2::VPCEndpoint")
            if text(one.properties["ServiceName"]).endswith(f".{service}")
        )

    def container(self) -> Raw:
        """Return the container that the load balancer sends to, to be changed."""
        balanced = items(self.one("AWS::ECS::Service").properties["LoadBalancers"])[0]
        name = text(balanced["ContainerName"]) if isinstance(balanced, dict) else ""
        containers = self.properties("AWS::ECS::TaskDefinition")["ContainerDefinitions"]
        return next(one for one in containers if one["Name"] == name)

    def llm(self) -> Raw:
        """Return the container of the model whose environment names a batch size, to be changed."""
        model = self.properties("AWS::SageMaker::Model", PrimaryContainer="SM_ON_BATCH_SIZE")
        return model["PrimaryContainer"]

    def variant(self) -> Raw:
        """Return the variant on Inferentia, to be changed."""
        config = self.properties("AWS::SageMaker::EndpointConfig", ProductionVariants="ml.inf2")
        return config["ProductionVariants"][0]

    def statements(self) -> Iterator[Raw]:
        """Yield every statement of roles' policies, to be changed."""
        for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            for policy in self.all(kind):
                yield from _as_list(raw_properties(policy)["PolicyDocument"]["Statement"])
        for role in self.all("AWS::IAM::Role"):
            for policy in raw_properties(role).get("Policies", []):
                yield from _as_list(policy["PolicyDocument"]["Statement"])

    def forget_action(self, action: str) -> None:
        """Remove an action from every role's policies, also where a wildcard contains it."""
        service, _, name = action.partition(":")
        for statement in self.statements():
            kept = [
                one
                for one in _as_list(statement.get("Action", []))
                if not (one.startswith(f"{service}:") and name.startswith(one.partition(":")[2].rstrip("*")))
            ]
            statement["Action"] = kept or ["iam:GetRole"]


def raw_properties(resource: Resource) -> Raw:
    """Return a resource's own properties, to be changed."""
    return resource.raw["Properties"]


def text_of(resource: Resource, name: str) -> str:
    """Return a property, resolved, as text."""
    return str(resource.properties.get(name, ""))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
