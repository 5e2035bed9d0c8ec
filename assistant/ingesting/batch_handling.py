"""Handles the messages of one batch, wherever they came from: none is lost, and none stops the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from assistant.domain.errors import AssistantError
from assistant.ingesting.ports import MAX_ATTEMPTS, QueuedDocument

_log = structlog.get_logger(__name__)

HandleBatch = Callable[[Sequence[str]], Awaitable[None]]
"""Takes ids of documents. What it raises of our own errors is a dependency's, and passes."""
Done = Callable[[Sequence[QueuedDocument]], Awaitable[None]]
"""Is told of messages that need not come again."""


class GiveUp(Protocol):
    """Says in a document's state that it was given up, and why."""

    def __call__(self, document_id: str, *, code: str, reason: str) -> Awaitable[None]: ...


class BatchInterruptedError(Exception):
    """A dependency did not answer: what was not done yet goes back to its queue, and waits."""

    def __init__(self, cause: AssistantError) -> None:
        super().__init__(cause.message)
        self.cause = cause


class BatchHandling:
    """``alone_from_attempt``: a message that comes back so often may be what stops its worker; from then on
    it is handled alone."""

    def __init__(self, handle: HandleBatch, *, give_up: GiveUp, alone_from_attempt: int = 3) -> None:
        self._handle = handle
        self._give_up = give_up
        self._alone_from_attempt = alone_from_attempt

    async def run(self, messages: Sequence[QueuedDocument], *, done: Done) -> None:
        """Handle all of them; a document that fails by itself is given up, and its message done.

        Raises BatchInterruptedError.
        """
        alone = [m for m in messages if m.attempt >= self._alone_from_attempt]
        together = [m for m in messages if m not in alone]
        if together:
            await self._handle_messages(together, done)
        for message in alone:
            if message.attempt < MAX_ATTEMPTS:
                await self._handle_messages([message], done)
            else:
                reason = f"Processing was begun {MAX_ATTEMPTS - 1} times and never ended."
                await self._abandon(message, code="gave_up", reason=reason)
                await done([message])

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
