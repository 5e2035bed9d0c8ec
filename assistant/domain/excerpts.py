"""Stretches of documents' text that a record or an event log keeps by place, not by words.

Where such a text stands in what is shown, what is kept has a *run*: a character of a private plane, one for
each excerpt, as often as the shown text has characters. So offsets into a kept text are those of the shown
one. Whoever reads fills the runs with text that is read from the document store at that moment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum

from pydantic import Field

from assistant.domain.public import PublicModel

_FIRST = 0xF0000
MOST_EXCERPTS = 60_000
"""Characters of the supplementary private use area A, less a margin."""
_RUN = re.compile("([\U000f0000-\U000ffffd])\\1*")
_GONE = "[withdrawn] "


class ShownAs(StrEnum):
    """How the text of the span was changed before it was shown."""

    UNIT = "unit"
    """Markdown without active content."""
    HEADING = "heading"
    """The heading above the unit, as Markdown."""
    PATH = "path"
    """The headings above the passage, joined by " > "."""
    SNIPPET = "snippet"
    """The beginning of the stretch, white space collapsed."""
    SNIPPET_INSIDE = "snippet_inside"
    """The same after an ellipsis: the passage begins before it."""
    REPLY = "reply"
    """Several stretches as one text, without the quotation marks around it."""


class Excerpt(PublicModel):
    """One stretch of a document's text as an answer showed it."""

    mark: int = Field(ge=0, lt=MOST_EXCERPTS)
    """Number among the answer's excerpts: it names the character of the run."""
    document_id: str
    content_hash: str
    spans: tuple[tuple[int, int], ...]
    """[start, end) in the parsed text of that content."""
    shown_as: ShownAs
    letters: int = Field(ge=1)
    """Characters of the shown text."""
    heading_letters: int = 0
    """Of a heading: how many characters of the whole path, from its end, are shown."""
    url: str | None = None
    """Of a unit: the document's own address, which stays where the text names it."""
    text_hash: str
    """First 16 digits of the shown text's SHA-256: another text is never shown in its place."""

    @property
    def run(self) -> str:
        return chr(_FIRST + self.mark) * self.letters


def marks_in(text: str) -> set[int]:
    """Return the numbers of the excerpts that have a run in the text."""
    return {ord(run[1]) - _FIRST for run in _RUN.finditer(text)}


def fill(text: str, shown: Mapping[int, str], *, encode: Callable[[str], str] = str) -> str:
    """Return the text with its runs filled: ``shown`` by mark, each put in as ``encode`` writes it.

    What looks like a run and is none of these excerpts stays: it is a document's, or somebody's, own.
    """

    def filled(run: re.Match[str]) -> str:
        whole = shown.get(ord(run[1]) - _FIRST)
        if not whole:
            return run[0]
        times, rest = divmod(len(run[0]), len(whole))
        return run[0] if rest else encode(whole) * times

    return _RUN.sub(filled, text)


def stand_in(excerpt: Excerpt) -> str:
    """Return what is shown where the text may not be read any more: a notice of the same length."""
    return _GONE.ljust(excerpt.letters, "\N{LIGHT SHADE}")[: excerpt.letters]
