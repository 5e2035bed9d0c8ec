"""Decides what each row of a table is: names of columns, a title or note between rows, or values.

Readers of all formats call it with what their file says: merged cells, cells that are shown as names (bold, a
``th``), and the number of first rows that it declares as names (0: it declares none). The shape decides the
rest, and digits alone never do. These rows have two tables; "Indoor" is a title, and the empty cell means "as
above"::

    Plant  | Pot  | 4 May          Plant: Fern; Pot: 2 L; 4 May: $9      (under "Indoor")
    Indoor |      |                Plant: Fern; Pot: 5 L; 4 May: $12     (under "Indoor")
    Fern   | 2 L  | $9
           | 5 L  | $12
    Plant  | Pot  | 11 May         the first header's cell again: other names
    Fern   | 2 L  | $10            Plant: Fern; Pot: 2 L; 11 May: $10

A ``Table`` of the page says it: ``header_rows``, a title as one cell across all columns that ``is_name``, a
note as one that is not, and a cell that means "as above" as a copy of that one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby, pairwise, takewhile

from assistant.documents.page import (
    SENTENCE_ENDS,
    Block,
    Cell,
    Heading,
    Paragraph,
    Place,
    Run,
    Table,
    all_runs,
    one_line,
    text_of,
)
from assistant.domain.errors import DocumentInvalidError
from assistant.text.codes import codes_in
from assistant.text.language import word_groups
from assistant.text.values import amount_of, quantities

MOST_CELLS = 500_000
"""Cells of a table once its spans are filled."""
_DIGIT = re.compile(r"\d")
_DIGITS = re.compile(r"\d+")
_NUMBER = re.compile(r"[\d.,:/%\s$€£¥+()'-]+")
_YEAR = re.compile(r"(?:19|20)\d\d")
_SIGNS = re.compile(r"[^\W\d_]|[$€£¥%:]")
_UNIT = re.compile(r"[^\W\d_]+")
_CODE = re.compile(r"[A-Z0-9]{1,4}")
_AMOUNT = re.compile(r"\D{0,2}(\d[\d,]*(?:\.\d+)?)\D{0,2}")
_AMOUNTS = re.compile(r"([$€£¥]?)\s?\d[\d.,:/-]*\s?([%$€£¥]?)(?=([^\W\d_]?))")
"""A number with the sign before or after it, and the letter that follows."""
_WORD = re.compile(r"[^\W\d_]{2,}")
_NO_AMOUNT = re.compile(r"(?<![\d.,:])0\d|[^\W\d_]-\d")
"""A number that counts nothing: "0555-0131", "TX-204"."""
_FEWEST_WORDS = 3
"""Words of a text with digits that is no amount: "from 6 p.m. the day before"."""
_FEWEST_GAPS = 2
"""Gaps of a column that may be one of groups."""
_SAME_SUM = 0.005
_ENUMERATED = re.compile(r"\A\d{1,2}[.)] +(?=\D)")
"""The number of a title: "3. Parties"."""
_DITTO = frozenset(['"', "\u201c", "\u201d", "\u201e", "\u2033", "\u3003", "''", ",,"])
"""Marks for "as above"."""
_FORM_LABEL = re.compile("[:\u2610-\u2612]\\s*$|^[\u2610-\u2612]")
"""A text of a form and not the name of a column: it ends in a colon, "Name:", or has a check box, "☐
Adult"."""
_IN_STROKES = re.compile(r"([-=*_~])\1+\s*\w.*\1\1")
"""A title in any column: "--- Home care ---"."""
_LONGEST_NAME_WORDS = 8
"""Words of a column's name."""
_LONGEST_PAIR_WORDS = 3
"""Words of a name of one of two columns of words, of which nothing else tells that they have names."""
_MOST_NAME_ROWS = 3
"""Rows of a header."""
_SEEN_ROWS = 50
"""Rows that judge whether the first of them is a header."""
_MOST_TITLE_LINES = 4
"""Rows of titles and dates above the names of a file of separated values."""
_FEWEST_STEPS = 4
"""Rows of a triangle of values and its names."""
_FEWEST_AROUND = 2
"""Rows above and below one that shall name the columns of those below."""
_CONTINUED = re.compile(r"\(\s*(?:[2-9]\s?/\s?[2-9]\s*\)|([^\W\d_]+))|\A([^\W\d_]+)")
"""What says that a table goes on: "(continued overleaf)", "(2/3)"."""
_NOTE_MARK = re.compile(
    r"(?:\*{1,3}(?!\*)|[\u2020\u2021\u00a7\u00b9\u00b2\u00b3])\)?\s?(?=[^\W_])(?!.*\*\s*\Z)"
)
"""The mark of a note: "* only on Mondays", and no title in stars, "** METER **"."""
NOTE_WORDS = 6
"""A text alone in its row with at least this many words is a note, not a value of the first column."""


# Rows


@dataclass(slots=True)
class GridCell:
    """A cell with its text, or one that a merged cell covers (``blocks`` is empty)."""

    blocks: tuple[Block, ...]
    """As it is shown: struck text too."""
    text: str
    """Text that is in force, in one line; empty where all is struck."""
    rows: int = 1
    """Rows that it spans, itself included; so for ``columns``."""
    columns: int = 1
    is_name: bool = False
    """Whether it is shown as a name: in bold letters, or as a ``th``."""


COVERED = GridCell((), "")
"""What stands at each place that a merged cell covers, but for its first."""


@dataclass(slots=True)
class Row:
    """A row of a table, sheet or file of separated values."""

    number: int
    """Number among the visible rows, from 1; a row without cells has a number too."""
    cells: dict[int, GridCell]
    """Cells by column, from 1, in order; empty ones are left out, covered ones are not."""
    line: int
    """Its row in the original, or its line in a file of separated values."""
    width: int = 0
    """Cells of a line of separated values; 0 elsewhere."""
    texts: dict[int, str] = field(init=False)
    """Texts in force, by column."""

    def __post_init__(self) -> None:
        self.texts = {column: cell.text for column, cell in self.cells.items() if cell.text}

    @property
    def text(self) -> str:
        """All texts in one line."""
        return " ".join(self.texts.values())

    def add(self, column: int, cell: GridCell) -> None:
        self.cells[column] = cell
        self.texts[column] = cell.text

    def alone(self) -> GridCell | None:
        """Return the cell that is alone in the row, or spans all of it."""
        cells = [cell for cell in self.cells.values() if cell.blocks]
        return cells[0] if len(cells) == 1 and cells[0].columns == len(self.cells) else None

    def is_named(self) -> bool:
        """Return whether it has texts, and all are shown as names."""
        return bool(self.texts) and all(cell.is_name for cell in self.cells.values() if cell.text)


def is_number(text: str) -> bool:
    """Return whether a text is a number, an amount, a time or a date in figures, and nothing else."""
    return _NUMBER.fullmatch(text) is not None and _DIGIT.search(text) is not None


