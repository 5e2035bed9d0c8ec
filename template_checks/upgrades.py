"""Stateful resources that an upgrade would replace or delete: data, keys, addresses that others use.

Pins are the logical ids of stateful resources, with the properties whose change makes CloudFormation replace
them (``createOnlyProperties`` of its own schemas; ``replacing.json``). They are made of deployed templates,
and compared with synthesized ones. Pins of one resource:

    {"assistant-pharmacy-Data": {"RecordsTable": {"type": "AWS::DynamoDB::Table", "properties": {"KeySchema":
    […]}}}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from template_checks.templates import read_templates

STATEFUL_TYPES = frozenset(
    {
        "AWS::Backup::BackupVault",
        "AWS::DynamoDB::Table",
        "AWS::EC2::Subnet",
        "AWS::EC2::VPC",
        "AWS::EC2::VPCEndpointService",
        "AWS::ECR::Repository",
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        "AWS::KMS::Key",
        "AWS::Logs::LogGroup",
        "AWS::OpenSearchService::Domain",
        "AWS::S3::Bucket",
        "AWS::SQS::Queue",
    }
)
"""Types of resources that hold data, messages or logs, or that another account (the edge) or everything in
the network refers to."""
_LEFT_BEHIND = (
    "would be left behind: its stack has no template any more. Delete that stack first if it may go"
)


class PinnedResource(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    properties: Mapping[str, Any]
    """Value in the template, by path (``CidrBlock``, ``AdvancedSecurityOptions/Enabled``); only properties
    whose change replaces the resource."""


PinnedStacks = Mapping[str, Mapping[str, PinnedResource]]
"""Resources by stack name and logical id."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A stateful resource that a deployment would replace or delete, and why."""

    stack: str
    logical_id: str
    type: str
    reason: str

    def __str__(self) -> str:
        return f"{self.stack}: {self.logical_id} ({self.type}) {self.reason}"


@cache
def replacing() -> Mapping[str, tuple[str, ...]]:
    """Return, for each stateful type, the paths of the properties whose change forces a replacement."""
    return json.loads(Path(__file__).with_name("replacing.json").read_bytes())


def pin(stacks: Mapping[str, Mapping[str, Any]]) -> PinnedStacks:
    """Return the pins of templates by stack name."""
    return {
        name: {
            logical_id: PinnedResource(
                type=resource["Type"], properties=_values(resource, replacing().get(resource["Type"], ()))
            )
            for logical_id, resource in sorted(template.get("Resources", {}).items())
            if resource["Type"] in STATEFUL_TYPES
        }
        for name, template in sorted(stacks.items())
    }


def losses(pins: PinnedStacks, stacks: Mapping[str, Mapping[str, Any]]) -> list[Loss]:
    """Return the pinned resources that deploying these templates would replace, delete or leave behind."""
    lost: list[Loss] = []
    for stack, resources in pins.items():
        present = stacks.get(stack, {}).get("Resources", {})
        for logical_id, pinned in resources.items():
            reasons = _reasons(pinned, present.get(logical_id)) if stack in stacks else [_LEFT_BEHIND]
            lost += [Loss(stack, logical_id, pinned.type, reason) for reason in reasons]
    return lost


def templates_by_stack_name(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the templates of an assembly (``cdk.out/assembly-Pharmacy``) by their stacks' names."""
    return {template.name: dict(template.document) for template in read_templates([folder])}


def _reasons(pinned: PinnedResource, now: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield why a pinned resource would be lost. ``now``: the template's resource of its logical id."""
    if now is None:
        yield "would be deleted: its logical id is no longer in the template"
        return
    if now["Type"] != pinned.type:
        yield f"would be replaced: its logical id is now a {now['Type']}"
        return
    values = _values(now, replacing().get(pinned.type, ()))
    for path in sorted(values.keys() | pinned.properties.keys()):
        before, after = pinned.properties.get(path), values.get(path)
        if before != after:
            yield f"would be replaced: {path} was {_shown(before)} and is {_shown(after)}"


def _values(resource: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Return the values of a resource's properties at these paths; absent ones are left out."""
    values: dict[str, Any] = {}
    for path in paths:
        value: Any = resource.get("Properties", {})
        for part in path.split("/"):
            value = cast("dict[str, Any]", value).get(part) if isinstance(value, dict) else None
        if value is not None:
            values[path] = value
    return values


def _shown(value: Any) -> str:
    return "absent" if value is None else json.dumps(value, sort_keys=True)
