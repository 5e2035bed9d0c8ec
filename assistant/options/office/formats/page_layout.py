"""Orders the words of a PDF page into lines, columns, paragraphs and tables, by places and ruling lines."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, product
from operator import attrgetter
from statistics import median

from assistant.documents import page as model
from assistant.documents.page import Cell
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

_WIDE_GAP = 0.7
"""Share of a line's height: a wider gap separates cells. Few spaces of justified text are wider."""
_UP = 2.0
"""Share of a font's size: a line that is higher on the page than the one before begins a column."""
_MOST_BESIDE = 0.1
"""Items of a column beside rows of a table that the file draws later, to the items of these rows."""
_TABLE_ROWS = 3
"""Rows from which aligned text is a table: two lines with a wide gap are often a letterhead."""
_NEAR = 2.5
"""Share of a font's size: the distance to a further line of a cell, or to a title between rows."""
_FULL_ROW = 0.6
"""Share of the most cells of a row: rows with fewer have cells across several columns, and do not tell where
these are."""
_FEWEST_COLUMNS = 2
_SHARED = 1.25
"""Texts in a cell, on average: more are spaces of justified text, which lie below each other nowhere."""
_PARAGRAPH_GAP = 1.35
"""Multiple of the usual distance between lines: a greater one begins a paragraph."""
_FEW_LINES = 5
_SINGLE_SPACING = 1.4
"""Share of a font's size: the distance between lines of a paragraph is rarely greater."""
_INDENT = 0.8
"""Share of a line's height: a first line that is indented by more begins a paragraph."""
_SIZE_CHANGE = 1.12
_BOXES = ("\u2610", "\u2611")
"""Check boxes: each belongs to the nearer of the texts beside it."""
_MARKER = re.compile(r"[^\w\s]|\(?\w{1,3}[.)]")
"""A bullet or a number before a list item: it belongs to the text after it, however wide the gap."""
BULLET = re.compile(r"[\u2022\u2023\u2043\u00b7\u2013\u25a0-\u25ff\u2700-\u27bf\ue000-\uf8ff*-]\s+(?=\S)")
"""Bullets, shapes, and the private characters of symbol fonts."""
NUMBER = re.compile(r"\(?(\d{1,3}|[^\W\d_])[.)]\s+(?=\S)")
"""Before an item of a list; group 1 is its number or letter."""


@dataclass(frozen=True, slots=True)
class Line:
    """Words beside each other in one column."""

    text: str
    box: Box
    is_bold: bool
    size: float
    """Size of the font of most of its words, in points."""
    place: float
    """Place of its first word in the file."""
    words: Sequence[Word] = ()


@dataclass(slots=True)
class Paragraph:
    lines: list[Line]

    @property
    def size(self) -> float:
        return min(line.size for line in self.lines)

    @property
    def is_bold(self) -> bool:
        return all(line.is_bold for line in self.lines)


@dataclass(frozen=True, slots=True)
class Grid:
    rows: list[list[Cell]]
    """Cells of the page model: a row has only those that begin in it."""
    box: Box
    size: float
    """Size of the font of most words, in points."""
    letters: int
    header_rows: int | None
    """First rows that name the columns; None if neither lines nor fonts tell."""
    place: float
    """Place of its first word in the file."""


Block = Paragraph | Grid


def page_blocks(content: PageContent) -> list[Block]:
    """Return the page's paragraphs and tables in reading order."""
    tables, words = ruled_tables(content)
    lines = [line for row in text_rows(words) for line in _segments(row)]
    return [block for column in _columns([*lines, *tables]) for block in _blocks(column)]


# --- lines ------------------------------------------------------------------------------------------------
def _segments(row: Sequence[Word]) -> list[Line]:
    """Return the parts of a row between wide gaps."""
    segments = [[row[0]]]
    for at, (before, word) in enumerate(pairwise(row)):
        gap = word.box.left - before.box.right
        is_marker = len(segments) == len(segments[0]) == 1 and _MARKER.fullmatch(row[0].text)
        is_box = at > 0 and before.text in _BOXES and gap < before.box.left - row[at - 1].box.right
        if gap > _WIDE_GAP * word.box.height and not is_marker and not is_box:
            segments.append([])
        segments[-1].append(word)
    return [_line(segment) for segment in segments]


