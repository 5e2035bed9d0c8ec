"""Stateful resources that an upgrade would replace or delete: data, keys, addresses that others use.

Pins are the logical ids of stateful resources, with the properties whose change makes CloudFormation replace
them (``createOnlyProperties`` of its own schemas; ``replacing.json``), and with the policies that say whether
they stay in the account then. They are made of deployed templates, and compared with synthesized ones. Pins
of one resource:

    {"assistant-pharmacy-Data": {"RecordsTable": {"type": "AWS::DynamoDB::Table", "properties": {"KeySchema":
    […]}, "deletion_policy": "Retain", "update_replace_policy": "Retain"}}}
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
_KEPT = ("Retain", "RetainExceptOnCreate")
"""Policies by which a resource stays in the account when it leaves its stack."""


class PinnedResource(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    properties: Mapping[str, Any]
    """Value in the template, by path (``CidrBlock``, ``AdvancedSecurityOptions/Enabled``); only properties
    whose change replaces the resource."""
    deletion_policy: str = "Delete"
    update_replace_policy: str = "Delete"


PinnedStacks = Mapping[str, Mapping[str, PinnedResource]]
"""Resources by stack name and logical id."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A stateful resource that a deployment would replace, delete or take out of its stack, or a stack that
    it would leave behind, and why."""

    name: str
    """``assistant-pharmacy-Data/RecordsTable``, or ``assistant-pharmacy-Data`` of a whole stack."""
    type: str
    reason: str
    is_kept: bool = False
    """Whether it only leaves its stack, and stays in the account."""

    def __str__(self) -> str:
        return f"{self.name} ({self.type}) {self.reason}"


@cache
def replacing() -> Mapping[str, tuple[str, ...]]:
    """Return, for each stateful type, the paths of the properties whose change forces a replacement."""
    return json.loads(Path(__file__).with_name("replacing.json").read_bytes())


def pin(stacks: Mapping[str, Mapping[str, Any]]) -> PinnedStacks:
    """Return the pins of templates by stack name."""
    return {
        name: {
            logical_id: PinnedResource(
                type=resource["Type"],
                properties=_values(resource, replacing().get(resource["Type"], ())),
                deletion_policy=resource.get("DeletionPolicy", "Delete"),
                update_replace_policy=resource.get("UpdateReplacePolicy", "Delete"),
            )
            for logical_id, resource in sorted(template.get("Resources", {}).items())
            if resource["Type"] in STATEFUL_TYPES
        }
        for name, template in sorted(stacks.items())
    }


def losses(pins: PinnedStacks, stacks: Mapping[str, Mapping[str, Any]]) -> list[Loss]:
    """Return what deploying these templates would take of the pinned stacks. A stack without a template is
    one loss, also when nothing of it is stateful: CloudFormation goes on running it."""
    lost: list[Loss] = []
    for stack, resources in pins.items():
        if stack not in stacks:
            lost.append(Loss(stack, "AWS::CloudFormation::Stack", _left_behind(resources)))
            continue
        present = stacks[stack].get("Resources", {})
        for logical_id, pinned in resources.items():
            lost += _lost(f"{stack}/{logical_id}", pinned, present.get(logical_id))
    return lost


def templates_by_stack_name(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the templates of an assembly (``cdk.out/assembly-Pharmacy``) by their stacks' names."""
    return {template.name: dict(template.document) for template in read_templates([folder])}


def _left_behind(resources: Mapping[str, PinnedResource]) -> str:
    holds = f" It holds {', '.join(resources)}." if resources else ""
    return f"would be left behind: it has no template any more.{holds} Delete it first if it may go"


def _lost(name: str, pinned: PinnedResource, now: Mapping[str, Any] | None) -> Iterator[Loss]:
    """Yield the losses of a pinned resource. ``now``: the template's resource of its logical id.

    A replacement is never a mere warning: what stays of it in the account holds the data, and what the tenant
    goes on with is empty.
    """
    if now is None and pinned.deletion_policy in _KEPT:
        reason = f"would leave its stack, and stays in the account: its policy is {pinned.deletion_policy}"
        yield Loss(name, pinned.type, reason, is_kept=True)
    elif now is None:
        yield Loss(name, pinned.type, "would be deleted: its logical id is no longer in the template")
    elif now["Type"] != pinned.type:
        yield Loss(name, pinned.type, f"would be replaced: its logical id is now a {now['Type']}")
    else:
        values = _values(now, replacing().get(pinned.type, ()))
        after = "; the old one stays in the account" if pinned.update_replace_policy in _KEPT else ""
        for path in sorted(values.keys() | pinned.properties.keys()):
            before, new = pinned.properties.get(path), values.get(path)
            if before != new:
                was = f"{path} was {_shown(before)} and is {_shown(new)}"
                yield Loss(name, pinned.type, f"would be replaced: {was}{after}")


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
