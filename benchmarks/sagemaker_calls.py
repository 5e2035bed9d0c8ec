"""CPU of SageMaker calls, alone and with 50 at once: ``python -m benchmarks.sagemaker_calls``.

The figures of docs/decisions/0011-lean-sagemaker-calls.md. The endpoints are a stand-in in a process of its
own, with the frames of benchmarks/load; the CPU is this process's alone.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median

import uvloop

from assistant.answering.ports import ChatMessage, GenerationRequest
from assistant.aws.sagemaker import SageMakerEmbedder, SageMakerGenerator, open_sagemaker_runtime
from assistant.domain.clock import Deadline, SystemClock
from tools.load.http_server import serve
from tools.load.stand_ins import DIMENSIONS, SageMakerStandIn
from tools.load.workload import Pace
from tools.processes import started

_ROUNDS = 5
_EMBEDDINGS = 300
_STREAMS = 200
_TOKENS = 200
_AT_ONCE = 50
_DEADLINE_S = 120.0
Call = Callable[[], Awaitable[None]]


async def measure() -> None:
    with started("benchmarks.sagemaker_calls", "--serve") as stand_in:
        await _measure(stand_in.url)


async def _measure(url: str) -> None:
    keys = {"access_key_id": "local", "secret_access_key": "local"}  # the stand-in knows none
    async with open_sagemaker_runtime(region="us-east-1", endpoint_url=url, **keys) as client:
        embedder = SageMakerEmbedder(client, endpoint="embedding", dimensions=DIMENSIONS, purpose="question")
        generator = SageMakerGenerator(client, endpoint="llm")

        async def embed() -> None:
            await embedder.embed(["How long?"], deadline=_deadline())

        for at_once in (1, _AT_ONCE):
            embedding_us = await _cpu_us(embed, calls=_EMBEDDINGS, at_once=at_once)
            print(f"an embedding, {at_once:2} at once: {embedding_us:7.1f} µs")
        short_us = 0.0
        for at_once in (1, _AT_ONCE):
            short_us = await _cpu_us(lambda: _read(generator, tokens=1), calls=_STREAMS, at_once=at_once)
            print(f"a stream of one token, {at_once:2} at once: {short_us:7.1f} µs")
        long_us = await _cpu_us(lambda: _read(generator, tokens=_TOKENS), calls=_AT_ONCE, at_once=_AT_ONCE)
        print(f"a token, {_AT_ONCE} streams at once: {(long_us - short_us) / (_TOKENS - 1):7.2f} µs")


async def _read(generator: SageMakerGenerator, *, tokens: int) -> None:
    request = GenerationRequest(
        (ChatMessage("user", "Asked under reference qabcdefghij: how long?"),),
        max_tokens=tokens,
        temperature=0.0,
    )
    async with generator.stream(request, deadline=_deadline()) as stream:
        async for _delta in stream:
            pass


def _deadline() -> Deadline:
    return Deadline.after(_DEADLINE_S, clock=SystemClock())


async def _cpu_us(call: Call, *, calls: int, at_once: int) -> float:
    """Return the CPU of one call, the median of the rounds after the first."""
    rounds: list[float] = []
    for _ in range(_ROUNDS + 1):
        began_s = time.process_time()
        await asyncio.gather(*(_repeat(call, calls // at_once) for _ in range(at_once)))
        rounds.append((time.process_time() - began_s) / calls * 1e6)
    return median(rounds[1:])


async def _repeat(call: Call, times: int) -> None:
    for _ in range(times):
        await call()


async def _serve() -> None:
    await serve(SageMakerStandIn(Pace(embedding_s=0.0, first_token_s=0.002, token_s=0.010)).answer)


if __name__ == "__main__":
    uvloop.run(_serve() if sys.argv[1:2] == ["--serve"] else measure())
