"""Finds texts that are near-duplicates, by the share of parts that two of them have in common (Jaccard)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

_SHINGLE_WORDS = 3


class Alike:
    """Sets of parts, with an index by part: only those that share one are compared."""

    def __init__(self, similar_from: float, known: Iterable[frozenset[str]] = ()) -> None:
        """``similar_from``: share of common parts from which two sets are alike."""
        self._similar_from = similar_from
        self._sets: list[frozenset[str]] = []
        self._holding: defaultdict[str, list[int]] = defaultdict(list)
        for parts in known:
            self.add(parts)

    def add(self, parts: frozenset[str]) -> None:
        for part in parts:
            self._holding[part].append(len(self._sets))
        self._sets.append(parts)

    def of(self, parts: frozenset[str]) -> list[int]:
        """Return the numbers of the sets that are alike, in the order in which they were added."""
        common = Counter(at for part in parts for at in self._holding.get(part, ()))
        return sorted(
            at
            for at, count in common.items()
            if count / (len(parts) + len(self._sets[at]) - count) >= self._similar_from
        )


def families(texts: Sequence[str], *, similar_from: float) -> list[int]:
    """Return the family of each text, which is the number of its first member: texts that are alike by their
    word triples, case and white space aside, and whatever is alike to one of them."""
    index, family = Alike(similar_from), list[int]()
    for at, text in enumerate(texts):
        triples = _triples(text)
        joined = {family[other] for other in index.of(triples)}
        first = min(joined, default=at)
        family = [first if one in joined else one for one in family] if len(joined) > 1 else family
        family.append(first)
        index.add(triples)
    return family


def _triples(text: str) -> frozenset[str]:
    words = text.lower().split()
    count = max(1, len(words) - _SHINGLE_WORDS + 1)
    return frozenset(" ".join(words[at : at + _SHINGLE_WORDS]) for at in range(count))
