"""``python -m assistant.local.gateway``: the SageMaker Runtime protocol in front of model containers."""

from __future__ import annotations

import random
import re
import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote
from zlib import crc32

import aiohttp
import orjson
import structlog
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from assistant.domain.errors import TooLargeError
from assistant.http_process import open_socket, read_body, run, serve, while_connected
from assistant.settings.process import GatewaySettings
from assistant.telemetry import configure_logging

_LONGEST_ORIGINAL_MESSAGE = 1024
"""Characters; AWS documents no limit, but a container's page of HTML helps nobody."""
_ACCOUNT = "000000000000"


class AwsError(Exception):
    """An error that has a name, a status and fields in the service's model."""

    def __init__(self, kind: str, status: int, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.fields = {"Message": message, **fields}

    def response(self, *, request_id: str) -> Response:
        headers = {"x-amzn-ErrorType": self.kind, "x-amzn-RequestId": request_id}
        return Response(orjson.dumps(self.fields), self.status, headers, "application/json")


def endpoint_not_found(name: str) -> AwsError:
    return AwsError("ValidationError", 400, f"Endpoint {name} of account {_ACCOUNT} not found.")


def validation_error(message: str) -> AwsError:
    return AwsError("ValidationError", 400, message)


def request_too_large(message: str) -> AwsError:
    return AwsError("RequestEntityTooLargeException", 413, message)


def not_signed(message: str) -> AwsError:
    return AwsError("MissingAuthenticationTokenException", 403, message)


def badly_signed(message: str) -> AwsError:
    return AwsError("IncompleteSignatureException", 403, message)


def unknown_operation() -> AwsError:
    return AwsError("UnknownOperationException", 404, "There is no such operation.")


def service_unavailable(name: str) -> AwsError:
    return AwsError("ServiceUnavailable", 503, f"The container of endpoint {name} cannot be reached.")


def internal_failure() -> AwsError:
    return AwsError("InternalFailure", 500, "The gateway failed on this request.")


def model_error(status: int, body: bytes) -> AwsError:
    """Wrap what the container answered (``status`` 0: it did not answer in time)."""
    original = body.decode(errors="replace")[:_LONGEST_ORIGINAL_MESSAGE]
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


# Encoding of ``application/vnd.amazon.eventstream``, the framing of streamed SageMaker responses.


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


# Whether a request is signed by Signature Version 4 in form. There are no keys here to verify it with.


_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 "
    r"Credential=\w{4,128}/(?P<date>\d{8})/[a-z0-9-]+/(?P<service>[a-z0-9-]+)/aws4_request, ?"
    r"SignedHeaders=(?P<headers>[a-z0-9;_-]+), ?"
    r"Signature=[0-9a-f]{64}"
)
_DATE = re.compile(r"\d{8}T\d{6}Z")
_SERVICE = "sagemaker"


def require_signature(headers: Mapping[str, str]) -> None:
    """Raise AwsError 403 unless the Authorization header is a well-formed signature for this service."""
    authorization = headers.get("authorization")
    if authorization is None:
        raise not_signed("Missing Authentication Token")
    match = _AUTHORIZATION.fullmatch(authorization)
    if match is None:
        raise badly_signed("The Authorization header is not a Signature Version 4.")
    if match["service"] != _SERVICE:
        raise badly_signed(f"Credential should be scoped to correct service: '{_SERVICE}'.")
    date = headers.get("x-amz-date", "")
    if not _DATE.fullmatch(date) or date[:8] != match["date"]:
        raise badly_signed("X-Amz-Date is missing, or is not the date of the credential's scope.")
    missing = {"host", "x-amz-date"} - set(match["headers"].split(";"))
    if missing:
        raise badly_signed(f"SignedHeaders lacks {', '.join(sorted(missing))}.")


# One request to the SageMaker Runtime, read from the wire.


_PATH = re.compile(r"/endpoints/(?P<endpoint>[^/]+)/(?P<operation>invocations|invocations-response-stream)")
_ENDPOINT_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_PREFIX = "x-amzn-sagemaker-"
_HONOURED = frozenset({"custom-attributes", "inference-id", "accept", "target-variant", "content-type"})
VARIANT = "AllTraffic"
_LONGEST_ATTRIBUTES = 1024
_LONGEST_INFERENCE_ID = 64


