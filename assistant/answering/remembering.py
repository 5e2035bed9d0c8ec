"""What was worked out of documents' texts is remembered by the text, and forgotten after a while.

A cache by text keeps the text: without an end to it a withdrawn document would stay in the memory of a
process for as long as that runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Protocol, TypeVar, cast
from weakref import WeakSet

FORGET_EVERY_S = 300.0
"""docs/hipaa.md says so of what a withdrawal leaves."""

Work = TypeVar("Work", bound=Callable[..., Hashable | object])


class _Sized(Protocol):
    @property
    def currsize(self) -> int: ...


class _Cache(Protocol):
    def cache_clear(self) -> None: ...

    def cache_info(self) -> _Sized: ...


_CACHES: WeakSet[_Cache] = WeakSet()


def remember_texts(most: int) -> Callable[[Work], Work]:
    """Return a decorator like ``lru_cache`` for a function of texts; ``forget_texts`` empties it."""

    def remembering(work: Work) -> Work:
        cached = lru_cache(maxsize=most)(work)
        _CACHES.add(cached)
        return cast("Work", cached)

    return remembering


def forget_texts() -> None:
    """Forget every text that this process has worked something out of."""
    for cache in list(_CACHES):
        cache.cache_clear()


def remembered() -> int:
    """Return how many texts are remembered."""
    return sum(cache.cache_info().currsize for cache in _CACHES)


async def forget_regularly(every_s: float) -> None:
    """Forget all texts every so often, until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        forget_texts()
