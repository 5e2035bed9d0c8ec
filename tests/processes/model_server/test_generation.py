"""The LLM server: OpenAI's schema over the real runtime, several answers at once, a bounded queue."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from assistant.model_server.__main__ import Container
from assistant.model_server.generation import Admission, LlamaRuntime, open_generation
from assistant.model_server.weights import locate_weights
from assistant.process.settings import ModelServerSettings
from tests.processes.model_server.conftest import Server, Start
from tests.stage.servers import asgi_server


def chat(text: str = "Name three colours.", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "temperature": 0.0, **fields}


LONG = chat("List the first 500 prime numbers.", max_tokens=900, stream=True)
"""The model goes on to the limit: about seven seconds on a calm machine."""


async def complete(client: httpx.AsyncClient, server: Server, **fields: Any) -> dict[str, Any]:
    response = await client.post(f"{server.url}/invocations", json=chat(**fields))
    assert response.status_code == 200, response.text
    return response.json()


async def chunks(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield orjson.loads(line.removeprefix("data: "))


async def first_text(found: AsyncIterator[dict[str, Any]]) -> str:
    async for chunk in found:
        if chunk["choices"] and (text := chunk["choices"][0]["delta"].get("content")):
            return text
    raise AssertionError("the stream ended without text")


async def test_a_whole_answer_is_openai_s(client: httpx.AsyncClient, generation: Server) -> None:
    answer = await complete(client, generation, max_tokens=8)

    assert answer["object"] == "chat.completion"
    assert answer["model"] == "SmolLM2-135M-Instruct"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 8


async def test_a_stream_gives_the_same_text_and_ends_with_usage_and_the_end_mark(
    client: httpx.AsyncClient, generation: Server
) -> None:
    body = chat(max_tokens=12, stream=True, stream_options={"include_usage": True})
    whole = await complete(client, generation, max_tokens=12)

    response = await client.post(f"{generation.url}/invocations", json=body)

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("data: [DONE]\n\n")
    found = [chunk async for chunk in chunks(response)]
    assert {chunk["object"] for chunk in found} == {"chat.completion.chunk"}
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in found if chunk["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert found[-1]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in found if chunk["choices"]][-1] == "length"


RULES = (
    "The pharmacy ships refrigerated orders Monday to Wednesday. "
    "Shippers hold 36 to 46 degrees for 48 hours. If the card is red, phone the Cold Chain Desk. "
)
PROMPTS = [
    f"{RULES * 3}Write a letter to the patient about this.",
    "Write a long story about a pharmacist and a lost parcel.",
    f"{RULES}Explain in your own words what an agent should do, step by step.",
]
"""With four in one batch, and prompts kept in a cache, the first gave three texts in nine runs."""


AT_NIGHT = os.environ.get("EXAMPLES") == "new"
ROUNDS, AT_ONCE, WORDS = (4, 4, 40) if AT_NIGHT else (1, 2, 24)
"""``WORDS``: tokens of an answer."""


async def test_at_temperature_0_the_same_prompt_gives_the_same_bytes(
    client: httpx.AsyncClient, generation: Server
) -> None:
    """Repeated, after other prompts, and beside three others that begin and end at any time: 8 answers,
    and 28 in ``make check-full``."""

    async def text(prompt: str, *, after_s: float = 0.0, max_tokens: int = WORDS) -> str:
        await asyncio.sleep(after_s)
        body = chat(prompt, max_tokens=max_tokens)
        response = await client.post(f"{generation.url}/invocations", json=body, timeout=300)
        return response.raise_for_status().json()["choices"][0]["message"]["content"]

    first, *others = PROMPTS
    found = [await text(first), await text(first)]
    for other in others:
        await text(other, max_tokens=5)
        found.append(await text(first))
    for number in range(1, 1 + ROUNDS):
        four = await asyncio.gather(
            text(first),
            text(first, after_s=0.05 * number),
            text(others[0], after_s=0.1 * number, max_tokens=10),
            text(others[1], after_s=0.07, max_tokens=5 + number),
        )
        found += four[:2]
        found += await asyncio.gather(*(text(first) for _ in range(AT_ONCE)))

    assert len(found) == 4 + (2 + AT_ONCE) * ROUNDS
    assert len(set(found)) == 1


async def test_a_second_answer_begins_before_the_first_ends(
    client: httpx.AsyncClient, generation: Server
) -> None:
    order: list[str] = []

    async def stream(name: str, body: dict[str, Any], begun: asyncio.Event) -> None:
        async with client.stream("POST", f"{generation.url}/invocations", json=body) as response:
            found = chunks(response)
            await first_text(found)
            order.append(f"{name} begins")
            begun.set()
            async for _ in found:
                pass
            order.append(f"{name} ends")

    begun = asyncio.Event()
    first = asyncio.create_task(stream("first", {**LONG, "max_tokens": 120}, begun))
    await begun.wait()
    await stream("second", chat(max_tokens=5, stream=True), asyncio.Event())
    await first

    assert order == ["first begins", "second begins", "second ends", "first ends"]


async def two_more(client: httpx.AsyncClient, server: Server) -> list[asyncio.Task[httpx.Response]]:
    """Ask twice at once while the only slot is taken; return the tasks, first done first."""
    asked = {
        asyncio.create_task(client.post(f"{server.url}/invocations", json=chat(max_tokens=1)))
        for _ in range(2)
    }
    done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    return [*done, *waiting]


async def test_over_the_queue_it_is_429_in_openai_s_shape(client: httpx.AsyncClient, narrow: Server) -> None:
    async with client.stream("POST", f"{narrow.url}/invocations", json=LONG) as running:
        found = chunks(running)  # kept: an iterator that is dropped closes its connection
        await first_text(found)
        first, second = await two_more(client, narrow)

    refused = await first
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "queue_full"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert (await second).status_code == 200  # the one that waited is served once the running one has left


async def test_a_prompt_over_the_context_is_named(client: httpx.AsyncClient, narrow: Server) -> None:
    for stream in (False, True):
        response = await client.post(
            f"{narrow.url}/invocations", json=chat("word " * 2000, max_tokens=5, stream=stream)
        )

        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"


# --- a client that leaves frees the runtime's slot: the runtime itself is asked --------------------------
CONTEXT_TOKENS = 1024


@pytest.fixture(scope="module")
def runtime() -> Generator[LlamaRuntime]:
    path = locate_weights(ModelServerSettings(task="generation")).path
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


async def test_it_is_well_once_ready_and_stops_while_it_generates(
    client: httpx.AsyncClient, start: Start
) -> None:
    body = {
        "messages": [{"role": "user", "content": "Tell a long story."}],
        "max_tokens": 1500,
        "stream": True,
    }
    with start(slots=1) as server:
        assert (await client.get(f"{server.url}/ping")).status_code == 200
        async with client.stream("POST", f"{server.url}/invocations", json=body) as response:
            found = response.aiter_bytes()
            await anext(found)

            assert server.stop() == 0  # raises when it takes longer than it may

            with pytest.raises(httpx.RemoteProtocolError):  # cut off: it did not wait for the end
                async for _ in found:
                    pass


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"task": "embedding"}, "Text Embeddings Inference"),
        ({"path": Path("nowhere")}, "nowhere"),
        ({"path": Path(__file__)}, "not a GGUF file"),
    ],
)
def test_weights_that_cannot_be_served_end_it_with_one_sentence(
    start: Start, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(AssertionError, match=said) as caught, start(**settings):
        pass

    assert "Traceback" not in str(caught.value)
