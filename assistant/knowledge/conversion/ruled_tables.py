"""Reads the tables of a PDF page that have ruling lines, by pdfplumber's search for cells.

pdfplumber itself parses the page anew, in 400 ms; here its search gets the lines that pdfium read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, cast

from assistant.knowledge.conversion.page_words import Box, PageContent, Word, text_rows

_SNAP = 3.0
"""Points: lines that are nearer to each other are one. pdfplumber's own default."""
_SHORTEST_EDGE = 3.0
_MOST_RULES = 20_000
"""Lines of a page, four for each cell that a file draws on its own. A page with more is a drawing."""
_MOST_PAIRS = 200_000
"""Horizontal times vertical lines, each of all its parts: the search looks at each pair, 160,000 in 0.7 s."""
_MOST_CROSSINGS = 5_000
"""Points where lines meet. The search takes 1 s for as many, and 60 s for 40,000."""
_WIDE_GAP = 1.5
"""Of a line's height: a wider gap inside a cell separates columns that have no line between them."""
_MOST_GAPS = 0.3
"""Of the lines of text: with wide gaps in more of them, the lines on the page are not the table's."""
_SPLIT_LINES = 3
"""Lines of text in each cell from which they are rows: cells that wrap have different numbers of lines."""
_DEEPEST_HEADER = 3
"""Rows of names above each other: a cell of the first row is as high as all of them."""

_Cell = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Table:
    rows: list[list[str]]
    """Texts by row and column; each cell that a merged one covers repeats its text."""
    box: Box
    size: float
    """Of the font of most words, in points."""
    has_header: bool | None
    """None if neither lines nor fonts tell."""
    place: int
    """Of its first word in the file."""


def ruled_tables(content: PageContent) -> tuple[list[Table], list[Word]]:
    """Return the page's tables with lines around their cells, and the words outside of these tables."""
    edges = [edge for rule in content.rules if (edge := _edge(rule)) is not None]
    horizontal = sum(edge["orientation"] == "h" for edge in edges)
    if len(edges) > _MOST_RULES or min(horizontal, len(edges) - horizontal) < 2:  # no two cells
        return [], content.words
    tables: list[Table] = []
    held: set[int] = set()
    for cells in _grids(edges):
        contents = _contents(cells, content.words)
        if _is_table(contents):
            tables.append(_table(contents))
            held.update(id(word) for words in contents.values() for word in words)
    return tables, [word for word in content.words if id(word) not in held]


def _is_table(contents: Mapping[_Cell, Sequence[Word]]) -> bool:
    """Return whether the cells have texts of their own: not prose in frames, nor parts of wider rows."""
    filled = [words for words in contents.values() if words]
    columns, rows = ({cell[side] for cell in contents} for side in (0, 1))
    if min(len(columns), len(rows), len(filled)) < 2:
        return False
    lines = [line for words in filled for line in text_rows(words)]
    gaps = sum(
        any(word.box.left - before.box.right > _WIDE_GAP * word.box.height for before, word in pairwise(line))
        for line in lines
    )
    return gaps <= _MOST_GAPS * len(lines)


def _edge(rule: Box) -> dict[str, Any] | None:
    width = rule.right - rule.left
    if max(width, rule.height) < _SHORTEST_EDGE:
        return None
    x, y = rule.middle
    if is_horizontal := width > rule.height:
        line = Box(rule.left, y, rule.right, y)
    else:
        line = Box(x, rule.top, x, rule.bottom)
    edge = {"x0": line.left, "x1": line.right, "top": line.top, "bottom": line.bottom}
    size = {"width": line.right - line.left, "height": line.height}
    return {"orientation": "h" if is_horizontal else "v", "object_type": "line", **edge, **size}


