"""``python -m assistant.model_server``: one LLM behind the SageMaker container contract.

``GET /ping`` and ``POST /invocations`` on one port; configured by ModelServerSettings."""

from __future__ import annotations

from typing import Any

import structlog
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from assistant.domain.errors import ConfigurationError, TooLargeError
from assistant.model_server.artifact import ensure_artifact
from assistant.model_server.generation import Admission, GenerationTask, LlamaRuntime, open_generation
from assistant.model_server.weights import locate_weights
from assistant.process.http import open_socket, read_body, run, serve, while_connected
from assistant.process.settings import ModelServerSettings
from assistant.process.telemetry import configure_logging

MOST_BODY_BYTES = 6 * 1024 * 1024
"""SageMaker's limit of a real-time request is 25 MB since 2025; no request of ours needs a quarter of it."""
_log = structlog.get_logger(__name__)


class Container:
    """The ASGI application: ``GET /ping`` and ``POST /invocations``."""

    def __init__(self, task: GenerationTask) -> None:
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
        """Read the body and have the task answer; cancel it when the client disconnects."""
        try:
            body = await read_body(receive, limit_bytes=MOST_BODY_BYTES)
        except TooLargeError as error:
            await self._task.refuse(413, error.message)(scope, receive, send)
            return
        if body is None:
            return  # the client disconnected
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
                raise  # too late for an error response: the server then cuts the connection
            await self._task.refuse(500, "The model failed on this request.")(scope, receive, send)


_SHUTDOWN_TIMEOUT_S = 1.0


async def serve_model() -> None:
    """Load the model that the environment names, serve it until a signal, stop within 2 s."""
    settings = ModelServerSettings.read()
    if settings.task != "generation":
        raise ConfigurationError("Text Embeddings Inference serves embedding models, this server an LLM.")
    configure_logging(settings.log_level)
    listener = open_socket(settings.host, settings.port)
    ensure_artifact(settings)
    runtime = LlamaRuntime.started(locate_weights(settings), settings)
    admission = Admission(slots=settings.slots, queue_size=settings.queue_size)
    try:
        context_tokens = settings.context_tokens
        async with open_generation(runtime, admission=admission, context_tokens=context_tokens) as task:
            await serve(Container(task), listener, shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S)
    finally:
        runtime.close()


if __name__ == "__main__":
    run(serve_model())
