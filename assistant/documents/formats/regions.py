"""Finds the tables on a sheet or in a file of separated values, and the rows that name their columns.

An empty row or column ends a table, and so does a row that can only be another header. Rows that go on after
an empty row keep their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise

from assistant.documents.page import Block, Cell, Heading, Paragraph, Place, Run, Runs, Table, plain
from assistant.domain.errors import DocumentInvalidError

MOST_CELLS = 500_000
"""Cells of a sheet with a value, and those of its tables with the empty ones."""
_PAIR = ("question", "answer")
"""The columns that make a table one of pairs: the names of a JSON line's fields."""
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"[\d.,:/%\s$€£¥+()'-]+")
_YEAR = re.compile(r"(?:19|20)\d\d")
_DIGITS = re.compile(r"\d+")
_MOST_BESIDE = 20
"""Tables beside each other."""
_LONGEST_NAME_WORDS = 8
_MOST_NAME_ROWS = 3
_SEEN_ROWS = 50
"""Rows that judge whether the first of them is a header."""
_NOTE_WORDS = 6
"""A cell alone in its row with at least this many words is a note, not a value of the first column."""


@dataclass(slots=True)
class GridCell:
    """A cell with its text, or one that a merged cell covers (``runs`` is empty)."""

    runs: Runs
    text: str
    """Text that is in force, in one line."""
    rows: int = 1
    columns: int = 1
    is_bold: bool = False
    note: str = ""
    """Text of the cell's note."""


@dataclass(slots=True)
class Row:
    number: int
    """Number among the visible rows, from 1; a row without cells has a number too."""
    cells: dict[int, GridCell]
    """Cells by column, from 1, in order; empty ones are left out."""
    line: int
    """Its row in the original, or its line in a file of separated values."""
    width: int = 0
    """Cells of a line of separated values; 0 on a sheet."""
    texts: dict[int, str] = field(init=False)
    """Texts in force, by column."""

    def __post_init__(self) -> None:
        self.texts = {column: cell.text for column, cell in self.cells.items() if cell.text}

    def alone(self) -> GridCell | None:
        """Return the cell that is alone in the row, or spans all of it."""
        cells = [cell for cell in self.cells.values() if cell.runs]
        return cells[0] if len(cells) == 1 and cells[0].columns == len(self.cells) else None

    def is_bold(self) -> bool:
        return all(cell.is_bold for cell in self.cells.values() if cell.text)


@dataclass(slots=True)
class _Region:
    header: list[Row]
    columns: list[int]
    rows: list[Row] = field(default_factory=list[Row])
    filled: set[int] = field(default_factory=set[int])
    """Columns that have a text."""

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self.filled.update(row.texts)


def region_blocks(rows: Sequence[Row], place: Place, *, level: int) -> Iterator[Block]:
    """Yield the tables and notes of the rows of a sheet or file that have a cell.

    The rows "Fees of 2026", "Visit | Amount", "First | 20" are a note and a table with one row of names. Rows
    below the names "Question | Answer" are headings with paragraphs.

    ``place`` is the sheet's or file's; ``level`` that of the headings of questions. Raises
    DocumentInvalidError for too many cells.
    """
    found: list[_Region | Paragraph] = []
    for band in _bands(rows):
        _read_band(band, found, place)
    area = 0
    for part in found:
        if isinstance(part, Paragraph):
            yield part
            continue
        area += (len(part.header) + len(part.rows)) * len(part.columns)
        if area > MOST_CELLS:
            problem = f"its tables have more than {MOST_CELLS:,} cells"
            raise DocumentInvalidError(f"{problem}. Split the file.")
        names = {text.casefold(): column for row in part.header for column, text in row.texts.items()}
        if set(_PAIR) <= set(names):
            yield from _pairs(part, names, place, level)
            continue
        header = _with_groups(part.header)
        cells = tuple(_cells(row, part.columns) for row in (*header, *part.rows))
        first = (*part.header, *part.rows)[0]
        yield Table(cells, header_rows=len(header), place=replace(place, number=first.line))


def _bands(rows: Sequence[Row], depth: int = 0) -> Iterator[list[Row]]:
    """Yield rows without an empty row or column that separates tables."""
    for _, group in groupby(enumerate(rows), key=lambda pair: pair[1].number - pair[0]):
        band = [row for _, row in group]
        columns = sorted({column for row in band for column in row.cells})
        cuts = [right for left, right in pairwise(columns) if right > left + 1]
        for cut in cuts if depth < _MOST_BESIDE else ():
            left, right = _between(band, 0, cut), _between(band, cut, columns[-1] + 1)
            if _is_apart(left, right):
                yield from _bands(left, depth + 1)
                yield from _bands(right, depth + 1)
                break
        else:
            yield band


