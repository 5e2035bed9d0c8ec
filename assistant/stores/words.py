"""Words that an operator changes while processes run, such as ``on``: in files of a tenant, or in parameters
of SSM.

A reading runs in the background, and the requests after it use its result. A request waits for a reading, for
at most _WAIT_S, only where none has ended lately: so a store that stalls delays no request longer.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from assistant.domain.clock import Clock
from assistant.domain.errors import DependencyError
from assistant.stores.store import Store, Words, WordsOf
from assistant.tenant.deployed_names import CLOSED, ON

_WAIT_S = 1.0
"""Longest wait of a request for a reading, from the reading's begin."""
_LONGEST_FILE_BYTES = 1024 * 1024
"""More of a file is not read: a word is short, the longest is the JSON of the revocations."""
_log = structlog.get_logger(__name__)


class FileWords:
    """``Words`` in the file ``place`` (name ``""``), or in files of the folder ``place``."""

    refresh_s = 2.0

    def __init__(self, place: Path) -> None:
        self._place = place

    async def read(self, name: str) -> bytes | None:
        try:
            return await asyncio.to_thread(self._read, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DependencyError(f"{self._place / name} cannot be read: {error.strerror}.") from None

    def _read(self, name: str) -> bytes:
        with (self._place / name).open("rb") as file:
            return file.read(_LONGEST_FILE_BYTES)


@dataclass(slots=True)
class _Readings:
    """The readings of one word. Times are monotonic seconds."""

    known: bool | None = None
    """The last meaning that could be read; None before the first."""
    last_began_at_s: float = -math.inf
    last_ended_began_at_s: float = -math.inf
    """When the last reading that has ended had begun: the age of ``known``. A failed reading counts too."""
    running: asyncio.Task[bool | None] | None = None


class Latest:
    """What the words of a tenant mean (true or false), as of a few seconds ago.

    ``of`` begins a reading where the last one began more than ``Words.refresh_s`` ago, and waits for it only
    where no reading has ended in twice that time. With 2 s: a request every second never waits; the first
    one, and one after 5 s without requests, wait for a reading, at most _WAIT_S.
    """

    def __init__(
        self, words: Words, *, means: Callable[[str | None], bool], clock: Clock, unread: Callable[..., None]
    ) -> None:
        """``means`` gets a word without white space around it, or None where there is no word, and returns
        what it means. ``unread`` logs, with the keywords ``name`` and ``reason``, that a word could not be
        read."""
        self._words = words
        self._means = means
        self._clock = clock
        self._unread = unread
        self._words_read = defaultdict[str, _Readings](_Readings)

    async def of(self, name: str = "") -> bool | None:
        """Return the last meaning of the word ``name`` that could be read; None before the first."""
        now_s, refresh_s, state = self._clock.monotonic_s(), self._words.refresh_s, self._words_read[name]
        if now_s - state.last_began_at_s >= refresh_s and (state.running is None or state.running.done()):
            state.last_began_at_s = now_s
            state.running = asyncio.create_task(self.read(name))
        left_s = state.last_began_at_s + _WAIT_S - now_s
        is_stale = now_s - state.last_ended_began_at_s > 2 * refresh_s
        if state.running is not None and is_stale and left_s > 0:
            await asyncio.wait([state.running], timeout=left_s)
        return state.known

    async def read(self, name: str = "") -> bool | None:
        """Read a word now, and return its last meaning that could be read."""
        began_s, state = self._clock.monotonic_s(), self._words_read[name]
        try:
            content = await self._words.read(name)
            word = None if content is None else content.decode("utf-8", "replace").strip()
            state.known = self._means(word)
        except DependencyError as error:
            self._unread(name=name, reason=error.message)
        finally:
            state.last_ended_began_at_s = began_s
        return state.known

    async def close(self) -> None:
        """Cancel the readings that run."""
        running = [word.running for word in self._words_read.values() if word.running is not None]
        for reading in running:
            reading.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class Power:
    """The power state of the tenant's model endpoints.

    It is one word: ``on`` or one of ``CLOSED``; no word means on.

    Any other word is logged and means on: calls to the endpoints report their own state. While the word
    cannot be read, the last state is kept.
    """

    def __init__(self, words: Words, *, clock: Clock) -> None:
        unread = partial(_log.warning, "power_not_read")
        self._latest = Latest(words, means=_is_closed, clock=clock, unread=unread)

    async def is_paused(self) -> bool:
        """Return the state as of a few seconds ago; the first call waits a second at most. While the word
        cannot be read, return the last known state; False before the first read."""
        return await self._latest.of() or False

    async def read(self) -> bool:
        """Read the word now, and return whether the endpoints are paused."""
        return await self._latest.read() or False

    async def close(self) -> None:
        await self._latest.close()


def _is_closed(word: str | None) -> bool:
    if word not in (None, ON, *CLOSED):
        _log.warning("power_not_understood")
    return word in CLOSED


POWER = Store(WordsOf("power", "power_parameter"), lambda words, clock: Power(words, clock=clock))


class Revocations:
    """The revoked tokens of a tenant as JSON, one word; without it none is revoked."""

    def __init__(self, words: Words) -> None:
        self._words = words

    async def fetch(self) -> bytes:
        """Return the word. Raises DependencyError."""
        content = await self._words.read("")
        return b"{}" if content is None else content
