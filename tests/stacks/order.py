"""The order in which CloudFormation makes the resources of a template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.stacks.values import mappings, resources_of

Template = Mapping[str, Any]


def named(value: object) -> set[str]:
    """The logical ids that a value refers to."""
    found: set[str] = set()
    for each in mappings(value):
        if isinstance(each.get("Ref"), str):
            found.add(each["Ref"])
        if isinstance(each.get("Fn::GetAtt"), list):
            found.add(each["Fn::GetAtt"][0])
    return found


def before(template: Template, logical_id: str) -> set[str]:
    """The resources that CloudFormation makes before one."""
    resources = template["Resources"]
    seen: set[str] = set()
    waiting = [logical_id]
    while waiting:
        body = resources.get(waiting.pop(), {})
        depends = body.get("DependsOn", [])
        depends = {depends} if isinstance(depends, str) else set(depends)
        new = (named(body.get("Properties", {})) | depends) & resources.keys() - seen
        seen |= new
        waiting += new
    return seen


def rights_of(template: Template) -> dict[str, set[str]]:
    """The policies that are attached to each role of the template."""
    found: dict[str, set[str]] = {}
    for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        for logical_id, body in resources_of(template, kind).items():
            for role in named(body["Properties"].get("Roles", [])):
                found.setdefault(role, set()).add(logical_id)
    return found
