"""Encoding of ``application/vnd.amazon.eventstream``, the framing of streamed SageMaker responses.

A message is: total length (4 bytes, big-endian), length of headers (4), CRC-32 of these 8 bytes (4), headers,
payload, CRC-32 of everything before (4). A header is: length of name (1), name, type (1; 7 is a string),
length of value (2), value.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from zlib import crc32

import orjson

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7
_OVERHEAD_BYTES = 16


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one framed message."""
    head = b"".join(_encode_header(name, value) for name, value in headers.items())
    prelude = struct.pack("!II", _OVERHEAD_BYTES + len(head) + len(payload), len(head))
    message = b"".join((prelude, struct.pack("!I", crc32(prelude)), head, payload))
    return message + struct.pack("!I", crc32(message))


def payload_part(payload: bytes) -> bytes:
    """Return a ``PayloadPart`` event: a piece of the container's response."""
    return encode_message(_PAYLOAD_PART, payload)


def stream_exception(kind: str, message: str, *, error_code: str | None = None) -> bytes:
    """Return an exception inside the stream: ``ModelStreamError`` or ``InternalStreamFailure``."""
    headers = {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}
    found = {"Message": message} if error_code is None else {"Message": message, "ErrorCode": error_code}
    return encode_message(headers, orjson.dumps(found))


_PAYLOAD_PART = {
    ":message-type": "event",
    ":event-type": "PayloadPart",
    ":content-type": "application/octet-stream",
}


def _encode_header(name: str, value: str) -> bytes:
    encoded_name, encoded_value = name.encode(), value.encode()
    return b"".join(
        (
            struct.pack("!B", len(encoded_name)),
            encoded_name,
            struct.pack("!BH", _STRING, len(encoded_value)),
            encoded_value,
        )
    )
