"""Formats of the stores, and rows that the release before can read.

A store has a stamp: the format of its rows, and the oldest format whose release reads them. A store without a
stamp has format 1. This release writes format 2: fields and values that a release of format 1 refuses stand
beside the row, in ``newer``, which that release does not look at. So tasks of both releases serve together
while a deployment replaces them, and the release before reads everything after a way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson
from pydantic import BaseModel

from assistant.domain.acts import StoredAct
from assistant.domain.answers import AccessEntry, AnswerRecord
from assistant.domain.errors import ConfigurationError
from assistant.domain.revisions import DeskItem, DeskKind


@dataclass(frozen=True, slots=True)
class StoreFormat:
    """The format of a store's rows."""

    number: int = 1
    readable_from: int = 1
    """The oldest format whose release reads the rows: down to it the way back stands."""


FIRST = StoreFormat()
"""Of a store without a stamp: the release before stamps wrote it."""
FORMATS: Mapping[str, StoreFormat] = {
    "records": StoreFormat(number=2),
    "desk": StoreFormat(number=2),
    "states": FIRST,
    "events": FIRST,
}
"""Store = the format that this release writes. Increase it when the release before cannot read a row."""


def format_of(store: str) -> StoreFormat:
    return FORMATS.get(store, FIRST)


def refuse_format(found: StoreFormat, *, store: str, place: str, command: str) -> None:
    """Raise ConfigurationError for a store that this release must not use. It changes nothing.

    ``command`` moves the store.
    """
    now = format_of(store).number
    if found.readable_from > now:
        raise ConfigurationError(
            f"{place} has format {found.number}, and this release reads format {now}. Use the release that "
            f"wrote it, or take the store back with that release: {command} --back."
        )


# Rows


@dataclass(frozen=True, slots=True)
class _Values:
    """Values of a field that format 1 does not know, and the nearest one that it does."""

    nearest: Mapping[str, str]


_Added = Mapping[str, "_Added | _Values | None"]
"""Field = what format 1 does not know of it: all of it (None, and its default is empty), some values, or
fields in it, in each element of a list, or in the JSON of a text."""
_CASE: _Added = {
    "same_hash": None,
    "joined": None,
    "reason": _Values({"review_due": "answer_suspended", "different_values": "unanswered"}),
}
_ADDED: Mapping[type, _Added] = {
    AnswerRecord: {
        **dict.fromkeys(
            (
                *("reading", "red_flags", "unchecked_language", "offered", "degraded", "loading", "variant"),
                "differing",
            )
        ),
        "sentences": dict.fromkeys(("detail", "values", "cited", "is_key", "quote")),
    },
    AccessEntry: {"kind": _Values({"release": "desk"}), "titles": None, "contents": None},
    StoredAct: {"act": {"kind": _Values({"offered_used": "possibly_taken"})}},
    DeskItem: {"body": _CASE},
}


def encode_row(row: BaseModel) -> tuple[str, str | None]:
    """Return the JSON of a row as format 1 has it, and the JSON of the rest, None without one."""
    added = _ADDED.get(type(row))
    if added is None or (isinstance(row, DeskItem) and row.kind is not DeskKind.CASE):
        return row.model_dump_json(), None
    values = row.model_dump(mode="json")
    newer = _take(values, added)
    return orjson.dumps(values).decode(), orjson.dumps(newer).decode() if newer else None


def join_row(body: str | bytes, newer: str | bytes | None = None) -> str | bytes:
    """Return the JSON of a row from what ``encode_row`` made of it."""
    return body if newer is None else orjson.dumps(_joined(orjson.loads(body), orjson.loads(newer)))


def stored_text(row: BaseModel) -> str:
    """Return the JSON of a row as it is read again."""
    return joined_text(*encode_row(row))


def joined_text(body: str, newer: str | None) -> str:
    text = join_row(body, newer)
    return text if isinstance(text, str) else text.decode()


def _take(values: dict[str, Any], added: _Added) -> dict[str, Any]:
    """Take what format 1 does not know out of the values, and return it."""
    newer: dict[str, Any] = {}
    for name, what in added.items():
        part: Any = None
        if what is None:
            part = values.pop(name, None)
        elif isinstance(what, _Values):
            if values.get(name) in what.nearest:
                part = values[name]
                values[name] = what.nearest[part]
        elif values.get(name):
            values[name], part = _take_inside(values[name], what)
        if part:
            newer[name] = part
    return newer


def _take_inside(value: Any, added: _Added) -> tuple[Any, Any]:
    """Return the value as format 1 has it, and the rest."""
    if isinstance(value, str):  # a repeated write compares the text: the rest is all of it
        inside = orjson.loads(value)
        _take(inside, added)
        return (value, None) if inside == orjson.loads(value) else (orjson.dumps(inside).decode(), value)
    if isinstance(value, list):
        elements = cast("list[dict[str, Any]]", value)
        taken = {str(place): _take(element, added) for place, element in enumerate(elements)}
        return elements, {place: newer for place, newer in taken.items() if newer}
    return value, _take(value, added)


def _joined(value: Any, newer: object) -> object:
    """Return the value with the rest that ``_take`` took out of it."""
    if value is None:
        return newer
    if not isinstance(newer, dict):
        return newer
    parts = cast("dict[str, Any]", newer)
    if isinstance(value, list):
        elements = cast("list[Any]", value)
        return [_joined(each, parts.get(str(place), {})) for place, each in enumerate(elements)]
    fields = cast("dict[str, Any]", value)
    rest = {name: _joined(fields.get(name), part) for name, part in parts.items()}
    return {**fields, **rest}
