"""Finds the tables on a sheet or in a file of separated values, and the rows that name their columns.

Neither file says where a table begins. It is read in three steps:

1. ``_bands`` cuts the rows where an empty row or column separates tables. 2. ``_read_band`` reads a band row
by row: a row is a note, begins a table, or is a row of the table above it. Rows
   that go on after an empty row or a note keep the names of the table above.
3. ``region_blocks`` yields notes as paragraphs and tables as tables, or as questions with answers.
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
"""Names of two columns that make a table one of questions with answers, as in a file of JSON lines."""
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"[\d.,:/%\s$€£¥+()'-]+")
_YEAR = re.compile(r"(?:19|20)\d\d")
_DIGITS = re.compile(r"\d+")
_MOST_BESIDE = 20
"""Cuts at empty columns, one inside another."""
_LONGEST_NAME_WORDS = 8
"""Words of a column's name."""
_MOST_NAME_ROWS = 3
"""Rows of a header."""
_SEEN_ROWS = 50
"""Rows that judge whether the first of them is a header."""
_NOTE_WORDS = 6
"""A cell alone in its row with at least this many words is a note, not a value of the first column."""


@dataclass(slots=True)
class GridCell:
    """A cell with its text, or one that a merged cell covers (``runs`` is empty)."""

    runs: Runs
    """As it is shown: struck text too."""
    text: str
    """Text that is in force, in one line; empty where all is struck."""
    rows: int = 1
    """Rows that it spans, itself included; so for ``columns``."""
    columns: int = 1
    is_bold: bool = False
    note: str = ""
    """Text of the cell's note."""


@dataclass(slots=True)
class Row:
    """A row of a sheet or file that has a cell."""

    number: int
    """Number among the visible rows, from 1; a row without cells has a number too."""
    cells: dict[int, GridCell]
    """Cells by column, from 1, in order; empty ones are left out, covered ones are not."""
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
        """Return whether all of its texts are."""
        return all(cell.is_bold for cell in self.cells.values() if cell.text)


@dataclass(slots=True)
class _Region:
    """A table while it is read."""

    header: list[Row]
    """Empty where no row names the columns."""
    columns: list[int]
    rows: list[Row] = field(default_factory=list[Row])
    filled: set[int] = field(init=False)
    """Columns that have a text, in the header or below."""

    def __post_init__(self) -> None:
        self.filled = {column for row in self.header for column in row.texts}

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
    parts: list[_Region | Paragraph] = []
    for band in _bands(rows):
        _read_band(band, parts, place)
    cells_so_far = 0
    for part in parts:
        if isinstance(part, Paragraph):
            yield part
            continue
        cells_so_far += (len(part.header) + len(part.rows)) * len(part.columns)
        if cells_so_far > MOST_CELLS:
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


def _bands(rows: Sequence[Row], cuts: int = 0) -> Iterator[list[Row]]:
    """Yield rows without an empty row or column that separates tables. ``cuts``: made at columns before."""
    for _, group in groupby(
        enumerate(rows), key=lambda pair: pair[1].number - pair[0]
    ):  # numbers without a gap
        band = [row for _, row in group]
        if cuts < _MOST_BESIDE and (halves := _halves(band)):
            for half in halves:
                yield from _bands(half, cuts + 1)
        else:
            yield band


def _halves(band: Sequence[Row]) -> tuple[list[Row], list[Row]] | None:
    """Return what is left and right of the first empty column that separates tables; None where none does."""
    columns = sorted({column for row in band for column in row.cells})
    for before, after in pairwise(columns):
        if after > before + 1:
            left, right = _between(band, 0, after), _between(band, after, columns[-1] + 1)
            if _is_apart(left, right):
                return left, right
    return None


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
    """Return the rows with their cells in the columns [first, end); without rows that have none there."""
    parts = (
        replace(row, cells={at: cell for at, cell in row.cells.items() if first <= at < end}) for row in rows
    )
    return [part for part in parts if part.cells]


def _is_apart(left: Sequence[Row], right: Sequence[Row]) -> bool:
    """Return whether an empty column separates two tables, or a note from a table. Else it is space inside of
    one table: its halves do not both begin like a table."""
    sides = (left, right)
    if any(sum(len(row.texts) for row in side) < 2 for side in sides):  # a note
        return True
    are_wide = all(len({column for row in side for column in row.cells}) > 1 for side in sides)
    return are_wide and all(_is_header(side) or len(side[0].texts) == 1 for side in sides)


# Rows


def _read_band(rows: list[Row], parts: list[_Region | Paragraph], place: Place) -> None:
    """Add the tables and notes of a band to ``parts``, which has those of the bands before it.

    Where the band goes on with the last table of ``parts``, that table gets its rows.
    """
    columns = sorted({column for row in rows for column in row.cells})
    above = parts[-1] if parts else None
    is_column_below_table = len(columns) == 1 and isinstance(above, _Region) and len(above.columns) > 1
    table: _Region | None = None
    for at, row in enumerate(rows):
        rest = rows[at : at + _SEEN_ROWS]
        alone = row.alone()
        if is_column_below_table:
            is_note = alone is not None and _is_note(alone, rest)
        elif len(columns) == 1 or (table is not None and columns[0] not in row.cells):
            is_note = False
        else:  # what is alone above a table, struck, or like a note inside a table
            is_note = alone is not None and (table is None or not alone.text or _is_note(alone, rest))
        if alone is not None and is_note:
            parts.append(Paragraph(alone.runs, replace(place, number=row.line)))
            table = None
        elif table is None or _is_new_header(table, rest, rows[at - 1]):
            table = _begun(rest, columns, parts, may_go_on=table is None)
        elif not table.header or row.number > table.header[-1].number:  # else it is in the header already
            table.add(row)


