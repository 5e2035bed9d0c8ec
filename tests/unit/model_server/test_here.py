"""A model that loads in this process while its callers wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import ConfigurationError, EmbeddingUnavailableError
from assistant.model_server.here import EmbedderHere


def soon() -> Deadline:
    return Deadline.after(60, clock=SystemClock())


async def _at_once(work: Coroutine[Any, Any, Any]) -> Any:
    return await work


async def _embed(texts: Sequence[str]) -> Any:
    return np.zeros((len(texts), 2), np.float32)


def embedder(task: asyncio.Future[Any]) -> EmbedderHere:
    return EmbedderHere(cast("Any", SimpleNamespace(in_loop=_at_once)), task, dimensions=2)


async def test_a_caller_who_leaves_while_the_model_loads_leaves_it_to_the_others() -> None:
    loading = asyncio.get_running_loop().create_future()
    leaves = asyncio.create_task(embedder(loading).embed(["a"], deadline=soon()))
    stays = asyncio.create_task(embedder(loading).embed(["b"], deadline=soon()))
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.wait([leaves])
    loading.set_result(SimpleNamespace(embed=_embed))
    assert await stays == [[0.0, 0.0]]


async def test_a_model_that_could_not_be_loaded_is_unavailable_with_its_reason() -> None:
    loading = asyncio.get_running_loop().create_future()
    loading.set_exception(ConfigurationError("weights.onnx: the graph cannot be read."))
    with pytest.raises(EmbeddingUnavailableError, match=r"weights\.onnx"):
        await embedder(loading).embed(["a"], deadline=soon())
