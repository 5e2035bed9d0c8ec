"""Reads the tables of a PDF page that have ruling lines: their cells are the areas between the lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from statistics import median

from assistant.documents.page import Cell, Paragraph
from assistant.options.office.formats.page_words import Box, PageContent, Word, around, runs_of, text_rows

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
_SPLIT_LINES = 3
"""Lines of text in each cell from which they are rows: cells that wrap have different numbers of lines."""
_DEEPEST_HEADER = 3
"""Rows of names above each other: a cell of the first row is as high as all of them."""

_Line = tuple[float, float, float]
"""Where a line is across its direction, its begin and its end."""


@dataclass(frozen=True, slots=True)
class Grid:
    rows: list[list[Cell]]
    """Of the page model: a row has only the cells that begin in it."""
    box: Box
    size: float
    """Of the font of most words, in points."""
    letters: int
    header_rows: int | None
    """First rows that name the columns; None if neither lines nor fonts tell."""
    place: float
    """Of its first word in the file."""


def text_cell(text: str, *, rows: int = 1, columns: int = 1) -> Cell:
    """Return a cell of a text with marks."""
    return Cell((Paragraph(runs_of(text)),) if text else (), rows, columns)


def ruled_tables(content: PageContent) -> tuple[list[Grid], list[Word]]:
    """Return the page's tables with lines between their cells, and the words outside of these tables."""
    tables, words = list[Grid](), content.words
    for horizontal, vertical in _lattices(content.rules):
        cells = _cells(horizontal, vertical, words)
        if _is_table(cells):
            tables.append(_table(cells))
            held = {id(word) for found in cells.values() for word in found}
            words = [word for word in words if id(word) not in held]
    return tables, words


def _lattices(rules: Iterable[Box]) -> Iterator[tuple[set[_Line], set[_Line]]]:
    """Yield the horizontal and vertical lines that cross each other; none for a drawing, which would take too
    long."""
    rules = [*rules]
    if len(rules) > _MOST_RULES:
        return
    wide = [rule for rule in rules if rule.right - rule.left > rule.height]
    high = [rule for rule in rules if rule.height > rule.right - rule.left]
    across = _merged((rule.middle[1], rule.left, rule.right) for rule in wide)
    down = _merged((rule.middle[0], rule.top, rule.bottom) for rule in high)
    groups: list[tuple[set[_Line], set[_Line]]] = []
    for line in across if len(across) * len(down) < _MOST_PAIRS else ():
        met = {other for other in down if _spans(line, other[0]) and _spans(other, line[0])}
        joined = [group for group in groups if group[1] & met]
        groups = [group for group in groups if not group[1] & met]
        groups.append(
            ({line}.union(*(group[0] for group in joined)), met.union(*(group[1] for group in joined)))
        )
    yield from (group for group in groups if 0 < len(group[0]) * len(group[1]) < _MOST_SQUARES)


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


def _spans(line: _Line, place: float) -> bool:
    return line[1] - _SNAP <= place <= line[2] + _SNAP


def _cells(
    horizontal: Iterable[_Line], vertical: Iterable[_Line], words: Iterable[Word]
) -> dict[Box, list[Word]]:
    """Return the words in each cell: the area to the next lines around them, or to the table's sides."""
    whole = around(
        [
            *(Box(begin, y, end, y) for y, begin, end in horizontal),
            *(Box(x, begin, x, end) for x, begin, end in vertical),
        ]
    )
    cells = defaultdict[Box, list[Word]](list)
    for word in words:
        x, y = word.box.middle
        if whole.holds((x, y)):
            xs = [whole.left, *(line[0] for line in vertical if _spans(line, y)), whole.right]
            ys = [whole.top, *(line[0] for line in horizontal if _spans(line, x)), whole.bottom]
            left, right = max(place for place in xs if place <= x), min(place for place in xs if place >= x)
            top, bottom = max(place for place in ys if place <= y), min(place for place in ys if place >= y)
            cells[Box(left, top, right, bottom)].append(word)
    return cells


