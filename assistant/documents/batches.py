"""Handles the messages of one batch: no message is lost, and a document that stops its worker stops no other.

A killed worker reports nothing, so the number of deliveries does not count as failed tries. A message that
was delivered often is only suspected, and handled alone in its process. Before that, the try is counted in
the document's status; after MAX_TRIES_ALONE tries that did not end the document is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Protocol

import structlog

from assistant.domain.errors import AssistantError
from assistant.stores.ports import QueuedDocument

ALONE_FROM_ATTEMPT = 3
MAX_TRIES_ALONE = 3
GAVE_UP = "gave_up"
PAUSED_DELAY_S = 900
"""The longest delay of SQS. Waiting messages are checked this often while the endpoints are paused."""
UNAVAILABLE_DELAY_S = 60
_log = structlog.get_logger(__name__)

HandleBatch = Callable[[Sequence[str]], Awaitable[None]]
"""Handles documents by id. An AssistantError from it means that a dependency is unavailable."""
Done = Callable[[Sequence[QueuedDocument]], Awaitable[None]]
"""Receives messages that need not be delivered again."""


class GiveUp(Protocol):
    """Records in a document's status that it was given up, and why."""

    def __call__(self, document_id: str, *, code: str, reason: str) -> Awaitable[None]: ...


class TriesAloneCounter(Protocol):
    """Counts tries where they outlive the worker. Raises DependencyError."""

    async def tries_alone(self, document_ids: Sequence[str]) -> Mapping[str, int]:
        """Return, for each known document, the number of tries alone that have not ended."""
        ...

    async def count_alone(self, document_id: str, tries: int) -> None:
        """Add 1 before the document is handled alone, and -1 when that was interrupted.

        Does nothing for a document without work left. A document that becomes live loses its count.
        """
        ...


