"""The cache of results by their texts: which it keeps, and that it is emptied with the others."""

from __future__ import annotations

from assistant.text.caches import TextCache, forget_texts, remembered


def test_the_results_that_were_asked_for_last_are_kept() -> None:
    cache = TextCache[int](2)
    cache.keep("a", 1)
    cache.keep("b", 2)
    assert cache.get("a") == 1
    cache.keep("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_it_is_counted_and_emptied_with_the_others() -> None:
    cache = TextCache[int](2)
    before = remembered()
    cache.keep("a", 1)
    assert remembered() == before + 1
    forget_texts()
    assert cache.get("a") is None
