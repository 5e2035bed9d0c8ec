"""The real models in their servers, each a process of its own, behind a SageMaker Runtime of the tests."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

from assistant.process.settings import ModelServerSettings
from tests.fakes.processes import process
from tests.fakes.sagemaker_gateway import sagemaker_gateway

BUILT_MODELS = Path(__file__).parents[2] / "build" / "test-models"
"""Derived from the weights once, and kept between runs."""


async def start_models(
    stack: AsyncExitStack,
    *,
    embedding: str = "embedding",
    llm: str | None = "llm",
    artifacts_dir: Path = BUILT_MODELS,
) -> str:
    """Start both model servers at once and the runtime before them; return the runtime's URL.

    ``embedding`` and ``llm`` are the names by which callers know the endpoints. None: there is no LLM.
    """
    named: dict[Literal["embedding", "generation"], str] = {"embedding": embedding}
    if llm is not None:
        named["generation"] = llm
    started = await asyncio.gather(
        *(
            stack.enter_async_context(
                process(
                    "model_server",
                    ModelServerSettings(task=task, port=0, artifacts_dir=artifacts_dir).environment(),
                )
            )
            for task in named
        )
    )
    endpoints = dict(zip(named.values(), (server.url for server in started), strict=True))
    return await stack.enter_async_context(sagemaker_gateway(endpoints))


def artifact_files(folder: Path = BUILT_MODELS) -> list[Path]:
    """Return what callers of the endpoints need: ``<model>/artifact.json`` and ``tokenizer.json``."""
    return [file for file in folder.glob("*/*.json") if file.name in ("artifact.json", "tokenizer.json")]
