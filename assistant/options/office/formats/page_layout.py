"""Orders the words of a PDF page into lines, columns, paragraphs and tables, by coordinates and ruling lines.

``page_blocks`` is what others use. Its steps, in the order of this file:

1. Words inside a lattice of ruling lines become tables (last part of the file).
2. The other words become rows of text, and a row is split at wide gaps into ``Line``s.
3. Lines and tables are put into columns.
4. In each column, rows of lines that lie below each other become tables, all others paragraphs.

Coordinates are points (1/72 inch) from the top left, y downwards (``page_words``). "File order" is the order
in which the file draws its words (``Word.place``): a PDF is mostly written in reading order.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import inf
from operator import attrgetter
from statistics import median
from typing import NamedTuple

from assistant.documents import page as model
from assistant.documents.aligned import ranges_above
from assistant.documents.page import Cell
from assistant.documents.tables import is_value
from assistant.options.office.formats.page_words import (
    SAME_LINE,
    Box,
    PageContent,
    Word,
    around,
    runs_of,
    shared,
    text_rows,
)
from assistant.text.language import is_compound
from assistant.text.marks import PRIVATE_USE

_WIDE_GAP = 0.7
"""Share of a line's height: a wider gap separates cells. Few spaces of justified text are wider."""
_UP = 2.0
"""Share of a font's size: a line that is higher on the page by more than the one before begins a column."""
_MOST_BESIDE = 0.1
"""Share of the items of rows that the file draws later: if more items of a column are beside these rows, the
rows do not belong in its gap."""
_TABLE_ROWS = 3
"""Rows from which aligned text is a table: two lines with a wide gap are often a letterhead."""
_NEAR = 2.5
"""Share of a font's size: the most from a row of a table to a further line of its cell, or a title below."""
SAME_GAP = 1.25
"""Ratio of the distances between rows of one table."""
_SEEN_ROWS = 20
"""Rows that tell how far apart those of a table are; it bounds the time."""
_MOST_ABOVE = 2
"""Lines at the top of a page above a table that goes on there: a header, or "continued"."""
_NEARER = 0.75
"""Ratio of the distances of two lines of names and of other rows."""
_FULL_ROW = 0.6
"""Share of the cells of the row with most cells: rows with fewer have cells across several columns, and do
not tell where the columns are."""
_FEWEST_COLUMNS = 2
_SAME_LEFT = 2.0
"""Points between the edges of two lines of one text."""
_SAME_EDGE = 5.0
"""Points between the edges of a column in two parts of a table."""
_SHARED = 1.25
"""Texts in a cell, on average: more are spaces of justified text, which lie below each other nowhere."""
_PARAGRAPH_GAP = 1.35
"""Multiple of the usual distance between lines: a greater one begins a paragraph."""
_FEW_LINES = 5
"""Distances between lines: fewer do not show which is the usual one."""
_SINGLE_SPACING = 1.4
"""Share of a font's size: the distance between lines of a paragraph is rarely greater."""
_INDENT = 0.8
"""Share of a line's height: a first line that is indented by more begins a paragraph."""
_SIZE_CHANGE = 1.12
"""Ratio of two font sizes: a greater one begins a paragraph, a heading say."""
_SHORT_LINE = 0.25
"""Share of a line's possible width: a line that ends with a mark and leaves more empty ends a paragraph."""
_DIVIDED = re.compile(r"(?<!\w)(\w+)\u00ad (\w+)")
_BOXES = ("\u2610", "\u2611")
"""Check boxes: each belongs to the nearer of the texts beside it."""
_MARKER = re.compile(r"[^\w\s]|\(?(?:\d{1,3}|[^\W\d_]|[ivxIVX]{2,4})[.)]")
"""A bullet or a number before a list item: it belongs to the text after it, however wide the gap; but not
"(g)" to "(h)", which are units of two columns."""
BULLET = re.compile(rf"[\u2022\u2023\u2043\u00b7\u2013\u25a0-\u25ff\u2700-\u27bf{PRIVATE_USE}*-]\s+(?=\S)")
"""Bullets, shapes, and the private characters of symbol fonts."""
NUMBER = re.compile(r"\(?(\d{1,3}|[^\W\d_])[.)]\s+(?=\S)")
"""Before an item of a list; group 1 is its number or letter."""
_CLAUSE = re.compile(r"\d{1,3}(?:\.\d{1,3})+\.?")
"""The number of a clause: "2.2.1"."""


@dataclass(frozen=True, slots=True)
class Line:
    """Words beside each other in one column."""

    text: str
    box: Box
    is_bold: bool
    size: float
    """Size of the font of most of its words, in points."""
    place: float
    """Place of its first word in file order."""
    words: Sequence[Word] = ()


