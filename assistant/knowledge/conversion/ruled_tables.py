"""Reads the tables of a PDF page that have ruling lines, by pdfplumber's search for cells.

pdfplumber itself parses the page anew, in 400 ms; here its search gets the lines that pdfium read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, cast

from assistant.knowledge.conversion.page_words import Box, PageContent, Word

_SNAP = 3.0
"""Points: lines that are nearer to each other are one. pdfplumber's own default."""
_SHORTEST_EDGE = 3.0
_MOST_RULES = 4_000
"""Lines of a page: a drawing has more. The search takes 1 s for as many."""
_FEWEST_RULES = 4
"""The cheap test: fewer lines in one direction than two, or in both than these, enclose no two cells."""
_FRAMED_WORDS = 40
_SPLIT_LINES = 3
"""Lines of text in each cell from which they are rows: cells that wrap have different numbers of lines."""
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


def ruled_tables(content: PageContent) -> list[Table]:
    """Return the page's tables with lines around their cells, from top to bottom."""
    edges = [edge for rule in content.rules[:_MOST_RULES] if (edge := _edge(rule)) is not None]
    horizontal = sum(edge["orientation"] == "h" for edge in edges)
    if len(edges) < _FEWEST_RULES or min(horizontal, len(edges) - horizontal) < 2:
        return []
    tables = (_table(_without_frames(cells, content.words), content.words) for cells in _grids(edges))
    return sorted((table for table in tables if table is not None), key=lambda table: table.box.top)


def _without_frames(cells: Sequence[_Cell], words: Sequence[Word]) -> list[_Cell]:
    """Return the cells without those that are as wide as the table and have many words: a frame around text,
    or around rows without lines."""
    left, right = min(cell[0] for cell in cells), max(cell[2] for cell in cells)
    return [
        cell
        for cell in cells
        if cell[2] - cell[0] < 0.9 * (right - left)
        or sum(_is_in(word, cell) for word in words) < _FRAMED_WORDS
    ]


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
    """Return the cells of each table."""
    from pdfplumber import table as search

    merged = search.merge_edges(edges, _SNAP, _SNAP, _SNAP, _SNAP)
    cells = search.intersections_to_cells(search.edges_to_intersections(merged, _SNAP, _SNAP))
    return cast("list[list[_Cell]]", search.cells_to_tables(cells))


def _table(cells: Sequence[_Cell], words: Iterable[Word]) -> Table | None:
    """Return the table of these cells; None for frames around text that is no table."""
    lefts, tops = sorted({cell[0] for cell in cells}), sorted({cell[1] for cell in cells})
    if len(lefts) < 2 or len(tops) < 2:
        return None
    right, bottom = max(cell[2] for cell in cells), max(cell[3] for cell in cells)
    inside = [word for word in words if _is_in(word, (lefts[0], tops[0], right, bottom))]
    contents = _contents(cells, inside, lefts, tops)
    filled = sum(map(bool, contents.values()))
    if filled < 2 or sum(len(word.text) for word in inside) > _LONGEST_CELL * filled:
        return None
    rows = [row for top in tops for row in _rows(contents, lefts, top)]
    depth = sum(top < max(cell[3] for cell in cells if cell[1] == tops[0]) - 1 for top in tops)
    is_named = 1 < depth < len(tops) and depth <= _DEEPEST_HEADER
    if is_named:
        names = zip(*rows[:depth], strict=True)
        rows[:depth] = [[" ".join(dict.fromkeys(name for name in column if name)) for column in names]]
    bold = {cell[1] for cell, held in contents.items() if held and all(word.is_bold for word in held)}
    box = Box(lefts[0], tops[0], right, bottom)
    size = median(word.size for word in inside)
    return Table(rows, box, size, has_header=is_named or bold == {tops[0]} or None)


def _contents(
    cells: Iterable[_Cell], words: Iterable[Word], lefts: Sequence[float], tops: Sequence[float]
) -> dict[_Cell, list[Word]]:
    """Return the words in each cell."""
    contents: dict[_Cell, list[Word]] = {cell: [] for cell in cells}
    places = {
        (left, top): cell
        for cell in contents
        for left in lefts[bisect_left(lefts, cell[0]) : bisect_left(lefts, cell[2] - 1)]
        for top in tops[bisect_left(tops, cell[1]) : bisect_left(tops, cell[3] - 1)]
    }
    for word in words:
        x, y = word.box.middle
        cell = places.get((lefts[bisect_right(lefts, x) - 1], tops[bisect_right(tops, y) - 1]))
        if cell is not None and _is_in(word, cell):
            contents[cell].append(word)
    return contents


def _rows(
    contents: Mapping[_Cell, Sequence[Word]], lefts: Sequence[float], top: float
) -> Iterator[list[str]]:
    """Yield the rows between this line and the next below: several, if lines of text are all aligned."""
    cells = {cell: _lines(words) for cell, words in contents.items() if cell[1] <= top < cell[3] - 1}
    for height in _row_heights(cells, top):
        row = [""] * len(lefts)
        for cell, lines in cells.items():
            columns = [number for number, left in enumerate(lefts) if cell[0] <= left < cell[2] - 1]
            text = " ".join(lines.values()) if height is None else lines.get(height, "")
            # a cell across the table is a title of the rows below it
            for column in columns if len(columns) < len(lefts) else columns[:1]:
                row[column] = text
        yield row


def _row_heights(cells: Mapping[_Cell, Mapping[int, str]], top: float) -> Sequence[int | None]:
    """Return the heights of the rows without lines between these cells' texts; one None for a single row."""
    heights = sorted({height for lines in cells.values() for height in lines})
    counts = [len(lines) for lines in cells.values()]
    is_whole = all(cell[1] == top for cell in cells)  # no cell of several rows
    is_full = sum(counts) > len(heights) * len(cells) / 2
    has_rows = len(heights) >= _SPLIT_LINES and len(heights) in counts
    return heights if is_whole and is_full and has_rows else [None]


def _is_in(word: Word, cell: _Cell) -> bool:
    x, y = word.box.middle
    return cell[0] <= x <= cell[2] and cell[1] <= y <= cell[3]


def _lines(words: Iterable[Word]) -> dict[int, str]:
    """Return the lines of a cell by their height on the page, in points."""
    lines: list[list[Word]] = []
    for word in sorted(words, key=lambda word: word.box.middle[1]):
        if lines and word.box.middle[1] - lines[-1][0].box.middle[1] < word.box.height / 2:
            lines[-1].append(word)
        else:
            lines.append([word])
    return {
        round(line[0].box.bottom): " ".join(
            word.text for word in sorted(line, key=lambda word: word.box.left)
        )
        for line in lines
    }
