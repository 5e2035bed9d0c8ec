"""The real embedding model with the HTTP of Text Embeddings Inference, behind a SageMaker Runtime."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import PassageTooLongError
from assistant.model_server.here import ModelsHere
from assistant.tenant.tenant import EmbeddingSection
from tests.fakes.asgi_server import asgi_server
from tests.fakes.sagemaker_gateway import sagemaker_gateway

BUILT_MODELS = Path(__file__).parents[2] / "build" / "test-models"
"""Derived from the weights once, and kept between runs."""


async def start_embedding(stack: AsyncExitStack, *, endpoint: str) -> str:
    """Start the model and the runtime before it; return the runtime's URL."""
    models = ModelsHere(BUILT_MODELS)
    stack.callback(models.close)
    await models.prepare(EmbeddingSection())
    embedder = await models.embedder(EmbeddingSection())

    async def invoke(scope: Scope, receive: Receive, send: Send) -> None:
        inputs = orjson.loads(await Request(scope, receive).body())["inputs"]
        texts: list[str] = [inputs] if isinstance(inputs, str) else inputs
        try:
            vectors = await embedder.embed(texts, deadline=Deadline.after(60, clock=SystemClock()))
            response = Response(orjson.dumps(vectors), media_type="application/json")
        except PassageTooLongError as error:
            refused = {"error": error.message, "error_type": "Validation"}
            response = Response(orjson.dumps(refused), 413, media_type="application/json")
        await response(scope, receive, send)

    server = await stack.enter_async_context(asgi_server(invoke))
    return await stack.enter_async_context(sagemaker_gateway({endpoint: server}))