@dataclass(slots=True)
class Paragraph:
    """Lines below each other that are one text, a heading or an item of a list."""

    lines: list[Line]

    @property
    def size(self) -> float:
        return min(line.size for line in self.lines)

    @property
    def is_bold(self) -> bool:
        return all(line.is_bold for line in self.lines)


@dataclass(slots=True)
class Grid:
    """A table."""

    rows: list[list[Cell]]
    """Cells of the page model: a row has only those that begin in it."""
    box: Box
    size: float
    """Size of the font of most words, in points."""
    letters: int
    """Characters of all its texts."""
    columns: list[Box]
    """Where each column is, from the left."""
    place: float
    """Place of its first word in file order."""
    goes_on: bool = False
    """Whether its columns are those of the table before, with which it may go on."""


Block = Paragraph | Grid


def page_blocks(content: PageContent, before: Grid | None = None) -> list[Block]:
    """Return the page's paragraphs and tables in reading order. ``before``: the last table of the page
    before, with which the first one here may go on, even with a single row.

    A page with these words, each row with its gaps::

        Fees of 2026
        Service     Price
        Delivery    4.00
        Express     9.00

    is ``[Paragraph("Fees of 2026"), Grid(3 rows of 2 cells)]``.
    """
    tables, words = ruled_tables(content, before)
    lines = [line for row in text_rows(words) for line in segments(row)]
    blocks = list[Block]()
    for column in _columns([*lines, *tables]):
        for block in _blocks(column, before):
            match blocks[-1:], block:
                case [Grid() as last], Grid() if _columns_of(last, block.columns):
                    block.goes_on = True
                case _:
                    pass
            blocks.append(block)
        before = blocks[-1] if blocks and isinstance(blocks[-1], Grid) else before  # of the next column
    return blocks


# --- lines ------------------------------------------------------------------------------------------------
def segments(row: Sequence[Word]) -> list[Line]:
    """Return the parts of a row between wide gaps: "Delivery     4.00" has two. A bullet and a check box stay
    with the text that they belong to."""
    segments = [[row[0]]]
    for at, (before, word) in enumerate(pairwise(row)):
        gap = word.box.left - before.box.right
        is_after_bullet = at == 0 and _MARKER.fullmatch(before.text) and not _MARKER.fullmatch(word.text)
        # A box belongs to the nearer of its two neighbours.
        is_after_its_box = at > 0 and before.text in _BOXES and gap < before.box.left - row[at - 1].box.right
        if gap > _WIDE_GAP * word.box.height and not is_after_bullet and not is_after_its_box:
            segments.append([])
        segments[-1].append(word)
    return [line_of(segment) for segment in segments]


def line_of(words: Sequence[Word]) -> Line:
    return Line(
        " ".join(word.text for word in words),
        around(word.box for word in words),
        is_bold=all(word.is_bold for word in words),
        size=median(word.size for word in words),
        place=words[0].place,
        words=words,
    )


# --- reading order ------------------------------------------------------------------------------------------
def _columns(items: Iterable[Line | Grid]) -> list[list[Line | Grid]]:
    """Return the items of each column from top to bottom, the columns in reading order.

    In file order, an item well above the one before begins a column. Some files draw the rows of a table
    after the text around it: such rows look like a column, and go back into the column whose gap they fill.
    """
    runs: list[list[Line | Grid]] = [[]]
    for item in sorted(items, key=attrgetter("place")):
        if runs[-1] and item.box.bottom < runs[-1][-1].box.top - _UP * item.size:
            runs.append([])
        runs[-1].append(item)
    columns: list[list[Line | Grid]] = []
    for run in runs:
        with_gap = next((column for column in columns if _fill_gap(run, column)), None)
        if with_gap is None:
            columns.append(run)
        else:
            with_gap.extend(run)
    return [sorted(column, key=attrgetter("box.top", "box.left")) for column in columns]


def _fill_gap(rows: Sequence[Line | Grid], column: Sequence[Line | Grid]) -> bool:
    """Return whether rows of several items lie between items of a column, and beside nearly none of them."""
    box = around(item.box for item in rows)
    middles = [item.box.middle[1] for item in column]
    is_between = min(middles, default=box.bottom) < box.top and max(middles, default=box.top) > box.bottom
    items_beside = sum(box.top < y < box.bottom for y in middles)
    row_count = len({round(item.box.middle[1]) for item in rows})
    has_cells = len(rows) >= 2 * row_count
    is_only_header_and_footer = 2 * len(column) < len(rows)
    is_free = items_beside <= _MOST_BESIDE * len(rows)
    return is_between and has_cells and not is_only_header_and_footer and is_free


