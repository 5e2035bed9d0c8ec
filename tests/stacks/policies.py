"""What a policy of a template allows, with references written as in ``Fn::Sub``: ``${Bucket}``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def statements_of(template: Mapping[str, Any], logical_id: str) -> list[dict[str, Any]]:
    """Return a managed policy's statements, actions and resources as lists of text."""
    document = template["Resources"][logical_id]["Properties"]["PolicyDocument"]
    return [
        {
            **statement,
            "Action": _list(statement["Action"]),
            "Resource": [text_of(resource) for resource in _list(statement["Resource"])],
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


def _list(value: Any) -> list[Any]:
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
