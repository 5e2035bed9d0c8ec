"""``python -m assistant.model_server``: one model, configured by ModelServerSettings."""

from __future__ import annotations

import socket
from pathlib import Path

from assistant.http_process import open_socket, run, serve
from assistant.model_server.artifact import TOKENIZER_FILE, artifact_folder, ensure_artifact
from assistant.model_server.container import Container
from assistant.model_server.weights import locate_weights
from assistant.settings.process import ModelServerSettings
from assistant.telemetry import configure_logging

_SHUTDOWN_TIMEOUT_S = 1.0


async def serve_model() -> None:
    """Load the model that the environment names, serve it until a signal, stop within 2 s."""
    settings = ModelServerSettings.read()
    configure_logging(settings.log_level)
    listener = open_socket(settings.host, settings.port)
    served = _serve_embedding if settings.task == "embedding" else _serve_generation
    await served(settings, listener)


async def _serve_embedding(settings: ModelServerSettings, listener: socket.socket) -> None:
    from tokenizers import Tokenizer

    from assistant.model_server.embedding_artifact import ensure_graph, pooling_of
    from assistant.model_server.embedding_engine import EmbeddingEngine
    from assistant.model_server.embedding_task import EmbeddingTask

    artifact = ensure_artifact(settings)
    weights = locate_weights(settings)
    engine = EmbeddingEngine(
        ensure_graph(weights, settings=settings, digest=artifact.digest),
        threads=settings.threads,
        queue_size=settings.queue_size,
        precision=settings.precision,
        pooling=pooling_of(weights),
    )
    engine.start()
    tokenizer_path: Path = artifact_folder(settings, weights) / TOKENIZER_FILE
    task = EmbeddingTask(
        engine,
        tokenizer=Tokenizer.from_file(str(tokenizer_path)),
        max_input_tokens=artifact.max_input_tokens,
    )
    try:
        await serve(Container(task), listener, shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S)
    finally:
        engine.close()


async def _serve_generation(settings: ModelServerSettings, listener: socket.socket) -> None:
    from assistant.model_server.admission import Admission
    from assistant.model_server.generation_task import GenerationTask
    from assistant.model_server.llama_runtime import LlamaRuntime

    ensure_artifact(settings)
    weights = locate_weights(settings)
    runtime = LlamaRuntime(
        weights.path,
        model=weights.name,
        slots=settings.slots,
        context_tokens=settings.context_tokens,
        threads=settings.threads,
    )
    runtime.start()
    admission = Admission(slots=settings.slots, queue_size=settings.queue_size)
    try:
        async with GenerationTask(
            runtime, admission=admission, context_tokens=settings.context_tokens
        ) as task:
            await serve(Container(task), listener, shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S)
    finally:
        runtime.close()


if __name__ == "__main__":
    run(serve_model())