def _is_table(cells: Mapping[Box, list[Word]]) -> bool:
    """Return whether the cells have texts of their own: not prose in frames, nor parts of wider rows."""
    if min(len(_places(cell.top for cell in cells)), len(_places(cell.left for cell in cells))) < 2:
        return False
    lines = [line for words in cells.values() for line in text_rows(words)]
    gaps = sum(
        any(word.box.left - before.box.right > _WIDE_GAP * word.box.height for before, word in pairwise(line))
        for line in lines
    )
    return gaps <= _MOST_GAPS * len(lines)


def _places(places: Iterable[float]) -> list[float]:
    """Return the places in order without those that are nearly the same."""
    kept: list[float] = []
    for place in sorted(places):
        if not kept or place - kept[-1] > _SNAP:
            kept.append(place)
    return kept


def _table(cells: Mapping[Box, list[Word]]) -> Grid:
    tops, lefts = _places(cell.top for cell in cells), _places(cell.left for cell in cells)
    squares: dict[tuple[int, int], Box] = {}
    held = defaultdict[Box, list[Word]](list)
    for cell in sorted(cells, key=lambda cell: (cell.top, cell.left)):
        rows = [at for at, top in enumerate(tops) if cell.top - _SNAP <= top < cell.bottom - _SNAP]
        columns = [at for at, left in enumerate(lefts) if cell.left - _SNAP <= left < cell.right - _SNAP]
        places = [*product(rows, columns)]
        owner = next((squares[place] for place in places if place in squares), cell)
        if owner is cell:
            squares |= dict.fromkeys(places, cell)
        held[owner] += cells[cell]
    depth = 1 + max(row for (row, _), cell in squares.items() if cell.top < tops[0] + _SNAP)
    bold = {cell.top for cell, words in held.items() if all(word.is_bold for word in words)}
    is_named = depth < len(tops) and depth <= _DEEPEST_HEADER and (depth > 1 or bold == {tops[0]})
    words = [word for found in held.values() for word in found]
    return Grid(
        [
            found
            for number in range(len(tops))
            for found in _rows([squares.get((number, at)) for at in range(len(lefts))], squares, held, number)
        ],
        around(cells),
        median(word.size for word in words),
        sum(len(word.text) for word in words),
        depth if is_named else None,
        min(word.place for word in words),
    )


def _rows(
    row: list[Box | None], squares: Mapping[tuple[int, int], Box], held: Mapping[Box, list[Word]], number: int
) -> Iterator[list[Cell]]:
    """Yield the rows between this line and the next below: several, if lines of text are all aligned."""
    spans = {cell: [place for place, other in squares.items() if other is cell] for cell in {*row} - {None}}
    texts: dict[Box | None, dict[int, str]] = {cell: {} for cell in row}
    holders = {id(word): cell for cell in texts if cell for word in held[cell]}
    lines = text_rows(word for cell in texts if cell for word in held[cell])
    for place, line in enumerate(lines):
        for word in line:
            parts = texts[holders[id(word)]]
            parts[place] = f"{parts[place]} {word.text}" if place in parts else word.text
    is_whole = all(place[0] == number for places in spans.values() for place in places)
    counts = [len(parts) for parts in texts.values()]
    is_filled = len(lines) in counts and 2 * sum(counts) > len(lines) * len(counts)
    is_split = is_whole and is_filled and len(lines) >= _SPLIT_LINES
    for line in range(len(lines)) if is_split else (None,):
        made: list[Cell] = []
        for at, cell in enumerate(row):
            if cell is None:
                made.append(text_cell(""))
            elif (number, at) == min(spans[cell]):
                text = " ".join(texts[cell].values()) if line is None else texts[cell].get(line, "")
                height, width = (len({place[axis] for place in spans[cell]}) for axis in (0, 1))
                made.append(text_cell(text, rows=height, columns=width))
        yield made
