"""Bodies of any size in items of at most 400 KB: plain while small, else compressed, else in parts."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from assistant.domain.errors import RecordsUnavailableError
from assistant.stores.formats import encode_row, join_row
from assistant.stores.table import Item, Key, Table

_COMPRESSED_ABOVE_BYTES = 32 * 1024
"""Below it, compressing costs more CPU than the saved write units are worth."""
_PART_BYTES = 350 * 1024
"""Leaves room for keys and attributes: an item of DynamoDB may have 400 KB (409,600 bytes), its names
included."""


@dataclass(frozen=True, slots=True)
class StoredBody:
    attributes: dict[str, Any]
    """Of the item itself: the body, or the sort keys of its parts."""
    parts: tuple[tuple[str, Item], ...] = ()
    """Sort key and attributes of further items of the same partition, to be written before the item."""


def store_text(text: str) -> StoredBody:
    """Keep a small text readable in the table."""
    body = text.encode()
    if len(body) <= _COMPRESSED_ABOVE_BYTES:
        return StoredBody({"body": text})
    return _compress(body)


def store_row(row: BaseModel) -> StoredBody:
    """Keep a row as ``store_formats`` writes it."""
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
    """Return the body of an item; ``parts`` in the order of ``part_names``."""
    newer = item.get("newer")
    joined = join_row(_load_body(item, parts), zlib.decompress(newer) if isinstance(newer, bytes) else newer)
    return joined.encode() if isinstance(joined, str) else joined


async def bodies_of(table: Table, items: Sequence[Item]) -> list[bytes]:
    """Return the bodies of items of a table; parts are fetched."""
    keys: list[list[Key]] = [[(item["pk"], name) for name in part_names(item)] for item in items]
    wanted = [key for of_item in keys for key in of_item]
    parts = await table.get_many(wanted) if wanted else {}
    try:
        return [
            load_body(item, [parts[key] for key in of_item])
            for item, of_item in zip(items, keys, strict=True)
        ]
    except KeyError:
        raise RecordsUnavailableError("A part of a stored body is missing.") from None


def _load_body(item: Item, parts: Sequence[Item]) -> bytes:
    if "body" in item:
        return item["body"].encode()
    pieces = [item["packed"]] if "packed" in item else [part["piece"] for part in parts]
    return zlib.decompress(b"".join(pieces))


def _compress(body: bytes) -> StoredBody:
    """Compress, and cut what is still too large. The parts' sort keys hold the content's hash, so that a
    repeated write never meets other content."""
    packed = zlib.compress(body, level=1)
    if len(packed) <= _PART_BYTES:
        return StoredBody({"packed": packed})
    digest = hashlib.sha256(packed).hexdigest()
    pieces = [packed[start : start + _PART_BYTES] for start in range(0, len(packed), _PART_BYTES)]
    names = [f"part#{digest}#{number:03d}" for number in range(len(pieces))]
    parts = tuple((name, {"piece": piece}) for name, piece in zip(names, pieces, strict=True))
    return StoredBody({"parts": names}, parts)
