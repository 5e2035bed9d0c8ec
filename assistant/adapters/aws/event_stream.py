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
            while (end := _message_end(buffer, position)) is not None:
                payload = self._decode(buffer, start=position, end=end)
                if payload is not None:
                    payloads.append(payload)
                position = end
                if self.fault is not None:
                    break
        except _CorruptError as error:
            self.fault = StreamFault("corrupt", str(error))
        self._rest = buffer[position:] if self.fault is None else b""
        return payloads

    def _decode(self, buffer: bytes, *, start: int, end: int) -> bytes | None:
        """Return a payload part's bytes, None for any other event; an exception message sets the fault."""
        (crc,) = struct.unpack_from("!I", buffer, end - _CRC_BYTES)
        if crc32(memoryview(buffer)[start : end - _CRC_BYTES]) != crc:
            raise _CorruptError("a message's checksum is wrong")
        (header_bytes,) = struct.unpack_from("!I", buffer, start + 4)
        body = start + _PRELUDE.size + header_bytes
        if body > end - _CRC_BYTES:
            raise _CorruptError("a message's headers are longer than the message")
        headers = buffer[start + _PRELUDE.size : body]
        payload = buffer[body : end - _CRC_BYTES]
        if headers != self._known_headers:  # parts follow each other with the same headers
            found = _decode_headers(headers)
            if found.get(":message-type") != "event":
                self.fault = _described(found, payload)
                return None
            self._known_headers, self._known_event = headers, found.get(":event-type", "")
        return payload if self._known_event == "PayloadPart" else None


class _CorruptError(Exception):
    """The bytes are no event stream."""


def _message_end(buffer: bytes, start: int) -> int | None:
    """Return where the message ends, None while it is not whole."""
    if len(buffer) - start < _PRELUDE.size:
        return None
    total, _, crc = _PRELUDE.unpack_from(buffer, start)
    if crc32(buffer[start : start + 8]) != crc:
        raise _CorruptError("a prelude's checksum is wrong")
    if not _SMALLEST_MESSAGE_BYTES <= total <= _LARGEST_MESSAGE_BYTES:
        raise _CorruptError(f"a message claims {total} bytes")
    return start + total if len(buffer) - start >= total else None


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
