"""Words that an operator changes while processes run: in files of a tenant, or in parameters of SSM.

A reading runs in the background and counts for the requests after it. Only a first reading is waited for, and
one after a quiet time, a second at most: a store that stalls delays no request longer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from assistant.domain.clock import Clock
from assistant.domain.errors import DependencyError
from assistant.process.private_files import make_private_folder, write_private

_WAIT_S = 1.0
_LONGEST_FILE_BYTES = 1024 * 1024


class Words(Protocol):
    """Words of one tenant by name; a place with one word has it under the name ``""``."""

    refresh_s: float
    """How old a reading may be before a request starts the next one."""

    async def read(self, name: str) -> bytes | None:
        """Return the word now; None where there is none. Raises DependencyError."""
        ...


class FileWords:
    """``Words`` in a file, or in files of a folder."""

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

    def write(self, name: str, word: str) -> None:
        """Raises OSError."""
        make_private_folder((self._place / name).parent)
        write_private(self._place / name, word.encode())

    def _read(self, name: str) -> bytes:
        with (self._place / name).open("rb") as file:
            return file.read(_LONGEST_FILE_BYTES)


class Latest:
    """What the words of a tenant mean, as of a few seconds ago."""

    def __init__(
        self, words: Words, *, means: Callable[[str | None], bool], clock: Clock, unread: Callable[..., None]
    ) -> None:
        """``means``: of a word without white space around it, None for none. ``unread`` logs that one
        could not be read."""
        self._words = words
        self._means = means
        self._clock = clock
        self._unread = unread
        self.known: dict[str, bool] = {}
        """The last meaning of each name that could be read."""
        self._began_at_s: dict[str, float] = {}
        """When the last reading of a name began."""
        self._ended_at_s: dict[str, float] = {}
        """When the last reading that ended began."""
        self._readings: dict[str, asyncio.Task[None]] = {}

    async def of(self, name: str = "") -> bool | None:
        """Return the last meaning that could be read; None before the first."""
        now_s, reading = self._clock.monotonic_s(), self._readings.get(name)
        refresh_s = self._words.refresh_s
        if now_s - self._began_at_s.get(name, -math.inf) >= refresh_s and (reading is None or reading.done()):
            self._began_at_s[name] = now_s
            reading = self._readings[name] = asyncio.create_task(self.read(name))
        left_s = self._began_at_s[name] + _WAIT_S - now_s
        if (
            reading is not None
            and now_s - self._ended_at_s.get(name, -math.inf) > 2 * refresh_s
            and left_s > 0
        ):
            await asyncio.wait([reading], timeout=left_s)
        return self.known.get(name)

    async def read(self, name: str = "") -> None:
        """Read a word now."""
        began_s = self._clock.monotonic_s()
        try:
            content = await self._words.read(name)
            word = None if content is None else content.decode("utf-8", "replace").strip()
            self.known[name] = self._means(word)
        except DependencyError as error:
            self._unread(name=name, reason=error.message)
        finally:
            self._ended_at_s[name] = began_s

    async def close(self) -> None:
        for reading in self._readings.values():
            reading.cancel()
        await asyncio.gather(*self._readings.values(), return_exceptions=True)
