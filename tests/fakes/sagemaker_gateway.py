"""The SageMaker Runtime protocol in front of model containers: signatures, framing, errors."""

from __future__ import annotations

import asyncio
import random
import re
import struct
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote
from zlib import crc32

import aiohttp
import orjson
import structlog
from pydantic import TypeAdapter
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from assistant.domain.errors import TooLargeError
from assistant.models.sagemaker import VARIANT_HEADER
from assistant.process.http import read_body, send_response, while_connected
from assistant.tenant.deployed_names import SERVED_VARIANT
from tests.fakes.asgi_server import asgi_server

_MAX_BODY_BYTES = 6 * 1024 * 1024
_MAX_ANSWER_BYTES = 25_000_000
"""The real service's limit of a response; of a stream too, which has no end of its own here."""
_MAX_ERROR_BYTES = 64 * 1024
_CONNECT_TIMEOUT_S = 2.0
_RESPONSE_TIMEOUT_S = 60.0
"""The real service's limits: 60 s until a response begins and between its parts; 8 minutes for a stream."""
_STREAM_TIMEOUT_S = 480.0
_TIMEOUT = aiohttp.ClientTimeout(
    total=_STREAM_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_RESPONSE_TIMEOUT_S
)
_SHUTDOWN_TIMEOUT_S = 1.0
_MAX_ORIGINAL_MESSAGE = 1024
"""Characters. AWS documents no limit; this one shortens a container's HTML page."""
_ACCOUNT = "000000000000"
_log = structlog.get_logger(__name__)
_ENDPOINTS = TypeAdapter(dict[str, str])


class AwsError(Exception):
    """An error of the SageMaker Runtime: its name in the service's model, status and fields."""

    def __init__(self, kind: str, status: int, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.fields = {"Message": message, **fields}

    def response(self, *, request_id: str) -> Response:
        """Return the error as AWS sends it: a JSON body and the header ``x-amzn-ErrorType``."""
        headers = {"x-amzn-ErrorType": self.kind, "x-amzn-RequestId": request_id}
        return Response(orjson.dumps(self.fields), self.status, headers, "application/json")


def _validation_error(message: str) -> AwsError:
    return AwsError("ValidationError", 400, message)


def _internal_failure() -> AwsError:
    return AwsError("InternalFailure", 500, "The gateway failed on this request.")


def _model_error(status: int, body: bytes) -> AwsError:
    """Return the error for a container's response (``status`` 0: it did not answer in time)."""
    original = body.decode(errors="replace")[:_MAX_ORIGINAL_MESSAGE]
    side = "client" if 400 <= status < 500 else "server"
    return AwsError(
        "ModelError",
        424,
        f'Received {side} error ({status}) from primary with message "{original}".',
        OriginalStatusCode=status,
        OriginalMessage=original,
        ErrorCode="CLIENT_ERROR_FROM_MODEL" if side == "client" else "INTERNAL_FAILURE_FROM_MODEL",
        LogStreamArn="",
    )


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


class ResponseCutter:
    """Cuts a container's response into parts anywhere, as the real service does, but repeatable by a seed."""

    _MAX_PARTS = 3

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 : test data, not a secret

    def cut(self, piece: bytes) -> Iterator[bytes]:
        """Yield the piece in one to three parts, none empty; a cut may be inside a UTF-8 character."""
        count = min(self._random.randint(0, self._MAX_PARTS - 1), len(piece) - 1)
        positions = sorted(self._random.sample(range(1, len(piece)), count)) if count > 0 else []
        for start, end in zip([0, *positions], [*positions, len(piece)], strict=True):
            yield piece[start:end]


_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^,/]+)/[^,]+/sagemaker/aws4_request, ?"
    r"SignedHeaders=[^,]+, ?Signature=[0-9a-f]{64}"
)


