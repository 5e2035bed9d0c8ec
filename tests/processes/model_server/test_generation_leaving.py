"""A client that leaves frees the runtime's slot: the runtime itself is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import httpx
import pytest

from assistant.model_server.__main__ import Container
from assistant.model_server.generation import Admission, LlamaRuntime, open_generation
from assistant.model_server.weights import locate_weights
from assistant.process.settings import ModelServerSettings
from tests.fakes.asgi_server import asgi_server
from tests.processes.model_server.test_generation import LONG, chunks, first_text

CONTEXT_TOKENS = 1024


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Generator[LlamaRuntime]:
    settings = ModelServerSettings(task="generation", artifacts_dir=Path(tmp_path_factory.mktemp("models")))
    path = locate_weights(settings).path
    running = LlamaRuntime(path, model="tested", slots=1, context_tokens=CONTEXT_TOKENS, threads=1)
    running.start()
    yield running
    running.close()


@pytest.fixture
async def url(runtime: LlamaRuntime) -> AsyncGenerator[str]:
    admission = Admission(slots=1, queue_size=1)
    async with (
        open_generation(runtime, admission=admission, context_tokens=CONTEXT_TOKENS) as task,
        asgi_server(Container(task)) as served,
    ):
        yield served


async def tokens_to_write(runtime: LlamaRuntime) -> int | None:
    """Return how many tokens the only slot may still write, or None when it is free."""
    async with httpx.AsyncClient(base_url=runtime.address, headers=runtime.authorization) as client:
        (slot,) = (await client.get("/slots", timeout=60)).raise_for_status().json()
    return slot["next_token"][0]["n_remain"] if slot["is_processing"] else None


async def test_leaving_in_mid_stream_frees_the_slot_long_before_the_answer_s_end(
    runtime: LlamaRuntime, url: str
) -> None:
    async with (
        httpx.AsyncClient(timeout=60, trust_env=False) as client,
        client.stream("POST", f"{url}/invocations", json=LONG) as response,
    ):
        found = chunks(response)
        await first_text(found)
        left = await tokens_to_write(runtime)

    assert left is not None
    async with asyncio.timeout(60):
        while (now := await tokens_to_write(runtime)) is not None:
            left = now
            await asyncio.sleep(0.01)  # the runtime offers no event
    assert left > LONG["max_tokens"] / 2


async def test_a_runtime_that_is_gone_is_not_well(url: str, runtime: LlamaRuntime) -> None:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        assert (await client.get(f"{url}/ping")).status_code == 200
        runtime.close()
        assert (await client.get(f"{url}/ping")).status_code == 503
