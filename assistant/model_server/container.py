"""The SageMaker container contract: ``GET /ping`` and ``POST /invocations`` on one port."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

import structlog
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from assistant.domain.errors import TooLargeError

MOST_BODY_BYTES = 6 * 1024 * 1024
"""SageMaker's limit of a real-time request is 25 MB since 2025; no request of ours needs a quarter of it."""
_log = structlog.get_logger(__name__)


class ServedTask(Protocol):
    """What stands behind the two routes."""

    async def healthy(self) -> bool:
        """Return whether the model is loaded and answers."""
        ...

    async def invoke(self, body: bytes, *, send: Send) -> None:
        """Answer one request with a whole ASGI response. Cancelled when the client leaves."""
        ...

    def refuse(self, status: int, message: str) -> Response:
        """Return an error in the task's own shape."""
        ...


class Container:
    """The ASGI application."""

    def __init__(self, task: ServedTask) -> None:
        self._task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = (scope["method"], scope["path"])
        if route == ("POST", "/invocations"):
            await self._invoke(scope, receive, send)
        elif route == ("GET", "/ping"):
            status = 200 if await self._task.healthy() else 503
            await Response(status_code=status)(scope, receive, send)
        else:
            status = 405 if scope["path"] in ("/ping", "/invocations") else 404
            await PlainTextResponse("", status)(scope, receive, send)

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await _read_body(receive)
        except TooLargeError as error:
            await self._task.refuse(413, error.message)(scope, receive, send)
            return
        if body is None:
            return
        started = False

        async def send_noting_start(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await _while_connected(self._task.invoke(body, send=send_noting_start), receive)
        except Exception:
            _log.exception("invocation_failed")
            if started:
                raise  # the server then cuts the connection: the only sign that is left
            await self._task.refuse(500, "The model failed on this request.")(scope, receive, send)


async def _read_body(receive: Receive) -> bytes | None:
    """Return the whole body, None when the client left. Raises TooLargeError."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > MOST_BODY_BYTES:
            raise TooLargeError(f"The body is over {MOST_BODY_BYTES} bytes.")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run ``work``; cancel it when the client leaves."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pending in (task, leaving):
            pending.cancel()
        await asyncio.wait({task, leaving})
    if not task.cancelled():
        task.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
