"""Measures a running model server from outside: how long it reads, and writes for 1 to 8 at once."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import asyncio
import random
import time
from statistics import median
from typing import Any

import httpx
import numpy as np
import orjson

from assistant.capacity.timings import Timings
from assistant.domain.errors import ConfigurationError

_SLOTS = 8
_STEP_TOKENS = 256
"""Of our own server (``model_server.generation``)."""
_READ_WORDS = (4, 8, 16, 32, 48, 64)
"""Lengths of prompts; a word is a random number of some 19 tokens."""
_WRITES = (*((count, 2) for count in range(1, _SLOTS + 1)), (_SLOTS, 32))
"""Answers at once, and words of their prompts; the last two tell what context costs."""
_WRITTEN_TOKENS = 48
_TIMEOUT_S = 300.0


def chat_body(*, words: int, tokens: int) -> dict[str, Any]:
    """Return a request that no cache holds, and whose answer goes on to ``tokens``."""
    numbers = " ".join(str(random.random()) for _ in range(words))  # noqa: S311 - no secret
    content = f"{numbers} List the first 500 prime numbers."
    return {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def has_token(chunk: dict[str, Any]) -> bool:
    """Return whether a streamed chunk of OpenAI's schema has text."""
    return any(choice["delta"].get("content") for choice in chunk["choices"])


async def stream_answer(
    client: httpx.AsyncClient, url: str, *, words: int, tokens: int
) -> tuple[list[float], int]:
    """Return when each token came, in seconds since it was asked, and the prompt's tokens.

    Raises ConfigurationError when the server does not answer.
    """
    body = chat_body(words=words, tokens=tokens)
    began_s, token_s, prompt_tokens = time.monotonic(), list[float](), 0
    try:
        async with client.stream("POST", f"{url}/invocations", json=body) as response:
            if response.status_code != 200:
                raise ConfigurationError(f"{url} answered {response.status_code}: {await response.aread()!r}")
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    chunk = orjson.loads(line.removeprefix("data: "))
                    if has_token(chunk):
                        token_s.append(time.monotonic() - began_s)
                    prompt_tokens = (chunk.get("usage") or {}).get("prompt_tokens", prompt_tokens)
    except httpx.HTTPError as error:
        raise ConfigurationError(f"{url} does not answer: {error!r}. Start the model server first.") from None
    return token_s, prompt_tokens


async def calibrate(url: str, *, rounds: int = 3) -> Timings:
    """Return the server's timings, medians of ``rounds``. It must have 8 slots and nothing else to do.

    Raises ConfigurationError when it does not answer, or was not idle.
    """
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
        found = [
            (
                [await _read(client, url, words=words) for words in _READ_WORDS],
                [await _write(client, url, count=count, words=words) for count, words in _WRITES],
            )
            for _ in range(rounds)
        ]
    lengths, first_s = np.median([read for read, _ in found], axis=0).T
    step_s, context = np.median([written for _, written in found], axis=0).T
    square = max(0.0, np.polyfit(lengths, first_s, 2)[0])
    linear, fixed = np.polyfit(lengths, first_s - square * lengths**2, 1)
    if linear <= 0:
        raise ConfigurationError(
            f"{url} read longer prompts faster. Measure again with nothing else running."
        )
    per_token_s = max(0.0, (step_s[-1] - step_s[-2]) / (context[-1] - context[-2]))
    return Timings(
        source=f"measured at {url} on {time.strftime('%Y-%m-%d')}",
        slots=_SLOTS,
        step_tokens=_STEP_TOKENS,
        reads_by="slot",
        request_s=max(0.0, fixed),
        write_step_s=tuple((step_s - per_token_s * context)[:_SLOTS].clip(0.0).tolist()),
        write_context_s=per_token_s,
        read_token_s=linear,
        read_context_s=2 * square,
    )


async def _read(client: httpx.AsyncClient, url: str, *, words: int) -> tuple[int, float]:
    """Return tokens of a prompt and seconds to the first token of its answer."""
    token_s, prompt_tokens = await stream_answer(client, url, words=words, tokens=1)
    return prompt_tokens, token_s[0]


async def _write(client: httpx.AsyncClient, url: str, *, count: int, words: int) -> tuple[float, float]:
    """Return seconds of a step in which ``count`` answers are written, and all tokens that they look at."""
    asked = (stream_answer(client, url, words=words, tokens=_WRITTEN_TOKENS) for _ in range(count))
    answers = await asyncio.gather(*asked)
    begin, end = max(token_s[0] for token_s, _ in answers), min(token_s[-1] for token_s, _ in answers)
    steps = median(sum(begin <= at <= end for at in token_s) - 1 for token_s, _ in answers)
    return (end - begin) / max(1.0, steps), count * (answers[0][1] + _WRITTEN_TOKENS / 2)