def _grids(edges: list[dict[str, Any]]) -> list[list[_Cell]]:
    """Return the cells of each table; none for a drawing, whose lines would take too long."""
    from pdfplumber import table as search

    merged = search.merge_edges(edges, _SNAP, _SNAP, _SNAP, _SNAP)
    horizontal = sum(edge["orientation"] == "h" for edge in merged)
    if horizontal * (len(merged) - horizontal) > _MOST_PAIRS:
        return []
    crossings = search.edges_to_intersections(merged, _SNAP, _SNAP)
    if len(crossings) > _MOST_CROSSINGS:
        return []
    return cast("list[list[_Cell]]", search.cells_to_tables(search.intersections_to_cells(crossings)))


def _table(contents: Mapping[_Cell, Sequence[Word]]) -> Table:
    lefts, tops = ([*sorted({cell[side] for cell in contents})] for side in (0, 1))
    box = Box(lefts[0], tops[0], max(cell[2] for cell in contents), max(cell[3] for cell in contents))
    rows = [row for top in tops for row in _rows(contents, lefts, top)]
    depth = sum(top < max(cell[3] for cell in contents if cell[1] == tops[0]) - 1 for top in tops)
    is_named = 1 < depth < len(tops) and depth <= _DEEPEST_HEADER
    if is_named:
        names = zip(*rows[:depth], strict=True)
        rows[:depth] = [[" ".join(dict.fromkeys(name for name in column if name)) for column in names]]
    bold = {cell[1] for cell, words in contents.items() if words and all(word.is_bold for word in words)}
    size = median(word.size for words in contents.values() for word in words)
    place = min(word.place for words in contents.values() for word in words)
    return Table(rows, box, size, is_named or bold == {tops[0]} or None, place)


def _contents(cells: Iterable[_Cell], words: Iterable[Word]) -> dict[_Cell, list[Word]]:
    """Return the words in each cell."""
    contents: dict[_Cell, list[Word]] = {cell: [] for cell in cells}
    lefts, tops = ([*sorted({cell[side] for cell in contents})] for side in (0, 1))
    places = {
        (left, top): cell
        for cell in contents
        for left in lefts[bisect_left(lefts, cell[0]) : bisect_left(lefts, cell[2] - 1)]
        for top in tops[bisect_left(tops, cell[1]) : bisect_left(tops, cell[3] - 1)]
    }
    for word in words if contents else ():
        x, y = word.box.middle
        cell = places.get((lefts[bisect_right(lefts, x) - 1], tops[bisect_right(tops, y) - 1]))
        if cell is not None and cell[0] <= x <= cell[2] and cell[1] <= y <= cell[3]:
            contents[cell].append(word)
    return contents


def _rows(
    contents: Mapping[_Cell, Sequence[Word]], lefts: Sequence[float], top: float
) -> Iterator[list[str]]:
    """Yield the rows between this line and the next below: several, if lines of text are all aligned."""
    cells = {cell: words for cell, words in contents.items() if cell[1] <= top < cell[3] - 1}
    holders = {id(word): cell for cell, words in cells.items() for word in words}
    lines = text_rows(word for words in cells.values() for word in words)
    texts: dict[_Cell, dict[int, str]] = {cell: {} for cell in cells}
    for place, line in enumerate(lines):
        for word in line:
            parts = texts[holders[id(word)]]
            parts[place] = f"{parts[place]} {word.text}" if place in parts else word.text
    is_whole = all(cell[1] == top for cell in cells)  # no cell of several rows
    counts = [len(parts) for parts in texts.values()]
    is_filled = len(lines) in counts and 2 * sum(counts) > len(lines) * len(counts)
    is_split = is_whole and is_filled and len(lines) >= _SPLIT_LINES
    for place in range(len(lines)) if is_split else (None,):
        row = [""] * len(lefts)
        for cell, parts in texts.items():
            columns = [number for number, left in enumerate(lefts) if cell[0] <= left < cell[2] - 1]
            text = " ".join(parts.values()) if place is None else parts.get(place, "")
            # a cell across the table is a title of the rows below it
            for column in columns if len(columns) < len(lefts) else columns[:1]:
                row[column] = text
        yield row