def _line(words: Sequence[Word]) -> Line:
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
    """Return the items of each column from top to bottom. The file has the columns in reading order, but may
    draw rows of a table later: those go back into the column whose gap they fill."""
    columns: list[list[Line | Grid]] = [[]]
    for item in sorted(items, key=attrgetter("place")):
        if columns[-1] and item.box.bottom < columns[-1][-1].box.top - _UP * item.size:
            columns.append([])
        columns[-1].append(item)
    kept: list[list[Line | Grid]] = []
    for column in columns:
        gap = next((other for other in kept if _has_gap(other, column)), None)
        (kept.append if gap is None else gap.extend)(column)
    return [sorted(column, key=attrgetter("box.top", "box.left")) for column in kept]


def _has_gap(column: Sequence[Line | Grid], rows: Sequence[Line | Grid]) -> bool:
    """Return whether rows of several items lie between items of a column, and next to none of them."""
    box = around(item.box for item in rows)
    middles = [item.box.middle[1] for item in column]
    is_between = min(middles, default=box.bottom) < box.top and max(middles, default=box.top) > box.bottom
    beside = sum(box.top < y < box.bottom for y in middles)
    lines = len({round(item.box.middle[1]) for item in rows})
    is_table = 2 * lines <= len(rows)  # at least two items a line
    is_table &= len(rows) <= 2 * len(column)  # else the column is a page's header and footer alone
    return is_between and is_table and beside <= _MOST_BESIDE * len(rows)


# --- paragraphs and tables without lines ------------------------------------------------------------------
def _blocks(column: Iterable[Line | Grid]) -> Iterator[Block]:
    rows: list[list[Line]] = []
    for item in column:
        if isinstance(item, Grid):
            yield from _paragraphs_and_tables(rows)
            rows = []
            yield item
        elif rows and item.box.middle[1] - rows[-1][0].box.middle[1] < SAME_LINE * item.size:
            rows[-1] = sorted([*rows[-1], item], key=attrgetter("box.left"))
        else:
            rows.append([item])
    yield from _paragraphs_and_tables(rows)


def _paragraphs_and_tables(rows: Sequence[list[Line]]) -> Iterator[Block]:
    """Yield tables for rows of which enough in a sequence are aligned, and paragraphs for the others."""
    plain: list[list[Line]] = []
    place = 0
    while place < len(rows):
        end = max(_end_of_table(rows, place), place + 1)
        if table := _aligned(rows[place:end]):
            yield from _paragraphs(plain)
            yield table
            plain = []
        else:
            plain += rows[place:end]
        place = end
    yield from _paragraphs(plain)


def _end_of_table(rows: Sequence[list[Line]], start: int) -> int:
    """Return the end of rows with several texts: further lines of their cells and titles may be between."""
    end = start
    left = right = 0.0
    for place, row in enumerate(rows[start:], start):
        first, last = row[0], row[-1]
        if len(row) > 1:
            left, right, end = first.box.left, max(right, last.box.right), place + 1
            continue
        is_near = (
            place > start and first.box.middle[1] - rows[place - 1][0].box.middle[1] < _NEAR * first.size
        )
        if not is_near or last.box.right - first.box.left > right - left:
            break
        if first.box.left > left + first.size:
            end = place + 1
    return end


