"""Reading a JSON body within bounds of size and time, straight from ASGI."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope

from assistant.domain.errors import TooLargeError, UnreadableRequestError
from assistant.service.problems import invalid_request

BODY_LIMIT_BYTES = 64 * 1024
DOCUMENT_LIMIT_BYTES = 16 * 1024 * 1024
"""A canonical document: 5 million characters of content, escaped."""
_READ_TIMEOUT_S = 30.0

Model = TypeVar("Model", bound=BaseModel)


class ClientGoneError(Exception):
    """The client left before its request was complete: nobody is there to answer."""


async def read_body(scope: Scope, receive: Receive, *, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """Return the body. Holds ``limit_bytes`` and one network read at most.

    Raises TooLargeError, UnreadableRequestError (it did not come within 30 s), ClientGoneError.
    """
    announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise _too_large(limit_bytes)
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            return await _collect(receive, limit_bytes=limit_bytes)
    except TimeoutError:
        raise UnreadableRequestError(f"The body did not come within {_READ_TIMEOUT_S:.0f} s.") from None


def parse_body(body: bytes, model: type[Model]) -> Model:
    """Return the body as ``model``. Raises UnreadableRequestError (not UTF-8 JSON, nested too deep),
    TooLargeError (a text over its limit), InvalidRequestError (anything else the schema forbids)."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            raise UnreadableRequestError("The body is not valid JSON in UTF-8.") from None
        raise invalid_request(error) from None


async def _collect(receive: Receive, *, limit_bytes: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(limit_bytes: int) -> TooLargeError:
    return TooLargeError(f"The body is over {limit_bytes // 1024} KiB; send less.")
