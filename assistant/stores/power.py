"""What an operator says of one tenant while it is served: whether its endpoints are paused, and which tokens
are revoked."""

from __future__ import annotations

from functools import partial

import structlog

from assistant.domain.clock import Clock
from assistant.stores.store import Store, WordsOf
from assistant.stores.words import Latest, Words
from assistant.tenant.deployed_names import CLOSED, ON

_log = structlog.get_logger(__name__)


class Power:
    """``EndpointPower`` by one word: ``on`` or one of ``CLOSED``; no word means on.

    Any other word is logged and means on: calls to the endpoints report their own state. While the word
    cannot be read, the last state is kept.
    """

    def __init__(self, words: Words, *, clock: Clock) -> None:
        unread = partial(_log.warning, "power_not_read")
        self._latest = Latest(words, means=_is_closed, clock=clock, unread=unread)

    async def is_paused(self) -> bool:
        return await self._latest.of() or False

    async def read(self) -> bool:
        """Read the word now, and return whether the endpoints are paused."""
        await self._latest.read()
        return self._latest.known.get("", False)

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