def _begun(
    rows: Sequence[Row], columns: list[int], parts: list[_Region | Paragraph], *, may_go_on: bool
) -> _Region:
    """Return the table that has the first of the rows, which begins it or goes on with a table above.

    With ``may_go_on``, rows without a header of their own keep the names of the last table above that has
    these columns: they are more rows of it where nothing stands between, and after a note a new table.
    """
    regions = (part for part in reversed(parts) if isinstance(part, _Region))
    above = next((region for region in regions if set(columns) <= set(region.columns)), None)
    header = _header(rows)
    if may_go_on and above and above.rows and (not header or _goes_on(rows, above, len(header))):
        table = above if parts[-1] is above else _Region(above.header, above.columns)
        table.add(rows[0])
    else:
        table = _Region(header, columns)
        if not header:
            table.add(rows[0])
    if table is not above:
        parts.append(table)
    return table


def _goes_on(rows: Sequence[Row], above: _Region, header_rows: int) -> bool:
    """Return whether rows that begin like a header are more rows of the table above.

    Below a bold header over a row that is not bold, they are where the first is not bold either. Below any
    other they are where they repeat a value of that table, and do not look like names over numbers.
    """
    first = rows[0]
    if above.header and above.header[0].is_bold() and not above.rows[0].is_bold():
        return not first.is_bold()
    if _has_contrast(rows[header_rows - 1 :]):
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
    """Return whether the first of ``rest`` ends the table and names the columns of another one below it.

    ``before`` is the row above it. A bold row below a bold header is where the rows around it are not bold.
    Any other row must look like a header over values, and differ from the table: in its number of cells
    (CSV), or by a text in a column that had none.
    """
    row = rest[0]
    if not table.rows or len(rest) < 2:
        return False
    if table.header and table.header[0].is_bold() and row.is_bold():
        return not before.is_bold() and not rest[1].is_bold() and _is_header(rest)
    has_other_width = row.width != before.width and row.width == rest[1].width
    is_other = has_other_width or not table.filled.issuperset(row.texts)
    return is_other and _is_header(rest) and _has_contrast(rest)


def _header(rows: Sequence[Row]) -> list[Row]:
    """Return the first rows that name the columns: none, or up to three of which each divides names above.

    "Plan | Fee |", " | New | Renewal", "Basic | 20 | 10": the first two.
    """
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
    if len(rows) < 2 or (len(names) < 2 and len(rows[0].cells) < 2):
        return False
    below = rows[1].texts
    for column, name in names.items():
        if _is_value(name, below.get(column, "")) or name.endswith(":"):
            return False
        if len(name.split()) > _LONGEST_NAME_WORDS:
            return False
    widest = max(len(row.texts) for row in rows)
    spanned = sum(cell.columns for cell in rows[0].cells.values() if cell.text)
    return len(set(names.values())) > len(names) / 2 and spanned > widest / 2


def _is_value(text: str, below: str) -> bool:
    """Return whether a text is no name: a number but for a year, or a code like the one below it ("A-17" over
    "A-18")."""
    if not _DIGIT.search(text) or _YEAR.fullmatch(text):
        return False
    return is_number(text) or _DIGITS.sub("0", text) == _DIGITS.sub("0", below)


def _has_contrast(rows: Sequence[Row]) -> bool:
    """Return whether the first row looks like names over values: under a text without digits the second row
    has one with digits, and it repeats no text of the first."""
    below = rows[1].texts if len(rows) > 1 else {}
    names = rows[0].texts.items()
    return not (below.items() & names) and any(
        _DIGIT.search(below.get(column, "")) and not _DIGIT.search(name) for column, name in names
    )


def _with_groups(header: Sequence[Row]) -> list[Row]:
    """Return a header whose upper names span the names below that have none of their own above them.

    "Plan | Fee |" over " | New | Renewal": "Fee" spans "New" and "Renewal".
    """
    rows = [*header]
    for at, (above, row) in enumerate(pairwise(header)):
        upper, covered_to = dict(above.cells), 0
        for column in row.texts:
            left = max((place for place in upper if place < column), default=0)
            if column not in upper and left and column >= covered_to:
                upper[left] = replace(upper[left], columns=max(upper[left].columns, column - left + 1))
                covered_to = left + upper[left].columns
        rows[at] = replace(above, cells=upper)
    return rows


_EMPTY = Cell(())


def _cells(row: Row, columns: Sequence[int]) -> tuple[Cell, ...]:
    """Return the cells that begin in a row of a table, with an empty one where nothing is or reaches."""
    cells: list[Cell] = []
    covered_to = 0
    for column in columns:
        cell = row.cells.get(column)
        if cell is None:
            if column >= covered_to:
                cells.append(_EMPTY)
        elif cell.runs:
            note = (Paragraph(plain(cell.note)),) if cell.note else ()
            cells.append(Cell((Paragraph(cell.runs), *note), cell.rows, cell.columns))
            covered_to = column + cell.columns
    return tuple(cells)


def text_cell(text: str) -> GridCell:
    """Return a cell of plain text."""
    return GridCell((Run(text.strip()),), " ".join(text.split()))


def is_number(text: str) -> bool:
    """Return whether a text is a number, an amount, a time or a date in figures, and nothing else."""
    return _NUMBER.fullmatch(text) is not None and _DIGIT.search(text) is not None