def _aligned(rows: Sequence[list[Line]]) -> Grid | None:
    """Return a table of rows whose cells lie below each other; None if they do not."""
    if sum(len(row) > 1 for row in rows) < _TABLE_ROWS:
        return None
    full = [row for row in rows if len(row) >= _FULL_ROW * max(map(len, rows))]
    columns: list[Box] = []
    whole = (line.box for row in full for line in row if not _is_bridge(line, full))
    for box in sorted(whole, key=attrgetter("left")):
        if columns and box.left < columns[-1].right:
            columns[-1] = around([columns[-1], box])
        else:
            columns.append(box)
    if len(columns) < 2:
        return None
    placed = [_cells(row, columns, is_full=row in full) for row in rows]
    if sum(map(len, rows)) > _SHARED * sum(bool(text) for texts in placed for text in texts):
        return None
    cells: list[list[str]] = []
    for at, texts in enumerate(placed):
        indent = rows[at][0].box.left - rows[max(0, at - 1)][0].box.left
        is_indented = indent > _INDENT * rows[0][0].size and all(
            text[0].islower() for text in filter(None, texts)
        )
        is_partial = not texts[0] and 2 * sum(map(bool, texts)) <= len(texts)
        above = cells.pop() if cells and (is_partial or is_indented) else [""] * len(texts)
        cells.append([" ".join(filter(None, pair)) for pair in zip(above, texts, strict=True)])
    is_bold = all(line.is_bold for line in rows[0]) and not all(line.is_bold for line in rows[1])
    size = median(line.size for row in rows for line in row)
    letters = sum(map(len, chain(*cells)))
    made = [_table_row(texts) for texts in cells]
    return Grid(made, around(columns), size, letters, 1 if is_bold else None, rows[0][0].place)


def _table_row(texts: Sequence[str]) -> list[Cell]:
    """Return a row; a text in the first of several columns alone is a title of the rows below it."""
    is_title = len(texts) > _FEWEST_COLUMNS and bool(texts[0]) and not any(texts[1:])
    return [text_cell(texts[0], columns=len(texts))] if is_title else [text_cell(text) for text in texts]


def _is_bridge(line: Line, rows: Sequence[Sequence[Line]]) -> bool:
    """Return whether most rows have several texts where this line has one: the gap between its cells is
    narrow."""
    parts = (sum(shared(other.box, line.box) > 0 for other in row) for row in rows)
    return len(line.words) > 1 and 2 * sum(count > 1 for count in parts) > len(rows)


def _cells(row: Iterable[Line], columns: Sequence[Box], *, is_full: bool) -> list[str]:
    """Return the text in each column: of lines, and of the words of a full row's line over several columns,
    each belongs to the nearest."""
    texts = [""] * len(columns)
    for line in row:
        is_wide = is_full and sum(shared(line.box, column) > 0 for column in columns) > 1
        for part in line.words if is_wide else [line]:
            x = part.box.middle[0]
            distances = [max(column.left - x, x - column.right, 0.0) for column in columns]
            nearest = distances.index(min(distances))
            texts[nearest] = f"{texts[nearest]} {part.text}".strip()
    return texts


