"""Edits of a settings file in TOML that keep comments, order and layout; for the command line alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

import tomlkit

from assistant.tenant.toml_file import lines_of_keys

Place = tuple[str | int, ...]
"""A path of pydantic: ``("reach", 0, "service_name")``."""


def with_values(text: str, values: Mapping[Place, str | Sequence[str]]) -> str:
    """Return the text with these values at these places; a missing key is added below its section's head."""
    document: Any = tomlkit.parse(text)
    missing: dict[Place, str | Sequence[str]] = {}
    for place, value in values.items():
        section = _at(document, place[:-1])
        if section is not None and (isinstance(place[-1], int) or place[-1] in section):
            section[place[-1]] = value
        else:
            missing[place] = value
    text = tomlkit.dumps(document)
    for place, value in missing.items():
        keys, lines = lines_of_keys(text), text.splitlines(keepends=True)
        assignment = f"{place[-1]} = {json.dumps(value, ensure_ascii=False)}\n"
        if head := keys.get(place[:-1]):
            text = "".join([*lines[:head], assignment, *lines[head:]])
        else:
            text = f"{text.rstrip()}\n\n[{'.'.join(map(str, place[:-1]))}]\n{assignment}"
    return text


def without(text: str, places: Iterable[Place]) -> str:
    """Return the text without these keys and tables, and without the comments in them.

    A place that is not there is no error.
    """
    keys = lines_of_keys(text)
    for place in sorted(places, key=lambda place: keys.get(place, 0), reverse=True):  # numbers before it stay
        text = _without(text, place)
    return text


def _without(text: str, place: Place) -> str:
    keys, lines = lines_of_keys(text), text.splitlines(keepends=True)
    first = keys.get(place, 0) - 1
    if first < 0 or not lines[first].lstrip().startswith("["):
        document: Any = tomlkit.parse(text)
        section = _at(document, place[:-1])
        if section is not None and place[-1] in section:
            del section[place[-1]]
        return tomlkit.dumps(document)
    after = [line - 1 for key, line in keys.items() if line - 1 > first and key[: len(place)] != place]
    end = min(after, default=len(lines))
    while after and lines[end - 1].lstrip().startswith("#"):  # a comment over the next table is its own
        end -= 1
    kept = "".join([*lines[:first], *lines[end:]])
    return kept if after else f"{kept.rstrip()}\n"


def _at(data: Any, place: Place) -> Any:
    """Return what is at a place; None where nothing is."""
    try:
        return reduce(getitem, place, data)
    except (KeyError, IndexError):
        return None
