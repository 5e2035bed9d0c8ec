"""What a property of a template comes to: a value, a resource's attribute, or something not known before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from template_checks.templates import Resource


@dataclass(frozen=True, slots=True)
class Target:
    """What ``Ref`` (attribute ``Ref``) or ``Fn::GetAtt`` of a resource gives, in whichever template it is."""

    resource: Resource
    attribute: str = "Ref"

    def __str__(self) -> str:
        return f"${{{self.resource.template.name}.{self.resource.logical_id}.{self.attribute}}}"


@dataclass(frozen=True, slots=True)
class Unknown:
    """What no template says: a parameter without default, an SSM parameter's value, a pseudo parameter.

    ``name`` is stable: the same unknown thing has the same name wherever one template uses it.
    """

    name: str
    about: tuple[Target, ...] = ()
    """The resources whose attributes it is made of."""

    def __str__(self) -> str:
        return f"${{{self.name}}}"


@dataclass(frozen=True, slots=True)
class Joined:
    """Text of which a part is an attribute or unknown (``s3://${Models.Bucket.Ref}/llm/``)."""

    parts: tuple[str | Target | Unknown, ...]

    def __str__(self) -> str:
        return "".join(map(str, self.parts))


Scalar: TypeAlias = "str | bool | int | float"
Value: TypeAlias = "Scalar | Target | Unknown | Joined | list[Value] | dict[str, Value] | None"


def joined(parts: Sequence[Value]) -> str | Target | Unknown | Joined:
    """Return the parts as one text: a string where all is known, the part itself where there is but one."""
    flat: list[str | Target | Unknown] = []
    for part in parts:
        for piece in part.parts if isinstance(part, Joined) else (part,):
            addition = piece if isinstance(piece, Target | Unknown) else text(piece)
            if isinstance(addition, str) and flat and isinstance(flat[-1], str):
                flat[-1] += addition
            elif addition != "":
                flat.append(addition)
    if not flat:
        return ""
    return flat[0] if len(flat) == 1 else Joined(tuple(flat))


def text(value: Value) -> str:
    """Return a value as text; what is not known stands as ``${…}`` in it, absence as nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def is_known(value: Value) -> bool:
    """Return whether nothing in the value is unknown or made at deployment."""
    if isinstance(value, list):
        return all(map(is_known, value))
    if isinstance(value, dict):
        return all(map(is_known, value.values()))
    return not isinstance(value, Target | Unknown | Joined)


def flag(value: Value) -> bool | None:
    """Return a boolean property, given as boolean or text; None where it is absent or unknown."""
    return {"true": True, "on": True, "false": False, "off": False}.get(text(value).lower())


def integer(value: Value) -> int | None:
    """Return a whole number, given as number or text; None where it is absent, unknown or none."""
    try:
        return int(text(value))
    except ValueError:
        return None


def items(value: Value) -> list[Value]:
    """Return a list's items; one value alone is a list of it, absence an empty one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def mapping(value: Value) -> Mapping[str, Value]:
    """Return an object's fields; what is no object has none."""
    return value if isinstance(value, dict) else {}


def texts_of_json(name: str, document: Any) -> Iterator[tuple[str, str]]:
    """Yield the texts of a parsed JSON value, each with its field; ``name`` where it has none."""
    if isinstance(document, dict):
        for field, item in cast("dict[str, Any]", document).items():
            yield from texts_of_json(str(field), item)
    elif isinstance(document, list):
        for item in cast("list[Any]", document):
            yield from texts_of_json(name, item)
    elif isinstance(document, str):
        yield name, document


def at(value: Value, *path: str) -> Value:
    """Return the value at a path of fields; None where it ends before."""
    for field in path:
        value = mapping(value).get(field)
    return value


def targets(value: Value) -> list[Target]:
    """Return every attribute of a resource that a value is made of, in order."""
    if isinstance(value, Target):
        return [value]
    if isinstance(value, Unknown):
        return list(value.about)
    if isinstance(value, Joined):
        return [target for part in value.parts if not isinstance(part, str) for target in targets(part)]
    if isinstance(value, list):
        return [target for item in value for target in targets(item)]
    if isinstance(value, dict):
        return [target for item in value.values() for target in targets(item)]
    return []


# What raw values of a template refer to, before anything is resolved.


def is_reference(value: Any) -> bool:
    """Return whether a value is one ``Ref``."""
    return isinstance(value, Mapping) and set(cast("Mapping[str, Any]", value)) == {"Ref"}


def equalities(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield both sides of every ``Fn::Equals``."""
    for name, argument in _fields(value):
        if name == "Fn::Equals":
            yield argument[0], argument[1]
        else:
            yield from equalities(argument)


def referred(value: Any) -> Iterator[str]:
    """Yield the names that a value refers to, of resources or of parameters."""
    for name, argument in _fields(value):
        if name == "Ref":
            yield str(argument)
        elif name == "Fn::GetAtt":
            yield argument.split(".")[0] if isinstance(argument, str) else str(argument[0])
        elif name == "Fn::Sub":
            for placeholder in re.findall(r"\$\{([^}!]+)\}", pattern_of(argument)):
                yield placeholder.split(".")[0]
            yield from referred(argument)
        else:
            yield from referred(argument)


def pattern_of(argument: Any) -> str:
    """Return the text of a ``Fn::Sub``, with or without names of its own."""
    return str(cast("list[Any]", argument)[0] if isinstance(argument, list) else argument)


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from cast("Mapping[str, Any]", value).items()
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _fields(item)
