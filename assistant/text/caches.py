"""Caches of what was computed from texts, by text.

All are emptied regularly: otherwise a withdrawn document would stay in memory for as long as the process
runs.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast
from weakref import WeakSet

FORGET_EVERY_S = 300.0
"""docs/hipaa.md states this interval for what remains after a withdrawal."""

Work = TypeVar("Work", bound=Callable[..., Hashable | object])
Result = TypeVar("Result")


_CACHES: WeakSet[Any] = WeakSet()
"""What ``lru_cache`` returned."""
_TEXT_CACHES: WeakSet[TextCache[Any]] = WeakSet()


class TextCache(Generic[Result]):
    """Keeps the ``most`` results that were kept or asked for last, by the texts that they are about, for work
    that ``remember_texts`` cannot do: its caller gets several results from one call. ``forget_texts`` empties
    it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._results: OrderedDict[Hashable, Result] = OrderedDict()
        _TEXT_CACHES.add(self)

    def get(self, texts: Hashable) -> Result | None:
        if texts in self._results:
            self._results.move_to_end(texts)
        return self._results.get(texts)

    def keep(self, texts: Hashable, result: Result) -> None:
        self._results[texts] = result
        if len(self._results) > self._most:
            self._results.popitem(last=False)

    def clear(self) -> None:
        self._results.clear()

    def __len__(self) -> int:
        return len(self._results)


def remember_texts(most: int) -> Callable[[Work], Work]:
    """Return a decorator like ``lru_cache`` for functions of texts; ``forget_texts`` empties the caches."""

    def remembering(work: Work) -> Work:
        cached = lru_cache(maxsize=most)(work)
        _CACHES.add(cached)
        return cast("Work", cached)

    return remembering


def forget_texts() -> None:
    """Empty all caches of results by text."""
    for cache in list(_CACHES):
        cache.cache_clear()
    for kept in list(_TEXT_CACHES):
        kept.clear()


def remembered() -> int:
    """Return the number of cached results."""
    return sum(cache.cache_info().currsize for cache in _CACHES) + sum(map(len, _TEXT_CACHES))


async def forget_regularly(every_s: float) -> None:
    """Empty the caches every ``every_s``, until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        forget_texts()
