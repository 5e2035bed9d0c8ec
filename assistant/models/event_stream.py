"""Incremental parser for the bytes of SageMaker's event stream.

botocore decodes it, in 12 microseconds an event. A decoder of our own took 2: too small a gain to keep it
(docs/decisions/0011-lean-sagemaker-calls.md).
"""

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import struct
from typing import Any, cast

import orjson
from botocore.eventstream import EventStreamBuffer, ParserError

_LARGEST_MESSAGE_BYTES = 2 * 1024 * 1024
"""A SageMaker part has at most 1 MB."""
_CORRUPT = (ParserError, LookupError, ValueError, struct.error)
"""What botocore's decoder raises for bytes that are no event stream."""


class EventStreamParser:
    """Returns the payloads of whole ``PayloadPart`` events from bytes that are cut anywhere.

    After the first fault nothing more is decoded; payloads before it are still returned.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        """Why the stream ended early: kind and message of an exception inside it (``ModelStreamError …``), or
        ``corrupt …`` for bytes that are no valid framing."""
        self._messages: Any = EventStreamBuffer()
        self._pending_bytes = 0
        """Bytes since the last whole message."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that ``data`` completes, in order. Never raises: see ``fault``."""
        payloads: list[bytes] = []
        if self.fault is not None:
            return payloads
        self._messages.add_data(data)
        self._pending_bytes += len(data)
        try:
            for message in self._messages:
                self._pending_bytes = 0
                if message.headers.get(":message-type") != "event":
                    self.fault = _fault_of(message.headers, message.payload)
                    return payloads
                if message.headers.get(":event-type") == "PayloadPart":
                    payloads.append(message.payload)
        except _CORRUPT as error:
            self.fault = f"corrupt {type(error).__name__}"
        if self._pending_bytes > _LARGEST_MESSAGE_BYTES:
            self.fault = f"corrupt a message is over {_LARGEST_MESSAGE_BYTES} bytes"
        return payloads


def _fault_of(headers: dict[str, Any], payload: bytes) -> str:
    kind = str(headers.get(":exception-type") or headers.get(":error-code") or "unknown")
    message = str(headers.get(":error-message", ""))
    try:
        fault: object = orjson.loads(payload)
    except orjson.JSONDecodeError:
        fault = None
    if isinstance(fault, dict):
        fields = cast("dict[str, object]", fault)
        parts = [str(fields[name]) for name in ("ErrorCode", "Message") if fields.get(name)]
        message = ": ".join(parts) or message
    return f"{kind} {message}".strip()
