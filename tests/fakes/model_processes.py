"""The real embedding model in its server, a process of its own, behind a SageMaker Runtime of the tests."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from assistant.process.settings import ModelServerSettings
from tests.fakes.processes import process
from tests.fakes.sagemaker_gateway import sagemaker_gateway

BUILT_MODELS = Path(__file__).parents[2] / "build" / "test-models"
"""Derived from the weights once, and kept between runs."""


async def start_embedding(stack: AsyncExitStack, *, endpoint: str) -> str:
    """Start the model server and the runtime before it; return the runtime's URL."""
    settings = ModelServerSettings(task="embedding", port=0, artifacts_dir=BUILT_MODELS)
    server = await stack.enter_async_context(process("model_server", settings.environment()))
    return await stack.enter_async_context(sagemaker_gateway({endpoint: server.url}))
