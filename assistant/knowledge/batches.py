"""Handles the messages of one batch, wherever they came from: none is lost, and none stops the rest.

A worker that is killed says nothing about its documents: a delivery is no attempt. A message that was
delivered often is a suspect, no more, and handled alone. An attempt is what is written into the document's
status before that; a document that was begun alone so often and never ended is what stops the worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from assistant.domain.errors import AssistantError, DependencyError
from assistant.knowledge.ports import QueuedDocument

MOST_TRIES_ALONE = 3
GAVE_UP = "gave_up"
_log = structlog.get_logger(__name__)

HandleBatch = Callable[[Sequence[str]], Awaitable[None]]
"""Takes ids of documents. What it raises of our own errors is a dependency's, and passes."""
Done = Callable[[Sequence[QueuedDocument]], Awaitable[None]]
"""Is told of messages that need not come again."""


class GiveUp(Protocol):
    """Says in a document's state that it was given up, and why."""

    def __call__(self, document_id: str, *, code: str, reason: str) -> Awaitable[None]: ...


class TriesAlone(Protocol):
    """Counts attempts where they outlive the worker. Raises DependencyError."""

    async def tries_alone(self, document_ids: Sequence[str]) -> Mapping[str, int]:
        """Return for each document that is known how often it was begun alone and not ended."""
        ...

    async def begin_alone(self, document_id: str) -> None:
        """Count one more, before the document is handled; nothing for one that has nothing left to do."""
        ...

    async def end_alone(self, document_id: str) -> None:
        """Count one less: the worker lives, whatever became of the document."""
        ...


