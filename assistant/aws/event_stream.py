"""Incremental decoding of ``application/vnd.amazon.eventstream`` as SageMaker streams a response in it.

botocore's own decoder takes ten times as long an event. Framing: total length, length of headers, CRC-32 of
these 8 bytes (4 bytes each, big-endian), headers, payload, CRC-32 of all before.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import cast
from zlib import crc32

import orjson

_PRELUDE = struct.Struct("!III")
_CHECKED_PRELUDE_BYTES = 8
_CRC = struct.Struct("!I")
_CRC_BYTES = 4
_SMALLEST_MESSAGE_BYTES = _PRELUDE.size + _CRC_BYTES
_LARGEST_MESSAGE_BYTES = 2 * 1024 * 1024
"""A SageMaker part has at most 1 MB."""
_STRING = 7
_FIXED_VALUE_BYTES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Length of a header's value by its type, where the type fixes it; types 6 and 7 carry their length."""


@dataclass(frozen=True, slots=True)
class StreamFault:
    """Why a stream is over before its end: an exception message inside it, or bytes that are no framing."""

    kind: str
    """``ModelStreamError``, ``InternalStreamFailure``, … or ``corrupt``."""
    message: str


class EventStreamParser:
    """Takes bytes as they come, gives the payloads of whole ``PayloadPart`` events.

    After the first fault nothing more is decoded; payloads before it are still given.
    """

    def __init__(self) -> None:
        self.fault: StreamFault | None = None
        self._rest = b""
        self._known_headers = b""
        self._known_event = ""

    @property
    def pending_bytes(self) -> int:
        """Bytes of a message whose end has not come."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that ``data`` completes, in order. Never raises: see ``fault``."""
        payloads: list[bytes] = []
        if self.fault is not None:
            return payloads
        buffer = self._rest + data if self._rest else data
        position = 0
        try:
            while (message := _message(buffer, position)) is not None:
                body, crc_start = message
                headers = buffer[position + _PRELUDE.size : body]
                payload = buffer[body:crc_start]
                position = crc_start + _CRC_BYTES
                if headers == self._known_headers or self._is_event(headers, payload):
                    if self._known_event == "PayloadPart":
                        payloads.append(payload)
                else:
                    break
        except _CorruptError as error:
            self.fault = StreamFault("corrupt", str(error))
        self._rest = buffer[position:] if self.fault is None else b""
        return payloads

    def _is_event(self, headers: bytes, payload: bytes) -> bool:
        """Read headers, which parts that follow each other have in common; any exception is the fault."""
        found = _decode_headers(headers)
        if found.get(":message-type") != "event":
            self.fault = _described(found, payload)
            return False
        self._known_headers, self._known_event = headers, found.get(":event-type", "")
        return True


class _CorruptError(Exception):
    """The bytes are no event stream."""


def _message(buffer: bytes, start: int) -> tuple[int, int] | None:
    """Return where the payload of the message at ``start`` begins and ends, None while it is not whole."""
    come = len(buffer) - start
    if come < _PRELUDE.size:
        return None
    total, header_bytes, prelude_crc = _PRELUDE.unpack_from(buffer, start)
    checked = start + _CHECKED_PRELUDE_BYTES
    crc = crc32(buffer[start:checked])
    if crc != prelude_crc:
        raise _CorruptError("a prelude's checksum is wrong")
    if not _SMALLEST_MESSAGE_BYTES <= total <= _LARGEST_MESSAGE_BYTES:
        raise _CorruptError(f"a message claims {total} bytes")
    if come < total:
        return None
    crc_start = start + total - _CRC_BYTES
    if crc32(buffer[checked:crc_start], crc) != _CRC.unpack_from(buffer, crc_start)[0]:
        raise _CorruptError("a message's checksum is wrong")
    body = start + _PRELUDE.size + header_bytes
    if body > crc_start:
        raise _CorruptError("a message's headers are longer than the message")
    return body, crc_start


def _decode_headers(data: bytes) -> dict[str, str]:
    """Return the headers whose value is a string."""
    headers: dict[str, str] = {}
    position = 0
    try:
        while position < len(data):
            name_end = position + 1 + data[position]
            name, kind = data[position + 1 : name_end].decode(), data[name_end]
            if (fixed := _FIXED_VALUE_BYTES.get(kind)) is not None:
                position = name_end + 1 + fixed
                continue
            (length,) = struct.unpack_from("!H", data, name_end + 1)
            position = name_end + 3 + length
            if kind == _STRING:
                headers[name] = data[name_end + 3 : position].decode()
    except (IndexError, struct.error, UnicodeDecodeError):
        raise _CorruptError("a message's headers are not readable") from None
    if position != len(data):
        raise _CorruptError("a message's headers are cut off")
    return headers


def _described(headers: dict[str, str], payload: bytes) -> StreamFault:
    kind = headers.get(":exception-type") or headers.get(":error-code") or "unknown"
    message = headers.get(":error-message", "")
    try:
        found: object = orjson.loads(payload)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        fields = cast("dict[str, object]", found)
        parts = [str(fields[name]) for name in ("ErrorCode", "Message") if fields.get(name)]
        message = ": ".join(parts) or message
    return StreamFault(kind, message)
