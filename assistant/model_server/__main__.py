"""``python -m assistant.model_server``: one model behind the SageMaker container contract.

``GET /ping`` and ``POST /invocations`` on one port; configured by ModelServerSettings."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Protocol

import structlog
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from assistant.domain.errors import TooLargeError
from assistant.model_server.artifact import TOKENIZER_FILE, artifact_folder, ensure_artifact
from assistant.model_server.weights import locate_weights
from assistant.process.http import open_socket, read_body, run, serve, while_connected
from assistant.process.settings import ModelServerSettings
from assistant.process.telemetry import configure_logging

MOST_BODY_BYTES = 6 * 1024 * 1024
"""SageMaker's limit of a real-time request is 25 MB since 2025; no request of ours needs a quarter of it."""
_log = structlog.get_logger(__name__)


class ServedTask(Protocol):
    """What answers behind the two routes: ``EmbeddingTask`` or ``GenerationTask``. ``Container`` calls it."""

    async def healthy(self) -> bool:
        """Return whether the model is loaded and answers."""
        ...

    async def invoke(self, body: bytes, *, send: Send) -> None:
        """Answer one request: send the start and the whole body of an ASGI response, also for a request that
        is refused. Cancelled when the client disconnects. Any exception is answered by ``refuse(500, …)``."""
        ...

    def refuse(self, status: int, message: str) -> Response:
        """Return an error response in the JSON shape of the task's API."""
        ...


class Container:
    """The ASGI application: ``GET /ping`` and ``POST /invocations``."""

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
    configure_logging(settings.log_level)
    listener = open_socket(settings.host, settings.port)
    serve_task = _serve_embedding if settings.task == "embedding" else _serve_generation
    await serve_task(settings, listener)


async def _serve_embedding(settings: ModelServerSettings, listener: socket.socket) -> None:
    """Build the artifact where it is missing, load the model, and serve it until a signal."""
    from tokenizers import Tokenizer

    from assistant.model_server.embedding import EmbeddingEngine, EmbeddingTask

    artifact = ensure_artifact(settings)
    weights = locate_weights(settings)
    engine = EmbeddingEngine.started(weights, settings, queue_size=settings.queue_size)
    tokenizer_path: Path = artifact_folder(settings, weights) / TOKENIZER_FILE
    task = EmbeddingTask(
        engine, tokenizer=Tokenizer.from_file(str(tokenizer_path)), max_input_tokens=artifact.max_input_tokens
    )
    try:
        await serve(Container(task), listener, shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S)
    finally:
        engine.close()


async def _serve_generation(settings: ModelServerSettings, listener: socket.socket) -> None:
    from assistant.model_server.generation import Admission, LlamaRuntime, open_generation

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
