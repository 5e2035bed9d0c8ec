"""What stands between an answer that is written and a reader who may be slow."""

from __future__ import annotations

import asyncio
from typing import Protocol

from assistant.answering.events import AnswerEvent, Token
from assistant.api.event_encoding import EncodedEvent

OUTBOX_LIMIT_BYTES = 64 * 1024
_EVENT_OVERHEAD_BYTES = 100
"""About what id, event name and JSON add to a token's text."""

Numbered = tuple[int, AnswerEvent | EncodedEvent]
"""An event with its sequence in the answer, from 1; 0 for one that is of this connection only."""


class EventReader(Protocol):
    """Where the events of one answer are read, by one reader."""

    async def take(self, *, beat_s: float) -> list[Numbered] | None:
        """Return all that waits; nothing when nothing came for ``beat_s``; None when nothing follows."""
        ...


class Outbox:
    """Events that wait for one reader. The writer never waits: over 64 KiB adjoining tokens merge into one,
    so what an answer can pile up is bounded by its own text. A merged token has the last one's sequence."""

    __slots__ = (
        "_beat",
        "_closed",
        "_due_s",
        "_events",
        "_limit_bytes",
        "_merged",
        "_merged_to",
        "_size_bytes",
        "_waiter",
    )

    def __init__(self, *, limit_bytes: int = OUTBOX_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._events: list[Numbered] = []
        self._merged: list[str] = []
        self._merged_to = 0
        self._size_bytes = 0
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._due_s = 0.0
        self._beat: asyncio.TimerHandle | None = None

    def put(self, sequence: int, event: AnswerEvent) -> None:
        if isinstance(event, Token):
            if self._size_bytes >= self._limit_bytes:
                self._merged.append(event.text)
                self._merged_to = sequence
            else:
                self._events.append((sequence, event))
            self._size_bytes += len(event.text) + _EVENT_OVERHEAD_BYTES
        else:
            self._close_merged()
            self._events.append((sequence, event))
        self._wake()

    def close(self) -> None:
        """Nothing more is put."""
        self._closed = True
        self._stop_beat()
        self._wake()

    async def take(self, *, beat_s: float) -> list[Numbered] | None:
        if not (self._events or self._merged or self._closed):
            await self._wait(beat_s)
        self._close_merged()
        taken, self._events = self._events, []
        self._size_bytes = 0
        return taken if taken or not self._closed else None

    async def _wait(self, beat_s: float) -> None:
        """Wait until something is put, or for the beat. The beat's timer outlives the wait: tokens come far
        more often than beats, and a timer of its own for each costs more than the wait."""
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + beat_s
        if self._beat is None or self._beat.when() > self._due_s:
            self._stop_beat()
            self._beat = loop.call_at(self._due_s, self._on_beat)
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _on_beat(self) -> None:
        self._beat = None
        if self._waiter is None:
            return  # nobody waits: the next wait begins anew
        loop = asyncio.get_running_loop()
        if loop.time() >= self._due_s:
            self._wake()
        else:
            self._beat = loop.call_at(self._due_s, self._on_beat)

    def _stop_beat(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _close_merged(self) -> None:
        if self._merged:
            self._events.append((self._merged_to, Token("".join(self._merged))))
            self._merged = []