@dataclass(frozen=True, slots=True)
class Invocation:
    endpoint: str
    streamed: bool
    content_type: str
    accept: str | None
    custom_attributes: str | None
    inference_id: str | None

    def container_headers(self) -> dict[str, str]:
        """Return the headers that the container is asked with."""
        headers = {
            "Content-Type": self.content_type,
            "Accept": self.accept,
            "X-Amzn-SageMaker-Custom-Attributes": self.custom_attributes,
            "X-Amzn-SageMaker-Inference-Id": self.inference_id,
        }
        return {name: value for name, value in headers.items() if value is not None}


def read_invocation(method: str, path: str, headers: Mapping[str, str]) -> Invocation:
    """Read path and headers. Raises AwsError, also for what only the real service can do."""
    match = _PATH.fullmatch(path)
    if match is None or method != "POST":
        raise unknown_operation()
    endpoint = unquote(match["endpoint"])
    if not _ENDPOINT_NAME.fullmatch(endpoint):
        raise validation_error("EndpointName must be 1 to 63 letters, digits and single hyphens.")
    _refuse_what_is_not_local(headers)
    streamed = match["operation"] == "invocations-response-stream"
    return Invocation(
        endpoint=endpoint,
        streamed=streamed,
        content_type=headers.get("content-type", "application/octet-stream"),
        accept=headers.get(_PREFIX + "accept" if streamed else "accept"),
        custom_attributes=_bounded(headers, "custom-attributes", longest=_LONGEST_ATTRIBUTES),
        inference_id=_bounded(headers, "inference-id", longest=_LONGEST_INFERENCE_ID),
    )


def _refuse_what_is_not_local(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not name.startswith(_PREFIX):
            continue
        field = name.removeprefix(_PREFIX)
        if field not in _HONOURED:
            raise validation_error(f"{name} is not supported by this local endpoint.")
        if field == "target-variant" and value != VARIANT:
            raise validation_error(f"Variant {value} not found; the only one is {VARIANT}.")


def _bounded(headers: Mapping[str, str], field: str, *, longest: int) -> str | None:
    value = headers.get(_PREFIX + field)
    if value is not None and len(value) > longest:
        raise validation_error(f"{_PREFIX}{field} is longer than {longest} characters.")
    return value


# Where a container's response is cut into parts: anywhere, as the real service does, but repeatable.


_MOST_PARTS = 3


class ResponseCutter:
    """Cuts each piece that a container sends at seeded byte positions, inside UTF-8 characters too."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 : test data, not a secret

    def cut(self, piece: bytes) -> Iterator[bytes]:
        """Yield the piece in one to three parts, none empty."""
        count = min(self._random.randint(0, _MOST_PARTS - 1), len(piece) - 1)
        positions = sorted(self._random.sample(range(1, len(piece)), count)) if count > 0 else []
        for start, end in zip([0, *positions], [*positions, len(piece)], strict=True):
            yield piece[start:end]


# The wire protocol of the SageMaker Runtime in front of model containers. It holds no model code.


_MOST_BODY_BYTES = 6 * 1024 * 1024
_CONNECT_TIMEOUT_S = 2.0
_RESPONSE_TIMEOUT_S = 60.0
"""The real service's limits: a response begins, and goes on, within 60 s; a stream ends after 8 minutes."""
_STREAM_TIMEOUT_S = 480.0
_log = structlog.get_logger(__name__)


class Gateway:
    """The ASGI application. Use as an async context manager: it holds connections to the containers."""

    def __init__(self, endpoints: Mapping[str, str], *, cut_seed: int) -> None:
        self._endpoints = {name: url.rstrip("/") for name, url in endpoints.items()}
        self._cut_seed = cut_seed
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Gateway:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the containers bound what they take
            timeout=aiohttp.ClientTimeout(
                total=_STREAM_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_RESPONSE_TIMEOUT_S
            ),
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connections.close()

    @property
    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("enter the gateway's context first")
        return self._session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["method"], scope["path"]) == ("GET", "/ping"):
            await Response()(scope, receive, send)
            return
        exchange = _Exchange(scope, send, request_id=str(uuid.uuid4()))
        try:
            await self._answer(scope, receive, exchange)
        except TooLargeError as error:
            await exchange.fail(request_too_large(error.message))
        except AwsError as error:
            await exchange.fail(error)
        except Exception:  # noqa: BLE001 : the edge: whatever failed is logged, and is an InternalFailure
            _log.exception("gateway_failed")
            await exchange.fail(internal_failure())

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        headers = Headers(scope=scope)
        require_signature(headers)
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        invocation = read_invocation(scope["method"], path, headers)
        if invocation.endpoint not in self._endpoints:
            raise endpoint_not_found(invocation.endpoint)
        body = await read_body(receive, limit_bytes=_MOST_BODY_BYTES)
        if body is not None:
            await while_connected(self._invoke(invocation, body=body, exchange=exchange), receive)

    async def _invoke(self, invocation: Invocation, *, body: bytes, exchange: _Exchange) -> None:
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._connections.post(
                self._endpoints[invocation.endpoint] + "/invocations",
                data=body,
                headers=invocation.container_headers(),
            )
            if response.status != 200:
                raise model_error(response.status, await response.read())
            if invocation.streamed:
                await self._stream(response, invocation=invocation, exchange=exchange)
            else:
                await exchange.respond(await response.read(), _result_headers(response, invocation))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise service_unavailable(invocation.endpoint) from None
        except TimeoutError:
            raise model_error(0, b"Your invocation timed out while waiting for a response.") from None
        except aiohttp.ClientError:
            raise internal_failure() from None
        finally:
            if response is not None and not response.content.at_eof():
                response.close()  # at once: the container then stops generating

    async def _stream(
        self, response: aiohttp.ClientResponse, *, invocation: Invocation, exchange: _Exchange
    ) -> None:
        cutter = ResponseCutter(self._cut_seed)
        await exchange.start_stream(_stream_headers(response, invocation))
        try:
            async for piece in response.content.iter_any():
                for part in cutter.cut(piece):
                    await exchange.send_part(payload_part(part))
        except TimeoutError:
            failure = stream_exception(
                "ModelStreamError",
                "The container took too long to go on.",
                error_code="ModelInvocationTimeExceeded",
            )
        except aiohttp.ClientError:
            failure = stream_exception(
                "ModelStreamError", "The container broke its stream off.", error_code="StreamBroken"
            )
        else:
            failure = b""
        await exchange.end_stream(failure)