class SharedLock:
    """Lets several batches run together, or one document alone, in a process."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._shared = 0
        self._exclusive = False

    @asynccontextmanager
    async def shared(self) -> AsyncGenerator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._exclusive)
            self._shared += 1
        try:
            yield
        finally:
            async with self._changed:
                self._shared -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def exclusive(self) -> AsyncGenerator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._exclusive)
            self._exclusive = True  # no other holder can begin from now on
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._shared == 0)
            yield
        finally:
            async with self._changed:
                self._exclusive = False
                self._changed.notify_all()


class BatchInterruptedError(Exception):
    """A dependency is unavailable: the messages that are not done must go back to their queue."""

    def __init__(self, cause: AssistantError) -> None:
        super().__init__(cause.message)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class BatchHandling:
    """Handles batches of one queue: all of a process, which share their ``lock``.

    A message is suspected of stopping its worker from delivery ALONE_FROM_ATTEMPT on, and handled alone.
    Without ``counter`` no document is given up for stopping its worker.
    """

    handle: HandleBatch
    _: KW_ONLY
    give_up: GiveUp
    counter: TriesAloneCounter | None = None
    lock: SharedLock = field(default_factory=SharedLock, init=False)

    async def run(self, messages: Sequence[QueuedDocument], *, done: Done) -> None:
        """Handle all messages. A document that fails by itself is given up, and its message is done.

        Raises BatchInterruptedError.
        """
        tries = await self._tries_of(messages)
        suspects = [m for m in messages if m.attempt >= ALONE_FROM_ATTEMPT or tries.get(m.document_id)]
        together = [m for m in messages if m not in suspects]
        if together:
            async with self.lock.shared():
                await self._handle_messages(together, done)
        # Documents with fewer tries first: one that stops the worker again delays no other.
        for message in sorted(suspects, key=lambda suspect: tries.get(suspect.document_id, 0)):
            if tries.get(message.document_id, 0) >= MAX_TRIES_ALONE:
                reason = (
                    f"The worker ended {MAX_TRIES_ALONE} times while it processed this document alone. "
                    "Change the document and add it again. The next start of the worker tries it once more."
                )
                await self._abandon(message, code=GAVE_UP, reason=reason)
                await done([message])
            else:
                async with self.lock.exclusive():
                    await self._handle_alone(message, done)

    async def _tries_of(self, messages: Sequence[QueuedDocument]) -> Mapping[str, int]:
        if self.counter is None:
            return {}
        with _interrupts():
            return await self.counter.tries_alone([message.document_id for message in messages])

    async def _handle_alone(self, message: QueuedDocument, done: Done) -> None:
        if self.counter is None:
            await self._handle_messages([message], done)
            return
        with _interrupts():
            await self.counter.count_alone(message.document_id, 1)
        try:
            await self._handle_messages([message], done)
        except (BatchInterruptedError, asyncio.CancelledError):  # a dependency, or an orderly stop
            with suppress(AssistantError):
                await self.counter.count_alone(message.document_id, -1)
            raise

    async def _handle_messages(self, messages: Sequence[QueuedDocument], done: Done) -> None:
        """Handle messages together. When that fails, handle each by itself and give up the ones that fail."""
        try:
            await self.handle(list(dict.fromkeys(message.document_id for message in messages)))
        except AssistantError as error:
            _log.warning("batch_returned", code=error.code, reason=error.message, documents=len(messages))
            raise BatchInterruptedError(error) from None
        except Exception:  # noqa: BLE001 (the edge of a batch: one bad document must not stop the worker)
            _log.exception("batch_failed", documents=len(messages))
            if len(messages) > 1:
                for message in messages:
                    await self._handle_messages([message], done)
                return
            reason = "The worker failed on this document. See the worker's log."
            await self._abandon(messages[0], code="internal", reason=reason)
        await done(messages)

    async def _abandon(self, message: QueuedDocument, *, code: str, reason: str) -> None:
        with _interrupts():
            await self.give_up(message.document_id, code=code, reason=reason)


@contextmanager
def _interrupts() -> Generator[None]:
    """Turn an error of a dependency into BatchInterruptedError."""
    try:
        yield
    except AssistantError as error:
        raise BatchInterruptedError(error) from None


class DelayedQueue(Protocol):
    """A queue whose messages can be sent with a delay."""

    async def send_later(self, document_ids: Sequence[str], *, delay_s: int) -> None: ...

    async def put_back(self, receipts: Sequence[str]) -> None: ...


class PostponingBatches:
    """Handles batches that Lambda received from ``queue`` and deletes when the function returns.

    Messages that cannot be handled now are sent again as new, delayed messages. So waiting for an endpoint,
    even through a paused night, uses up no deliveries, and no message becomes a dead letter.
    """

    def __init__(self, handling: BatchHandling, *, queue: DelayedQueue) -> None:
        self._handling = handling
        self._queue = queue

    async def handle(self, messages: Sequence[QueuedDocument]) -> int:
        """Handle all messages. On return each is done, or waits in the queue as a new message: return how
        many wait.

        Raises DependencyError when the queue is unavailable: then the old messages must stay.
        """
        left = list(messages)

        async def done(handled: Sequence[QueuedDocument]) -> None:
            for message in handled:
                left.remove(message)

        try:
            await self._handling.run(messages, done=done)
        except BatchInterruptedError:
            await self.postpone(left, delay_s=UNAVAILABLE_DELAY_S)
        return len(left)

    async def put_back(self, receipts: Sequence[str]) -> None:
        """Make invalid messages visible at once, so that they become dead letters soon, and not after as many
        visibility timeouts as the queue allows deliveries (``documents_ports.MAX_ATTEMPTS``)."""
        await self._queue.put_back(receipts)

    async def postpone(self, messages: Sequence[QueuedDocument], *, delay_s: int) -> int:
        """Send all messages again with a delay, and return their number. Raises DependencyError."""
        document_ids = list(dict.fromkeys(message.document_id for message in messages))
        await self._queue.send_later(document_ids, delay_s=delay_s)
        _log.info("documents_postponed", documents=len(messages), delay_s=delay_s)
        return len(messages)
