"""Calls that come while one is running are run together next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchedCalls(Generic[Item, Result]):
    """Hands items on in batches: whoever comes alone goes alone and at once, nobody waits for company."""

    def __init__(
        self, run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], *, most_at_once: int
    ) -> None:
        self._run = run
        self._most_at_once = most_at_once
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """The items that wait for their batch."""
        return len(self._waiting)

    async def call(self, item: Item, *, timeout_s: float) -> Result:
        """Return the item's result. Raises TimeoutError, or the error of its batch."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._drain())
        return await asyncio.wait_for(future, timeout_s)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                count = min(self._most_at_once, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(count)]
                # Those whose caller has left are not worth their work.
                wanted = [(item, future) for item, future in batch if not future.done()]
                if wanted:
                    await self._run_batch(wanted)
        finally:
            self._running = None

    async def _run_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        except Exception as error:  # noqa: BLE001 (not swallowed: each caller gets it)
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        finally:
            for _, future in batch:
                future.cancel()  # when this task is cancelled; a future that is done stays as it is
