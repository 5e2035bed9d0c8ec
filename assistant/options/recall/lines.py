"""Tells whether a cited line stands verbatim in another content of its document, and which line took its
place.

A line is a unit of the document; in texts without units, and in approved answers, a line of the text. White
space does not count, nor where the line stands.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from difflib import get_close_matches
from functools import cached_property

from assistant.domain.answers import AnswerRecord, QuotedUnit
from assistant.domain.documents import ParsedDocument
from assistant.options.recall.domain import GONE

_MOST_CANDIDATES = 100
_MOST_COMPARED = 500
"""Characters of a line that are compared to find the one in its place."""
_LEAST_ALIKE = 0.3
_MOST_KEPT = 4
"""Contents in memory."""


def units_of(record: AnswerRecord) -> dict[str, list[QuotedUnit]]:
    """Return by document the units that the answer's shown sentences cite, or that it quotes, each once.

    Live values are none of them.
    """
    uses = {use.n: use for use in record.passages}
    cited = [
        QuotedUnit(document_id=use.document_id, content_hash=use.content_hash, span=(unit.start, unit.end))
        for sentence in record.sentences
        if sentence.detail != "withheld"
        for unit in sentence.cited
        if (use := uses.get(unit.n)) is not None
    ]
    by_document: dict[str, list[QuotedUnit]] = {}
    for unit in dict.fromkeys((*cited, *record.quoted)):
        by_document.setdefault(unit.document_id, []).append(unit)
    return by_document


class ContentLines:
    """The lines of one content."""

    def __init__(self, parsed: ParsedDocument) -> None:
        self.parsed = parsed

    @cached_property
    def rows(self) -> Sequence[tuple[int, int, str]]:
        """Start and end in the text, and the words, in order."""
        text = self.parsed.text
        spans = [(unit.span.start, unit.span.end) for unit in self.parsed.units] or list(_lines_in(text))
        return [(start, end, _words(text[start:end])) for start, end in sorted(spans)]

    @cached_property
    def places(self) -> dict[str, int]:
        """Words of a line = its first place among the rows."""
        places: dict[str, int] = {}
        for place, (_, _, words) in enumerate(self.rows):
            places.setdefault(words, place)
        return places

    def within(self, span: tuple[int, int]) -> list[tuple[int, int, str]]:
        """Return the rows of a span; the span itself where it has none."""
        start, end = span
        first = bisect_left(self.rows, (start,))
        found = [row for row in self.rows[first:] if row[0] < end and row[1] <= end]
        return found or [(start, end, _words(self.parsed.text[start:end]))]

    def has_words_of(self, other: ContentLines) -> bool:
        return self.parsed.text.split() == other.parsed.text.split()

    def in_place_of(self, start: int, before: ContentLines) -> str | None:
        """Return this content's line that took the place of the line of ``before`` that begins at ``start``:
        the most alike of the lines that are new."""
        at = bisect_left(before.rows, (start,))
        if at >= len(before.rows):
            return None
        upper = next((self.places[w] for _, _, w in reversed(before.rows[:at]) if w in self.places), -1)
        lower = next(
            (p for _, _, w in before.rows[at + 1 :] if (p := self.places.get(w, -1)) > upper), len(self.rows)
        )
        fresh = [words for _, _, words in self.rows[upper + 1 : lower] if words not in before.places]
        alike = {words[:_MOST_COMPARED]: words for words in fresh[:_MOST_CANDIDATES]}
        wanted = before.rows[at][2][:_MOST_COMPARED]
        found = get_close_matches(wanted, list(alike), n=1, cutoff=_LEAST_ALIKE)
        return alike[found[0]] if found else None


class KeptContents:
    """Contents of documents and approved answers, the last four kept in memory: make one for each sweep and
    each request."""

    def __init__(self, read: Callable[[str, str], Awaitable[ParsedDocument | None]]) -> None:
        """``read``: returns the text of a document's content, by its hash."""
        self._read = read
        self._kept: dict[tuple[str, str], ContentLines | None] = {}

    async def get(self, document_id: str, content_hash: str) -> ContentLines | None:
        """Return a content; None where it is withdrawn, or not stored any more. Raises DependencyError."""
        key = document_id, content_hash
        if key in self._kept:
            kept = self._kept.pop(key)  # the last used one is the last to go
        else:
            parsed = None if content_hash == GONE else await self._read(*key)
            kept = None if parsed is None else ContentLines(parsed)
            self._kept = dict(list(self._kept.items())[1 - _MOST_KEPT :])
        self._kept[key] = kept
        return kept

    async def fallen(self, units: Sequence[QuotedUnit], now: str) -> tuple[QuotedUnit, ...]:
        """Return the cited lines of one document that do not stand in the content ``now``."""
        fallen: list[QuotedUnit] = []
        for unit in units:
            if unit.content_hash == now:
                continue
            new = await self.get(unit.document_id, now)
            old = await self.get(unit.document_id, unit.content_hash)
            if new is None or old is None:
                fallen.append(unit)
                continue
            gone = [row for row in old.within(unit.span) if row[2] not in new.places]
            if gone and not await asyncio.to_thread(new.has_words_of, old):
                fallen += [unit.model_copy(update={"span": (start, end)}) for start, end, _ in gone]
        return tuple(dict.fromkeys(fallen))


def _lines_in(text: str) -> Iterator[tuple[int, int]]:
    at = 0
    for line in text.splitlines(keepends=True):
        if line.strip():
            yield at, at + len(line.rstrip())
        at += len(line)


def _words(text: str) -> str:
    return " ".join(text.split())