# --- paragraphs and tables without lines ------------------------------------------------------------------
def _blocks(column: Iterable[Line | Grid], before: Grid | None) -> Iterator[Block]:
    """Yield the blocks of a column: its tables with ruling lines, and what the lines between are. ``before``:
    the table with which its first one may go on."""
    rows: list[list[Line]] = []
    for item in column:
        if isinstance(item, Grid):
            if rows and _is_row_above(rows[-1], item):
                is_bold, texts = (
                    _is_bold(rows[-1:]),
                    _texts_by_column(rows.pop(), item.columns, is_full=False),
                )
                item.rows.insert(0, [text_cell(text, is_name=is_bold) for text in texts])
            yield from _paragraphs_and_tables(rows, before)
            rows, before = [], None
            yield item
        elif rows and item.box.middle[1] - rows[-1][0].box.middle[1] < SAME_LINE * item.size:
            rows[-1] = sorted([*rows[-1], item], key=attrgetter("box.left"))
        else:
            rows.append([item])
    yield from _paragraphs_and_tables(rows, before)


def _is_row_above(row: Sequence[Line], table: Grid) -> bool:
    """Return whether the lines above a table with ruling lines are its names: near, and one in each column
    but the first, which may have none. Two lines that are not bold are a caption; and a table whose first row
    is bold has names."""
    places = [[at for at, other in enumerate(table.columns) if shared(other, line.box) > 0] for line in row]
    is_near = table.box.top - row[0].box.bottom < (_NEAR - 1) * row[0].size
    is_row = [at for at in places if at != [0]] == [[at] for at in range(1, len(table.columns))]
    is_row = is_row and len(row) > (1 if _is_bold([row]) else 2)
    return is_near and is_row and not all(cell.is_name for cell in table.rows[0] if cell.blocks)


def _columns_of(before: Grid | None, columns: Sequence[Box]) -> list[Box] | None:
    """Return the columns of a table, of which these are some; None if they are not. They are as they lie
    here: a left page and a right one, or two columns of a page, have other margins.

    Two columns are the same if their left edges, right edges or middles are: texts differ in their width.
    """
    if before is None:
        return None
    for shift in (0.0, columns[0].left - before.columns[0].left):
        moved = [Box(it.left + shift, it.top, it.right + shift, it.bottom) for it in before.columns]
        places = [[at for at, other in enumerate(moved) if _is_same(column, other)] for column in columns]
        if all(places) and _are_rising(places) and 2 * len(columns) > len(moved):
            own = {at[0]: column for at, column in zip(places, columns, strict=True)}
            return [around([column, own.get(at, column)]) for at, column in enumerate(moved)]
    return None


def _is_same(column: Box, other: Box) -> bool:
    edges = (column.left - other.left, column.middle[0] - other.middle[0], column.right - other.right)
    return shared(column, other) > 0 and min(map(abs, edges)) < _SAME_EDGE


def _are_rising(places: Iterable[Sequence[int]]) -> bool:
    """Return whether the first places are in order, and differ."""
    return all(before[0] < after[0] for before, after in pairwise(places))


def _paragraphs_and_tables(rows: Sequence[list[Line]], before: Grid | None) -> Iterator[Block]:
    """Yield tables for rows of which enough in a sequence are aligned, and paragraphs for the others."""
    rows = _with_whole_lines(rows)
    right = max((line.box.right for row in rows for line in row), default=0.0)
    plain: list[list[Line]] = []
    start = 0
    while start < len(rows):
        end = max(_end_of_table(rows, start), start + 1)
        before = before if len(plain) <= _MOST_ABOVE else None
        has_title = bool(plain) and _is_first_title(plain[-1], rows[start:end], before)
        if has_title and _aligned(rows[start - 1 : end], before):
            plain, start = plain[:-1], start - 1
        if table := _aligned(rows[start:end], before):
            yield from _paragraphs(plain, right)
            yield table
            plain, before = [], None
        else:
            plain += rows[start:end]
        start = end
    yield from _paragraphs(plain, right)


def _with_whole_lines(rows: Sequence[list[Line]]) -> list[list[Line]]:
    """Return the rows with those joined that are one line of text for all their wide gaps: justified lines,
    and clauses behind their numbers, of which the text of one goes on below it."""
    clauses = [at for at, row in enumerate(rows) if _CLAUSE.fullmatch(row[0].text)]
    are_text = all(len(rows[at]) == 2 for at in clauses) and any(
        abs(below[0].box.left - rows[at][-1].box.left) < _SAME_LEFT
        for at in clauses
        for below in rows[at + 1 : at + 2]
        if len(below) == 1
    )
    joined = list[list[Line]]()
    for at, row in enumerate(rows):
        is_whole = (are_text and at in clauses) or _is_justified(joined[-1:], row)
        joined.append([line_of([word for line in row for word in line.words])] if is_whole else row)
    return joined


