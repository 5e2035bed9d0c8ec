"""Cuts an answer into sentences while it is written.

A sentence is given as soon as its end is certain: a line break, or a mark of its end, what closes it and the
first character of what follows. The text is looked at once, and where sentences end does not depend on where
its parts were cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f\n]")
_CLOSERS = r"[.!?\u2026\"'\u201d\u2019\u00bb)\]*_]*"
_AFTER = re.compile(rf"({_CLOSERS})([^\S\n]*)(\S|\n)?")
_FULL_WIDTH = frozenset("\u3002\uff01\uff1f")
_ITEM_NUMBER = re.compile(r"[\s*_#>-]*(?:step\s+)?(?:\d{1,3}|[A-Za-z])\Z", re.IGNORECASE)
_LAST_WORD = re.compile(r"[^\s(\[\"'\u201c\u2018]+\Z")
_LONGEST_BEFORE = 40
"""Characters looked at before a full stop: more than any abbreviation or item's number has."""
_SUBSTANCE = re.compile(r"[^\W_]")

_CONTINUING = "dr mr mrs ms prof st vs e.g i.e cf approx ext fig figs eq sr jr gen rev hon messrs incl tel"
_AMBIGUOUS = (
    "etc no nos p pp sec sect ch art para ref inc ltd co corp dept est min max avg wt vol oz lb lbs tsp tbsp "
    "pt qt gal hr hrs yr yrs mo wk tab tabs cap caps mg mcg ml kg cm mm a.m p.m am pm u.s u.k b.i.d t.i.d "
    "q.i.d p.r.n jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun"
)
_ALWAYS_CONTINUES = frozenset(_CONTINUING.split())
"""Abbreviations whose full stop never ends a sentence."""
_MAY_CONTINUE = frozenset(_AMBIGUOUS.split())
"""Abbreviations whose full stop ends a sentence only before a capital letter."""


@dataclass(frozen=True, slots=True)
class SentenceSpan:
    """[start, end) of a sentence in the answer's text, without surrounding white space."""

    start: int
    end: int
    text: str


class SentenceSplitter:
    """One answer's text, part by part."""

    __slots__ = ("_looked_at", "_pending", "_start", "_taken")

    def __init__(self) -> None:
        self._pending = ""
        self._start = 0
        """Where ``_pending`` begins in the answer's text."""
        self._taken = 0
        """How much of ``_pending`` was given: it is cut off with the next part, not with each sentence."""
        self._looked_at = 0
        """How far ``_pending`` holds no end of a sentence."""

    def push(self, text: str) -> Iterator[SentenceSpan]:
        """Take the next part and yield the sentences whose end is certain by it."""
        self._pending = self._pending[self._taken :] + text
        self._start += self._taken
        self._looked_at -= self._taken
        self._taken = 0
        while (end := self._next_end(final=False)) is not None:
            yield from self._take(end)

    def flush(self) -> Iterator[SentenceSpan]:
        """Yield what is left at the end of the text."""
        while (end := self._next_end(final=True)) is not None:
            yield from self._take(end)
        yield from self._take(len(self._pending))

    def _next_end(self, *, final: bool) -> int | None:
        while mark := _END.search(self._pending, self._looked_at):
            if mark[0] == "\n":
                return mark.end()
            after = _AFTER.match(self._pending, mark.end())
            if after is None or (after[3] is None and not final):
                self._looked_at = mark.start()
                return None
            if self._ends(mark, after):
                return after.end(1)
            # None of the marks among the closers ends it either: the same character follows them.
            self._looked_at = after.end(1)
        self._looked_at = len(self._pending)
        return None

    def _ends(self, mark: re.Match[str], after: re.Match[str]) -> bool:
        follows = after[3]
        if mark[0] in _FULL_WIDTH or follows is None or follows == "\n":
            return True
        if not after[2]:
            return False  # "0.5", "e.g.", an address: no white space after it
        if mark[0] in "!?" or any(closer in "!?" for closer in after[1]):
            return not follows.islower()
        return self._full_stop_ends(mark.start(), after, follows)

    def _full_stop_ends(self, at: int, after: re.Match[str], follows: str) -> bool:
        if follows.islower():
            return False
        if after[1]:
            return True  # closed by a quotation mark or a bracket
        begins = self._taken
        if at - begins < _LONGEST_BEFORE and _ITEM_NUMBER.fullmatch(self._pending, begins, at):
            return False  # "1. Ask for the card."
        word = _LAST_WORD.search(self._pending, max(begins, at - _LONGEST_BEFORE), at)
        last = word[0].casefold() if word else ""
        return last not in _ALWAYS_CONTINUES and (follows.isupper() or last not in _MAY_CONTINUE)

    def _take(self, end: int) -> Iterator[SentenceSpan]:
        piece = self._pending[self._taken : end]
        text = piece.strip()
        if _SUBSTANCE.search(text):
            start = self._start + self._taken + len(piece) - len(piece.lstrip())
            yield SentenceSpan(start, start + len(text), text)
        self._taken = self._looked_at = end


def split_sentences(text: str) -> list[SentenceSpan]:
    """Return the sentences of a whole text."""
    splitter = SentenceSplitter()
    return [*splitter.push(text), *splitter.flush()]