class Company:
    """Who is handled in a process at this time: several batches together, or one document alone."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._together = 0
        self._alone = False

    @asynccontextmanager
    async def together(self) -> AsyncGenerator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone)
            self._together += 1
        try:
            yield
        finally:
            async with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone)
            self._alone = True  # from now on nothing else begins
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._together == 0)
            yield
        finally:
            async with self._changed:
                self._alone = False
                self._changed.notify_all()


class BatchInterruptedError(Exception):
    """A dependency did not answer: what was not done yet goes back to its queue, and waits."""

    def __init__(self, cause: AssistantError) -> None:
        super().__init__(cause.message)
        self.cause = cause


class BatchHandling:
    """``alone_from_attempt``: a message that comes back so often may be what stops its worker; from then on
    it is handled alone. Without ``tries`` nothing is given up for having stopped its worker.

    All handlings of one queue in a process share their ``company``.
    """

    def __init__(
        self,
        handle: HandleBatch,
        *,
        give_up: GiveUp,
        tries: TriesAlone | None = None,
        company: Company | None = None,
        alone_from_attempt: int = 3,
    ) -> None:
        self._handle = handle
        self._give_up = give_up
        self._tries = tries
        self._company = company or Company()
        self._alone_from_attempt = alone_from_attempt

    async def run(self, messages: Sequence[QueuedDocument], *, done: Done) -> None:
        """Handle all of them; a document that fails by itself is given up, and its message done.

        Raises BatchInterruptedError.
        """
        tries = await self._tries_of(messages)
        suspects = [m for m in messages if m.attempt >= self._alone_from_attempt or tries.get(m.document_id)]
        together = [m for m in messages if m not in suspects]
        if together:
            async with self._company.together():
                await self._handle_messages(together, done)
        # What was never alone goes first: one that stops the worker again holds up no other.
        for message in sorted(suspects, key=lambda suspect: tries.get(suspect.document_id, 0)):
            if tries.get(message.document_id, 0) >= MOST_TRIES_ALONE:
                reason = (
                    f"The worker ended {MOST_TRIES_ALONE} times while it processed this document alone. "
                    "Change the document and add it again. The next start of the worker tries it once more."
                )
                await self._abandon(message, code=GAVE_UP, reason=reason)
                await done([message])
            else:
                async with self._company.alone():
                    await self._handle_alone(message, done)

    async def _tries_of(self, messages: Sequence[QueuedDocument]) -> Mapping[str, int]:
        if self._tries is None:
            return {}
        try:
            return await self._tries.tries_alone([message.document_id for message in messages])
        except AssistantError as error:
            raise BatchInterruptedError(error) from None

    async def _handle_alone(self, message: QueuedDocument, done: Done) -> None:
        if self._tries is None:
            await self._handle_messages([message], done)
            return
        try:
            await self._tries.begin_alone(message.document_id)
        except AssistantError as error:
            raise BatchInterruptedError(error) from None
        try:
            await self._handle_messages([message], done)
        except (BatchInterruptedError, asyncio.CancelledError):  # a dependency, or an orderly stop
            with suppress(AssistantError):
                await self._tries.end_alone(message.document_id)
            raise

    async def _handle_messages(self, messages: Sequence[QueuedDocument], done: Done) -> None:
        try:
            await self._handle(list(dict.fromkeys(message.document_id for message in messages)))
        except AssistantError as error:
            _log.warning("batch_returned", code=error.code, reason=error.message, documents=len(messages))
            raise BatchInterruptedError(error) from None
        except Exception:  # noqa: BLE001 (the edge of a batch: one bad document shall not stop the worker)
            _log.exception("batch_failed", documents=len(messages))
            if len(messages) > 1:  # find the one: the others shall not fail with it
                for message in messages:
                    await self._handle_messages([message], done)
                return
            reason = "The worker failed on it; its log says where."
            await self._abandon(messages[0], code="internal", reason=reason)
        await done(messages)

    async def _abandon(self, message: QueuedDocument, *, code: str, reason: str) -> None:
        try:
            await self._give_up(message.document_id, code=code, reason=reason)
        except AssistantError as error:
            raise BatchInterruptedError(error) from None


# Handles a batch that somebody else took from the queue, and will delete when we say so: a function's.


PAUSED_DELAY_S = 900
"""The longest that SQS knows: so often each waiting message is looked at while the endpoints are paused."""
UNAVAILABLE_DELAY_S = 60


class LaterQueue(Protocol):
    """A queue whose messages may be sent now and received later."""

    async def send_later(self, document_ids: Sequence[str], *, delay_s: int) -> None: ...

    async def extend_many(self, receipts: Sequence[str], *, visibility_timeout_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    done: int
    postponed: int


class PostponingBatches:
    """``queue`` is where the messages came from."""

    def __init__(self, handling: BatchHandling, *, queue: LaterQueue) -> None:
        self._handling = handling
        self._queue = queue

    async def handle(self, messages: Sequence[QueuedDocument]) -> BatchOutcome:
        """Handle all of them. On return each is either done or waits in the queue as a new message.

        Raises DependencyError when the queue does not take them back: then the old ones must stay.
        """
        left = list(messages)

        async def done(handled: Sequence[QueuedDocument]) -> None:
            for message in handled:
                left.remove(message)

        try:
            await self._handling.run(messages, done=done)
        except BatchInterruptedError:
            await self.postpone(left, delay_s=UNAVAILABLE_DELAY_S)
        return BatchOutcome(done=len(messages) - len(left), postponed=len(left))

    async def put_back(self, receipts: Sequence[str]) -> None:
        """Let messages that are none of ours come again at once: so each is soon a dead letter, and does not
        wait for as many visibility time-outs as it may be delivered."""
        if not receipts:
            return
        try:
            await self._queue.extend_many(receipts, visibility_timeout_s=0.0)
        except DependencyError as error:  # they come back after their visibility time-out
            _log.warning("messages_not_put_back", messages=len(receipts), reason=error.message)

    async def postpone(self, messages: Sequence[QueuedDocument], *, delay_s: int) -> BatchOutcome:
        """Put all of them back untouched. Raises DependencyError."""
        await self._queue.send_later(
            list(dict.fromkeys(message.document_id for message in messages)), delay_s=delay_s
        )
        _log.info("documents_postponed", documents=len(messages), delay_s=delay_s)
        return BatchOutcome(done=0, postponed=len(messages))
