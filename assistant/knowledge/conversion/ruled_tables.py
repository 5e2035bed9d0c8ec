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

from assistant.knowledge.conversion.page_words import Box, PageContent, Word

_SNAP = 3.0
"""Points: lines that are nearer to each other are one. pdfplumber's own default."""
_SHORTEST_EDGE = 3.0
_MOST_RULES = 20_000
"""Lines of a page, four for each cell that a file draws on its own. A page with more is a drawing."""
_MOST_PAIRS = 200_000
"""Horizontal times vertical lines, each of all its parts: the search looks at each pair, 160,000 in 0.7 s."""
_MOST_CROSSINGS = 5_000
"""Points where lines meet. The search takes 1 s for as many, and 60 s for 40,000."""
_FEWEST_RULES = 4
"""The cheap test: fewer lines in one direction than two, or in both than these, enclose no two cells."""
_WIDE = 0.9
"""Of a table's width: a cell that is wider is not one of its columns."""
_WIDE_GAP = 1.5
"""Of a line's height: a wider gap inside a cell separates columns that have no line between them."""
_MOST_GAPS = 0.3
"""Of the lines of text: with wide gaps in more of them, the lines on the page are not the table's."""
_SPLIT_LINES = 3
"""Lines of text in each cell from which they are rows: cells that wrap have different numbers of lines. Two
are rows in more than three columns."""
_DEEPEST_HEADER = 3
"""Rows of names above each other: a cell of the first row is as high as all of them."""
_LONGEST_CELL = 600
"""Mean characters of a cell; longer ones are columns of prose in frames."""

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


def ruled_tables(content: PageContent) -> tuple[list[Table], list[Word]]:
    """Return the page's tables with lines around their cells, and the words outside of these tables."""
    edges = [edge for rule in content.rules if (edge := _edge(rule)) is not None]
    horizontal = sum(edge["orientation"] == "h" for edge in edges)
    is_drawn = _FEWEST_RULES <= len(edges) <= _MOST_RULES
    if not is_drawn or min(horizontal, len(edges) - horizontal) < 2:
        return [], content.words
    tables: list[Table] = []
    held: set[int] = set()
    for cells in map(_without_frames, _grids(edges)):
        contents = _contents(cells, content.words)
        if _is_table(contents):
            tables.append(_table(contents))
            held.update(id(word) for words in contents.values() for word in words)
    return tables, [word for word in content.words if id(word) not in held]


def _without_frames(cells: Sequence[_Cell]) -> list[_Cell]:
    """Return the cells without those above and below that are as wide as the table: a title, a note, or a
    frame around rows that have no lines."""
    widest = _WIDE * (max(cell[2] for cell in cells) - min(cell[0] for cell in cells))
    kept = sorted(cells, key=lambda cell: cell[1])
    for end in (0, -1):
        while kept and kept[end][2] - kept[end][0] > widest:
            kept.pop(end)
    return kept


def _is_table(contents: Mapping[_Cell, Sequence[Word]]) -> bool:
    """Return whether the cells have texts of their own: not prose in frames, nor parts of wider rows."""
    filled = [words for words in contents.values() if words]
    columns, rows = ({cell[side] for cell in contents} for side in (0, 1))
    if min(len(columns), len(rows), len(filled)) < 2:
        return False
    lines = [line for words in filled for line in _lines(words, _heights(words)).values()]
    gaps = sum(
        any(word.box.left - before.box.right > _WIDE_GAP * word.box.height for before, word in pairwise(line))
        for line in lines
    )
    length = sum(len(word.text) for words in filled for word in words)
    return gaps <= _MOST_GAPS * len(lines) and length <= _LONGEST_CELL * len(filled)


def _edge(rule: Box) -> dict[str, Any] | None:
    width = rule.right - rule.left
    if max(width, rule.height) < _SHORTEST_EDGE:
        return None
    x, y = rule.middle
    is_horizontal = width > rule.height
    left, right = (rule.left, rule.right) if is_horizontal else (x, x)
    top, bottom = (y, y) if is_horizontal else (rule.top, rule.bottom)
    return {
        "orientation": "h" if is_horizontal else "v",
        "x0": left,
        "x1": right,
        "top": top,
        "bottom": bottom,
        "width": right - left,
        "height": bottom - top,
        "object_type": "line",
    }


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
    cells = search.intersections_to_cells(crossings)
    return cast("list[list[_Cell]]", search.cells_to_tables(cells))


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
    return Table(rows, box, size, has_header=is_named or bold == {tops[0]} or None)


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
    heights = _heights([word for words in cells.values() for word in words])
    texts = {
        cell: {place: " ".join(word.text for word in line) for place, line in _lines(words, heights).items()}
        for cell, words in cells.items()
    }
    is_whole = all(cell[1] == top for cell in cells)  # no cell of several rows
    is_split = is_whole and _has_rows([len(lines) for lines in texts.values()], len(heights))
    for place in range(len(heights)) if is_split else (None,):
        row = [""] * len(lefts)
        for cell, lines in texts.items():
            columns = [number for number, left in enumerate(lefts) if cell[0] <= left < cell[2] - 1]
            text = " ".join(lines.values()) if place is None else lines.get(place, "")
            # a cell across the table is a title of the rows below it
            for column in columns if len(columns) < len(lefts) else columns[:1]:
                row[column] = text
        yield row


def _has_rows(counts: Sequence[int], lines: int) -> bool:
    """Return whether cells with so many lines of text each are several rows without lines between them."""
    if lines == _SPLIT_LINES - 1:
        return len(counts) > _SPLIT_LINES and set(counts) == {lines}
    return lines >= _SPLIT_LINES and lines in counts and 2 * sum(counts) > lines * len(counts)


def _heights(words: Iterable[Word]) -> list[float]:
    """Return the highest middle of each line of text, from top to bottom."""
    heights: list[float] = []
    for word in sorted(words, key=lambda word: word.box.middle[1]):
        if not heights or word.box.middle[1] - heights[-1] > word.box.height / 2:
            heights.append(word.box.middle[1])
    return heights


def _lines(words: Iterable[Word], heights: Sequence[float]) -> dict[int, list[Word]]:
    """Return the words of each line by its place among the heights, from left to right."""
    lines: dict[int, list[Word]] = {}
    for word in sorted(words, key=lambda word: (word.box.middle[1], word.box.left)):
        lines.setdefault(bisect_right(heights, word.box.middle[1]) - 1, []).append(word)
    return {place: sorted(line, key=lambda word: word.box.left) for place, line in lines.items()}