def require_signature(headers: Mapping[str, str]) -> None:
    """Raise AwsError 403 unless the request has the form of a Signature Version 4 for SageMaker."""
    if "authorization" not in headers:
        raise AwsError("MissingAuthenticationTokenException", 403, "Missing Authentication Token")
    if not _AUTHORIZATION.fullmatch(headers["authorization"]):
        message = "The Authorization header is not a Signature Version 4 for sagemaker."
        raise AwsError("IncompleteSignatureException", 403, message)


_PATH = re.compile(r"/endpoints/(?P<endpoint>[^/]+)/(?P<operation>invocations|invocations-response-stream)")
_ENDPOINT_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_PREFIX = "x-amzn-sagemaker-"
_INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
_SUPPORTED = {
    f"{_PREFIX}{field}" for field in ("custom-attributes", "inference-id", "accept", "content-type")
}


@dataclass(frozen=True, slots=True)
class Invocation:
    """One request to the SageMaker Runtime."""

    endpoint: str
    streamed: bool
    headers: dict[str, str]
    """Of the request to the container."""


def read_invocation(method: str, path: str, headers: Mapping[str, str]) -> Invocation:
    """Read path and headers. Raises AwsError, also for what only the real service supports."""
    match = _PATH.fullmatch(path)
    if match is None or method != "POST":
        raise AwsError("UnknownOperationException", 404, "There is no such operation.")
    endpoint = unquote(match["endpoint"])
    if not _ENDPOINT_NAME.fullmatch(endpoint):
        raise _validation_error("EndpointName must be 1 to 63 letters, digits and single hyphens.")
    if unknown := [name for name in headers if name.startswith(_PREFIX) and name not in _SUPPORTED]:
        raise _validation_error(f"{unknown[0]} is not supported by this local endpoint.")
    streamed = match["operation"] == "invocations-response-stream"
    passed_on = {
        "Content-Type": headers.get("content-type", "application/octet-stream"),
        "Accept": headers.get(_PREFIX + "accept" if streamed else "accept"),
        "X-Amzn-SageMaker-Custom-Attributes": headers.get(_PREFIX + "custom-attributes"),
        _INFERENCE_ID: headers.get(_PREFIX + "inference-id"),
    }
    return Invocation(
        endpoint, streamed, {name: value for name, value in passed_on.items() if value is not None}
    )


@asynccontextmanager
async def sagemaker_gateway(endpoints: Mapping[str, str], *, cut_seed: int = 0) -> AsyncGenerator[str]:
    """Serve until the context is left; gives the base URL.

    ``endpoints``: endpoint name → base URL of its container. ``cut_seed`` decides where parts of a response
    are split.
    """
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the containers limit their own load
            timeout=_TIMEOUT,
            auto_decompress=False,
        ) as connections,
        asgi_server(Gateway(connections, endpoints, cut_seed)) as url,
    ):
        yield url


