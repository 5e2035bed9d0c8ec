"""Reads the tables of a PDF page that have ruling lines, by pdfplumber's search for cells.

pdfplumber itself parses the page anew, in 400 ms; here its search gets the lines that pdfium read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from assistant.knowledge.conversion.page_words import Box, PageContent, Word

_SNAP = 3.0
"""Points: lines that are nearer to each other are one. pdfplumber's own default."""
_SHORTEST_EDGE = 3.0
_MOST_RULES = 4_000
"""Lines of a page: a drawing has more. The search takes 1 s for as many."""
_FEWEST_RULES = 4
"""The cheap test: fewer lines in one direction than two, or in both than these, enclose no two cells."""
_LONGEST_CELL = 600
"""Mean characters of a cell; longer ones are columns of prose in frames."""

_Cell = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Table:
    rows: list[list[str]]
    """Texts by row and column; each cell that a merged one covers repeats its text."""
    box: Box
    has_header: bool | None
    """None if neither lines nor fonts tell."""


def ruled_tables(content: PageContent) -> list[Table]:
    """Return the page's tables with lines around their cells, from top to bottom."""
    edges = [edge for rule in content.rules[:_MOST_RULES] if (edge := _edge(rule)) is not None]
    horizontal = sum(edge["orientation"] == "h" for edge in edges)
    if len(edges) < _FEWEST_RULES or min(horizontal, len(edges) - horizontal) < 2:
        return []
    tables = (_table(cells, content.words) for cells in _grids(edges))
    return sorted((table for table in tables if table is not None), key=lambda table: table.box.top)


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
    box = Box(lefts[0], tops[0], max(cell[2] for cell in cells), max(cell[3] for cell in cells))
    inside = [word for word in words if _is_in(word, (box.left, box.top, box.right, box.bottom))]
    rows = [[""] * len(lefts) for _ in tops]
    bold: set[float] = set()
    texts: list[str] = []
    for cell in cells:
        cell_words = [word for word in inside if _is_in(word, cell)]
        texts.append(_text(cell_words))
        if cell_words and all(word.is_bold for word in cell_words):
            bold.add(cell[1])
        for row, top in zip(rows, tops, strict=True):
            if cell[1] <= top < cell[3] - 1:
                row[:] = [
                    texts[-1] if cell[0] <= left < cell[2] - 1 else text
                    for left, text in zip(lefts, row, strict=True)
                ]
    filled = [text for text in texts if text]
    if len(filled) < 2 or sum(map(len, filled)) > _LONGEST_CELL * len(filled):
        return None
    return Table(rows, box, has_header=bold == {tops[0]} or None)


def _is_in(word: Word, cell: _Cell) -> bool:
    x, y = word.box.middle
    return cell[0] <= x <= cell[2] and cell[1] <= y <= cell[3]


def _text(words: Sequence[Word]) -> str:
    """Return the words of a cell, line by line."""
    lines: list[list[Word]] = []
    for word in sorted(words, key=lambda word: word.box.middle[1]):
        if lines and word.box.middle[1] - lines[-1][0].box.middle[1] < word.box.height / 2:
            lines[-1].append(word)
        else:
            lines.append([word])
    ordered = (sorted(line, key=lambda word: word.box.left) for line in lines)
    return " ".join(word.text for line in ordered for word in line)
