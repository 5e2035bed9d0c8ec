"""Edits of single values in the text of a TOML file: comments, order and layout stay as they are."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from assistant.domain.errors import ConfigurationError
from assistant.settings.strict_file import lines_of_keys

Place = Sequence[str | int]


def with_values(text: str, values: Mapping[tuple[str | int, ...], str | Sequence[str]]) -> str:
    """Return the text with these values at these places; a key that is not there is added.

    A place is a path as pydantic has it: ``("reach", 0, "service_name")``. Raises ConfigurationError where
    the text is written in a form that cannot be edited.
    """
    for place, value in values.items():
        text = _with_value(text, place, json.dumps(value, ensure_ascii=False))
    found = tomllib.loads(text)
    for place, value in values.items():
        if _at(found, place) != value:
            raise ConfigurationError(f"{_key(place)} cannot be edited where it stands; write it by hand.")
    return text


def _with_value(text: str, place: tuple[str | int, ...], value: str) -> str:
    keys = lines_of_keys(text)
    lines = text.splitlines(keepends=True)
    if place in keys:
        first = keys[place] - 1
        begin, rest = _assignment(lines[first])
        last, comment = _end_of_value(lines, first, rest)
        return "".join([*lines[:first], f"{begin}{value}{comment}", *lines[last + 1 :]])
    if place[:-1] in keys:
        header = keys[place[:-1]]
        return "".join([*lines[:header], f"{place[-1]} = {value}\n", *lines[header:]])
    return f"{text.rstrip()}\n\n[{_key(place[:-1])}]\n{place[-1]} = {value}\n"


def _assignment(line: str) -> tuple[str, str]:
    found = re.match(r"\s*[\w.\"'-]+\s*=\s*", line)
    begin = found[0] if found else ""
    return begin, line[len(begin) :]


def _end_of_value(lines: Sequence[str], first: int, rest: str) -> tuple[int, str]:
    """Return the line on which a value ends, and what follows the value there."""
    before = ""
    for number in range(first, len(lines)):
        line = rest if number == first else lines[number]
        for end in range(1, len(line) + 1):
            after = line[end:]
            if (not after.strip() or after.lstrip().startswith("#")) and _parses(
                before + line[:end].rstrip()
            ):
                return number, line[len(line[:end].rstrip()) :]
        before += line
    raise ConfigurationError(f"line {first + 1}: the value has no end.")


def _parses(value: str) -> bool:
    try:
        tomllib.loads(f"key = {value}")
    except tomllib.TOMLDecodeError:
        return False
    return True


def _at(data: Any, place: Place) -> Any:
    for part in place:
        data = data[part]
    return data


def _key(place: Place) -> str:
    return ".".join(str(part) for part in place)