def _is_justified(above: Sequence[Sequence[Line]], row: Sequence[Line]) -> bool:
    """Return whether a row has the edges of the one line above it, and its words equal gaps."""
    if len(row) <= 2 or not above or len(above[0]) > 1:
        return False
    edges = zip(around(line.box for line in row).corners, above[0][0].box.corners, strict=True)
    gaps = [
        after.left - box.right for box, after in pairwise(word.box for line in row for word in line.words)
    ]
    return max(gaps) - min(gaps) < 1 and all(abs(own[0] - other[0]) < _SAME_LEFT for own, other in edges)


def _is_first_title(above: Sequence[Line], rows: Sequence[Sequence[Line]], before: Grid | None) -> bool:
    """Return whether the row above a table is a title like those between its rows, and as near; or, of a
    table that goes on, a bold row above one that is not."""
    titles = [row[0] for row in rows if len(row) == 1]
    is_near = rows[0][0].box.middle[1] - above[0].box.middle[1] < _NEAR * above[0].size
    titles = [title for title in titles if above[0].size < _SIZE_CHANGE * title.size]
    places = [title.box.left for title in titles if title.is_bold == above[0].is_bold]
    if before is not None and above[0].is_bold and not _is_bold(rows[:1]):
        places.append(rows[0][0].box.left)
    return is_near and len(above) == 1 and any(abs(left - above[0].box.left) < 1 for left in places)


def _end_of_table(rows: Sequence[list[Line]], start: int) -> int:
    """Return the index after the last row that may be of one table with the row ``start``; ``start`` if it
    cannot begin one. Two lines in a row that reach over columns are text.

    A row of several lines is of the table. A row of one line may be too, no wider than the table and near
    below another, or as near as its rows are: a further line of a cell, if indented, or a title, if further
    rows of several lines follow. In larger letters above names, it is the heading of another table.
    """
    end = start
    left = right = 0.0
    inner = inf
    gaps = [
        below[0].box.middle[1] - row[0].box.middle[1]
        for row, below in pairwise(rows[start : start + _SEEN_ROWS])
        if len(row) > 1 < len(below)
    ]
    near = SAME_GAP * median(gaps or [0.0])
    for at, row in enumerate(rows[start:], start):
        first, last = row[0], row[-1]
        if len(row) > 1:
            left, right, end = first.box.left, max(right, last.box.right), at + 1
            inner = min(inner, row[1].box.left)
            continue
        gap = first.box.middle[1] - rows[at - 1][0].box.middle[1]
        is_near = at > start and gap < max(near, _NEAR * first.size)
        is_heading = first.size > _SIZE_CHANGE * rows[start][0].size and _is_bold(rows[at + 1 : at + 2])
        is_text = all(len(line) == 1 and line[0].box.right > inner for line in rows[at - 1 : at + 1])
        if not is_near or is_heading or is_text or last.box.right - first.box.left > right - left:
            break
        if first.box.left > left + first.size:
            end = at + 1
    return end


def _is_bold(rows: Iterable[Iterable[Line]]) -> bool:
    """Return whether there are rows, and all of their lines are bold."""
    return all([line.is_bold for row in rows for line in row] or [False])


def _aligned(rows: Sequence[list[Line]], before: Grid | None) -> Grid | None:
    """Return a table of rows whose cells lie below each other; None if they do not. Few rows are one where
    their columns are those of the table ``before``, and two are where bold names of three columns are above
    values."""
    most = max(map(len, rows))
    full = [row for row in rows if len(row) >= _FULL_ROW * most]
    telling = [row for row in full if row is not rows[0] or len(row) == most]  # names may be above several
    columns = _column_boxes(telling)
    above = _columns_of(before, columns) if len(columns) >= _FEWEST_COLUMNS else None
    has_names = len(columns) > _FEWEST_COLUMNS and _is_bold(rows[:1]) and not _is_bold(rows[1:2])
    fewest = 1 if above else _TABLE_ROWS - has_names
    if len(columns) < _FEWEST_COLUMNS or sum(len(row) > 1 for row in rows) < fewest:
        return None
    columns = above or columns
    texts = [_texts_by_column(row, columns, is_full=row in full) for row in rows]
    if sum(map(len, rows)) > _SHARED * sum(bool(text) for row in texts for text in row):
        return None
    spans = _spans_of_names(rows[0], columns, texts)
    if spans:
        texts[0] = [
            "".join(line.text for line, place in spans if place.start == at) for at in range(len(columns))
        ]
    joined = _with_further_lines(rows, texts)
    made = [[text_cell(text, is_name=is_bold) for text in row] for row, is_bold in joined]
    if joined[0][0] == texts[0]:
        for _, place in reversed(spans):
            made[0][place.start : place.stop] = [replace(made[0][place.start], columns=len(place))]
    return Grid(
        rows=made,
        box=around(columns),
        size=median(line.size for row in rows for line in row),
        letters=sum(len(text) for row, _ in joined for text in row),
        columns=columns,
        place=rows[0][0].place,
        goes_on=above is not None,
    )


