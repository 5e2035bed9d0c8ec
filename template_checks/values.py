"""Values of templates: resolved ones, which may be partly unknown, and raw ones with intrinsic functions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from template_checks.templates import Resource


@dataclass(frozen=True, slots=True)
class Target:
    """An attribute of a resource, as ``Ref`` (attribute ``Ref``) or ``Fn::GetAtt`` returns it."""

    resource: Resource
    attribute: str = "Ref"

    def __str__(self) -> str:
        return f"${{{self.resource.template.name}.{self.resource.logical_id}.{self.attribute}}}"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value outside the templates: a parameter without default, an SSM parameter, a pseudo parameter.

    ``name`` is stable: the same unknown value has the same name everywhere in a template.
    """

    name: str
    about: tuple[Target, ...] = ()
    """The resources whose attributes it is made of."""

    def __str__(self) -> str:
        return f"${{{self.name}}}"


@dataclass(frozen=True, slots=True)
class Joined:
    """Text with attributes or unknown values in it (``s3://${Models.Bucket.Ref}/llm/``)."""

    parts: tuple[str | Target | Unknown, ...]

    def __str__(self) -> str:
        return "".join(map(str, self.parts))


Scalar: TypeAlias = "str | bool | int | float"
Value: TypeAlias = "Scalar | Target | Unknown | Joined | list[Value] | dict[str, Value] | None"


def joined(parts: Sequence[Value]) -> str | Target | Unknown | Joined:
    """Return the parts as one text: a string if all are known, the part itself if there is only one."""
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
    """Return a value as text: ``${…}`` for an unknown part, empty for an absent value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def is_known(value: Value) -> bool:
    """Return whether no part of the value is unknown or made at deployment."""
    if isinstance(value, list):
        return all(map(is_known, value))
    if isinstance(value, dict):
        return all(map(is_known, value.values()))
    return not isinstance(value, Target | Unknown | Joined)


def flag(value: Value) -> bool | None:
    """Return a boolean property, given as boolean or text; None if absent or unknown."""
    return {"true": True, "on": True, "false": False, "off": False}.get(text(value).lower())


def integer(value: Value) -> int | None:
    """Return a whole number, given as number or text; None if absent, unknown or not a number."""
    try:
        return int(text(value))
    except ValueError:
        return None


def items(value: Value) -> list[Value]:
    """Return a list's items; a single value as a list of one, an absent one as an empty list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def mapping(value: Value) -> Mapping[str, Value]:
    """Return an object's fields; none if the value is no object."""
    return value if isinstance(value, dict) else {}


def at(value: Value, *path: str) -> Value:
    """Return the value at a path of fields; None if a field is absent."""
    for field in path:
        value = mapping(value).get(field)
    return value


def targets(value: Value) -> list[Target]:
    """Return every attribute of a resource that a value is made of, in order."""
    if isinstance(value, Target):
        return [value]
    if isinstance(value, Unknown):
        return list(value.about)
    parts: Sequence[Value] = ()
    if isinstance(value, Joined):
        parts = [part for part in value.parts if not isinstance(part, str)]
    elif isinstance(value, list | dict):
        parts = value if isinstance(value, list) else list(value.values())
    return [target for part in parts for target in targets(part)]


def refers_to(value: Value, resource: Resource) -> bool:
    """Return whether a value is made of an attribute of a resource."""
    return any(target.resource is resource for target in targets(value))


def texts_of(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield the text of a variable with its name; of JSON, each text in it with its field's name."""
    if not value.lstrip().startswith(("{", "[")):
        yield name, value
        return
    try:
        document = json.loads(value)
    except ValueError:
        yield name, value
    else:
        yield from _texts_of_json(name, document)


def _texts_of_json(name: str, document: Any) -> Iterator[tuple[str, str]]:
    if isinstance(document, dict):
        for field, item in cast("dict[str, Any]", document).items():
            yield from _texts_of_json(str(field), item)
    elif isinstance(document, list):
        for item in cast("list[Any]", document):
            yield from _texts_of_json(name, item)
    elif isinstance(document, str):
        yield name, document


# --- raw values, before they are resolved -----------------------------------------------------------------
def is_reference(value: Any) -> bool:
    """Return whether a raw value is one ``Ref``."""
    return isinstance(value, Mapping) and set(cast("Mapping[str, Any]", value)) == {"Ref"}


def equalities(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield both sides of every ``Fn::Equals``."""
    for name, argument in raw_fields(value):
        if name == "Fn::Equals":
            yield argument[0], argument[1]
        else:
            yield from equalities(argument)


def referred(value: Any) -> Iterator[str]:
    """Yield the names of the resources and parameters that a raw value refers to."""
    for name, argument in raw_fields(value):
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
    """Return the text of a ``Fn::Sub``, with or without a map of names."""
    return str(cast("list[Any]", argument)[0] if isinstance(argument, list) else argument)


def raw_fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields of an object, or of every object in a list."""
    if isinstance(value, Mapping):
        yield from cast("Mapping[str, Any]", value).items()
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from raw_fields(item)
