"""Mode ``throughput``: requests join and leave one batch, and none of them stops the others."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from tests.integration.model_server.conftest import Server, Start
from tests.integration.model_server.test_generation import LONG, chat, chunks, first_text

SLOTS = 8
TOKENS = 150


@pytest.fixture(scope="module")
def eight(start: Start) -> Generator[Server]:
    with start("generation", mode="throughput", slots=SLOTS, queue_size=1, context_tokens=512) as server:
        yield server


class Streams:
    """Long answers that are under way."""

    def __init__(self, client: httpx.AsyncClient, server: Server) -> None:
        self._client = client
        self._url = f"{server.url}/invocations"

    async def begin(self, count: int) -> list[asyncio.Task[str | None]]:
        """Return the answers' tasks once each has its first text; a task gives its finish reason."""
        begun = [asyncio.Event() for _ in range(count)]
        tasks = [asyncio.create_task(self._read(event)) for event in begun]
        await asyncio.gather(*(event.wait() for event in begun))
        return tasks

    async def _read(self, begun: asyncio.Event) -> str | None:
        body = {**LONG, "max_tokens": TOKENS}
        async with self._client.stream("POST", self._url, json=body) as response:
            found = chunks(response)
            await first_text(found)
            begun.set()
            reasons = [choice["finish_reason"] async for chunk in found for choice in chunk["choices"]]
            return reasons[-1]

    async def ask(self, **fields: Any) -> httpx.Response:
        return await self._client.post(self._url, json=chat(**fields))


async def test_a_short_request_joins_seven_long_ones_and_ends_before_each(
    client: httpx.AsyncClient, eight: Server
) -> None:
    streams = Streams(client, eight)
    longs = await streams.begin(SLOTS - 1)

    short = await streams.ask(max_tokens=3)

    assert short.status_code == 200
    assert not any(task.done() for task in longs)
    assert await asyncio.gather(*longs) == ["length"] * (SLOTS - 1)


async def test_a_prompt_that_does_not_fit_is_refused_and_the_others_go_on(
    client: httpx.AsyncClient, eight: Server
) -> None:
    streams = Streams(client, eight)
    longs = await streams.begin(SLOTS - 1)

    refused = await streams.ask(text="word " * 600)

    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert await asyncio.gather(*longs) == ["length"] * (SLOTS - 1)


async def test_a_client_that_leaves_frees_its_slot_and_the_others_go_on(
    client: httpx.AsyncClient, eight: Server
) -> None:
    streams = Streams(client, eight)
    left, *longs = await streams.begin(SLOTS)

    left.cancel()
    await asyncio.wait({left})
    joined = await streams.ask(max_tokens=3)

    assert joined.status_code == 200
    assert not any(task.done() for task in longs)
    assert await asyncio.gather(*longs) == ["length"] * (SLOTS - 1)


async def test_over_the_slots_and_the_queue_it_is_429(client: httpx.AsyncClient, eight: Server) -> None:
    streams = Streams(client, eight)
    longs = await streams.begin(SLOTS)

    answers = await asyncio.gather(*(streams.ask(max_tokens=1) for _ in range(2)))

    assert sorted(each.status_code for each in answers) == [200, 429]
    await asyncio.gather(*longs)