def _spans_of_names(
    row: Sequence[Line], columns: Sequence[Box], texts: Sequence[Sequence[str]]
) -> list[tuple[Line, range]]:
    """Return the columns that each line of a first row stands above, if it has names of several: one that is
    in their middle, above other names or above columns without one. Else none."""
    lefts = {round(column.left) for column in columns}
    if not 1 < len(row) < len(columns) or lefts.issuperset(round(line.box.left) for line in row):
        return []  # names that all begin where a column begins are in the middle of none
    boxes = [(round(box.left), round(box.right)) for box in (*(line.box for line in row), *columns)]
    ranges = ranges_above(boxes[: len(row)], boxes[len(row) :], is_wide=True, nearest=_SAME_EDGE)
    below = [*zip(*texts[1:], strict=True)]
    is_named = bool(texts[2:]) and not any(is_value(text, below[at][1:]) for at, text in enumerate(texts[1]))
    for line, place in zip(row, ranges, strict=True):
        is_cut = len(line.words) >= len(place) > 1 and not (
            is_named and all(texts[1][place.start : place.stop])
        )
        if is_cut or is_value(line.text, [text for at in place for text in below[at] if text]):
            return []
    are_apart = all(left.stop <= right.start for left, right in pairwise(ranges))
    return [*zip(row, ranges, strict=True)] if are_apart and max(map(len, ranges)) > 1 else []


def _column_boxes(full: Sequence[Sequence[Line]]) -> list[Box]:
    """Return the columns of full rows, from the left: lines that overlap in their x are one column."""
    columns: list[Box] = []
    cells = (line.box for row in full for line in row if not _is_bridge(line, full))
    for box in sorted(cells, key=attrgetter("left")):
        if columns and box.left < columns[-1].right:
            columns[-1] = around([columns[-1], box])
        else:
            columns.append(box)
    return columns


def _with_further_lines(
    rows: Sequence[list[Line]], texts: Sequence[list[str]]
) -> list[tuple[list[str], bool]]:
    """Return the texts of the table's rows, and whether a row is bold: a row that only goes on with the cells
    above is joined to them.

    ["Delivery", "4.00 in"], ["", "the city"] -> ["Delivery", "4.00 in the city"]
    """
    joined: list[tuple[list[str], bool]] = []
    are_names = _are_names(rows, texts)
    for at, row in enumerate(texts):
        indent = rows[at][0].box.left - rows[max(0, at - 1)][0].box.left
        begins_small = all(text[0].islower() for text in row if text)
        goes_on = bool(row[0]) and indent > _INDENT * rows[0][0].size and begins_small
        above = joined[-1][0] if joined else row
        are_values = any(is_value(text, [upper]) for text, upper in zip(row, above, strict=True) if upper)
        is_partial = not row[0] and 2 * sum(map(bool, row)) <= len(row) and not are_values
        is_bold = all(line.is_bold for line in rows[at])
        if joined and (is_partial or goes_on or (at == 1 and are_names)):
            _, is_bold = joined.pop()
            joined.append(([" ".join(filter(None, pair)) for pair in zip(above, row, strict=True)], is_bold))
        else:
            joined.append((row, is_bold))
    return joined


def _are_names(rows: Sequence[list[Line]], texts: Sequence[list[str]]) -> bool:
    """Return whether the first two rows are one of names: nearer to each other than all others are, without
    values, no name stands above several others, and the second is no title like others."""
    if len(rows) < _TABLE_ROWS or (len(rows[1]) == 1 and any(len(row) == 1 for row in rows[2:])):
        return False
    first, *others = (below[0].box.middle[1] - row[0].box.middle[1] for row, below in pairwise(rows))
    columns = [*zip(*texts, strict=True)]
    has_values = any(is_value(text, column[2:]) for column in columns for text in column[:2])
    is_above = (left[0] and left[1] and column[1] and not column[0] for left, column in pairwise(columns))
    return first < _NEARER * min(others) and not has_values and not any(is_above)


def _is_bridge(line: Line, rows: Sequence[Sequence[Line]]) -> bool:
    """Return whether most rows have several lines where this one is: it names several columns, or its words
    are of two cells whose gap is too narrow to split it."""
    lines_there = (sum(shared(other.box, line.box) > 0 for other in row) for row in rows)
    return 2 * sum(count > 1 for count in lines_there) > len(rows)


def _texts_by_column(row: Sequence[Line], columns: Sequence[Box], *, is_full: bool) -> list[str]:
    """Return the row's text in each column, "" for none. A line belongs to the nearest column, one
    alone in its row to that in which it begins; of a line across several in a full row, each word does."""
    texts = [""] * len(columns)
    for line in row:
        is_wide = is_full and sum(shared(line.box, column) > 0 for column in columns) > 1
        for part in line.words if is_wide else [line]:
            x = part.box.middle[0] if len(row) > 1 else part.box.left
            distances = [max(column.left - x, x - column.right, 0.0) for column in columns]
            nearest = distances.index(min(distances))
            texts[nearest] = f"{texts[nearest]} {part.text}".strip()
    return texts


