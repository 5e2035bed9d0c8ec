"""The tenant's known words, kept fresh without making a question wait for them."""

from __future__ import annotations

import asyncio

import structlog

from assistant.answering.ports import PassageSearch
from assistant.domain.clock import Clock
from assistant.domain.errors import AssistantError
from assistant.domain.retrieval import KnownWords

FRESH_FOR_S = 300.0
FIRST_WAIT_S = 0.5
"""The first question of a process waits so long for the words; later ones take those that are there."""
_RETRY_AFTER_S = 15.0
_log = structlog.get_logger(__name__)


class KnownWordsReader:
    """Reads the words from the index when they are asked for and older than FRESH_FOR_S, one reading at a
    time. While the index fails, the last ones known are given."""

    def __init__(self, search: PassageSearch, *, clock: Clock) -> None:
        self._search = search
        self._clock = clock
        self._known: KnownWords | None = None
        self._due_s = 0.0
        self._reading: asyncio.Task[None] | None = None

    async def read(self) -> KnownWords | None:
        """Return the words; None as long as they were never read. Raises nothing."""
        if self._reading is None and self._clock.monotonic_s() >= self._due_s:
            self._reading = asyncio.create_task(self._refresh())
        if self._known is None and self._reading is not None:
            await asyncio.wait([self._reading], timeout=FIRST_WAIT_S)
        return self._known

    async def _refresh(self) -> None:
        try:
            self._known = await self._search.known_words()
            self._due_s = self._clock.monotonic_s() + FRESH_FOR_S
        except AssistantError as error:
            self._due_s = self._clock.monotonic_s() + _RETRY_AFTER_S
            _log.warning("known_words_unavailable", code=error.code)
        finally:
            self._reading = None
