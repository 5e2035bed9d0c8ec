"""What a template says: which resources CloudFormation makes before others, and what a policy allows, with
references written as in ``Fn::Sub``: ``${Bucket}``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def statements_of(template: Mapping[str, Any], logical_id: str) -> list[dict[str, Any]]:
    """Return a managed policy's statements, actions and resources as lists of text."""
    document = template["Resources"][logical_id]["Properties"]["PolicyDocument"]
    return [
        {
            **statement,
            "Action": listed(statement["Action"]),
            "Resource": [text_of(resource) for resource in listed(statement["Resource"])],
        }
        for statement in document["Statement"]
    ]


def allowed_on(statements: Iterable[Mapping[str, Any]], action: str) -> set[str]:
    """Return the resources that an action is allowed on, by that very name."""
    return {
        resource
        for statement in statements
        if statement["Effect"] == "Allow" and action in statement["Action"]
        for resource in statement["Resource"]
    }


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def text_of(value: Any) -> str:
    """Return a template's text with references as in ``Fn::Sub``."""
    match value:
        case str():
            return value
        case {"Ref": str(name)}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Join": [str(glue), list(parts)]}:
            return glue.join(text_of(part) for part in parts)
        case _:
            raise TypeError(f"{value} is no reference that a test of one stack should meet")
