"""Embeds the texts of a batch of documents: several requests in flight, retried with back-off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import AssistantError, PassageTooLongError
from assistant.knowledge.ports import PassageEmbedder

_log = structlog.get_logger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    passages_per_request: int = 32
    """Text Embeddings Inference's default bound of a client's batch."""
    requests_in_flight: int = 4
    """Two embedding workers busy, and for each the next request waiting."""
    request_timeout_s: float = 60.0
    retry_for_s: float = 60.0
    """How long a request is tried again before its documents go back to the queue."""
    first_pause_s: float = 0.2
    longest_pause_s: float = 5.0


class BatchEmbedder:
    """Shared by all batches in progress of a tenant: the bound on requests holds over all of them."""

    def __init__(
        self, embedder: PassageEmbedder, *, clock: Clock, limits: EmbeddingLimits | None = None
    ) -> None:
        self._embedder = embedder
        self._clock = clock
        self._limits = limits or EmbeddingLimits()
        self._free = asyncio.Semaphore(self._limits.requests_in_flight)

    async def embed(
        self, documents: Sequence[Sequence[str]]
    ) -> list[list[list[float]] | PassageTooLongError]:
        """Return for each document the vectors of its texts, or why the endpoint refused one of them.

        Raises the endpoint's last error when it did not answer for ``retry_for_s``.
        """
        inputs = [text for texts in documents for text in texts]
        try:
            vectors = await self._embed_all(inputs)
        except PassageTooLongError:
            # One text is refused: ask for each document alone, so that only that one fails.
            return [await self._embed_one(texts) for texts in documents]
        remaining = iter(vectors)
        return [[next(remaining) for _ in texts] for texts in documents]

    async def _embed_one(self, texts: Sequence[str]) -> list[list[float]] | PassageTooLongError:
        try:
            return await self._embed_all(texts)
        except PassageTooLongError as error:
            return error

    async def _embed_all(self, inputs: Sequence[str]) -> list[list[float]]:
        size = self._limits.passages_per_request
        requests = [self._request(inputs[start : start + size]) for start in range(0, len(inputs), size)]
        return [vector for vectors in await _all_or_cancel(requests) for vector in vectors]

    async def _request(self, texts: Sequence[str]) -> list[list[float]]:
        give_up = Deadline.after(self._limits.retry_for_s, clock=self._clock)
        pause_s = self._limits.first_pause_s
        while True:
            try:
                async with self._free:
                    deadline = Deadline.after(self._limits.request_timeout_s, clock=self._clock)
                    return await self._embedder.embed(texts, deadline=deadline)
            except AssistantError as error:
                if not error.retryable or give_up.remaining_s() <= pause_s:
                    raise
                if pause_s == self._limits.first_pause_s:  # once a request: an outage shall not fill the log
                    _log.warning("embedding_retried", code=error.code, reason=error.message)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            pause_s = min(2 * pause_s, self._limits.longest_pause_s)


async def _all_or_cancel(requests: Sequence[Awaitable[Result]]) -> list[Result]:
    """Return all results in order; when one fails, cancel the others and raise its error alone."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