@dataclass(slots=True)
class Region:
    """A table while it is read."""

    header: list[Row]
    """Empty where no row names the columns."""
    columns: list[int]
    captions: list[Row] = field(default_factory=list[Row])
    """Rows of one text above the header."""
    rows: list[Row] = field(default_factory=list[Row])
    """Values, titles and notes."""
    across: dict[int, bool] = field(default_factory=dict[int, bool])
    """By ``Row.number``: whether a row of one text across all columns is a title, else it is a note. Other
    rows are values."""
    written: int = 0
    """First rows that are on a page before."""
    doubtful: set[int] = field(default_factory=set[int])
    """Columns whose empty cells may mean "as above", or nothing."""
    filled: set[int] = field(init=False)
    """Columns that have a text, in the header or below."""

    def __post_init__(self) -> None:
        self.filled = {column for row in self.header for column in row.texts}

    def add(self, row: Row, *, is_title: bool | None = None) -> None:
        """Add a row. ``is_title``: True for a title, False for a note, None for values."""
        self.rows.append(row)
        self.filled.update(row.texts)
        if is_title is not None:
            self.across[row.number] = is_title

    def values(self) -> list[Row]:
        """Return the last rows of values."""
        return [row for row in self.rows[-_SEEN_ROWS:] if row.number not in self.across]

    def named_by(self) -> str:
        """Return the name of the first column, "" without one."""
        return next(iter(_below(self.header, self.columns[0])), "")

    def take_caption(self) -> None:
        """Make the last caption a title of the first rows."""
        if self.captions:
            title = self.captions.pop()
            self.rows.insert(0, title)
            self.across[title.number] = True

    def table(self, place: Place | None = None) -> Table:
        """Return the rows that no page before has as a table of the page, below the titles that they have."""
        header = _with_groups(self.header)
        rows = self.rows[self.written : len(self.rows) - len(self.closing_notes())]
        begins = bool(rows) and self.across.get(rows[0].number, False)
        titles = [] if begins else self._last_titles()
        self.written = len(self.rows)
        cells = tuple(self._cells(row) for row in (*header, *titles, *rows))
        doubtful = tuple(at for at, column in enumerate(self.columns) if column in self.doubtful)
        return Table(cells, len(header), doubtful, place)

    def closing_notes(self) -> list[Row]:
        """Return the notes below the last row of a table with titles, which are of the whole table and not of
        the last title, unless other titles end in a note too."""
        pairs = pairwise(self.rows)
        if not any(self.across.values()) or any(
            self._is_note(row) and self.across.get(after.number) for row, after in pairs
        ):
            return []
        return [*takewhile(self._is_note, reversed(self.rows[self.written :]))][::-1]

    def _is_note(self, row: Row) -> bool:
        return self.across.get(row.number) is False

    def groups(self) -> list[list[Row]]:
        """Return the rows of values below each title or empty row, from the last one that is on a page
        before."""
        groups: list[list[Row]] = [[]]
        rows = self.rows[max(0, self.written - 1) :]
        for above, row in pairwise((*rows[:1], *rows)):
            if self.across.get(row.number) or row.number > above.number + 1:
                groups.append([])
            if row.number not in self.across and row.texts:
                groups[-1].append(row)
        return [*filter(None, groups)]

    def _last_titles(self) -> list[Row]:
        """Return the titles of the last row that is on a page before."""
        titles = list[Row]()
        for row in reversed(self.rows[: self.written]):
            if self.across.get(row.number):
                titles.insert(0, row)
            elif titles:
                break
        return titles

    def _cells(self, row: Row) -> tuple[Cell, ...]:
        """Return the cells that begin in a row, with an empty one where nothing is or reaches."""
        if row.number in self.across:
            blocks = tuple(block for cell in row.cells.values() for block in cell.blocks)
            return (Cell(blocks, columns=len(self.columns), is_name=self.across[row.number]),)
        cells: list[Cell] = []
        covered_to = 0
        for column in self.columns:
            cell = row.cells.get(column)
            if cell is None:
                if column >= covered_to:
                    cells.append(_EMPTY)
            elif cell.blocks:
                cells.append(Cell(cell.blocks, cell.rows, cell.columns))
                covered_to = column + cell.columns
        return tuple(cells)


_EMPTY = Cell(())


def text_row(texts: Iterable[str], number: int, line: int) -> Row:
    """Return a row of plain texts, of which empty ones are no cells."""
    cells = {
        at: GridCell((Paragraph((Run(text.strip()),)),), one_line(text))
        for at, text in enumerate(texts, start=1)
        if text
    }
    return Row(number, cells, line)


def finish(regions: Sequence[Region]) -> None:
    """Make captions titles where they tell rows apart: where rows below have another title, or another table
    has names like these. The caption of a table alone stays a text above it. Then fill cells that mean "as
    above"."""
    names = [region.named_by() or " ".join(row.text for row in region.header) for region in regions]
    counts = Counter(names)
    for region, name in zip(regions, names, strict=True):
        has_titles = any(region.across.values())
        begins = has_titles and region.across.get(region.rows[0].number, False)
        is_told_apart = (has_titles and not begins) or (name and counts[name] > 1)
        if not region.written and (is_told_apart or _is_named_by_caption(region)):
            region.take_caption()
    _fill_as_above(regions)


def _is_named_by_caption(region: Region) -> bool:
    """Return whether the last caption alone says what rows without names are: "Hire, per hour"."""
    words = region.captions[-1].text.split() if region.captions and not region.header else []
    is_name = 0 < len(words) <= _LONGEST_NAME_WORDS and not words[-1].endswith(SENTENCE_ENDS)
    return is_name and len(region.rows) > 1


def read_band(
    rows: Sequence[Row], regions: list[Region], *, declared: int = 0, names_expected: bool = False
) -> None:
    """Add the tables of rows that follow each other to ``regions``, which has those of the bands before.

    Where the band goes on with a table of ``regions``, that table gets its rows. Several tables are where a
    row names the columns anew. ``declared``: first rows of which the file says that they name the columns.
    ``names_expected``: its tables nearly always have names, as those of a sheet: of two columns of words the
    first row names them, if nothing speaks against it.
    """
    rows = _with_names_first(rows) if len(rows) >= _FEWEST_STEPS else rows
    band = _Band(rows, regions, declared, names_expected=names_expected)
    at = 0
    while at < len(rows):
        at += band.take(at)
    band.end()


