"""Leaving closes the endpoint's connection at once: the only thing that stops a generation there."""

from __future__ import annotations

import asyncio

from assistant.domain.clock import Deadline
from assistant.models.sagemaker import SageMakerGenerator
from tests.fakes.sagemaker_gateway import CONTENT_TYPE, payload_part
from tests.fakes.scripted_http import Exchange
from tests.integration.aws.conftest import Runtime
from tests.integration.aws.test_generator_streams import REQUEST, token

LEAVING_LIMIT_S = 15.0
"""Before the deadline of 20 s, which would close it too."""


class Endpoint:
    """Sends the given bytes, then waits for its peer to leave."""

    def __init__(self, *pieces: bytes, begin: bool = True) -> None:
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self._pieces = pieces
        self._begin = begin

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.set()
        if self._begin:
            await exchange.respond_in_chunks(*self._pieces, end=False, Content_Type=CONTENT_TYPE)
        await exchange.peer_left()
        self.left.set()


async def consume(generator: SageMakerGenerator, deadline: Deadline, first: asyncio.Event) -> None:
    async with generator.stream(REQUEST, deadline=deadline) as stream:
        async for _ in stream:
            first.set()


async def test_a_cancelled_wait_for_the_response_closes_the_connection(
    runtime: Runtime, deadline: Deadline
) -> None:
    endpoint = Endpoint(begin=False)
    async with runtime(endpoint) as (client, _):
        task = asyncio.create_task(
            consume(SageMakerGenerator(client, endpoint="llm"), deadline, asyncio.Event())
        )
        await endpoint.asked.wait()
        task.cancel()
        async with asyncio.timeout(LEAVING_LIMIT_S):
            await endpoint.left.wait()
        await asyncio.wait({task})


async def test_a_cancelled_wait_for_the_first_token_closes_the_connection(
    runtime: Runtime, deadline: Deadline
) -> None:
    endpoint = Endpoint()
    async with runtime(endpoint) as (client, _):
        task = asyncio.create_task(
            consume(SageMakerGenerator(client, endpoint="llm"), deadline, asyncio.Event())
        )
        await endpoint.asked.wait()
        task.cancel()
        async with asyncio.timeout(LEAVING_LIMIT_S):
            await endpoint.left.wait()
        await asyncio.wait({task})


async def test_a_cancelled_stream_closes_the_connection(runtime: Runtime, deadline: Deadline) -> None:
    endpoint, first = Endpoint(payload_part(token("a"))), asyncio.Event()
    async with runtime(endpoint) as (client, _):
        task = asyncio.create_task(consume(SageMakerGenerator(client, endpoint="llm"), deadline, first))
        await first.wait()
        task.cancel()
        async with asyncio.timeout(LEAVING_LIMIT_S):
            await endpoint.left.wait()
        await asyncio.wait({task})


async def test_leaving_the_context_after_the_first_token_closes_the_connection(
    runtime: Runtime, deadline: Deadline
) -> None:
    endpoint = Endpoint(payload_part(token("a")))
    async with runtime(endpoint) as (client, _):
        async with SageMakerGenerator(client, endpoint="llm").stream(REQUEST, deadline=deadline) as stream:
            async for _delta in stream:
                break
        async with asyncio.timeout(LEAVING_LIMIT_S):
            await endpoint.left.wait()
