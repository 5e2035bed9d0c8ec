"""Reads separated values (CSV) by the standard library: any usual delimiter, and several tables in a file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

from assistant.documents.formats.plain import decoded
from assistant.documents.formats.regions import MOST_CELLS, Row, is_number, region_blocks, text_cell
from assistant.documents.page import Page, Place
from assistant.domain.errors import DocumentInvalidError

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 50
_SAMPLE_CHARACTERS = 20_000
"""As much as judges the delimiter: each quote may be looked for to the end of it."""
_DECLARED = re.compile(r'"?sep=(.|\\t)"?[ \t]*(?:\r\n|\r|\n|$)', re.I)
"""The first line, which names the delimiter for Excel."""
_GUARDED = re.compile(r'\A="([^"]*)"\Z')
"""A text that Excel is to take for no number: ="00731"."""
_QUOTED = r'(?:^|(?<=[{0}]))"((?:[^"{1}]|""|"(?![{0}\r\n]|\Z))*+)"(?=[{0}\r\n]|\Z)'
"""A cell in quotes, with the delimiters and what it does not hold; quotes inside may be not doubled."""


def convert_csv(raw: bytes) -> Page:
    """Return the tables of separated values. Raises DocumentInvalidError."""
    text = decoded(raw)
    declared = _DECLARED.match(text)
    if declared:
        delimiter, text = declared[1].replace("\\t", "\t"), text[declared.end() :]
    else:
        # What is in quotes says nothing of the delimiter.
        cells = re.compile(_QUOTED.format(_DELIMITERS, ""), re.M)
        bare = cells.sub(lambda cell: "0" if is_number(cell[1]) else "text", text[:_SAMPLE_CHARACTERS])
        delimiter = max(_DELIMITERS, key=lambda delimiter: _fitness(bare, delimiter))
    count = text.count(delimiter) + text.count("\n")
    if count > MOST_CELLS:
        problem = f"it has {count:,} cells; at most {MOST_CELLS:,} are read"
        raise DocumentInvalidError(f"{problem}. Split the file.")
    rows = list(_rows(text, delimiter, skipped=1 if declared else 0))
    return Page(tuple(region_blocks(rows, Place("line"), level=1)))


def _rows(text: str, delimiter: str, *, skipped: int) -> Iterator[Row]:
    quoted = re.compile(_QUOTED.format(re.escape(delimiter), r"\n"), re.M)
    text = quoted.sub(lambda cell: '"{}"'.format(cell[1].replace('""', '"').replace('"', '""')), text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number, line, usual = 1, 1 + skipped, 0
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise _not_csv(line, str(error)) from None
        if values is None:
            return
        inner = [line for value in values if "\n" in value for line in value.split("\n")]
        if inner and (len(values) != usual > 1 or _holds_rows(inner[1:-1], delimiter, usual)):
            raise _not_csv(line, "a quote has no end")
        usual = len(values) if len(values) > 1 else usual
        shown = (_GUARDED.sub(r"\1", value.strip()) for value in values)
        filled = {at: text_cell(value) for at, value in enumerate(shown, start=1) if value}
        if filled:
            yield Row(number, filled, line, len(values))
        line = reader.line_num + 1 + skipped
        number += 1


def _holds_rows(lines: Sequence[str], delimiter: str, width: int) -> bool:
    """Return whether lines inside a cell are rows. Those of two cells may be an address with a comma."""
    return width > 2 and any(line.count(delimiter) >= width - 1 for line in lines)


def _not_csv(line: int, problem: str) -> DocumentInvalidError:
    where = f"it is not CSV: in the row that begins in line {line:,}, {problem}"
    return DocumentInvalidError(f"{where}. Correct its quotes, or export it again.")


def _fitness(text: str, delimiter: str) -> tuple[int, int, int]:
    """Return how well a delimiter cuts the first rows: how many have as many cells as a row beside them, less
    the cells that hold another delimiter and are no number; how many cells are numbers, and of all."""
    sample = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [row for row in islice(sample, _SAMPLE_ROWS) if any(row)]
    except csv.Error:
        return (0, 0, 0)
    cells = [cell for row in rows for cell in row if len(row) > 1]
    others = _DELIMITERS.replace(delimiter, "")
    numbers = sum(map(is_number, cells))
    cut = sum(any(other in cell for other in others) and not is_number(cell) for cell in cells)
    regular = _regular(rows)
    return (regular - cut if regular else -len(rows), numbers, len(cells))


def _regular(rows: Sequence[Sequence[str]]) -> int:
    widths = [len(row) for row in rows]
    alike = {
        at + side for at, (one, other) in enumerate(pairwise(widths)) if one == other > 1 for side in (0, 1)
    }
    return len(alike)
