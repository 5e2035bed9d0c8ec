"""Formats of the stores, and rows that the release before can read.

A store has a stamp: the format of its rows, and the oldest format whose release reads them. A store without a
stamp has format 1. This release writes format 2: fields and values that a release of format 1 refuses stand
beside the row, in ``newer``, which that release does not look at. So tasks of both releases serve together
while a deployment replaces them, and the release before reads everything after a way back.

The body of a row has any size, and an item at most 400 KB. So the item's attributes are one of::

    {"body": "{…}"}                       up to 32 KB of JSON
    {"packed": b"…"}                      JSON compressed by zlib, up to 350 KB
    {"parts": ["part#HASH#000", …]}       sort keys of further items, each with a ``piece`` of the packed JSON

each with ``newer`` beside it where the row has something that format 1 does not know. ``store_row`` writes a
row so, and ``bodies_of`` reads it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson
from pydantic import BaseModel

from assistant.domain.answers import AnswerRecord, StoredAct, StoredSent
from assistant.domain.audit import AccessEntry
from assistant.domain.desk import DeskItem, DeskKind
from assistant.domain.errors import ConfigurationError, RecordsUnavailableError
from assistant.stores.table import Item, Key, Table, key_of


@dataclass(frozen=True, slots=True)
class StoreFormat:
    """The format of a store's rows."""

    number: int = 1
    readable_from: int = 1
    """The oldest format whose release reads the rows: releases down to it can be restored."""


FIRST = StoreFormat()
"""The format of a store without a stamp: a release before stamps wrote it."""
FORMATS: Mapping[str, StoreFormat] = {
    "records": StoreFormat(number=2),
    "desk": StoreFormat(number=2),
    "states": FIRST,
    "events": FIRST,
}
"""By store, the format that this release writes. Increase it when the release before cannot read a row."""


def format_of(store: str) -> StoreFormat:
    """Return the format that this release writes; the first one for an option's store."""
    return FORMATS.get(store, FIRST)


def refuse_format(found: StoreFormat, *, store: str, place: str, command: str) -> None:
    """Raise ConfigurationError for a store of a newer release that this one cannot read. It changes nothing.

    ``found``: the store's stamp. ``place``: name of the table or file. ``command``: the command line that
    changes the store's format, for the message.
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
    """Values of a field that format 1 does not know, each with the nearest value that it knows."""

    nearest: Mapping[str, str]


_Added = Mapping[str, "_Added | _Values | None"]
"""By field, what format 1 does not know of it: None for the whole field, whose default must then be empty;
``_Values`` for some of its values; a mapping for fields inside it, in each element of a list, or in a text
that is JSON (then ``newer`` gets the whole text). For ``{"variant": None, "kind": _Values({"release":
"desk"}), "parts": {"cells": None}}`` the row

    {"id": "a", "variant": "b", "kind": "release", "parts": [{"n": 1}, {"n": 2, "cells": [3]}]}