def _paragraphs(rows: Sequence[list[Line]], right: float) -> list[Paragraph]:
    """Return the paragraphs of rows. ``right``: where the longest line of their column ends."""
    lines = [line_of([word for line in row for word in line.words]) for row in rows]
    distances = sorted(below.box.middle[1] - line.box.middle[1] for line, below in pairwise(lines))
    smaller_half = distances[: max(1, len(distances) // 2)]  # the wider ones are between paragraphs
    usual = median(smaller_half or [0.0])
    if len(distances) < _FEW_LINES:  # each may be a paragraph
        usual = min(usual, _SINGLE_SPACING * median([line.size for line in lines] or [0.0]))
    paragraphs = [Paragraph(lines[:1])] if lines else []
    for above, line in pairwise(lines):
        begin = paragraphs[-1].lines[0]
        if _begins_paragraph(begin, above, line, usual=max(usual, 0.9 * above.size), right=right):
            paragraphs.append(Paragraph([]))
        paragraphs[-1].lines.append(line)
    return paragraphs


def _begins_paragraph(begin: Line, above: Line, line: Line, *, usual: float, right: float) -> bool:
    """Return whether a line begins a paragraph. ``begin`` is the first line of the one above, ``usual`` the
    distance of two lines of a paragraph, ``right`` where the longest line of the column ends."""
    item = _text_left(begin)
    indent = line.box.left - (item if item is not None and above is begin else above.box.left)
    is_in_item = item is not None and above is not begin and abs(above.box.left - item) < _SAME_LEFT
    smaller, larger = sorted((above.size, line.size))
    is_above_short = above.box.right < right - _SHORT_LINE * (right - above.box.left)
    is_list_item = _text_left(line) is not None
    has_open_bracket = above.text.count("(") > above.text.count(")")  # "(see 1" above "2) for …"
    return (
        line.box.middle[1] - above.box.middle[1] > _PARAGRAPH_GAP * usual
        or larger > _SIZE_CHANGE * smaller
        or above.is_bold != line.is_bold
        or (abs(indent) if is_in_item else indent) > _INDENT * above.size
        or (is_list_item and not has_open_bracket)
        or (is_above_short and above.text.endswith((".", ":", "!", "?")))
    )


def _text_left(line: Line) -> float | None:
    """Return where the text begins behind a bullet or number; None for a line without one."""
    if len(line.words) < 2:
        return None
    first, second, *_ = (word.box for word in line.words)
    is_clause = _CLAUSE.fullmatch(line.words[0].text) and second.left - first.right > _WIDE_GAP * first.height
    return second.left if is_clause or BULLET.match(line.text) or NUMBER.match(line.text) else None


# --- tables with ruling lines: cells are the areas between the lines --------------------------------------
# A cell that spans two columns is one area: the line between them stops at it.
_SNAP = 3.0
"""Points: lines that are nearer to each other are one, and a line that ends as near to another meets it."""
_MOST_RULES = 20_000
"""Lines of a page, four for each cell that a file draws on its own. A page with more is a drawing."""
_MOST_PAIRS = 200_000
"""Horizontal times vertical lines of a page, after parts of one line are joined. More is a drawing."""
_MOST_SQUARES = 5_000
"""Horizontal times vertical lines of one lattice. More is a drawing."""
_COLUMN_GAP = 1.5
"""Share of a line's height: a wider gap inside a cell separates columns that have no line between them."""
_MOST_GAPS = 0.3
"""Share of the lines of text: with wide gaps in more of them, the lines on the page are not the table's."""
_SPLIT_LINES = 3
"""Lines of text in each cell from which they are rows: cells that wrap have different numbers of lines."""
_WRAPPED = 4
"""Cells of a row of which one goes on in small letters: then its cells wrap."""


class _Rule(NamedTuple):
    """A horizontal or vertical line."""

    position: float
    """Its y if it is horizontal, its x if it is vertical."""
    begin: float
    """Where it begins along its direction: its least x, or y."""
    end: float

    def reaches(self, place: float) -> bool:
        """Return whether the line passes ``place`` along its direction, or nearly."""
        return self.begin - _SNAP <= place <= self.end + _SNAP


_Lattice = tuple[set[_Rule], set[_Rule]]
"""Horizontal and vertical lines that cross, each directly or by way of others."""
_Square = tuple[int, int]
"""Row and column, from 0, of a square of the grid that the lines make if all are as long as the table."""


def text_cell(text: str, *, rows: int = 1, columns: int = 1, is_name: bool = False) -> Cell:
    """Return a cell of a text with marks, in which words are whole that ends of lines divide. ``is_name``: it
    is bold."""
    text = _DIVIDED.sub(lambda parts: f"{parts[1]}{'-' * is_compound(parts[1], parts[2])}{parts[2]}", text)
    return Cell((model.Paragraph(runs_of(text)),) if text else (), rows, columns, is_name)


def ruled_tables(content: PageContent, before: Grid | None) -> tuple[list[Grid], list[Word]]:
    """Return the page's tables with lines between their cells, and the words outside of these tables."""
    tables, words = list[Grid](), content.words
    for lattice in sorted(_lattices(content.rules), key=lambda lattice: min(lattice[0])):
        words_of_cell = _words_by_cell(lattice, words)
        columns = _ruled_columns(words_of_cell)
        above = _columns_of(None if tables else before, columns) if len(columns) >= _FEWEST_COLUMNS else None
        if _is_table(words_of_cell, fewest_rows=1 if above else 2):
            tables.append(_table(words_of_cell, above or columns, goes_on=above is not None))
            in_table = {id(word) for held in words_of_cell.values() for word in held}
            words = [word for word in words if id(word) not in in_table]
    return tables, words


def _lattices(rules: Iterable[Box]) -> Iterator[_Lattice]:
    """Yield the lattices of a page; none for a drawing, which would take too long."""
    rules = [*rules]
    if len(rules) > _MOST_RULES:
        return
    wide = [rule for rule in rules if rule.right - rule.left > rule.height]
    high = [rule for rule in rules if rule.height > rule.right - rule.left]
    across = _merged(_Rule(rule.middle[1], rule.left, rule.right) for rule in wide)
    down = _merged(_Rule(rule.middle[0], rule.top, rule.bottom) for rule in high)
    lattices: list[_Lattice] = []
    for line in across if len(across) * len(down) < _MOST_PAIRS else ():
        crossing = {rule for rule in down if line.reaches(rule.position) and rule.reaches(line.position)}
        touched = [lattice for lattice in lattices if lattice[1] & crossing]
        horizontal = {line}.union(*(lattice[0] for lattice in touched))
        vertical = crossing.union(*(lattice[1] for lattice in touched))
        lattices = [lattice for lattice in lattices if not lattice[1] & crossing]
        lattices.append((horizontal, vertical))
    for horizontal, vertical in lattices:
        if 0 < len(horizontal) * len(vertical) < _MOST_SQUARES:
            yield horizontal, vertical


def _merged(lines: Iterable[_Rule]) -> list[_Rule]:
    """Return the lines of one direction with those joined that lie on each other or go on.

    (100, 0, 50), (101, 50, 90) -> (100, 0, 90)
    """
    snapped: list[_Rule] = []
    for line in sorted(lines):
        last = snapped[-1].position if snapped else -_SNAP
        snapped.append(line._replace(position=last) if line.position - last < _SNAP else line)
    merged: list[_Rule] = []
    for line in sorted(snapped):
        before = merged[-1] if merged else None
        if before and before.position == line.position and line.begin < before.end + _SNAP:
            merged[-1] = before._replace(end=max(line.end, before.end))
        else:
            merged.append(line)
    return [line for line in merged if line.end - line.begin > _SNAP]


def _words_by_cell(lattice: _Lattice, words: Iterable[Word]) -> dict[Box, list[Word]]:
    """Return the words in each cell: the area to the next lines around them, or to the table's sides. A cell
    without words is missing."""
    horizontal, vertical = lattice
    whole = around(
        [
            *(Box(line.begin, line.position, line.end, line.position) for line in horizontal),
            *(Box(line.position, line.begin, line.position, line.end) for line in vertical),
        ]
    )
    cells = defaultdict[Box, list[Word]](list)
    for word in words:
        x, y = word.box.middle
        if whole.holds((x, y)):
            xs = [whole.left, *(line.position for line in vertical if line.reaches(y)), whole.right]
            ys = [whole.top, *(line.position for line in horizontal if line.reaches(x)), whole.bottom]
            left, right = max(other for other in xs if other <= x), min(other for other in xs if other >= x)
            top, bottom = max(other for other in ys if other <= y), min(other for other in ys if other >= y)
            cells[Box(left, top, right, bottom)].append(word)
    return cells


def _ruled_columns(cells: Iterable[Box]) -> list[Box]:
    """Return the columns in which cells begin, each as narrow as its narrowest cell."""
    lefts = _distinct(cell.left for cell in cells)
    by_left = [[cell for cell in cells if abs(cell.left - left) <= _SNAP] for left in lefts]
    return [min(column, key=lambda cell: cell.right - cell.left) for column in by_left]


def _is_table(words_of_cell: Mapping[Box, list[Word]], *, fewest_rows: int) -> bool:
    """Return whether the cells have texts of their own: not prose in frames, nor parts of wider rows."""
    tops = _distinct(cell.top for cell in words_of_cell)
    lefts = _distinct(cell.left for cell in words_of_cell)
    if len(tops) < fewest_rows or len(lefts) < _FEWEST_COLUMNS:
        return False
    lines = [line for words in words_of_cell.values() for line in text_rows(words)]
    lines_with_gap = sum(
        any(
            word.box.left - before.box.right > _COLUMN_GAP * word.box.height
            for before, word in pairwise(line)
        )
        for line in lines
    )
    return lines_with_gap <= _MOST_GAPS * len(lines)


def _distinct(places: Iterable[float]) -> list[float]:
    """Return the places in order without those that are nearly the same: 10, 11, 40 -> 10, 40."""
    kept: list[float] = []
    for place in sorted(places):
        if not kept or place - kept[-1] > _SNAP:
            kept.append(place)
    return kept


def _table(words_of_cell: Mapping[Box, list[Word]], columns: list[Box], *, goes_on: bool) -> Grid:
    """Return the table of cells that have words."""
    cells = sorted(words_of_cell, key=lambda cell: (cell.top, cell.left))
    tops, lefts = _distinct(cell.top for cell in cells), [column.left for column in columns]
    cell_at: dict[_Square, Box] = {}
    held = defaultdict[Box, list[Word]](list)
    for cell in cells:
        rows = [at for at, top in enumerate(tops) if cell.top - _SNAP <= top < cell.bottom - _SNAP]
        places = [at for at, left in enumerate(lefts) if cell.left - _SNAP <= left < cell.right - _SNAP]
        squares = [*product(rows, places)]
        # Around two words of one cell the next lines may differ: the first area has the words of both.
        owner = next((cell_at[square] for square in squares if square in cell_at), cell)
        if owner is cell:
            cell_at |= dict.fromkeys(squares, cell)
        held[owner] += words_of_cell[cell]
    words = [word for words in held.values() for word in words]
    return Grid(
        rows=[row for number in range(len(tops)) for row in _rows(number, len(lefts), cell_at, held)],
        box=around(words_of_cell),
        size=median(word.size for word in words),
        letters=sum(len(word.text) for word in words),
        columns=columns,
        place=min(word.place for word in words),
        goes_on=goes_on,
    )


def _rows(
    number: int, width: int, cell_at: Mapping[_Square, Box], held: Mapping[Box, list[Word]]
) -> Iterator[list[Cell]]:
    """Yield the rows of the table between two neighbouring lines, the ``number``-th from 0: mostly one.

    Some tables have no lines between their rows. There are several rows where the cells have as many lines of
    text, all aligned: cells that wrap have different numbers of lines, or go on in small letters.
    """
    row = [cell_at.get((number, column)) for column in range(width)]
    cells = [cell for cell in dict.fromkeys(row) if cell]
    squares = {cell: [square for square, other in cell_at.items() if other is cell] for cell in cells}
    lines = text_rows(word for cell in cells for word in held[cell])
    cell_of_word = {id(word): cell for cell in cells for word in held[cell]}
    texts: dict[Box | None, dict[int, str]] = {cell: {} for cell in row}
    """By cell: its text in each line, by the line's number."""
    for line_number, line in enumerate(lines):
        for word in line:
            parts = texts[cell_of_word[id(word)]]
            parts[line_number] = f"{parts[line_number]} {word.text}" if line_number in parts else word.text
    is_one_high = all(at == number for of_cell in squares.values() for at, _ in of_cell)
    counts = [len(parts) for parts in texts.values()]
    is_filled = len(lines) in counts and 2 * sum(counts) > len(lines) * len(counts)
    is_wrapped = _WRAPPED * sum(map(_goes_on, texts.values())) > len(cells)
    is_split = is_one_high and is_filled and len(lines) >= _SPLIT_LINES and not is_wrapped
    for line_number in range(len(lines)) if is_split else (None,):
        made: list[Cell] = []
        for column, cell in enumerate(row):
            if cell is None:
                made.append(text_cell(""))
            elif (number, column) == min(squares[cell]):  # a cell belongs to the row that it begins in
                parts = texts[cell]
                text = " ".join(parts.values()) if line_number is None else parts.get(line_number, "")
                height, span = (len({square[axis] for square in squares[cell]}) for axis in (0, 1))
                is_bold = all(word.is_bold for word in held[cell])
                made.append(text_cell(text, rows=height, columns=span, is_name=is_bold))
        yield made


def _goes_on(lines: Mapping[int, str]) -> bool:
    """Return whether a line of a cell ends within a word, or begins with a small letter below a first one
    that does not."""
    first, *others = [*lines.values()] or [""]
    is_small = not first[:1].islower() and any(line[:1].islower() for line in others)
    return is_small or any(line.endswith("\u00ad") for line in lines.values())
