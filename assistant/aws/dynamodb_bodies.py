"""Bodies of any size in items of at most 400 KB: plain while small, packed when large, in parts when huge."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assistant.aws.dynamodb_calls import Item

_PACKED_ABOVE_BYTES = 32 * 1024
"""Below it packing costs more CPU than the write units it saves are worth."""
_PART_BYTES = 350 * 1024
"""Leaves room for keys and attributes: an item may have 400 KB (409,600 bytes), its names included."""


@dataclass(frozen=True, slots=True)
class StoredBody:
    attributes: Item
    """For the item itself: the body, or the names of its parts."""
    parts: tuple[tuple[str, Item], ...] = ()
    """Sort key and attributes of further items of the same partition, to be written before the item."""


def store_text(text: str) -> StoredBody:
    """Keep a text; while it is small it can be read in the table as it is."""
    body = text.encode()
    if len(body) <= _PACKED_ABOVE_BYTES:
        return StoredBody({"body": {"S": text}})
    return _pack(body)


def store_bytes(body: bytes) -> StoredBody:
    """Keep bytes."""
    if len(body) <= _PACKED_ABOVE_BYTES:
        return StoredBody({"body": _binary(body)})
    return _pack(body)


def part_names(item: Item) -> list[str]:
    """Return the sort keys of the items that hold the body's parts; none for a body in one piece."""
    listed: list[dict[str, Any]] = item["parts"]["L"] if "parts" in item else []
    return [str(name["S"]) for name in listed]


def load_body(item: Item, parts: Sequence[Item] = ()) -> bytes:
    """Return the body of an item; ``parts`` in the order of ``part_names``."""
    if "body" in item:
        body = item["body"]
        return str(body["S"]).encode() if "S" in body else base64.b64decode(body["B"])
    pieces = [item["packed"]] if "packed" in item else [part["piece"] for part in parts]
    return zlib.decompress(b"".join(base64.b64decode(piece["B"]) for piece in pieces))


def _pack(body: bytes) -> StoredBody:
    """Compress, and cut what is still too large. The parts' names hold the content's hash, so that they
    can be written again but never meet other content."""
    packed = zlib.compress(body, level=1)
    if len(packed) <= _PART_BYTES:
        return StoredBody({"packed": _binary(packed)})
    digest = hashlib.sha256(packed).hexdigest()
    pieces = [packed[start : start + _PART_BYTES] for start in range(0, len(packed), _PART_BYTES)]
    names = [f"part#{digest}#{number:03d}" for number in range(len(pieces))]
    return StoredBody(
        {"parts": {"L": [{"S": name} for name in names]}},
        tuple((name, {"piece": _binary(piece)}) for name, piece in zip(names, pieces, strict=True)),
    )


def _binary(content: bytes) -> dict[str, Any]:
    return {"B": base64.b64encode(content).decode()}
