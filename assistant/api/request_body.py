"""Reading a JSON body within bounds of size and time, straight from ASGI."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope

from assistant.api.problems import invalid_request
from assistant.domain.errors import TooLargeError, UnreadableRequestError

BODY_LIMIT_BYTES = 64 * 1024
CHAT_LIMIT_BYTES = 256 * 1024
"""Chat clients send all that was said before, every time; only the questions are read."""
DOCUMENT_LIMIT_BYTES = 16 * 1024 * 1024
"""A canonical document: 5 million characters of content, escaped."""
_READ_TIMEOUT_S = 30.0
_DISCARD_LIMIT_BYTES = 1024 * 1024
_DISCARD_TIMEOUT_S = 2.0

Model = TypeVar("Model", bound=BaseModel)


class ClientGoneError(Exception):
    """The client left before its request was complete: nobody is there to answer."""


async def read_body(scope: Scope, receive: Receive, *, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """Return the body. Holds ``limit_bytes`` and one network read at most.

    Raises TooLargeError, UnreadableRequestError (it did not come within 30 s), ClientGoneError.
    """
    announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    is_too_large = announced.isdigit() and int(announced) > limit_bytes
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            body = None if is_too_large else await _collect(receive, limit_bytes=limit_bytes)
    except TimeoutError:
        raise UnreadableRequestError(f"The body did not come within {_READ_TIMEOUT_S:.0f} s.") from None
    if body is None:
        await _discard(receive)
        raise TooLargeError(f"The body is over {limit_bytes // 1024} KiB; send less.")
    return body


def parse_body(body: bytes, model: type[Model]) -> Model:
    """Return the body as ``model``. Raises UnreadableRequestError (not UTF-8 JSON, nested too deep),
    TooLargeError (a text over its limit), InvalidRequestError (anything else the schema forbids)."""
    try:
        # as the API's document says: no "5" for a number, no 0 for a date
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            raise UnreadableRequestError("The body is not valid JSON in UTF-8.") from None
        raise invalid_request(error) from None


async def _collect(receive: Receive, *, limit_bytes: int) -> bytes | None:
    """Return the body, or None as soon as it is over the limit."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _discard(receive: Receive) -> None:
    """Throw the rest away, 1 MiB at most: a client that is closed on while it sends may miss the answer."""
    seen_bytes = 0
    try:
        async with asyncio.timeout(_DISCARD_TIMEOUT_S):
            while seen_bytes < _DISCARD_LIMIT_BYTES:
                message = await receive()
                seen_bytes += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
