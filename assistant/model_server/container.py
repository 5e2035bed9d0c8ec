"""The SageMaker container contract: ``GET /ping`` and ``POST /invocations`` on one port."""

from __future__ import annotations

from typing import Any, Protocol

import structlog
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from assistant.domain.errors import TooLargeError
from assistant.http_process import read_body, while_connected

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
            body = await read_body(receive, limit_bytes=MOST_BODY_BYTES)
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
            await while_connected(self._task.invoke(body, send=send_noting_start), receive)
        except Exception:
            _log.exception("invocation_failed")
            if started:
                raise  # the server then cuts the connection: the only sign that is left
            await self._task.refuse(500, "The model failed on this request.")(scope, receive, send)
