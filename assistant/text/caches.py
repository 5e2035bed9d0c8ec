"""Caches of what was computed from texts, by text.

All are emptied regularly (``forget_regularly``): otherwise a withdrawn document would stay in memory for as
long as the process runs.

    @remember_texts(1_000)
    def stems_of(text: str) -> frozenset[str]: ...
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, TypeVar, cast
from weakref import WeakSet

FORGET_EVERY_S = 300.0
"""docs/hipaa.md names this interval: so long text of a withdrawn document may stay in a service's memory."""

Work = TypeVar("Work", bound=Callable[..., Hashable | object])
_CACHES: WeakSet[Any] = WeakSet()
"""Functions that ``lru_cache`` returned, while they are in use: each has cache_clear() and cache_info()."""


def remember_texts(most: int) -> Callable[[Work], Work]:
    """Return a decorator like ``lru_cache(most)`` for functions of texts; ``forget_texts`` empties their
    caches."""

    def remembering(work: Work) -> Work:
        cached = lru_cache(maxsize=most)(work)
        _CACHES.add(cached)
        return cast("Work", cached)

    return remembering


def forget_texts() -> None:
    """Empty all caches of results by text."""
    for cache in list(_CACHES):
        cache.cache_clear()


def remembered() -> int:
    """Return the number of cached results."""
    return sum(cache.cache_info().currsize for cache in _CACHES)


async def forget_regularly(every_s: float) -> None:
    """Empty the caches every ``every_s``, until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        forget_texts()