def _pairs(region: _Region, names: Mapping[str, int], place: Place, level: int) -> Iterator[Block]:
    """Yield each pair: the question as a heading, its answer, and the other columns by their names."""
    question, answer = (names[name] for name in _PAIR)
    shown = region.header[-1].texts
    for row in region.rows:
        place = replace(place, number=row.line)
        if question in row.cells:
            yield Heading(level, row.cells[question].runs, place)
        if answer in row.cells:
            yield Paragraph(row.cells[answer].runs, place)
        rest = [(column, text) for column, text in row.texts.items() if column not in (question, answer)]
        others = [f"{shown[column]}: {text}" if column in shown else text for column, text in rest]
        if others:
            yield Paragraph(plain("; ".join(others)), place)


def _between(rows: Sequence[Row], first: int, end: int) -> list[Row]:
    parts = (
        replace(row, cells={at: cell for at, cell in row.cells.items() if first <= at < end}) for row in rows
    )
    return [part for part in parts if part.cells]


def _is_apart(left: Sequence[Row], right: Sequence[Row]) -> bool:
    """Return whether an empty column separates two tables, or a note from one: both are such by themselves.
    Else it is space inside one."""
    if min(sum(map(len, (row.texts for row in part))) for part in (left, right)) < 2:
        return True
    widths = [len({column for row in part for column in row.cells}) for part in (left, right)]
    return min(widths) > 1 and all(_is_header(part) or len(part[0].texts) == 1 for part in (left, right))


# Rows


def _read_band(rows: list[Row], found: list[_Region | Paragraph], place: Place) -> None:
    """Add the tables and notes of rows without an empty row between them."""
    columns = sorted({column for row in rows for column in row.cells})
    table: _Region | None = None
    last = found[-1] if found else None
    is_column_below_table = len(columns) == 1 and isinstance(last, _Region) and len(last.columns) > 1
    for at, row in enumerate(rows):
        rest = rows[at : at + _SEEN_ROWS]
        may_be_note = is_column_below_table or (
            len(columns) > 1 and (table is None or columns[0] in row.cells)
        )
        alone = row.alone() if may_be_note else None
        is_outside_tables = not is_column_below_table and table is None
        is_empty = not is_column_below_table and alone is not None and not alone.text  # struck text alone
        if alone and (is_outside_tables or is_empty or _is_note(alone, rest)):
            found.append(Paragraph(alone.runs, replace(place, number=row.line)))
            table = None
        elif table is None or _is_new_header(table, rest, rows[at - 1]):
            table = _begun(rest, columns, found, is_first=table is None)
        elif not table.header or row.number > table.header[-1].number:
            table.add(row)


def _begun(
    rows: Sequence[Row], columns: list[int], found: list[_Region | Paragraph], *, is_first: bool
) -> _Region:
    """Return the table that begins with the first of the rows. Without a header of its own, it goes on with
    the names of a table above in the same columns."""
    above = next(
        (part for part in reversed(found) if isinstance(part, _Region) and set(columns) <= set(part.columns)),
        None,
    )
    header = _header(rows)
    if is_first and above and above.rows and (not header or _goes_on(rows, above, len(header))):
        if found[-1] is above:
            above.add(rows[0])
            return above
        table = _Region(above.header, above.columns)
    else:
        table = _Region(header, columns)
    if not header or table.header is not header:
        table.add(rows[0])
    table.filled.update(column for row in table.header for column in row.texts)
    found.append(table)
    return table


def _goes_on(rows: Sequence[Row], above: _Region, names: int) -> bool:
    """Return whether rows that may begin with a header of so many names are more rows of the table above:
    they have a value of it, or the kind of letters says so."""
    first = rows[0]
    if above.header and above.header[0].is_bold() and not above.rows[0].is_bold():
        return not first.is_bold()
    if _has_contrast(rows[names - 1 :]):
        return False
    values = {(column, text) for row in above.rows for column, text in row.texts.items()}
    return len(rows) < 2 or any(
        (column, text) in values for row in rows for column, text in row.texts.items()
    )


