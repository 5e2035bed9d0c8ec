"""Reads the tables of a PDF page that have ruling lines: their cells are the areas between the lines."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from assistant.knowledge.conversion.page_words import Box, PageContent, Word, text_rows

_SNAP = 3.0
"""Points: lines that are nearer to each other are one."""
_MOST_RULES = 20_000
"""Lines of a page, four for each cell that a file draws on its own. A page with more is a drawing."""
_MOST_PAIRS = 200_000
"""Horizontal times vertical lines, each of all its parts."""
_MOST_SQUARES = 5_000
_WIDE_GAP = 1.5
"""Of a line's height: a wider gap inside a cell separates columns that have no line between them."""
_MOST_GAPS = 0.3
"""Of the lines of text: with wide gaps in more of them, the lines on the page are not the table's."""
_LEAST_FILLED = 0.15
"""Of the cells of a table. A form has fields to fill in, a chart has lines without text."""
_SPLIT_LINES = 3
"""Lines of text in each cell from which they are rows: cells that wrap have different numbers of lines."""
_DEEPEST_HEADER = 3
"""Rows of names above each other: a cell of the first row is as high as all of them."""

_Line = tuple[float, float, float]
"""Where a line is across its direction, its begin and its end."""


@dataclass(frozen=True, slots=True)
class Grid:
    rows: list[list[str]]
    """Texts by row and column; each cell that a merged one covers repeats its text."""
    box: Box
    size: float
    """Of the font of most words, in points."""
    header_rows: int | None
    """First rows that name the columns; None if neither lines nor fonts tell."""
    place: float
    """Of its first word in the file."""


def ruled_tables(content: PageContent) -> tuple[list[Grid], list[Word]]:
    """Return the page's tables with lines between their cells, and the words outside of these tables."""
    tables: list[Grid] = []
    held: set[int] = set()
    for lattice in _lattices(content.rules):
        contents = lattice.contents(word for word in content.words if id(word) not in held)
        if _is_table(contents):
            tables.append(_table(lattice, contents))
            held.update(id(word) for words in contents.values() for word in words)
    return tables, [word for word in content.words if id(word) not in held]


_Square = tuple[int, int]
"""A row and a column between the next lines."""


@dataclass(frozen=True, slots=True)
class _Lattice:
    tops: list[float]
    lefts: list[float]
    """Where its lines are. The last of both end it."""
    cells: dict[_Square, _Square]
    """By square, the first square of its cell."""

    def contents(self, words: Iterable[Word]) -> dict[_Square, list[Word]]:
        """Return the words in each cell."""
        contents: dict[_Square, list[Word]] = {cell: [] for cell in self.cells.values()}
        for word in words:
            x, y = word.box.middle
            square = bisect_right(self.tops, y) - 1, bisect_right(self.lefts, x) - 1
            if square in self.cells:
                contents[self.cells[square]].append(word)
        return contents


def _lattices(rules: Iterable[Box]) -> Iterator[_Lattice]:
    """Yield a lattice for all lines that cross each other; none for a drawing, which would take too long."""
    rules = [*rules]
    if len(rules) > _MOST_RULES:
        return
    across = _merged(
        (rule.middle[1], rule.left, rule.right) for rule in rules if rule.right - rule.left > rule.height
    )
    down = _merged(
        (rule.middle[0], rule.top, rule.bottom) for rule in rules if rule.height > rule.right - rule.left
    )
    groups: list[tuple[set[_Line], set[_Line]]] = []
    for line in across if len(across) * len(down) < _MOST_PAIRS else ():
        met = {other for other in down if _spans(line, other[0]) and _spans(other, line[0])}
        joined = [group for group in groups if group[1] & met]
        groups = [group for group in groups if not group[1] & met]
        groups.append(
            ({line}.union(*(group[0] for group in joined)), met.union(*(group[1] for group in joined)))
        )
    for horizontal, vertical in groups:
        tops, lefts = _places(horizontal, vertical), _places(vertical, horizontal)
        if vertical and 1 < (len(tops) - 1) * (len(lefts) - 1) < _MOST_SQUARES:
            yield _Lattice(tops, lefts, _cells(tops, lefts, horizontal, vertical))


def _merged(lines: Iterable[_Line]) -> list[_Line]:
    """Return the lines with those joined that lie on each other or go on."""
    snapped: list[_Line] = []
    for place, begin, end in sorted(lines):
        last = snapped[-1][0] if snapped else -_SNAP
        snapped.append((last if place - last < _SNAP else place, begin, end))
    merged: list[_Line] = []
    for place, begin, end in sorted(snapped):
        if merged and merged[-1][0] == place and begin < merged[-1][2] + _SNAP:
            merged[-1] = (place, merged[-1][1], max(end, merged[-1][2]))
        else:
            merged.append((place, begin, end))
    return [line for line in merged if line[2] - line[1] > _SNAP]