def _paragraphs(rows: Sequence[list[Line]]) -> list[Paragraph]:
    lines = [_line([word for line in row for word in line.words]) for row in rows]
    pitches = sorted(below.box.middle[1] - line.box.middle[1] for line, below in pairwise(lines))
    usual = median(pitches[: max(1, len(pitches) // 2)] or [0.0])  # the wider ones are between paragraphs
    if len(pitches) < _FEW_LINES:  # each may be a paragraph
        usual = min(usual, _SINGLE_SPACING * median([line.size for line in lines] or [0.0]))
    right = max((line.box.right for line in lines), default=0.0)
    paragraphs: list[Paragraph] = []
    for line, before in zip(lines, [None, *lines], strict=False):
        if before is None or _begins_paragraph(
            before, line, usual=max(usual, 0.9 * before.size), right=right
        ):
            paragraphs.append(Paragraph([]))
        paragraphs[-1].lines.append(line)
    return paragraphs


def _begins_paragraph(line: Line, below: Line, *, usual: float, right: float) -> bool:
    sizes = sorted((line.size, below.size))
    is_short = line.box.right < right - 0.25 * (right - line.box.left)
    return (
        below.box.middle[1] - line.box.middle[1] > _PARAGRAPH_GAP * usual
        or sizes[1] > _SIZE_CHANGE * sizes[0]
        or line.is_bold != below.is_bold
        or below.box.left - line.box.left > _INDENT * line.size
        or (
            bool(BULLET.match(below.text) or NUMBER.match(below.text))
            and line.text.count("(") <= line.text.count(")")
        )
        or (is_short and line.text.endswith((".", ":", "!", "?")))
    )


# --- tables with ruling lines: cells are the areas between the lines --------------------------------------
_SNAP = 3.0
"""Points: lines that are nearer to each other are one."""
_MOST_RULES = 20_000
"""Lines of a page, four for each cell that a file draws on its own. A page with more is a drawing."""
_MOST_PAIRS = 200_000
"""Horizontal times vertical lines, each of all its parts."""
_MOST_SQUARES = 5_000
_COLUMN_GAP = 1.5
"""Share of a line's height: a wider gap inside a cell separates columns that have no line between them."""
_MOST_GAPS = 0.3
"""Share of the lines of text: with wide gaps in more of them, the lines on the page are not the table's."""
_SPLIT_LINES = 3
"""Lines of text in each cell from which they are rows: cells that wrap have different numbers of lines."""
_DEEPEST_HEADER = 3
"""Rows of names above each other: a cell of the first row is as high as all of them."""

_Rule = tuple[float, float, float]
"""Where a line is across its direction, its begin and its end."""


def text_cell(text: str, *, rows: int = 1, columns: int = 1) -> Cell:
    """Return a cell of a text with marks."""
    return Cell((model.Paragraph(runs_of(text)),) if text else (), rows, columns)


def ruled_tables(content: PageContent) -> tuple[list[Grid], list[Word]]:
    """Return the page's tables with lines between their cells, and the words outside of these tables."""
    tables, words = list[Grid](), content.words
    for horizontal, vertical in _lattices(content.rules):
        cells = _words_by_cell(horizontal, vertical, words)
        if _is_table(cells):
            tables.append(_table(cells))
            held = {id(word) for found in cells.values() for word in found}
            words = [word for word in words if id(word) not in held]
    return tables, words


def _lattices(rules: Iterable[Box]) -> Iterator[tuple[set[_Rule], set[_Rule]]]:
    """Yield the horizontal and vertical lines that cross each other; none for a drawing, which would take too
    long."""
    rules = [*rules]
    if len(rules) > _MOST_RULES:
        return
    wide = [rule for rule in rules if rule.right - rule.left > rule.height]
    high = [rule for rule in rules if rule.height > rule.right - rule.left]
    across = _merged((rule.middle[1], rule.left, rule.right) for rule in wide)
    down = _merged((rule.middle[0], rule.top, rule.bottom) for rule in high)
    groups: list[tuple[set[_Rule], set[_Rule]]] = []
    for line in across if len(across) * len(down) < _MOST_PAIRS else ():
        met = {other for other in down if _spans(line, other[0]) and _spans(other, line[0])}
        joined = [group for group in groups if group[1] & met]
        groups = [group for group in groups if not group[1] & met]
        groups.append(
            ({line}.union(*(group[0] for group in joined)), met.union(*(group[1] for group in joined)))
        )
    yield from (group for group in groups if 0 < len(group[0]) * len(group[1]) < _MOST_SQUARES)


def _merged(lines: Iterable[_Rule]) -> list[_Rule]:
    """Return the lines with those joined that lie on each other or go on."""
    snapped: list[_Rule] = []
    for place, begin, end in sorted(lines):
        last = snapped[-1][0] if snapped else -_SNAP
        snapped.append((last if place - last < _SNAP else place, begin, end))
    merged: list[_Rule] = []
    for place, begin, end in sorted(snapped):
        if merged and merged[-1][0] == place and begin < merged[-1][2] + _SNAP:
            merged[-1] = (place, merged[-1][1], max(end, merged[-1][2]))
        else:
            merged.append((place, begin, end))
    return [line for line in merged if line[2] - line[1] > _SNAP]


def _spans(line: _Rule, place: float) -> bool:
    return line[1] - _SNAP <= place <= line[2] + _SNAP


def _words_by_cell(
    horizontal: Iterable[_Rule], vertical: Iterable[_Rule], words: Iterable[Word]
) -> dict[Box, list[Word]]:
    """Return the words in each cell: the area to the next lines around them, or to the table's sides."""
    whole = around(
        [
            *(Box(begin, y, end, y) for y, begin, end in horizontal),
            *(Box(x, begin, x, end) for x, begin, end in vertical),
        ]
    )
    cells = defaultdict[Box, list[Word]](list)
    for word in words:
        x, y = word.box.middle
        if whole.holds((x, y)):
            xs = [whole.left, *(line[0] for line in vertical if _spans(line, y)), whole.right]
            ys = [whole.top, *(line[0] for line in horizontal if _spans(line, x)), whole.bottom]
            left, right = max(place for place in xs if place <= x), min(place for place in xs if place >= x)
            top, bottom = max(place for place in ys if place <= y), min(place for place in ys if place >= y)
            cells[Box(left, top, right, bottom)].append(word)
    return cells


def _is_table(cells: Mapping[Box, list[Word]]) -> bool:
    """Return whether the cells have texts of their own: not prose in frames, nor parts of wider rows."""
    if min(len(_places(cell.top for cell in cells)), len(_places(cell.left for cell in cells))) < 2:
        return False
    lines = [line for words in cells.values() for line in text_rows(words)]
    gaps = sum(
        any(
            word.box.left - before.box.right > _COLUMN_GAP * word.box.height
            for before, word in pairwise(line)
        )
        for line in lines
    )
    return gaps <= _MOST_GAPS * len(lines)


def _places(places: Iterable[float]) -> list[float]:
    """Return the places in order without those that are nearly the same."""
    kept: list[float] = []
    for place in sorted(places):
        if not kept or place - kept[-1] > _SNAP:
            kept.append(place)
    return kept


def _table(cells: Mapping[Box, list[Word]]) -> Grid:
    tops, lefts = _places(cell.top for cell in cells), _places(cell.left for cell in cells)
    squares: dict[tuple[int, int], Box] = {}
    held = defaultdict[Box, list[Word]](list)
    for cell in sorted(cells, key=lambda cell: (cell.top, cell.left)):
        rows = [at for at, top in enumerate(tops) if cell.top - _SNAP <= top < cell.bottom - _SNAP]
        columns = [at for at, left in enumerate(lefts) if cell.left - _SNAP <= left < cell.right - _SNAP]
        places = [*product(rows, columns)]
        owner = next((squares[place] for place in places if place in squares), cell)
        if owner is cell:
            squares |= dict.fromkeys(places, cell)
        held[owner] += cells[cell]
    depth = 1 + max(row for (row, _), cell in squares.items() if cell.top < tops[0] + _SNAP)
    bold = {cell.top for cell, words in held.items() if all(word.is_bold for word in words)}
    is_named = depth < len(tops) and depth <= _DEEPEST_HEADER and (depth > 1 or bold == {tops[0]})
    words = [word for found in held.values() for word in found]
    return Grid(
        [
            found
            for number in range(len(tops))
            for found in _rows([squares.get((number, at)) for at in range(len(lefts))], squares, held, number)
        ],
        around(cells),
        median(word.size for word in words),
        sum(len(word.text) for word in words),
        depth if is_named else None,
        min(word.place for word in words),
    )


def _rows(
    row: list[Box | None], squares: Mapping[tuple[int, int], Box], held: Mapping[Box, list[Word]], number: int
) -> Iterator[list[Cell]]:
    """Yield the rows between this line and the next below: several, if lines of text are all aligned."""
    spans = {cell: [place for place, other in squares.items() if other is cell] for cell in {*row} - {None}}
    texts: dict[Box | None, dict[int, str]] = {cell: {} for cell in row}
    holders = {id(word): cell for cell in texts if cell for word in held[cell]}
    lines = text_rows(word for cell in texts if cell for word in held[cell])
    for place, line in enumerate(lines):
        for word in line:
            parts = texts[holders[id(word)]]
            parts[place] = f"{parts[place]} {word.text}" if place in parts else word.text
    is_whole = all(place[0] == number for places in spans.values() for place in places)
    counts = [len(parts) for parts in texts.values()]
    is_filled = len(lines) in counts and 2 * sum(counts) > len(lines) * len(counts)
    is_split = is_whole and is_filled and len(lines) >= _SPLIT_LINES
    for line in range(len(lines)) if is_split else (None,):
        made: list[Cell] = []
        for at, cell in enumerate(row):
            if cell is None:
                made.append(text_cell(""))
            elif (number, at) == min(spans[cell]):
                text = " ".join(texts[cell].values()) if line is None else texts[cell].get(line, "")
                height, width = (len({place[axis] for place in spans[cell]}) for axis in (0, 1))
                made.append(text_cell(text, rows=height, columns=width))
        yield made
