"""Stateful resources that an upgrade would replace or delete: data, keys, addresses that others use.

Pins are the logical ids of stateful resources, with the properties whose change makes CloudFormation replace
them (``createOnlyProperties`` of its own schemas; ``replacing.json``, beside the pins). They are compared
with synthesized templates; ``pin`` makes them also of deployed ones. A file of pins,
``stacks/pins/pharmacy.json``:

    {"assistant-pharmacy-Data": {"RecordsTable": {"type": "AWS::DynamoDB::Table", "properties": {"KeySchema":
    […]}}}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from template_checks import InvalidInputError
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


class PinnedResource(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    properties: Mapping[str, Any]
    """Value in the template, by path (``CidrBlock``, ``AdvancedSecurityOptions/Enabled``); only properties
    whose change replaces the resource."""


Replacing = Mapping[str, tuple[str, ...]]
"""Paths of the properties that force a replacement, by resource type."""
PinnedStacks = Mapping[str, Mapping[str, PinnedResource]]
"""Resources by stack name and logical id."""
_Read = TypeVar("_Read")
_REPLACING_FILE = "replacing.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """The stateful resources of one set of stacks."""

    replacing: Replacing
    stacks: PinnedStacks


@dataclass(frozen=True, slots=True)
class Loss:
    """A stateful resource that a deployment would replace or delete, and why."""

    stack: str
    logical_id: str
    type: str
    reason: str

    def __str__(self) -> str:
        return f"{self.stack}: {self.logical_id} ({self.type}) {self.reason}"


def pin(stacks: Mapping[str, Mapping[str, Any]], replacing: Replacing) -> Pins:
    """Return the pins of templates by stack name."""
    return Pins(
        replacing=replacing,
        stacks={
            name: {
                logical_id: PinnedResource(
                    type=resource["Type"], properties=_values(resource, replacing.get(resource["Type"], ()))
                )
                for logical_id, resource in sorted(template.get("Resources", {}).items())
                if resource["Type"] in STATEFUL_TYPES
            }
            for name, template in sorted(stacks.items())
        },
    )


def losses(pins: Pins, stacks: Mapping[str, Mapping[str, Any]]) -> list[Loss]:
    """Return the pinned resources that deploying these templates would replace or delete."""
    lost: list[Loss] = []
    for stack, resources in pins.stacks.items():
        present = stacks.get(stack, {}).get("Resources", {})
        for logical_id, pinned in resources.items():
            reasons = _reasons(pinned, present.get(logical_id), pins.replacing.get(pinned.type, ()))
            lost += [Loss(stack, logical_id, pinned.type, reason) for reason in reasons]
    return lost


def faults(pins: Pins, stacks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each resource that would be lost, and for each that is stateful and not pinned."""
    new = (f"{name} is stateful and not pinned" for name in unpinned(pins, stacks))
    return [*map(str, losses(pins, stacks)), *new]


def unpinned(pins: Pins, stacks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the stateful resources that have no pin yet, as ``stack: logical id``."""
    return [
        f"{name}: {logical_id}"
        for name, resources in pin(stacks, pins.replacing).stacks.items()
        for logical_id in resources
        if logical_id not in pins.stacks.get(name, {})
    ]


def read_pins(path: Path) -> Pins:
    """Read a file of pins, and ``replacing.json`` beside it. Raises InvalidInputError naming the file."""
    stacks = _read(path, TypeAdapter[PinnedStacks](PinnedStacks))
    return Pins(replacing=read_replacing(path.parent), stacks=stacks)


def read_replacing(folder: Path) -> Replacing:
    """Read the properties that force a replacement. Raises InvalidInputError naming the file."""
    return _read(folder / _REPLACING_FILE, TypeAdapter[Replacing](Replacing))


def write_pins(path: Path, pins: Pins) -> None:
    """Write the files that ``read_pins`` reads, sorted for review."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stacks = TypeAdapter[PinnedStacks](PinnedStacks).dump_python(pins.stacks, mode="json")
    for file, content in ((path, stacks), (path.with_name(_REPLACING_FILE), dict(pins.replacing))):
        file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def templates_by_stack_name(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the templates of an assembly (``cdk.out/assembly-Pharmacy``) by their stacks' names."""
    return {template.name: dict(template.document) for template in read_templates([folder])}


def _read(path: Path, kind: TypeAdapter[_Read]) -> _Read:
    try:
        return kind.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InvalidInputError(f"{path}: not a file of pins: {error}. Make it with make pin.") from None


def _reasons(pinned: PinnedResource, now: Mapping[str, Any] | None, paths: Iterable[str]) -> Iterator[str]:
    """Yield why a pinned resource would be lost. ``now``: the template's resource of its logical id."""
    if now is None:
        yield "would be deleted: its logical id is no longer in the template"
        return
    if now["Type"] != pinned.type:
        yield f"would be replaced: its logical id is now a {now['Type']}"
        return
    values = _values(now, tuple(paths))
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