class _Exchange:
    """The answering side of one request."""

    def __init__(self, scope: Scope, send: Send, *, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._streaming = False

    async def respond(self, body: bytes, headers: dict[str, str]) -> None:
        headers["x-amzn-RequestId"] = self._request_id
        await Response(body, headers=headers)(self._scope, _nothing_to_receive, self._send)

    async def start_stream(self, headers: dict[str, str]) -> None:
        headers["x-amzn-RequestId"] = self._request_id
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        self._streaming = True
        await self._send({"type": "http.response.start", "status": 200, "headers": encoded})

    async def send_part(self, frame: bytes) -> None:
        await self._send({"type": "http.response.body", "body": frame, "more_body": True})

    async def end_stream(self, last: bytes) -> None:
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def fail(self, error: AwsError) -> None:
        if self._streaming:
            await self.end_stream(stream_exception("InternalStreamFailure", str(error)))
        else:
            response = error.response(request_id=self._request_id)
            await response(self._scope, _nothing_to_receive, self._send)


def _result_headers(response: aiohttp.ClientResponse, invocation: Invocation) -> dict[str, str]:
    headers = {
        "Content-Type": response.headers.get("Content-Type"),
        "x-Amzn-Invoked-Production-Variant": VARIANT,
        "X-Amzn-SageMaker-Custom-Attributes": response.headers.get("X-Amzn-SageMaker-Custom-Attributes"),
        "X-Amzn-SageMaker-Inference-Id": invocation.inference_id,
    }
    return {name: value for name, value in headers.items() if value is not None}


def _stream_headers(response: aiohttp.ClientResponse, invocation: Invocation) -> dict[str, str]:
    headers = _result_headers(response, invocation)
    inner = headers.pop("Content-Type", None)
    if inner is not None:
        headers["X-Amzn-SageMaker-Content-Type"] = inner
    headers["Content-Type"] = CONTENT_TYPE
    return headers


async def _nothing_to_receive() -> dict[str, Any]:
    raise AssertionError("a whole response reads nothing from its client")


# ``python -m assistant.local.gateway``: configured by GatewaySettings.


_SHUTDOWN_TIMEOUT_S = 1.0


async def serve_gateway() -> None:
    """Serve until a signal."""
    settings = GatewaySettings.read()
    configure_logging(settings.log_level)
    listener = open_socket(settings.host, settings.port)
    async with Gateway(settings.endpoints, cut_seed=settings.cut_seed) as gateway:
        await serve(gateway, listener, shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S)


if __name__ == "__main__":
    run(serve_gateway())
