"""The SageMaker Runtime protocol in front of real model servers: framing, errors, and a caller who leaves.

It serves tests whose models answer. Callers that misbehave, and endpoints that do, are those of
``sagemaker_socket`` and ``scripted_http``.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from zlib import crc32

import aiohttp
import orjson
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from assistant.models.sagemaker import VARIANT_HEADER
from assistant.process.http import read_body, send_response, while_connected
from assistant.tenant.deployed_names import SERVED_VARIANT
from tests.fakes.asgi_server import asgi_server

_MAX_BODY_BYTES = 6 * 1024 * 1024
"""The real service's limit of a request."""
_INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"

# The framing of streamed responses. A message is: total length (4 bytes, big-endian), length of headers (4),
# CRC-32 of these 8 bytes (4), headers, payload, CRC-32 of everything before (4). A header is: length of
# name (1), name, type (1; 7 is a string), length of value (2), value.

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7
_OVERHEAD_BYTES = 16
_PAYLOAD_PART = {
    ":message-type": "event",
    ":event-type": "PayloadPart",
    ":content-type": "application/octet-stream",
}


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one framed message."""
    head = b"".join(_encode_header(name.encode(), value.encode()) for name, value in headers.items())
    prelude = struct.pack("!II", _OVERHEAD_BYTES + len(head) + len(payload), len(head))
    message = b"".join((prelude, struct.pack("!I", crc32(prelude)), head, payload))
    return message + struct.pack("!I", crc32(message))


def _encode_header(name: bytes, value: bytes) -> bytes:
    return struct.pack("!B", len(name)) + name + struct.pack("!BH", _STRING, len(value)) + value


def payload_part(payload: bytes) -> bytes:
    """Return a ``PayloadPart`` event: a piece of the container's response."""
    return encode_message(_PAYLOAD_PART, payload)


def stream_exception(kind: str, message: str, *, error_code: str | None = None) -> bytes:
    """Return an exception inside the stream: ``ModelStreamError`` or ``InternalStreamFailure``."""
    headers = {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}
    fields = {"Message": message} | ({} if error_code is None else {"ErrorCode": error_code})
    return encode_message(headers, orjson.dumps(fields))


@asynccontextmanager
async def sagemaker_gateway(endpoints: Mapping[str, str]) -> AsyncGenerator[str]:
    """Serve until the context is left; gives the base URL.

    ``endpoints``: endpoint name → base URL of its container.
    """
    connector = aiohttp.TCPConnector(limit=0, force_close=True)  # the containers limit their own load
    async with (
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as connections,
        asgi_server(Gateway(connections, endpoints)) as url,
    ):
        yield url


@dataclass(frozen=True, slots=True)
class Gateway:
    """The ASGI application."""

    _connections: aiohttp.ClientSession
    _endpoints: Mapping[str, str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive, limit_bytes=_MAX_BODY_BYTES)
        if body is not None:
            await while_connected(self._invoke(scope, body, send), receive)

    async def _invoke(self, scope: Scope, body: bytes, send: Send) -> None:
        _, _, endpoint, operation = scope["path"].split("/")
        given = Headers(scope=scope)
        passed_on = {
            name: given[name] for name in (_INFERENCE_ID, _ATTRIBUTES, "Content-Type") if name in given
        }
        url = f"{self._endpoints[endpoint].rstrip('/')}/invocations"
        # On leaving, the container's connection is closed at once: it then stops generating.
        async with self._connections.post(url, data=body, headers=passed_on) as response:
            if response.status != 200:
                await send_response(_model_error(response.status, await response.text()), send)
                return
            answer = {
                VARIANT_HEADER: SERVED_VARIANT,
                **{name: response.headers[name] for name in (_ATTRIBUTES,) if name in response.headers},
                **{name: passed_on[name] for name in (_INFERENCE_ID,) if name in passed_on},
            }
            kind = response.headers.get("Content-Type", "application/octet-stream")
            if operation == "invocations":
                answer["Content-Type"] = kind
                await send_response(Response(await response.read(), headers=answer), send)
                return
            answer |= {"X-Amzn-SageMaker-Content-Type": kind, "Content-Type": CONTENT_TYPE}
            await send_response(StreamingResponse(_frames(response), headers=answer), send)


def _model_error(status: int, original: str) -> Response:
    """Return a container's error as AWS wraps it."""
    side = "client" if 400 <= status < 500 else "server"
    fields = {
        "Message": f'Received {side} error ({status}) from primary with message "{original}".',
        "OriginalStatusCode": status,
        "OriginalMessage": original,
    }
    return Response(orjson.dumps(fields), 424, {"x-amzn-ErrorType": "ModelError"}, "application/json")


async def _frames(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """Yield the frames of a stream, and last, where it broke off, why."""
    try:
        async for piece in response.content.iter_any():
            yield payload_part(piece)
    except aiohttp.ClientError:
        message = "The container closed its stream early."
        yield stream_exception("ModelStreamError", message, error_code="StreamBroken")