def _is_note(alone: GridCell, rest: Sequence[Row]) -> bool:
    """Return whether a cell alone in its row is no value of the table around: a sentence, or the title of the
    table below."""
    is_title = len(rest) > 2 and _is_header(rest[1:]) and _has_contrast(rest[1:])
    return is_title or len(alone.text.split()) >= _NOTE_WORDS


def _is_new_header(table: _Region, rest: Sequence[Row], before: Row) -> bool:
    row = rest[0]
    if not table.rows or len(rest) < 2:
        return False
    if table.header and table.header[0].is_bold() and row.is_bold():
        return not before.is_bold() and not rest[1].is_bold() and _is_header(rest)
    is_other = row.width != before.width and row.width == rest[1].width
    return (is_other or not table.filled.issuperset(row.texts)) and _is_header(rest) and _has_contrast(rest)


def _header(rows: Sequence[Row]) -> list[Row]:
    """Return the first rows that name the columns: none, or up to three of which each divides names above."""
    if not _is_header(rows):
        return []
    tallest = max(cell.rows for cell in rows[0].cells.values())
    depth = 1
    while depth < _MOST_NAME_ROWS and len(rows) > depth + 1 and _divides(rows[depth - 1], rows[depth]):
        depth += 1
    while depth > max(1, tallest) and not _has_contrast(rows[depth - 1 :]):
        depth -= 1
    return [*rows[:depth]]


def _divides(above: Row, row: Row) -> bool:
    """Return whether a row names parts of the names above: no digits, under cells that span or leave gaps."""
    is_grouped = any(cell.columns > 1 for cell in above.cells.values())
    has_gaps = min(row.cells, default=0) > min(above.cells) and not set(row.texts) <= set(above.texts)
    return (is_grouped or has_gaps) and not any(map(_DIGIT.search, row.texts.values()))


def _is_header(rows: Sequence[Row]) -> bool:
    """Return whether the first row names the columns: several different names, and rows under it. Rows of a
    sheet nearly always have names; a row with numbers is none."""
    names = rows[0].texts
    below = rows[1].texts if len(rows) > 1 else {}
    numbers = [
        name
        for column, name in names.items()
        if _DIGIT.search(name)
        and not _YEAR.fullmatch(name)
        and (is_number(name) or _DIGITS.sub("0", name) == _DIGITS.sub("0", below.get(column, "")))
    ]
    is_words = all(
        len(name.split()) <= _LONGEST_NAME_WORDS and not name.endswith(":") for name in names.values()
    )
    if len(rows) < 2 or numbers or not is_words or (len(names) < 2 and len(rows[0].cells) < 2):
        return False
    widest = max(len(row.texts) for row in rows)
    spanned = sum(cell.columns for cell in rows[0].cells.values() if cell.text)
    return len(set(names.values())) > len(names) / 2 and spanned > widest / 2


def _has_contrast(rows: Sequence[Row]) -> bool:
    """Return whether a column has digits under a first row without any, and none has a value of that row."""
    below = rows[1].texts if len(rows) > 1 else {}
    names = rows[0].texts.items()
    return not (below.items() & names) and any(
        _DIGIT.search(below.get(column, "")) and not _DIGIT.search(name) for column, name in names
    )


def _with_groups(header: Sequence[Row]) -> list[Row]:
    """Return a header whose upper names reach over the names below that have none of their own."""
    rows = [*header]
    for at, (above, row) in enumerate(pairwise(header)):
        upper, covered = dict(above.cells), 0
        for column in row.texts:
            left = max((place for place in upper if place < column), default=0)
            if column not in upper and left and column >= covered:
                upper[left] = replace(upper[left], columns=max(upper[left].columns, column - left + 1))
                covered = left + upper[left].columns
        rows[at] = replace(above, cells=upper)
    return rows


_EMPTY = Cell(())


def _cells(row: Row, columns: Sequence[int]) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    end = 0
    for column in columns:
        cell = row.cells.get(column)
        if cell is None:
            if column >= end:
                cells.append(_EMPTY)
        elif cell.runs:
            note = (Paragraph(plain(cell.note)),) if cell.note else ()
            cells.append(Cell((Paragraph(cell.runs), *note), cell.rows, cell.columns))
            end = column + cell.columns
    return tuple(cells)


def text_cell(text: str) -> GridCell:
    """Return a cell of plain text."""
    return GridCell((Run(text.strip()),), " ".join(text.split()))


def is_number(text: str) -> bool:
    """Return whether a text is a number, an amount, a time or a date in figures, and nothing else."""
    return _NUMBER.fullmatch(text) is not None and _DIGIT.search(text) is not None
