"""Caches of what was computed from texts, by text: ``remember_texts`` for functions, ``TextCache`` for other
work.

All are emptied regularly (``forget_regularly``): otherwise a withdrawn document would stay in memory for as
long as the process runs.

    @remember_texts(1_000)
    def stems_of(text: str) -> frozenset[str]: ...
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast
from weakref import WeakSet

FORGET_EVERY_S = 300.0
"""docs/hipaa.md names this interval: so long text of a withdrawn document may stay in a service's memory."""

Work = TypeVar("Work", bound=Callable[..., Hashable | object])
Result = TypeVar("Result")


_CACHES: WeakSet[Any] = WeakSet()
"""Functions that ``lru_cache`` returned, while they are in use: each has cache_clear() and cache_info()."""
_TEXT_CACHES: WeakSet[TextCache[Any]] = WeakSet()


class TextCache(Generic[Result]):
    """Keeps the ``most`` results that were last kept or asked for, by the texts that they are about.

    For work in batches, whose caller gets several results from one call: ``remember_texts`` cannot keep each
    of those. ``forget_texts`` empties it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._results: OrderedDict[Hashable, Result] = OrderedDict()
        _TEXT_CACHES.add(self)

    def get(self, texts: Hashable) -> Result | None:
        """Return the result that was kept for these texts; None for none."""
        if texts in self._results:
            self._results.move_to_end(texts)
        return self._results.get(texts)

    def keep(self, texts: Hashable, result: Result) -> None:
        """Keep a result; above ``most`` the one that was not used for longest is dropped."""
        self._results[texts] = result
        if len(self._results) > self._most:
            self._results.popitem(last=False)

    def clear(self) -> None:
        self._results.clear()

    def __len__(self) -> int:
        return len(self._results)


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
    for text_cache in list(_TEXT_CACHES):
        text_cache.clear()


def remembered() -> int:
    """Return the number of cached results."""
    return sum(cache.cache_info().currsize for cache in _CACHES) + sum(map(len, _TEXT_CACHES))


async def forget_regularly(every_s: float) -> None:
    """Empty the caches every ``every_s``, until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        forget_texts()