is written as ``{"id": "a", "kind": "desk", "parts": [{"n": 1}, {"n": 2}]}``, and beside it, in ``newer``,
``{"variant": "b", "kind": "release", "parts": {"1": {"cells": [3]}}}``."""
# What format 1 does not know of each model: ``PublicModel`` refuses unknown fields, so a release of format 1
# could not read a row that has one.
_CASE: _Added = {
    "same_hash": None,
    "joined": None,
    "reason": _Values(
        {"review_due": "answer_suspended", **dict.fromkeys(("different_values", "emergency"), "unanswered")}
    ),
}
_ADDED: Mapping[type, _Added] = {
    AnswerRecord: {
        **dict.fromkeys(("reading", "red_flags", "unchecked_language", "offered", "degraded", "loading")),
        **dict.fromkeys(("variant", "differing", "context_id", "customer", "chat")),
        "sentences": dict.fromkeys(("detail", "values", "cited", "is_key", "quote", "cells")),
        "also": {"rows": None},
    },
    AccessEntry: {
        "kind": _Values({"release": "desk", "said": "answer"}),
        **dict.fromkeys(("titles", "contents", "rows")),
    },
    StoredSent: {"delivered_hash": None},
    StoredAct: {"act": {"kind": _Values({"offered_used": "possibly_taken"})}},
    DeskItem: {"body": _CASE},
}


def encode_row(row: BaseModel) -> tuple[str, str | None]:
    """Return the JSON of a row as format 1 has it, and the JSON of ``newer``; None where format 1 knows
    all."""
    added = _ADDED.get(type(row))
    if added is None or (isinstance(row, DeskItem) and row.kind is not DeskKind.CASE):
        return row.model_dump_json(), None
    values = row.model_dump(mode="json")
    newer = _take(values, added)
    return orjson.dumps(values).decode(), orjson.dumps(newer).decode() if newer else None


def join_row(body: str | bytes, newer: str | bytes | None = None) -> bytes:
    """Return the JSON of a row from what ``encode_row`` made of it."""
    if newer is not None:
        return orjson.dumps(_joined(orjson.loads(body), orjson.loads(newer)))
    return body.encode() if isinstance(body, str) else body


def stored_text(row: BaseModel) -> str:
    """Return the JSON of a row exactly as ``bodies_of`` will return it: hashes of audit records are over
    this."""
    return join_row(*encode_row(row)).decode()


def _take(values: dict[str, Any], added: _Added) -> dict[str, Any]:
    """Change ``values`` to what format 1 knows, and return what was taken out, as ``newer`` has it."""
    newer: dict[str, Any] = {}
    for name, unknown in added.items():
        taken: Any = None
        if unknown is None:
            taken = values.pop(name, None)
        elif isinstance(unknown, _Values):
            if values.get(name) in unknown.nearest:
                taken = values[name]
                values[name] = unknown.nearest[taken]
        elif values.get(name):
            values[name], taken = _take_inside(values[name], unknown)
        if taken:
            newer[name] = taken
    return newer


def _take_inside(value: Any, added: _Added) -> tuple[Any, Any]:
    """Return the value as format 1 has it, and what was taken out. Dicts and lists are changed in place."""
    if isinstance(value, str):  # a text must be read again byte for byte, so ``newer`` gets all of it
        inside = orjson.loads(value)
        _take(inside, added)
        return (value, None) if inside == orjson.loads(value) else (orjson.dumps(inside).decode(), value)
    if isinstance(value, list):
        elements = cast("list[dict[str, Any]]", value)
        taken = {str(place): _take(element, added) for place, element in enumerate(elements)}
        return elements, {place: newer for place, newer in taken.items() if newer}
    return value, _take(value, added)


def _joined(value: Any, newer: object) -> object:
    """Return the value with ``newer``, which ``_take`` took out of it, put back."""
    if value is None or not isinstance(newer, dict):
        return newer
    parts = cast("dict[str, Any]", newer)
    if isinstance(value, list):
        elements = cast("list[Any]", value)
        return [_joined(element, parts.get(str(place), {})) for place, element in enumerate(elements)]
    fields = cast("dict[str, Any]", value)
    added = {name: _joined(fields.get(name), part) for name, part in parts.items()}
    return {**fields, **added}


_COMPRESSED_ABOVE_BYTES = 32 * 1024
"""Below it, compressing costs more CPU than the saved write units are worth."""
_PART_BYTES = 350 * 1024
"""Leaves room for keys and attributes: an item of DynamoDB may have 400 KB (409,600 bytes), its names
included."""
_READS = 3
"""Attempts to read an item whose parts a rewrite overwrites meanwhile."""


@dataclass(frozen=True, slots=True)
class StoredBody:
    """How a row's body is stored; see the module's docstring."""

    attributes: dict[str, Any]
    """Attributes of the item itself: the body, or the sort keys of its parts."""
    parts: tuple[tuple[str, Item], ...] = ()
    """Sort key and attributes of further items of the same partition, to be written before the item."""


def store_text(text: str) -> StoredBody:
    """Return how a text is stored: a small one readable in the table, a larger one compressed or in parts."""
    body = text.encode()
    if len(body) <= _COMPRESSED_ABOVE_BYTES:
        return StoredBody({"body": text})
    return _compress(body)


def store_row(row: BaseModel) -> StoredBody:
    """Return how a row is stored, ``newer`` included."""
    text, newer = encode_row(row)
    body = store_text(text)
    if newer is None:
        return body
    content = newer.encode()
    packed = newer if len(content) <= _COMPRESSED_ABOVE_BYTES else zlib.compress(content)
    return replace(body, attributes=body.attributes | {"newer": packed})


def part_names(item: Item) -> Sequence[str]:
    """Return the sort keys of the items that hold the body's parts; none for a body in one piece."""
    return item.get("parts", ())


def load_body(item: Item, parts: Sequence[Item] = ()) -> bytes:
    """Return the JSON of an item's row; ``parts``: its items of ``part_names``, in that order."""
    body, newer = item.get("body"), item.get("newer")
    if body is None:
        pieces = [item["packed"]] if "packed" in item else [part["piece"] for part in parts]
        body = zlib.decompress(b"".join(pieces))
    return join_row(body, zlib.decompress(newer) if isinstance(newer, bytes) else newer)


class PartGoneError(RecordsUnavailableError):
    """A part of a stored body is missing."""


async def bodies_of(table: Table, items: Sequence[Item]) -> list[bytes]:
    """Return the JSON of the items' rows, in order; parts are fetched. An item whose parts were overwritten
    since it was read is read again. Raises RecordsUnavailableError; where a part stays missing
    PartGoneError."""
    for _ in range(_READS):
        keys: list[list[Key]] = [[(item["pk"], name) for name in part_names(item)] for item in items]
        wanted = [key for of_item in keys for key in of_item]
        parts = await table.get_many(wanted) if wanted else {}
        if all("piece" in parts.get(key, ()) for key in wanted):
            return [
                load_body(item, [parts[key] for key in of_item])
                for item, of_item in zip(items, keys, strict=True)
            ]
        anew = await table.get_many([key_of(item) for item in items if part_names(item)])
        items = [anew.get(key_of(item), item) for item in items]
    raise PartGoneError("A part of a stored body is missing.")


def _compress(body: bytes) -> StoredBody:
    """Return a compressed body, cut into parts where it is still too large. The parts' sort keys have the
    content's hash, so that a repeated write finds its own parts only."""
    packed = zlib.compress(body, level=1)
    if len(packed) <= _PART_BYTES:
        return StoredBody({"packed": packed})
    digest = hashlib.sha256(packed).hexdigest()
    pieces = [packed[start : start + _PART_BYTES] for start in range(0, len(packed), _PART_BYTES)]
    names = [f"part#{digest}#{number:03d}" for number in range(len(pieces))]
    parts = tuple((name, {"piece": piece}) for name, piece in zip(names, pieces, strict=True))
    return StoredBody({"parts": names}, parts)