def _spans(line: _Line, begin: float, end: float | None = None) -> bool:
    return line[1] - _SNAP <= begin and (begin if end is None else end) <= line[2] + _SNAP


def _places(lines: Iterable[_Line], crossing: Iterable[_Line]) -> list[float]:
    """Return where lines are, and the ends of those across: a table may have no line at its sides."""
    places = sorted({line[0] for line in lines})
    begin, end = (
        min((line[1] for line in crossing), default=0.0),
        max((line[2] for line in crossing), default=0.0),
    )
    return (
        [
            *([begin] if begin < places[0] - _SNAP else []),
            *places,
            *([end] if end > places[-1] + _SNAP else []),
        ]
        if places
        else []
    )


def _cells(
    tops: Sequence[float], lefts: Sequence[float], horizontal: Iterable[_Line], vertical: Iterable[_Line]
) -> dict[_Square, _Square]:
    """Return the first square of each square's cell: squares without a line between them are one cell."""
    above = {
        (tops.index(line[0]), column)
        for line in horizontal
        for column, ends in enumerate(pairwise(lefts))
        if _spans(line, *ends)
    }
    before = {
        (row, lefts.index(line[0]))
        for line in vertical
        for row, ends in enumerate(pairwise(tops))
        if _spans(line, *ends)
    }
    cells: dict[_Square, _Square] = {}
    for first in ((row, column) for row in range(len(tops) - 1) for column in range(len(lefts) - 1)):
        reached = [first]
        while reached:
            row, column = square = reached.pop()
            if square in cells or not (0 <= row < len(tops) - 1 and 0 <= column < len(lefts) - 1):
                continue
            cells[square] = first
            reached += [] if square in above else [(row - 1, column)]
            reached += [] if square in before else [(row, column - 1)]
            reached += [] if (row + 1, column) in above else [(row + 1, column)]
            reached += [] if (row, column + 1) in before else [(row, column + 1)]
    return cells


def _is_table(contents: dict[_Square, list[Word]]) -> bool:
    """Return whether the cells have texts of their own: not prose in frames, nor parts of wider rows."""
    filled = {cell: words for cell, words in contents.items() if words}
    rows, columns = ({cell[side] for cell in filled} for side in (0, 1))
    if min(len(columns), len(rows)) < 2 or len(filled) < _LEAST_FILLED * len(contents):
        return False
    lines = [line for words in filled.values() for line in text_rows(words)]
    gaps = sum(
        any(word.box.left - before.box.right > _WIDE_GAP * word.box.height for before, word in pairwise(line))
        for line in lines
    )
    return gaps <= _MOST_GAPS * len(lines)


def _table(lattice: _Lattice, contents: dict[_Square, list[Word]]) -> Grid:
    last = len(lattice.tops) - 1
    box = Box(lattice.lefts[0], lattice.tops[0], lattice.lefts[-1], lattice.tops[-1])
    depth = 1 + max(row for (row, _), cell in lattice.cells.items() if cell[0] == 0)
    rows = [row for number in range(last) for row in _rows(lattice, contents, number)]
    filled = [column for column in range(len(rows[0])) if any(row[column] for row in rows)]
    bold = {cell[0] for cell, words in contents.items() if words and all(word.is_bold for word in words)}
    size = median(word.size for words in contents.values() for word in words)
    place = min(word.place for words in contents.values() for word in words)
    is_named = depth < last and depth <= _DEEPEST_HEADER and (depth > 1 or bold == {0})
    return Grid(
        [[row[column] for column in filled] for row in rows], box, size, depth if is_named else None, place
    )


def _rows(lattice: _Lattice, contents: dict[_Square, list[Word]], number: int) -> Iterator[list[str]]:
    """Yield the rows between this line and the next below: several, if lines of text are all aligned."""
    cells = [lattice.cells[number, column] for column in range(len(lattice.lefts) - 1)]
    holders = {id(word): cell for cell in cells for word in contents[cell]}
    lines = text_rows(word for cell in dict.fromkeys(cells) for word in contents[cell])
    texts: dict[_Square, dict[int, str]] = {cell: {} for cell in cells}
    for place, line in enumerate(lines):
        for word in line:
            parts = texts[holders[id(word)]]
            parts[place] = f"{parts[place]} {word.text}" if place in parts else word.text
    is_whole = all(
        cell[0] == number and lattice.cells.get((number + 1, column)) != cell
        for column, cell in enumerate(cells)
    )
    counts = [len(parts) for parts in texts.values()]
    is_filled = len(lines) in counts and 2 * sum(counts) > len(lines) * len(counts)
    is_split = is_whole and is_filled and len(lines) >= _SPLIT_LINES
    for place in range(len(lines)) if is_split else (None,):
        row = [
            " ".join(texts[cell].values()) if place is None else texts[cell].get(place, "") for cell in cells
        ]
        is_title = len(set(cells)) == 1  # of the rows below it
        yield [row[0], *[""] * (len(row) - 1)] if is_title else row
