"""Tables of Office files: which rows name the columns, and which tables are only a layout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from assistant.documents.page import Block, Cell, Table, all_runs, text_of
from assistant.documents.parsing.render import grid_of

_DIGIT = re.compile(r"\d")
_LABEL = re.compile("[:\u2610-\u2612]\\s*$|^[\u2610-\u2612]")
"""A text with a value beside it, or with a check box."""


def table_blocks(rows: Iterable[Sequence[Cell]], *, header_rows: int = 0) -> list[Block]:
    """Return a table with the rows that name its columns; ``header_rows`` 0: the file names none.

    A cell across all columns above it is a text of its own. A table without names that contains tables, or
    has no two texts beside each other, is layout: what is in it is returned.
    """
    rows = [tuple(row) for row in rows]  # an empty one too: cells above may span all of it
    cells = [cell for row in rows for cell in row]
    width = max((sum(cell.columns for cell in row) for row in rows), default=0)
    is_placing = header_rows < 1 and all(sum(map(_has_text, row)) < 2 for row in rows)
    if is_placing:
        return [block for cell in cells for block in cell.blocks]
    blocks: list[Block] = []
    while (
        width > 1 and len(rows) > 1 and [cell.columns for cell in rows[0]] == [width] and rows[0][0].rows == 1
    ):
        blocks += rows.pop(0)[0].blocks
        header_rows -= 1
    below = [block for row in rows for cell in row for block in cell.blocks]
    named = _named_rows(rows, header_rows) if below else 0
    is_layout = not named and any(isinstance(block, Table) for block in below)
    return [*blocks, *(below if is_layout or not below else [Table(tuple(rows), named)])]


def _has_text(cell: Cell) -> bool:
    return any(text_of(runs).strip() for runs in all_runs(cell.blocks))


def _named_rows(rows: Sequence[Sequence[Cell]], declared: int) -> int:
    """Return how many first rows name the columns: those that the file declares, with what their cells span;
    else those that the first cells span, judged by ``is_header``. A row of names of parts is one of them."""
    grid = grid_of(rows)
    texts = {id(cell): " ".join(map(text_of, all_runs(cell.blocks))) for row in rows for cell in row}
    lines = [["" if cell is None else texts[id(cell)] for cell in row] for row in grid]
    first = rows[: max(declared, 1)]
    depth = max((at + cell.rows for at, row in enumerate(first) for cell in row), default=0)
    if depth == 1 and len(rows) > 1 and _has_parts(grid[0], lines[1]):
        depth = 2
    if declared > 0:
        return depth
    columns = [at for at, cell in enumerate(grid[0]) if depth > 1 or at == 0 or cell is not grid[0][at - 1]]
    names = [
        " ".join(dict.fromkeys(line[at] for line in lines[:depth] if at < len(line))).strip()
        for at in columns
    ]
    others = [[line[at] for at in columns if at < len(line)] for line in lines[depth:] if any(line)]
    is_divided = len(columns) > len(rows[0]) and all(
        cell.rows == depth or cell.columns > 1 for cell in rows[0]
    )
    return depth if is_header([names, *others], may_have_digits=is_divided) else 0


def _has_parts(first: Sequence[Cell | None], second: Sequence[str]) -> bool:
    """Return whether the second row names parts: below names across columns only, and without digits."""
    wide = [cell is not None and cell.columns > 1 for cell in first]
    are_parts = all(
        bool(text) == is_wide and not _DIGIT.search(text) for text, is_wide in zip(second, wide, strict=False)
    )
    return len(first) == len(second) and 0 < sum(wide) < len(wide) and are_parts


def is_header(rows: Sequence[Sequence[str]], *, may_have_digits: bool = False) -> bool:
    """Return whether the first row names the columns, of a table that does not say so.

    Names fill the row, differ and have no digits, unless merged cells show that they are names. A table of
    two columns is more often a list of names with values: there a column must have digits in all its other
    cells.
    """
    first, *others = rows
    names = {cell.strip() for cell in first}
    if not others or len(names) < max(2, len(first)) or "" in names or any(map(_LABEL.search, names)):
        return False
    if not may_have_digits and any(map(_DIGIT.search, names)):
        return False
    columns = ([row[place] for row in others if place < len(row)] for place in range(len(first)))
    return len(first) > 2 or any(all(_DIGIT.search(cell) for cell in column) for column in columns)
