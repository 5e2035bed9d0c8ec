"""Chat completions over HTTP as OpenAI (and vLLM) answer them, proxied to the runtime on loopback."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

import aiohttp
import orjson
from starlette.responses import Response
from starlette.types import Scope, Send

from assistant.domain.errors import InvalidRequestError, OverloadedError, UnreadableRequestError
from assistant.model_server.admission import Admission
from assistant.model_server.chat_request import ChatRequest, parse_chat_request
from assistant.model_server.llama_runtime import LlamaRuntime

_SCOPE: Scope = {"type": "http"}
_CONNECT_TIMEOUT_S = 5.0
_SILENCE_TIMEOUT_S = 60.0
"""Between two reads from the runtime: a long prompt in a full batch takes seconds, not a minute."""
_STREAM_TIMEOUT_S = 480.0
"""SageMaker ends every stream after 8 minutes."""
_HEALTH_TIMEOUT_S = 1.5
"""SageMaker wants an answer to a ping within 2 s."""
_CONTEXT_ERROR = "exceed_context_size_error"


class GenerationTask:
    """A ``ServedTask`` over a running runtime. Use as an async context manager: it holds connections."""

    def __init__(self, runtime: LlamaRuntime, *, admission: Admission, context_tokens: int) -> None:
        self._runtime = runtime
        self._admission = admission
        self._context_tokens = context_tokens
        self._session: aiohttp.ClientSession | None = None
        self._addresses = runtime.addresses
        self._free = deque(self._addresses)
        """Slots that answer nothing, longest free first: one that was left inside a prompt still reads it.
        Admission lets in as many requests as there are slots."""

    async def __aenter__(self) -> GenerationTask:
        self._session = aiohttp.ClientSession(
            headers=self._runtime.authorization,
            connector=aiohttp.TCPConnector(limit=0),  # bounded by admission
            timeout=aiohttp.ClientTimeout(
                total=_STREAM_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_SILENCE_TIMEOUT_S
            ),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connections.close()

    @property
    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("enter the task's context first")
        return self._session

    async def healthy(self) -> bool:
        return all(await asyncio.gather(*map(self._is_healthy, self._addresses)))

    async def _is_healthy(self, address: str) -> bool:
        timeout = aiohttp.ClientTimeout(total=_HEALTH_TIMEOUT_S)
        try:
            async with self._connections.get(f"{address}/health", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def invoke(self, body: bytes, *, send: Send) -> None:
        try:
            request = parse_chat_request(body)
            async with self._admission.slot():
                address = self._free.popleft()
                try:
                    await self._generate(request, send, address=address)
                finally:
                    self._free.append(address)
        except (UnreadableRequestError, InvalidRequestError) as error:
            await _respond(_error(400, error.message, kind="invalid_request_error"), send)
        except OverloadedError as error:
            await _respond(_error(429, error.message, kind="rate_limit_error", code="queue_full"), send)

    def refuse(self, status: int, message: str) -> Response:
        return _error(status, message, kind="invalid_request_error" if status < 500 else "server_error")

    async def _generate(self, request: ChatRequest, send: Send, *, address: str) -> None:
        response = await self._connections.post(
            f"{address}/v1/chat/completions",
            data=request.for_runtime(most_tokens=self._context_tokens),
            headers={"Content-Type": "application/json"},
        )
        try:
            if response.status != 200:
                await _respond(_translated(response.status, await response.read()), send)
            elif request.stream:
                await _relay(response, send)
            else:
                await _respond(Response(await response.read(), media_type="application/json"), send)
        finally:
            if not response.content.at_eof():
                response.close()  # at once: only a closed connection stops the runtime's generation


async def _relay(response: aiohttp.ClientResponse, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")],
        }
    )
    async for part in response.content.iter_any():
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _translated(status: int, body: bytes) -> Response:
    """Turn the runtime's error into OpenAI's."""
    try:
        error = cast("dict[str, Any]", orjson.loads(body))["error"]
        kind, message = str(error["type"]), str(error["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return _error(502, "The runtime answered garbage.", kind="server_error")
    if kind == _CONTEXT_ERROR:
        found = f"The prompt has {error.get('n_prompt_tokens')} tokens, the context {error.get('n_ctx')}."
        return _error(400, found, kind="invalid_request_error", code="context_length_exceeded")
    return _error(status, message, kind=kind)


def _error(status: int, message: str, *, kind: str, code: str | None = None) -> Response:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return Response(orjson.dumps({"error": error}), status, media_type="application/json")


async def _respond(response: Response, send: Send) -> None:
    await response(_SCOPE, _nothing_to_receive, send)


async def _nothing_to_receive() -> dict[str, str]:
    raise AssertionError("a whole response reads nothing from its client")
