"""Chooses the section of a document to show: its best run of neighbouring units, as it stands.

The units' scores give each a probability to hold the answer; the run that holds most of it within the words
that may be shown is the section. It is shown verbatim, in document order, under its headings, tables as
tables and steps with their numbers. The units that matter most are marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assistant.answering.excerpts import shown_heading
from assistant.answering.rank import ScoredUnit, shares
from assistant.domain.documents import StoredDocument, Unit, UnitKind
from assistant.text.language import fold

_KEY_SHARE, _MOST_KEYS = 0.2, 3
"""A unit with at least this probability is marked as one that matters, and the likeliest always."""
_EDGE_SHARE = 0.01
"""Units at the edges of a run with less probability than this only make it longer."""
_STEP_NUMBER = re.compile(r"\W{0,4}(\d{1,3})[.):]")


@dataclass(frozen=True, slots=True)
class Section:
    """Neighbouring units of one document that answer a question, in document order."""

    document: StoredDocument
    units: tuple[ScoredUnit, ...]
    mass: float
    """Probability that the answer is in these units, if the document has it."""
    keys: frozenset[int] = frozenset()
    """Ordinals of the units that matter most; none where all of them would be marked."""

    @property
    def document_id(self) -> str:
        return self.document.card.document_id


def choose(document: StoredDocument, units: Sequence[ScoredUnit], *, max_words: int) -> Section | None:
    """Return the document's best section of at most ``max_words``, headings counted, or its likeliest unit if
    that alone is longer; None for a document without units.

    Example::

        section = choose(document, scorer.score(asked, document, passage_cosines={}), max_words=160)
    """
    if not units:
        return None
    likely = shares(units)
    first, last = _likeliest_run(units, likely, max_words=max_words)
    while first < last and likely[first] < _EDGE_SHARE:
        if units[first + 1].unit.parent == units[first].unit.ordinal:
            break  # it introduces the next one, which makes no sense without it
        first += 1
    while first < last and likely[last] < _EDGE_SHARE:
        last -= 1
    chosen = units[first : last + 1]
    ordered = sorted(range(first, last + 1), key=lambda at: (-round(likely[at], 4), at))[:_MOST_KEYS]
    keys = {units[at].unit.ordinal for at in ordered if likely[at] >= _KEY_SHARE}
    keys.add(units[ordered[0]].unit.ordinal)
    if len(keys) == len(chosen):
        keys.clear()
    return Section(document, tuple(chosen), sum(likely[first : last + 1]), frozenset(keys))


def _likeliest_run(
    units: Sequence[ScoredUnit], likely: Sequence[float], *, max_words: int
) -> tuple[int, int]:
    """Return first and last unit of the likeliest run of at most ``max_words``, headings counted."""
    words_of = [unit.words for unit in units]
    words_of_heading = {
        unit.unit.heading: len(unit.unit.heading.replace(" > ", " ").split()) for unit in units
    }
    best_mass, run = -1.0, (0, 0)
    for first in range(len(units)):
        words, mass, headings = 0, 0.0, set[str]()
        for last in range(first, len(units)):
            heading = units[last].unit.heading
            words += words_of[last]
            if heading not in headings:
                headings.add(heading)
                words += words_of_heading[heading]
            if words > max_words and last > first:
                break
            mass += likely[last]
            if round(mass, 4) > round(best_mass, 4):
                best_mass, run = mass, (first, last)
    return run


def blocks(section: Section) -> Iterator[tuple[str, ScoredUnit]]:
    """Yield (Markdown before the unit's text, unit) for each unit of a section."""
    heading: str | None = None
    previous: ScoredUnit | None = None
    for unit in section.units:
        before = "" if previous is None else "\n\n"
        if unit.unit.heading != heading:
            heading = unit.unit.heading
            before += _heading_line(section, heading)
        elif previous is not None and _continues(previous.unit, unit.unit):
            before = " " if unit.unit.kind is UnitKind.SENTENCE else "\n"
        yield before + _marker(unit.unit), unit
        previous = unit


def _heading_line(section: Section, heading: str) -> str:
    """Return a heading, and which steps under it the document has beside those of the section: a step that is
    passed over may be the one that keeps a patient safe."""
    shown = shown_heading(heading)
    title = f"**{shown}**" if shown else ""
    ordinals = {unit.unit.ordinal for unit in section.units}
    steps = [
        unit
        for passage in section.document.passages
        for unit in passage.units
        if unit.heading == heading and unit.kind is UnitKind.STEP
    ]
    found = [_STEP_NUMBER.match(fold(step.text)) for step in steps if step.ordinal not in ordinals]
    numbers = [number[1] for number in found if number is not None]
    if not numbers or len(found) == len(steps):
        return f"{title}\n\n" if title else ""
    return f"{title} (not shown: steps {', '.join(numbers)})\n\n".lstrip()


def _marker(unit: Unit) -> str:
    """Return the list marker of a unit that has none in its own text."""
    is_listed = unit.kind in (UnitKind.ROW, UnitKind.DEFINITION) or (
        unit.kind is UnitKind.ITEM and not unit.text.startswith(("- ", "* ", "• "))
    )
    return "- " if is_listed else ""


def _continues(before: Unit, unit: Unit) -> bool:
    """Return whether two units are in one paragraph, list or table."""
    if unit.kind is UnitKind.SENTENCE:
        return before.kind is UnitKind.SENTENCE and before.ordinal == unit.ordinal - 1
    return before.kind is unit.kind
