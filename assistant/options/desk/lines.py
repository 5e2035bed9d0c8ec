"""Tells whether a cited line is verbatim in another content of its document, and which line replaced it.

A line is a unit of the document; in texts without units, and in approved answers, a line of the text. White
space does not count, nor the line's place.

    before: "Call the desk." "Within 5 days." "Keep the box."
    now:    "Keep the box." "Call the desk." "Within 7 days."
    "Keep the box." is still there; "Within 5 days." fell, and "Within 7 days." is in its place.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from difflib import get_close_matches
from functools import cached_property

from assistant.domain.answers import AnswerRecord, QuotedUnit
from assistant.domain.documents import ParsedDocument
from assistant.options.desk.recalls import GONE

_MOST_CANDIDATES = 100
"""New lines that are compared with the old one."""
_MOST_COMPARED = 500
"""Characters of a line that are compared to find the one in its place."""
_LEAST_ALIKE = 0.3
"""Least ratio of ``difflib``: below it two lines have little in common, and none is in the other's place."""
_MOST_KEPT = 4
"""Contents in memory: a change needs two, the old one and the new one."""


def units_of(record: AnswerRecord) -> dict[str, list[QuotedUnit]]:
    """Return by document id the units that the answer's shown sentences cite, or that it quotes, each once.

    A live value is no unit, so it is not among them.
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
    """The lines of one content of a document, which do not change; computed when first asked for."""

    def __init__(self, parsed: ParsedDocument) -> None:
        self.parsed = parsed

    @cached_property
    def rows(self) -> Sequence[tuple[int, int, str]]:
        """The lines in the order of the text, each as start, end, and its words with single spaces."""
        text = self.parsed.text
        spans = [(unit.span.start, unit.span.end) for unit in self.parsed.units] or list(_lines_in(text))
        return [(start, end, _words(text[start:end])) for start, end in sorted(spans)]

    @cached_property
    def places(self) -> dict[str, int]:
        """Words of a line = index of the first row that has them."""
        places: dict[str, int] = {}
        for place, (_, _, words) in enumerate(self.rows):
            places.setdefault(words, place)
        return places

    def within(self, span: tuple[int, int]) -> list[tuple[int, int, str]]:
        """Return the rows that lie in a span, [start, end); the span itself as a row where there is none."""
        start, end = span
        first = bisect_left(self.rows, (start,))
        rows = [row for row in self.rows[first:] if row[0] < end and row[1] <= end]
        return rows or [(start, end, _words(self.parsed.text[start:end]))]

    def has_words_of(self, other: ContentLines) -> bool:
        """Return whether both contents have the same words in the same order. Compares whole texts: run it in
        a thread."""
        return self.parsed.text.split() == other.parsed.text.split()

    def in_place_of(self, start: int, before: ContentLines) -> str | None:
        """Return this content's line that replaced the line of ``before`` that begins at ``start``; None if
        none is similar enough.

        Candidates are new lines between the nearest lines above and below it that both contents have.
        """
        at = bisect_left(before.rows, (start,))
        if at >= len(before.rows):
            return None
        above = next((self.places[w] for _, _, w in reversed(before.rows[:at]) if w in self.places), -1)
        below = next(
            (p for _, _, w in before.rows[at + 1 :] if (p := self.places.get(w, -1)) > above), len(self.rows)
        )
        new_lines = [words for _, _, words in self.rows[above + 1 : below] if words not in before.places]
        by_start = {words[:_MOST_COMPARED]: words for words in new_lines[:_MOST_CANDIDATES]}
        wanted = before.rows[at][2][:_MOST_COMPARED]
        nearest = get_close_matches(wanted, list(by_start), n=1, cutoff=_LEAST_ALIKE)
        return by_start[nearest[0]] if nearest else None


class KeptContents:
    """Contents of documents and approved answers, of which the last four used are kept in memory.

    Make one for each sweep and each request, so that no text stays in memory.
    """

    def __init__(self, read: Callable[[str, str], Awaitable[ParsedDocument | None]]) -> None:
        """``read``: returns the text of a content, by the document's id and the content's hash; None
        without."""
        self._read = read
        self._kept: dict[tuple[str, str], ContentLines | None] = {}

    async def get(self, document_id: str, content_hash: str) -> ContentLines | None:
        """Return a content; None where it is withdrawn, or not stored any more. Raises DependencyError."""
        key = document_id, content_hash
        if key in self._kept:
            kept = self._kept.pop(key)  # put back at the end: the least recently used one is dropped first
        else:
            parsed = None if content_hash == GONE else await self._read(*key)
            kept = None if parsed is None else ContentLines(parsed)
            self._kept = dict(list(self._kept.items())[1 - _MOST_KEPT :])
        self._kept[key] = kept
        return kept

    async def fallen(self, units: Sequence[QuotedUnit], now: str) -> tuple[QuotedUnit, ...]:
        """Return the cited lines of one document that are not in its content ``now`` (a hash, or GONE).

        A unit of several lines gives those that are gone, a unit of one line itself. If a content cannot be
        read, the whole unit has fallen.
        """
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
    """Yield start and end of each line that is not empty."""
    at = 0
    for line in text.splitlines(keepends=True):
        if line.strip():
            yield at, at + len(line.rstrip())
        at += len(line)


def _words(text: str) -> str:
    return " ".join(text.split())
