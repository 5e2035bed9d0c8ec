"""What raw values of a template refer to, before anything is resolved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast


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