@dataclass(frozen=True, slots=True)
class Gateway:
    """The ASGI application."""

    _connections: aiohttp.ClientSession
    _endpoints: Mapping[str, str]
    _cut_seed: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["method"], scope["path"]) == ("GET", "/ping"):
            await Response()(scope, receive, send)
            return
        request_id = str(uuid.uuid4())
        try:
            await self._answer(scope, receive, send, request_id=request_id)
        except TooLargeError as error:
            failure = AwsError("RequestEntityTooLargeException", 413, error.message)
        except AwsError as error:
            failure = error
        except Exception:
            _log.exception("gateway_failed")
            failure = _internal_failure()
        else:
            return
        await send_response(failure.response(request_id=request_id), send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, *, request_id: str) -> None:
        headers = Headers(scope=scope)
        require_signature(headers)
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        invocation = read_invocation(scope["method"], path, headers)
        if invocation.endpoint not in self._endpoints:
            raise _validation_error(f"Endpoint {invocation.endpoint} of account {_ACCOUNT} not found.")
        body = await read_body(receive, limit_bytes=_MAX_BODY_BYTES)
        if body is not None:
            work = self._invoke(invocation, body=body, send=send, request_id=request_id)
            await while_connected(work, receive)

    async def _invoke(self, invocation: Invocation, *, body: bytes, send: Send, request_id: str) -> None:
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._post(invocation, body=body)
            answer = await self._relayed(response, invocation)
            answer.headers["x-amzn-RequestId"] = request_id
            await send_response(answer, send)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            message = f"The container of endpoint {invocation.endpoint} is unavailable."
            raise AwsError("ServiceUnavailable", 503, message) from None
        except TimeoutError:
            raise _model_error(0, b"Your invocation timed out while waiting for a response.") from None
        except aiohttp.ClientError:
            raise _internal_failure() from None
        finally:
            if response is not None and not response.content.at_eof():
                response.close()  # at once: the container then stops generating

    async def _relayed(self, response: aiohttp.ClientResponse, invocation: Invocation) -> Response:
        """Return a container's response as AWS gives it."""
        pieces = _bounded(response, most_bytes=_MAX_ANSWER_BYTES)
        if response.status != 200:
            error = [piece async for piece in _bounded(response, most_bytes=_MAX_ERROR_BYTES, cuts=True)]
            raise _model_error(response.status, b"".join(error))
        headers = _result_headers(response, invocation)
        if not invocation.streamed:
            async with asyncio.timeout(_RESPONSE_TIMEOUT_S):
                return Response(b"".join([piece async for piece in pieces]), headers=headers)
        if (content_type := headers.pop("Content-Type", None)) is not None:
            headers["X-Amzn-SageMaker-Content-Type"] = content_type
        cutter = ResponseCutter(self._cut_seed)
        parts = (payload_part(part) async for piece in pieces for part in cutter.cut(piece))
        return StreamingResponse(_to_the_end(parts), headers=headers | {"Content-Type": CONTENT_TYPE})

    async def _post(self, invocation: Invocation, *, body: bytes) -> aiohttp.ClientResponse:
        """Return the response when its head has arrived. Raises aiohttp.ClientError."""
        url = self._endpoints[invocation.endpoint].rstrip("/") + "/invocations"
        post = partial(
            self._connections.post, url, data=body, headers=invocation.headers, allow_redirects=False
        )
        try:
            return await post()
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # uvicorn and llama.cpp close an idle connection after 5 s, perhaps just as this request goes.
            return await post()


async def _bounded(
    response: aiohttp.ClientResponse, *, most_bytes: int, cuts: bool = False
) -> AsyncGenerator[bytes]:
    """Yield the pieces of a body. One over the limit is cut off, or raises AwsError."""
    left_bytes = most_bytes
    async for piece in response.content.iter_any():
        if len(piece) > left_bytes and not cuts:
            raise _model_error(response.status, f"The response is over {most_bytes:,} bytes.".encode())
        yield piece[:left_bytes]
        left_bytes -= len(piece)
        if left_bytes <= 0 and cuts:
            return


async def _to_the_end(frames: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the frames of a stream, and last, where it broke off, why."""
    try:
        async for frame in frames:
            yield frame
    except TimeoutError:
        message, code = "The container stopped sending.", "ModelInvocationTimeExceeded"
        yield stream_exception("ModelStreamError", message, error_code=code)
    except aiohttp.ClientError:
        message = "The container closed its stream early."
        yield stream_exception("ModelStreamError", message, error_code="StreamBroken")
    except AwsError as error:
        message, code = str(error.fields["OriginalMessage"]), str(error.fields["ErrorCode"])
        yield stream_exception("ModelStreamError", message, error_code=code)
    except Exception:
        _log.exception("gateway_failed")
        yield stream_exception("InternalStreamFailure", str(_internal_failure()))


def _result_headers(response: aiohttp.ClientResponse, invocation: Invocation) -> dict[str, str]:
    headers = {
        "Content-Type": response.headers.get("Content-Type"),
        VARIANT_HEADER: response.headers.get(VARIANT_HEADER, SERVED_VARIANT),
        "X-Amzn-SageMaker-Custom-Attributes": response.headers.get("X-Amzn-SageMaker-Custom-Attributes"),
        _INFERENCE_ID: invocation.headers.get(_INFERENCE_ID),
    }
    return {name: value for name, value in headers.items() if value is not None}
