"""What stands between an answer that is written and a reader who may be slow."""

from __future__ import annotations

import asyncio
from typing import Protocol

from assistant.answering.events import AnswerEvent, Token
from assistant.service.event_encoding import EncodedEvent

OUTBOX_LIMIT_BYTES = 64 * 1024
_EVENT_OVERHEAD_BYTES = 100
"""About what id, event name and JSON add to a token's text."""

Numbered = tuple[int, AnswerEvent | EncodedEvent]
"""An event with its sequence in the answer, from 1; 0 for one that is of this connection only."""


class EventReader(Protocol):
    """Where the events of one answer are read, by one reader."""

    async def take(self, *, timeout_s: float) -> list[Numbered] | None:
        """Return all that waits, or None when nothing follows. Raises TimeoutError after ``timeout_s``
        without anything."""
        ...


class Outbox:
    """Events that wait for one reader. The writer never waits: over 64 KiB adjoining tokens merge into one,
    so what an answer can pile up is bounded by its own text. A merged token has the last one's sequence."""

    __slots__ = ("_closed", "_events", "_limit_bytes", "_merged", "_merged_to", "_ready", "_size_bytes")

    def __init__(self, *, limit_bytes: int = OUTBOX_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._events: list[Numbered] = []
        self._merged: list[str] = []
        self._merged_to = 0
        self._size_bytes = 0
        self._ready = asyncio.Event()
        self._closed = False

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
        self._ready.set()

    def close(self) -> None:
        """Nothing more is put."""
        self._closed = True
        self._ready.set()

    async def take(self, *, timeout_s: float) -> list[Numbered] | None:
        if not self._ready.is_set():
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        self._close_merged()
        taken, self._events = self._events, []
        self._size_bytes = 0
        if not self._closed:
            self._ready.clear()
        return taken if taken or not self._closed else None

    def _close_merged(self) -> None:
        if self._merged:
            self._events.append((self._merged_to, Token("".join(self._merged))))
            self._merged = []
