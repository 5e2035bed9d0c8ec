"""The wire protocol of the SageMaker Runtime in front of model containers. It holds no model code."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from assistant.domain.errors import TooLargeError
from assistant.http_exchange import read_body, while_connected
from assistant.local.gateway.aws_errors import (
    AwsError,
    endpoint_not_found,
    internal_failure,
    model_error,
    request_too_large,
    service_unavailable,
)
from assistant.local.gateway.event_stream import CONTENT_TYPE, payload_part, stream_exception
from assistant.local.gateway.invocation import VARIANT, Invocation, read_invocation
from assistant.local.gateway.response_cutting import ResponseCutter
from assistant.local.gateway.signature import require_signature

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