def _with_names_first(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows of a triangle of values with its names, which stand below the last row, above them."""
    *values, last = rows
    first, columns = min(rows[0].texts, default=0), [row.texts.keys() for row in values]
    fewest = len(columns[0])  # 1: the first row has its name alone, and the last name has no value
    are_steps = all(len(row) == at for at, row in enumerate(columns, start=fewest)) and all(
        above < row for above, row in pairwise(columns)
    )
    named = last.texts.keys() - ({max(last.texts)} if fewest == 1 and last.texts else set())
    is_below = (
        len(values) > fewest % 2 + 1
        and fewest in (1, 2)
        and named == columns[-1] - {first}
        and not any(map(_DIGIT.search, last.texts.values()))
    )
    if not are_steps or not is_below:
        return rows
    names, *others = (
        replace(
            row,
            cells={
                at: replace(cell, rows=1, columns=1, is_name=row is last)
                for at, cell in row.cells.items()
                if cell.text
            },
        )
        for row in (last, *values)
    )
    alone = [replace(others.pop(0), number=last.number)] if fewest == 1 else []
    return [replace(names, number=others[0].number - 1), *others, *alone]


class _Band:
    """Reads the rows of a band one after the other."""

    def __init__(
        self, rows: Sequence[Row], regions: list[Region], declared: int, *, names_expected: bool
    ) -> None:
        self._rows, self._regions = rows, regions
        self._declared, self._names_expected = declared, names_expected
        self._columns = sorted({column for row in rows for column in row.cells})
        self._table: Region | None = None
        self._titles: list[Row] = []
        """Titles whose rows have not come yet."""
        self._open: list[Row] = []
        """Titles of the last row."""
        self._is_grouped = False
        """Whether the table has a title between its rows that its shape alone shows."""

    def take(self, at: int) -> int:
        """Read the row at a place; return how many rows it was: more than one for a header."""
        row, rest = self._rows[at], self._rows[at : at + _SEEN_ROWS]
        table = self._table
        if table is None:
            alone, columns = row.alone(), self._columns
            is_part = alone is not None and 1 < alone.columns < len(columns) and _divides(rest, columns)
            is_caption = alone is not None and not is_part and len(columns) > 1 and len(rest) > 1
            is_title = (
                _is_across(row, columns)
                or any(each.alone() is not None for each in rest[1:])
                or (len(rest) > 2 and _has_contrast(rest[1], rest[2:]) and names_columns(rest[1:], columns))
            )
            if is_caption and (at >= self._declared or is_title):
                self._titles.append(row)
                return 1
            return self._start(rest, max(0, self._declared - at), at)
        if row.alone() is not None:
            self._take_alone(table, at)
        elif self._begins_header(table, rest, at):
            return self._start_again(table, rest)
        else:
            self._add(self._named_for(table, at), row)
        return 1

    def end(self) -> None:
        """End the band: titles without rows below them are notes or values."""
        if self._table is None:
            self._table = Region([], self._columns)
            self._regions.append(self._table)
        titles, self._titles = self._titles, []
        for row in titles:
            is_note = _is_across(row, self._columns) or _is_long(row)
            self._table.add(row, is_title=False if is_note else None)

    def _start(self, rest: Sequence[Row], declared: int, at: int) -> int:
        """Begin the band's first table, or go on with one above: rows without a header of their own keep the
        names of the last table above that has these columns. They are more rows of it where nothing stands
        between, and after another table a new one."""
        header = _header(rest, self._columns, declared, names_expected=self._names_expected)
        columns = set(self._columns)
        above = next((each for each in reversed(self._regions) if columns <= set(each.columns)), None)
        if above and rest[1:] and _names_again(rest[0], above):
            header = header or [*rest[:1]]
            if [row.texts for row in header] == [row.texts for row in above.header]:
                return self._start_same(above)
            above = None
        if above and above.values() and (not header or self._goes_on(rest, above, len(header))):
            if above is not self._regions[-1]:
                above = Region(above.header, above.columns)
                self._regions.append(above)
            self._table, self._columns = above, above.columns
            titles = (row for row in above.rows if above.across.get(row.number))
            self._is_grouped = any(
                not row.is_named() and not _is_across(row, above.columns) for row in titles
            )
            if rest[0].alone() is None:
                self._add(above, rest[0])
            else:
                self._take_alone(above, at)
            return 1
        self._table = Region(header, self._columns, self._titles)
        self._titles = []
        self._regions.append(self._table)
        first = self._columns[0]
        if not header:
            self._table.add(rest[0])
        elif header[1:] and _has_date(header[0], header[1], first):
            upper = header[0].cells
            self._table.captions.append(replace(header[0], cells={first: upper[first]}))
            cells = {column: cell for column, cell in upper.items() if column != first}
            self._table.header[0] = replace(header[0], cells=cells)
        return max(1, len(header))

    def _start_same(self, above: Region) -> int:
        """Go on with a table whose names come again, or begin one like it after another table."""
        if above is not self._regions[-1]:
            self._regions.append(Region(above.header, above.columns))
        self._table, self._columns = self._regions[-1], above.columns
        return len(above.header)

    def _goes_on(self, rows: Sequence[Row], above: Region, header_rows: int) -> bool:
        """Return whether rows that begin like a header are more rows of the table above.

        Below names that are shown as such they are where the first is not. Below any other they are where
        they do not look like names over numbers, and on a sheet repeat a value of that table.
        """
        if above.header and above.header[0].is_named() and not above.values()[0].is_named():
            return not rows[0].is_named()
        if _has_contrast(rows[header_rows - 1], rows[header_rows:]):
            return False
        values = {(column, text) for row in above.rows for column, text in row.texts.items()}
        is_same = any((column, text) in values for row in rows for column, text in row.texts.items())
        return is_same or len(rows) == 1 or not self._names_expected

    def _start_again(self, table: Region, rest: Sequence[Row]) -> int:
        """Begin a table whose names follow the rows of another one. The same names again begin none."""
        if [row.texts for row in table.header] == [rest[0].texts]:
            return 1
        header = _header(rest, self._columns, 0, names_expected=self._names_expected) or [*rest[:1]]
        if [row.texts for row in header] != [row.texts for row in table.header]:
            self._table = Region(header, self._columns, self._titles)
            self._regions.append(self._table)
            is_same = not self._titles and self._table.named_by() == table.named_by()
            for title in self._open if is_same else ():
                self._table.add(title, is_title=True)
            self._open, self._titles = self._titles or self._open, []
        return len(header)

    def _named_for(self, table: Region, at: int) -> Region:
        """Return the table of the row at a place. Names that stand below a title are not those of the next
        title: below it the names above all titles are valid again, unless the values fit them less."""
        if not self._titles or not table.captions or any(table.across.values()):
            return table
        with_titles = (each for each in reversed(self._regions) if each.header and any(each.across.values()))
        outer = next((each for each in with_titles if each.columns == self._columns), None)
        rest = [*takewhile(lambda row: row.alone() is None, self._rows[at : at + _SEEN_ROWS])]
        others = self._columns[1:]
        if outer is None or sum(_are_alike(rest, outer.values(), others)) < sum(
            _are_alike(rest, table.values(), others)
        ):
            return table
        self._table = Region(outer.header, self._columns)
        self._regions.append(self._table)
        return self._table

    def _add(self, table: Region, row: Row, *, is_note: bool = False) -> None:
        """Add a row of values or a note below the titles that wait for it."""
        is_cut = self._is_cut_note(table, row)
        for title in self._titles:
            table.add(title, is_title=not (is_cut or title.text.endswith(SENTENCE_ENDS)))
        self._open, self._titles = self._titles or self._open, []
        table.add(row, is_title=False if is_note or is_cut else None)

    def _is_cut_note(self, table: Region, row: Row) -> bool:
        """Return whether a row below a note is one too, which a delimiter cuts: its first text is long, as
        none of the table's first column is, and most of its cells are empty."""
        above = self._titles[-1:] or table.rows[-1:]
        if not above or above[0].alone() is None or not _is_long(above[0]):
            return False
        words = [len(text.split()) for text in _below([*table.values(), row], table.columns[0])]
        is_long = len(words) > 1 and max(words[:-1]) < NOTE_WORDS <= words[-1]
        return is_long and 2 * len(row.texts) < len(table.columns)

    def _take_alone(self, table: Region, at: int) -> None:
        """Read a row of one text: a title of the rows below, a note, or a row whose other cells are empty."""
        row = self._rows[at]
        if self._is_title(table, at):
            self._titles.append(row)
        else:
            is_note = len(self._columns) > 1 and self._columns[0] in row.cells and _is_note(row, table)
            self._add(table, row, is_note=is_note or _is_across(row, self._columns))

    def _is_title(self, table: Region, at: int) -> bool:
        """Return whether a row of one text is a title of the rows below it.

        The file says so (a merged cell, a bold one, a colon), or the shape: a header follows it, the table
        begins with such a row, or the rows below have first cells of those above.
        """
        row, rest = self._rows[at], self._rows[at + 1 : at + _SEEN_ROWS]
        first = self._columns[0]
        is_in_strokes = _IN_STROKES.fullmatch(row.text) is not None
        text = row.text if is_in_strokes else row.texts.get(first, "")
        full = [each for each in rest if each.alone() is None]
        names = [name for each in table.header for column, name in each.texts.items() if column != first]
        if not full or full[0].texts.get(first) == text or text in ("", *names) or _says_note(text):
            return False
        values = table.values()
        others = [each.cells[first] for each in values[-1:] if first in each.cells]
        is_shown = row.is_named() and not any(cell.is_name for cell in others)
        if _is_across(row, self._columns) or is_shown or is_in_strokes or text.endswith(":"):
            return True
        if rest[0].alone() is None and self._begins_header(table, rest, at + 1, is_after_title=True):
            return True
        if not self._titles and not self._is_grouped:
            begins = not values or (not table.header and bool(table.captions) and len(self._columns) > 2)
            self._is_grouped = self._groups([] if begins else values, rest)
        return self._is_grouped

    def _groups(self, values: Sequence[Row], rest: Sequence[Row]) -> bool:
        """Return whether a row of one text between ``values`` and ``rest`` is a title by its shape: the table
        begins with it, or most first cells of the rows below are those of the rows above, each once."""
        first = self._columns[0]
        if not values:
            return len(self._columns) > 2 or any(each.alone() is not None for each in rest)
        above = [row.texts.get(first, "") for row in values]
        below = [row.texts.get(first, "") for row in takewhile(lambda row: row.alone() is None, rest)]
        again = sum(text in above for text in below if text)
        return len({*above}) == len(above) and 2 * again > len(below)

    def _begins_header(
        self, table: Region, rest: Sequence[Row], at: int, *, is_after_title: bool = False
    ) -> bool:
        """Return whether the first of ``rest`` names the columns of another table, below those of ``table``.

        It has the first cell of the header above, which may be empty; or it is shown as names, and its
        neighbours are not; or it looks like names over values and differs from the table: in its number of
        cells (CSV), by a text in a column that had none, by values of other kinds below it, or as it is below
        a title, like the first header.
        """
        row = rest[0]
        if not table.rows or len(row.texts) < 2 or all(each.alone() is not None for each in rest[1:]):
            return False
        names, before = table.header[0].texts if table.header else {}, self._rows[at - 1]
        if row.texts == names:
            return True
        is_shown = row.is_named() and not rest[1].is_named() and (is_after_title or not before.is_named())
        has_other_width = row.width != before.width and row.width == rest[1].width
        is_other = has_other_width or not table.filled.issuperset(row.texts)
        is_below = is_after_title or bool(self._titles)
        is_titled = bool(table.captions) and is_below
        is_plain = not (table.header and table.header[0].is_named()) and (is_other or is_titled)
        has_contrast = _has_contrast(row, rest[1:2])
        is_repeated = has_contrast and any(names.get(column) == text for column, text in row.texts.items())
        is_again = is_repeated or _names_again(row, table)
        has_contrast |= is_below and _is_capital(row, rest[1:])
        is_plain = (has_contrast or (not table.header and _divides(rest, self._columns))) and (
            is_plain or _is_turn(row, table.values(), rest[1:], is_below_title=is_below)
        )
        if not (is_again or is_shown or is_plain):
            return False
        others = [*table.values(), *rest[1:]]
        if any(is_value(name, _below(others, column)) for column, name in row.texts.items()):
            return False
        return is_again or is_shown or names_columns(rest, self._columns, names_expected=self._names_expected)


def _is_turn(row: Row, above: Sequence[Row], below: Sequence[Row], *, is_below_title: bool) -> bool:
    """Return whether a row of words has values of other kinds below it than above: "Hall | Rent | Key"
    between "Stall | 18.00 | 2" and "Mill | 85.00 | porter", and a second row of each. Without a title above,
    no text of it begins with a small letter: "Pick-up | free | at once" are values."""
    below = [*takewhile(lambda each: each.alone() is None, below)]
    texts = [*row.texts.values()]
    is_of_names = len({*texts}) == len(texts) and not any(map(_DIGIT.search, texts))
    if min(len(above), len(below)) < _FEWEST_AROUND or not is_of_names:
        return False
    if not is_below_title and any(text[0].islower() for text in texts):
        return False
    is_full = all(row.texts.keys() >= each.texts.keys() for each in below)
    return is_full and not all(_are_alike(above, below, [*row.texts][1:]))


def _is_across(row: Row, columns: Sequence[int]) -> bool:
    """Return whether a merged cell is all that is in the row."""
    alone = row.alone()
    return alone is not None and 1 < len(columns) == alone.columns


def _is_long(row: Row) -> bool:
    return len(row.text.split()) >= NOTE_WORDS


def _says_note(text: str) -> bool:
    """Return whether a text begins with the mark or word of a note, or ends like a sentence."""
    word = text.partition(":")[0].split(" ")[0].lower()
    is_named = ":" in text.rstrip(": ") and word in word_groups("note_words")["begins"]
    return is_named or _NOTE_MARK.match(text) is not None or text.endswith(SENTENCE_ENDS)


def _is_note(row: Row, table: Region) -> bool:
    """Return whether a row of one text below values is a note: it is long, says so, or has more words than
    any text of the first column in a table with titles."""
    most = max((len(text.split()) for text in _below(table.values(), table.columns[0])), default=0)
    words = len(row.text.split())
    is_last = any(table.across.values()) and max(most, _LONGEST_PAIR_WORDS - 1) < words
    return is_last or words >= NOTE_WORDS or (words > 1 and _says_note(row.text))


# Names of columns


def _header(rows: Sequence[Row], columns: Sequence[int], declared: int, *, names_expected: bool) -> list[Row]:
    """Return the first rows that name the columns: none, the ``declared`` ones, or up to three of which each
    divides names above.

    "Plan | Fee |", " | New | Renewal", "Basic | 20 | 10": the first two.
    """
    titles = (at for at, row in enumerate(rows[:declared]) if at and row.alone() and columns[0] in row.texts)
    depth = next(titles, min(declared, len(rows)))
    if not depth:
        if not names_columns(rows, columns, names_expected=names_expected):
            return []
        depth = 1
    depth = max([depth, *(at + cell.rows for at in range(depth) for cell in rows[at].cells.values())])
    while depth < _MOST_NAME_ROWS and (_divides(rows[depth - 1 :], columns) or _is_also_named(rows, depth)):
        depth += 1
    return [*rows[:depth]]


def _is_also_named(rows: Sequence[Row], depth: int) -> bool:
    """Return whether the file shows a second or third row of names, and values below it."""
    are_named = [row.is_named() for row in rows]
    return all(are_named[: depth + 1]) and not all(are_named[depth + 1 :]) and len(rows[depth].texts) > 1


def _divides(rows: Sequence[Row], columns: Sequence[int]) -> bool:
    """Return whether the second row names parts of the names in the first, or their units.

    It has a text below each part of a name that spans columns, or that stands left of columns without one:
    "Club | Fee | " over " | 2030 | 2031". Below other names it has units, "Drug | Dose" over " | mg", or
    the same name. The first column may have its name in the second row alone, " | Fee | " over "Club | New |
    Old"; above it is a title where the names have the same parts, or where it has a date. A row of one text
    is a title where it is across all columns, or other such rows follow.
    """
    if len(rows) < 3 or not rows[1].texts:
        return False
    above, row, values = rows[0], rows[1], [each for each in rows[2:] if each.alone() is None]
    first = columns[0]
    is_title = row.alone() is not None and (len(values) < len(rows) - 2 or _is_across(row, columns))
    if not values or first not in values[0].cells or is_title:
        return False
    name, parts = first, dict[int, list[int]]()
    for column in columns:
        cell = above.cells.get(column)
        name = column if cell is not None and cell.blocks else name
        parts.setdefault(name, []).append(column)
    divided = [part for name, part in parts.items() if name != first and len(part) > 1]
    split = {column for part in divided for column in part}
    others = [text for column, text in row.texts.items() if column not in split]
    if not split <= {*row.texts} or any(map(_DIGIT.search, others)):
        return False
    if row.texts.get(first, above.texts.get(first)) == above.texts.get(first):
        return bool(split) or _has_contrast(row, values)
    if first not in above.cells:
        is_repeated = len({*row.texts.values()}) < len(row.texts)
        return (bool(split) or len(parts[first]) > 1) and (is_repeated or _has_contrast(row, values))
    same = {tuple(row.texts[column] for column in part) for part in divided}
    is_same = len(divided) > 1 == len(same)
    is_dated = bool(split) and _has_date(above, row, first) and _has_contrast(row, values)
    return (is_same or is_dated) and not any(
        is_value(name, _below(values, column)) or _comes_again(name, values, column)
        for column, name in row.texts.items()
    )


def _has_date(above: Row, row: Row, first: int) -> bool:
    """Return whether a date or another text with digits is above the name of the first column."""
    return first in row.texts and _DIGIT.search(above.texts.get(first, "")) is not None


def names_columns(rows: Sequence[Row], columns: Sequence[int], *, names_expected: bool = False) -> bool:
    """Return whether the first row names the columns, in a table of a file that does not tell.

    Names are several, short, differ, and are no values of their columns. They are shown as names where not
    all rows are, or one is of another kind than the values below it. Else a row of three columns is taken for
    names, and one of two only if they are expected: a table of two columns is more often a list of names with
    values.
    """
    row, tallest = rows[0], max((cell.rows for cell in rows[0].cells.values()), default=1)
    names, first = row.texts, columns[0]
    others = [each for each in rows[tallest:] if not _IN_STROKES.fullmatch(each.text)]
    others = _not_names_again(others, row, columns)
    below = [each for each in others if each.alone() is None or first not in each.cells] or rows[tallest:]
    if not below or len(row.cells) < 2 or not names:
        return False
    spanned = sum(cell.columns for cell in row.cells.values() if cell.text)
    widest = max(len(each.texts) for each in rows)
    is_divided = _divides(rows, columns)
    is_full = (is_divided or spanned > widest / 2) and len(set(names.values())) > len(names) / 2
    is_form = any(
        _FORM_LABEL.search(name) or len(name.split()) > _LONGEST_NAME_WORDS for name in names.values()
    )
    if is_form or not is_full or (not is_divided and _is_title_line(rows, first)):
        return False
    if is_divided or (row.is_named() and not all(each.is_named() for each in below)):
        return True
    has_values = any(is_value(name, _below(below, column)) for column, name in names.items())
    has_values = has_values and not _has_other_unit(row, below)
    goes_on = first in row.cells and first not in below[0].cells
    if has_values or goes_on:
        return False
    if _has_contrast(row, below):
        return True
    if _is_list_of_codes([row, *below], first):
        return False
    if len(columns) > 2:
        return names_expected or {*columns[1:]} <= {*row.cells}
    return names_expected and not any(
        len(name.split()) > _LONGEST_PAIR_WORDS or ", " in name or _comes_again(name, below, column)
        for column, name in names.items()
    )


def _is_title_line(rows: Sequence[Row], first: int) -> bool:
    """Return whether the first row has titles and stands above the names: a row below it has names over
    numbers, some in columns where the first one is empty: "Halcon | version 1 | |" over "Code | Fee | Limit |
    Days"."""
    row, most = rows[0], _MOST_TITLE_LINES
    names = next((each for each in rows[1 : 1 + most] if each.texts.keys() > row.cells.keys()), None)
    if names is None:
        return False
    below = rows[rows.index(names) + 1 :]
    missing = names.texts.keys() - row.cells.keys() - {first}
    texts = {column: _below(below, column) for column in names.texts}
    is_filled = any(2 * len(texts[column]) > len(below) for column in missing)
    is_of_numbers = any(
        2 * sum(_DIGIT.search(text) is not None for text in texts[column]) > len(below)
        for column, name in names.texts.items()
        if not _DIGIT.search(name)
    )
    are_names = is_of_numbers and not any(is_value(names.texts[column], texts[column]) for column in texts)
    return is_filled and are_names and (len(missing) > 1 or not _has_contrast(row, rows[1:]))


def _is_again(row: Row, header: Sequence[Row], first: int) -> bool:
    """Return whether a row has the first name of a header, or most others, and so names columns again."""
    names, corner = header[0].texts, next(iter(_below(header, first)), None)
    same = sum(names.get(column) == text for column, text in row.texts.items() if column != first)
    is_corner = corner == row.texts.get(first) and 2 * len(row.texts) > len(names)
    return is_corner or 2 * same > len(names.keys() - {first})


def _is_numbered_again(row: Row, names: Row) -> bool:
    """Return whether most texts of a row are names with other numbers: "Week 24 | Mon 8" for "Week 23 | Mon
    1"."""
    pairs = ((text, names.texts.get(column, "")) for column, text in row.texts.items())
    same = sum(_DIGITS.sub("0", text) == _DIGITS.sub("0", name) for text, name in pairs)
    return 2 * same > len(names.texts)


def _not_names_again(rows: Sequence[Row], names: Row, columns: Sequence[int]) -> Sequence[Row]:
    """Return the rows without those that name the columns again. Names with other numbers are few rows of
    three or more columns, and neither the first row nor the last."""
    others = [each for each in rows if not _is_again(each, [names], columns[0])]
    numbered = [at for at, each in enumerate(others) if _is_numbered_again(each, names)]
    is_few = 3 * len(numbered) <= len(others) and not {0, len(others) - 1}.intersection(numbered)
    return (
        [each for at, each in enumerate(others) if at not in numbered] if is_few and columns[2:] else others
    )


def _names_again(row: Row, table: Region) -> bool:
    """Return whether a row below those of a table has its names, and other numbers at most; no values have
    them."""
    if not table.header:
        return False
    values = [_is_numbered_again(each, row) for each in table.values()]
    is_numbered = _is_numbered_again(row, table.header[0]) and not any(values)
    return is_numbered or _is_again(row, table.header, table.columns[0])


def _below(rows: Sequence[Row], column: int) -> list[str]:
    """Return the texts of a column."""
    return [text for row in rows if (text := row.texts.get(column))]


def _comes_again(text: str, rows: Sequence[Row], column: int) -> bool:
    """Return whether a text of a column begins another one: "yes" over "yes, with a card"."""
    return any(other.partition(",")[0] == text for other in _below(rows, column))


def _kind(text: str) -> str:
    """Return the kind of a text with digits: "$9" is "$", "5 mg" is "a", "9" is "", 2030 is a "year", "A-17"
    is "A-0". A text without digits is of none: " "."""
    text = _ENUMERATED.sub("", text)
    if not _DIGIT.search(text):
        return " "
    if text[0].isalpha():
        return _DIGITS.sub("0", text)
    if _YEAR.fullmatch(text):
        return "year"
    signs = _SIGNS.findall(text)
    return next((sign for sign in signs if not sign.isalpha()), "a" if signs else "")


def are_alike(texts: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether some texts are of one kind."""
    return not {*map(_kind, texts)}.isdisjoint(map(_kind, others))


def _has_other_unit(row: Row, below: Sequence[Row]) -> bool:
    """Return whether the numbers of a row have units that no row below has, while most of these share theirs:
    "2-8 °C | 9-15 °C" over "14 days | 48 h", "7 days | 12 h"."""
    counted = [column for column, text in row.texts.items() if _kind(text) == "a"]
    texts = ([each.texts.get(column, "") for column in counted] for each in (row, *below))
    names, *values = ([_units(text) for text in each if _DIGIT.search(text)] for each in texts)
    by_row = [set[str]().union(*units) for units in values if units]
    counts = Counter(unit for units in by_row for unit in units)
    is_shared = 2 * sum(any(counts[unit] > 1 for unit in units) for units in by_row) > len(by_row)
    return len(names) > 1 and is_shared and all(names) and all(map(counts.keys().isdisjoint, names))


def _units(text: str) -> set[str]:
    """Return what the numbers of a text count: dimensions ("h" and "days" are of one), else its words."""
    return {amount_of(measure)[0] for measure in quantities(text).measures} or {*_UNIT.findall(text.lower())}


def _are_alike(rows: Sequence[Row], others: Sequence[Row], columns: Iterable[int]) -> Iterator[bool]:
    """Yield for each column in which both have texts whether some of these are of one kind."""
    pairs = ((_below(rows, column), _below(others, column)) for column in columns)
    yield from (are_alike(*pair) for pair in pairs if all(pair))


def is_value(text: str, below: Sequence[str]) -> bool:
    """Return whether a text is a value like those below it, and no name. A bare number is a name only of
    values of another kind: "10 | 20" over "$5 | $6"."""
    kind, kinds = _kind(text), {*map(_kind, below)}
    is_bare = is_number(text) and kind != "year" and (" " in kinds or not kinds)
    return kind != " " and (kind in kinds or is_bare)


def _amounts(text: str) -> set[tuple[str, bool]]:
    """Return the kinds of the numbers in a text: their sign, and whether letters follow. "5 mg" and "2 to 3
    mg" have a number of one kind."""
    return {(sign or end, bool(letter)) for sign, end, letter in _AMOUNTS.findall(text)}


def _has_contrast(row: Row, below: Sequence[Row]) -> bool:
    """Return whether the first row looks like names over values: below a text without digits are, for the
    most part, texts with amounts of one kind, and the row below repeats no text of it."""
    if not below or any(_comes_again(name, below[:1], column) for column, name in row.texts.items()):
        return False
    for column, name in row.texts.items():
        texts = _below(below, column)
        amounts = [_amounts(text) for text in texts if _DIGIT.search(text)]
        is_of_numbers = 2 * len(amounts) > len(texts) and not _DIGIT.search(name)
        if is_of_numbers and any(all(kind in kinds for kinds in amounts) for kind in amounts[0]):
            return True
    return False


def _is_capital(row: Row, below: Sequence[Row]) -> bool:
    """Return whether all texts of a row begin with a capital, and only first ones of the rows below do."""
    values = [each.texts for each in takewhile(lambda each: each.alone() is None, below)]
    others = [text for texts in values for column, text in texts.items() if column != min(row.texts)]
    return all(text[0].isupper() for text in row.texts.values()) and not any(
        text[0].isupper() for text in others
    )


def _is_list_of_codes(rows: Sequence[Row], column: int) -> bool:
    """Return whether all texts of a column are short codes, the first one too."""
    codes = _below(rows, column)
    others = [text for at, text in rows[0].texts.items() if at != column]
    return all(map(_CODE.fullmatch, codes)) and not any(map(str.isupper, others))


def _with_groups(header: Sequence[Row]) -> list[Row]:
    """Return a header whose upper names span the names below that have none of their own above them.

    "Plan | Fee |" over " | New | Renewal": "Fee" spans "New" and "Renewal".
    """
    rows = [*header]
    for at, (above, row) in enumerate(pairwise(header)):
        upper, covered_to = dict(above.cells), 0
        for column in _divided(above, row):
            left = max((place for place in upper if place < column), default=0)
            if column not in upper and left and column >= covered_to:
                upper[left] = replace(upper[left], columns=max(upper[left].columns, column - left + 1))
                covered_to = left + upper[left].columns
        rows[at] = replace(above, cells=upper)
    return rows


def _divided(above: Row, row: Row) -> list[int]:
    """Return the columns of a row of names that have one of the names above: not those right of a last group
    like the others, as "Note" below "Fee | | Rent | | " in "New | Old | New | Old | Note"."""
    groups: list[list[int]] = [[] for _ in range(len(above.texts) + 1)]
    for column in row.texts:
        groups[bisect_right([*above.texts], column)].append(column)
    *parts, last = ([row.texts[column] for column in group] for group in groups[1:] or groups)
    part = parts[0] if len({*map(tuple, parts)}) == 1 else []
    if len(part) > 1 and last[: len(part)] == part:
        del groups[-1][len(part) :]
    return [column for group in groups for column in group]


# Empty cells that mean "as above"


def _fill_as_above(regions: Sequence[Region]) -> None:
    """Give empty cells the text above where the shape says that they mean it, below each title by itself.

    "Amber | 1 | 5" over " | 2 | 18": the second row is one of "Amber". Cells of a column that repeat are
    marks ("new", nothing, "new"), and mean nothing for the rows below. A row of sums belongs to none above.
    ``Region.doubtful`` names the columns in doubt.
    """
    groups = [(region, rows) for region in regions if region.columns[1:] for rows in region.groups()]
    counts = Counter(key for region, rows in groups for key in {*_below(rows, region.columns[0])})
    keys = {key for key, count in counts.items() if count > 1}
    for region, (*above, last) in groups:
        is_sum = region.columns[0] not in last.cells and _is_sum(last, above)
        rows = above if is_sum else [*above, last]
        for source, row in pairwise(rows):
            for column in [column for column, text in row.texts.items() if text.strip("- ") in _DITTO]:
                _copy(column, source, [row])
        filled, parts = _fill(rows, region.columns)
        doubtful = set[int]()
        if parts:
            others = [column for column in region.columns if column > filled]
            fewest = 2 if len(others) > 2 else 1  # texts of a row: one alone is a note
            parts = [
                [part[0], *(row for row in part[1:] if len(row.cells.keys() & {*others}) >= fewest)]
                for part in parts
            ]
            doubtful = {column for column in others if not _fill_parts(parts, column)}
        else:
            doubtful = _with_gaps(rows, region.columns)
            if len(region.columns) > 2:
                doubtful |= _fill_alone(rows, region.columns, keys) | _without_amounts(region, rows)
        region.doubtful |= doubtful


def _fill(rows: Sequence[Row], columns: Sequence[int]) -> tuple[int, list[Sequence[Row]]]:
    """Fill the first columns, from the left, as far as their texts differ below each text to their left;
    columns of codes are passed over. After a column that names each row at least two are filled, of which one
    has more texts, or none. Return the last filled column, and the rows that have each of its texts."""
    is_named = len({*_below(rows, columns[0])}) == len(rows)
    others = [column for column in columns[1:] if not _are_codes(rows, column)]
    leading = others if is_named or _is_range(rows, columns) else [columns[0], *others]
    leads = [next((n for n, column in enumerate(leading) if column in row.cells), 0) for row in rows]
    levels = list[tuple[int, list[Sequence[Row]]]]()
    for level, column in enumerate(leading[:-1]):
        parents = accumulate((at if lead < level else 0 for at, lead in enumerate(leads)), max)
        paths = [
            (parent, row.texts.get(column))
            for parent, row, lead in zip(parents, rows, leads, strict=True)
            if lead <= level
        ]
        if len(paths) == len(rows) or leads[0] > level or len({*paths}) < len(paths):
            break
        begins = [at for at, lead in enumerate(leads) if lead <= level]
        levels.append((column, [rows[at:end] for at, end in pairwise((*begins, len(rows)))]))
    if leading is others and not _are_nested(levels):
        levels = []
    for column, parts in levels:
        for part in parts:
            _copy(column, part[0], part[1:])
    return levels[-1] if levels else (0, [])


def _is_range(rows: Sequence[Row], columns: Sequence[int]) -> bool:
    """Return whether the first two columns have values of one kind, "From" and "To": an empty one may be
    none."""
    begins, ends = (
        {_kind(text) for text in _below(rows, column) if not text.isdigit()} - {" "} for column in columns[:2]
    )
    return not begins.isdisjoint(ends)


def _are_nested(levels: Sequence[tuple[int, Sequence[Sequence[Row]]]]) -> bool:
    """Return whether columns are groups and parts of these: of two or more, the last has more texts than the
    first, and none is an amount."""
    texts = [part[0].texts.get(column, "") for column, parts in levels for part in parts]
    are_words = not any(_DIGIT.search(text) and not text[0].isalpha() for text in texts)
    return are_words and len(levels) > 1 and 1 < len(levels[0][1]) < len(levels[-1][1])


def _fill_parts(parts: Sequence[Sequence[Row]], column: int) -> bool:
    """Fill a column in the parts of a table of which only the first row has a text, if each other part has
    one in all rows: "Crane A | 6 t | ask Ann", " | 12 t | ". Return False where that is in doubt: amounts and
    marks are of their rows alone."""
    counts = [sum(column in row.cells for row in rows) for rows in parts]
    lacking = [rows for rows, count in zip(parts, counts, strict=True) if count < len(rows)]
    texts = _below([rows[0] for rows in lacking], column)
    is_first_alone = all(count in (1, len(rows)) for rows, count in zip(parts, counts, strict=True))
    if not lacking or len(texts) < len(lacking):
        return True
    is_mixed = max(counts) > 1
    if (
        len(parts) < 2
        or not is_first_alone
        or not all(map(_is_meant_below, texts))
        or (is_mixed and len({*texts}) < len(texts))
    ):
        return False
    for rows in lacking:
        _copy(column, rows[0], rows[1:])
    return True


def _fill_alone(rows: Sequence[Row], columns: Sequence[int], keys: Set[str]) -> set[int]:
    """Fill rows of a first text alone between full rows where it is one of ``keys``, which other groups have
    too: it is no title. Return the columns in doubt."""
    first, *others = columns
    alone = [at for at in range(1, len(rows) - 1) if [*rows[at].cells] == [first]]
    full = sum(len(row.cells) == len(columns) for row in rows)
    doubtful = set[int]()
    for at in alone if full >= max(len(alone), len(rows) - len(alone)) else ():
        above, is_known = rows[at - 1], rows[at].text in keys
        for column in others:
            if is_known and _is_meant_below(above.texts.get(column, "")):
                _copy(column, above, [rows[at]])
            else:
                doubtful.add(column)
    return doubtful


def _with_gaps(rows: Sequence[Row], columns: Sequence[int]) -> set[int]:
    """Return the columns, half of all at most, whose empty cells may mean "as above", or nothing: the first
    row has a text, gaps follow several short texts, none comes again, and the first column names each
    row."""
    if len({*_below(rows, columns[0])}) < len(rows):
        return set()
    found = {column for column in columns[1:] if _may_continue([row.texts.get(column, "") for row in rows])}
    return found if 2 * len(found) <= len(columns) else set()


def _may_continue(texts: Sequence[str]) -> bool:
    runs = [text for text, _ in groupby(texts) if text]
    gaps = sum(bool(text) and not below for text, below in pairwise(texts))
    is_short = all(len(text.split()) <= _LONGEST_PAIR_WORDS for text in runs)
    return bool(texts[0]) and gaps >= _FEWEST_GAPS and len({*runs}) == len(runs) and is_short


def _without_amounts(region: Region, rows: Sequence[Row]) -> set[int]:
    """Return the columns of amounts or dates in which few rows have none, and one of ``rows`` has none below
    one."""
    width = len(region.columns)
    values = [row for row in region.values() if 2 * len(row.texts) > width]
    pairs = [pair for pair in pairwise(rows) if 2 * len(pair[1].texts) > width]
    lacking = {column for above, row in pairs for column in above.texts.keys() - row.cells.keys()}
    return {column for column in lacking if _are_amounts(_below(values, column), len(values))}


def _are_amounts(texts: Sequence[str], count: int) -> bool:
    """Return whether most texts of a column are short and have digits, and nearly all ``count`` rows have
    one."""
    short = [text for text in texts if len(text.split()) <= _LONGEST_PAIR_WORDS and _DIGIT.search(text)]
    return 3 * len(short) > 2 * len(texts) and 4 * len(texts) >= 3 * count


def _copy(column: int, source: Row, rows: Sequence[Row]) -> None:
    for row in rows if source.texts.get(column) else ():
        row.add(column, replace(source.cells[column], rows=1))


def _is_meant_below(text: str) -> bool:
    """Return whether a text may be meant for the rows below: words, or a number that counts nothing. Amounts
    and marks ("PA") are not."""
    words = _WORD.findall(text)
    if not _DIGIT.search(text):
        return bool(words) and not _CODE.fullmatch(text)
    return len(words) >= _FEWEST_WORDS or _NO_AMOUNT.search(text) is not None


def _are_codes(rows: Sequence[Row], column: int) -> bool:
    """Return whether each row has a code of its own in a column: "31.017.2", "A-7"."""
    codes = _below(rows, column)
    is_each = len({*codes}) == len(rows) and all(map(_DIGIT.search, codes))
    return is_each and not any(
        " " in code or code.isdigit() or not (code[0].isalpha() or codes_in(code)) for code in codes
    )


def _is_sum(row: Row, rows: Sequence[Row]) -> bool:
    """Return whether a row has only numbers, and one is the sum of those above it."""
    for column, text in row.texts.items() if all(map(_AMOUNT.fullmatch, row.texts.values())) else ():
        numbers = [*filter(None, map(_AMOUNT.fullmatch, (*_below(rows, column), text)))]
        amounts = [float(number[1].replace(",", "")) for number in numbers]
        if len(amounts) > 2 and abs(sum(amounts[:-1]) - amounts[-1]) < _SAME_SUM:
            return True
    return False


# Tables that go on


def with_names_of_before(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks, in which a table that goes on after a break has the names of the one before.

    It has as many columns, with values of the same kinds. Between them is nothing, or a text or heading says
    it: "(continued)", "Top-up list (2/2)". Only there a first row that is no row of names, as it has an empty
    cell, is one of values although the shape took it for names.
    """
    made = list[Block]()
    before, between = None, list[Block]()
    for block in blocks:
        table = block
        if isinstance(table, Table):
            texts = [each for each in between if isinstance(each, Heading | Paragraph)]
            is_said = any(_says_that_it_goes_on(text_of(runs)) for runs in all_runs(texts))
            if before and (is_said or not between) and _goes_on_below(table, before, is_said=is_said):
                names = before.rows[: before.header_rows]
                table = replace(table, rows=(*names, *table.rows), header_rows=len(names))
            before, between = table if table.header_rows else None, []
        else:
            between.append(block)
        made.append(table)
    return made


def _says_that_it_goes_on(text: str) -> bool:
    words = word_groups("note_words")["goes_on"]
    return any(not any(each) or not words.isdisjoint(each) for each in _CONTINUED.findall(text.lower()))


def _goes_on_below(table: Table, before: Table, *, is_said: bool) -> bool:
    """Return whether a table has values below the names of the table before: three columns or more."""
    if table.header_rows and not (is_said and table.header_rows == 1):
        return False
    rows, above = (
        [[_cell_text(cell) for cell in row if cell] for row in grid_of(each.rows)] for each in (table, before)
    )
    width = len(above[0])
    first, values = rows[0], [row for row in above[before.header_rows :] if len({*row}) > 1]
    below = [row for row in rows if len({*row}) > 1]
    has_names = table.header_rows and "" not in first[1:]
    if width <= 2 or has_names or {*map(len, rows)} != {width} or not values or not below:
        return False
    columns = zip(zip(*values, strict=False), zip(*below, strict=False), strict=True)
    return all(are_alike(*map(_filled, pair)) for pair in [*columns][1:] if all(map(any, pair)))


def _filled(texts: Iterable[str]) -> list[str]:
    return [*filter(None, texts)]


def _cell_text(cell: Cell) -> str:
    return one_line(" ".join(map(text_of, all_runs(cell.blocks))))


# Tables of documents


Grid = Sequence[Sequence[Cell | None]]
"""Row by row, the cell that covers each place; None where no cell does."""


def grid_of(rows: Sequence[Sequence[Cell]]) -> Grid:
    """Return the grid of a table: a cell that spans two rows is in both.

    Raises DocumentInvalidError for a grid of more than MOST_CELLS cells.
    """
    grid: list[dict[int, Cell]] = [{} for _ in rows]
    places = 0
    for number, row in enumerate(rows):
        column = 0
        for cell in row:
            while column in grid[number]:
                column += 1
            columns = range(column, column + cell.columns)
            for line in grid[number : number + cell.rows]:
                line.update({place: cell for place in columns if place not in line})
                places += cell.columns
            if places > MOST_CELLS:
                raise DocumentInvalidError(f"A table has more than {MOST_CELLS:,} cells. Split the document.")
            column += cell.columns
    return [[line.get(place) for place in range(max(line, default=-1) + 1)] for line in grid]


def table_blocks(
    rows: Iterable[Sequence[Cell]],
    *,
    header_rows: int = 0,
    names_expected: bool = False,
    regions: list[Region] | None = None,
) -> list[Block]:
    """Return the tables of a table of a document, which converters of all formats call.

    ``header_rows`` is what the file says; 0: it says nothing, and the rows are judged (``names_expected``:
    see ``read_band``). First rows of one text become blocks before the table. A table without names that
    contains tables, or in which no row has two texts, is layout: the blocks in its cells are returned.

    ``regions``: the table on the page before that these rows may go on with, or none. It gets those of the
    rows.
    """
    rows = [tuple(row) for row in rows]  # an empty one too: cells above may span all of it
    regions = [] if regions is None else regions
    below = [block for row in rows for cell in row for block in cell.blocks]
    if not below or (header_rows < 1 and all(sum(map(_has_text, row)) < 2 for row in rows)):
        return below
    begin = max((row.number for region in regions for row in region.rows), default=0)
    read_band(_grid_rows(rows, begin), regions, declared=header_rows, names_expected=names_expected)
    if any(isinstance(block, Table) for block in below) and not any(region.header for region in regions):
        return below
    return finished(regions)


def _has_text(cell: Cell) -> bool:
    return any(text_of(runs).strip() for runs in all_runs(cell.blocks))


def _grid_rows(rows: Sequence[Sequence[Cell]], begin: int) -> list[Row]:
    """Return the rows of a table of a document. ``begin``: number of the last one on a page
    before."""
    made = list[Row]()
    seen = set[int]()
    for number, line in enumerate(grid_of(rows), start=begin + 1):
        cells = dict[int, GridCell]()
        for column, cell in enumerate(line, start=1):
            if cell is not None and cell.blocks:
                runs = (run for runs in all_runs(cell.blocks) for run in (*runs, Run(" ")))
                text = one_line("".join(run.text for run in runs if run.is_in_force))
                shown = GridCell(cell.blocks, text, cell.rows, cell.columns, cell.is_name)
                cells[column] = COVERED if id(cell) in seen else shown
                seen.add(id(cell))
        made.append(Row(number, cells, number))
    return made


def finished(regions: Sequence[Region]) -> list[Block]:
    """Return the tables of regions to which no row comes."""
    finish(regions)
    return [block for region in regions for block in blocks_of(region)]


def blocks_of(region: Region, place: Place | None = None) -> Iterator[Block]:
    """Yield a table below its captions. ``place``: of the file or sheet in which ``Row.line`` counts."""
    captions, region.captions = region.captions, []
    notes = region.closing_notes()
    yield from _texts_of(captions, place)
    if (region.header and not region.written) or len(region.rows) > region.written + len(notes):
        first = (*region.header, *region.rows)[0]
        yield region.table(replace(place, number=first.line) if place else None)
    yield from _texts_of(notes, place)


def _texts_of(rows: Iterable[Row], place: Place | None) -> Iterator[Block]:
    """Yield what the rows above and below a table have."""
    for row in rows:
        at = replace(place, number=row.line) if place else None
        yield from (replace(block, place=at) for cell in row.cells.values() for block in cell.blocks)
