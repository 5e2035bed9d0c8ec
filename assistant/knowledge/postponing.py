"""Handles a batch that somebody else took from the queue, and will delete when we say so: a function's.

What cannot be done now is put back as new messages that come later: waiting for an endpoint, also through a
paused night, uses up no attempts, and nothing of it becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from assistant.domain.errors import DependencyError
from assistant.knowledge.batch_handling import BatchHandling, BatchInterruptedError
from assistant.knowledge.ports import QueuedDocument

PAUSED_DELAY_S = 900
"""The longest that SQS knows: so often each waiting message is looked at while the endpoints are paused."""
UNAVAILABLE_DELAY_S = 60

_log = structlog.get_logger(__name__)


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
