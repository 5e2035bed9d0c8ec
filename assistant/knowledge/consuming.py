"""Takes messages from a queue in batches and has them handled; loses none, and lets none stop the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from assistant.domain.errors import AssistantError
from assistant.knowledge.batch_handling import BatchHandling, BatchInterruptedError
from assistant.knowledge.ports import IngestionQueue, QueuedDocument

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    documents_per_batch: int = 64
    receive_wait_s: float = 1.0
    visibility_timeout_s: float = 180.0
    """How long a killed worker's batch is missing. A living one's is extended every third of it."""
    longest_hold_s: float = 1800.0
    """Work that takes longer hangs: its batch is extended no more, so that another worker gets it."""
    pause_after_error_s: float = 2.0


class QueueConsumer:
    """One lane: one batch at a time. Several lanes may share a queue."""

    def __init__(self, queue: IngestionQueue, handling: BatchHandling, *, limits: ConsumerLimits) -> None:
        self._queue = queue
        self._handling = handling
        self._limits = limits
        self._held: list[QueuedDocument] = []

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until ``stopping`` is set. When cancelled, what is held goes back to the queue."""
        try:
            while not stopping.is_set():
                try:
                    await self._take_batch()
                except AssistantError as error:  # the queue itself
                    _log.warning("queue_unavailable", code=error.code)
                    await stopped_within(stopping, self._limits.pause_after_error_s)
                except _BatchReturned:
                    await stopped_within(stopping, self._limits.pause_after_error_s)
        finally:
            if self._held:
                await self._return(self._held)

    async def _take_batch(self) -> None:
        self._held = await self._queue.receive(
            limit=self._limits.documents_per_batch,
            wait_s=self._limits.receive_wait_s,
            visibility_timeout_s=self._limits.visibility_timeout_s,
        )
        if self._held:
            async with self._holding():
                await self._handle_held()

    async def _handle_held(self) -> None:
        try:
            await self._handling.run(self._held, done=self._done_with)
        except BatchInterruptedError:
            await self._return(self._held)
            raise _BatchReturned from None

    @asynccontextmanager
    async def _holding(self) -> AsyncGenerator[None]:
        """Keep what is held hidden from other receivers while it is worked on."""
        extending = asyncio.create_task(self._extend_held(), name="extending visibility")
        try:
            yield
        finally:
            extending.cancel()
            await asyncio.wait([extending])

    async def _extend_held(self) -> None:
        visibility_s = self._limits.visibility_timeout_s
        for _ in range(int(3 * self._limits.longest_hold_s / visibility_s)):
            await asyncio.sleep(visibility_s / 3)
            receipts = [message.receipt for message in self._held]
            if not receipts:
                return
            try:
                await self._queue.extend_many(receipts, visibility_timeout_s=visibility_s)
            except AssistantError as error:  # two more tries before the messages become visible
                _log.warning("visibility_not_extended", code=error.code, messages=len(receipts))
        _log.error("batch_held_too_long", messages=len(self._held))

    async def _done_with(self, messages: Sequence[QueuedDocument]) -> None:
        await self._queue.delete_many([message.receipt for message in messages])
        self._held = [message for message in self._held if message not in messages]

    async def _return(self, messages: Sequence[QueuedDocument]) -> None:
        """Put messages back as new ones: waiting for an endpoint shall not use up their attempts."""
        self._held = []
        try:
            await self._queue.send_many([message.document_id for message in messages])
            await self._queue.delete_many([message.receipt for message in messages])
        except AssistantError as error:  # then they come back after their visibility time-out
            _log.warning("queue_unavailable", code=error.code)


async def stopped_within(stopping: asyncio.Event, seconds: float) -> bool:
    """Wait so long at most; say whether the stop was asked for."""
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return False
    return True


class _BatchReturned(Exception):
    """The batch went back to the queue; wait before taking the next."""
