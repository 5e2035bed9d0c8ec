"""Orders the words of a PDF page: lines, columns, paragraphs and tables, by their places alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, repeat
from operator import attrgetter
from statistics import median

from assistant.knowledge.conversion.page_words import Box, PageContent, Word
from assistant.knowledge.conversion.ruled_tables import Table, ruled_tables

_SAME_LINE = 0.4
"""Of a line's height: how far the middle of a word on it may lie from the line's."""
_WIDE_GAP = 1.0
"""Of a line's height: a wider gap separates columns. Spaces of justified text are narrower."""
_PROSE_CHARACTERS = 18
"""Median length of the lines in a column of prose; cells of a table are shorter. A newspaper's narrow columns
have about 30."""
_COLUMN_LINES = 3
_SAME_START = 3.0
"""Points: lines of a column begin within them."""
_TABLE_ROWS = 3
"""Rows from which aligned text is a table: two lines with a wide gap are often a letterhead."""
_FULL_ROW = 0.6
"""Of the most cells of a row: rows with fewer have cells across several columns, and do not tell where these
are."""
_PARAGRAPH_GAP = 1.35
"""Of the usual distance between lines: a greater one begins a paragraph."""
_FEW_LINES = 5
_SINGLE_SPACING = 1.4
"""Of a font's size: the distance between lines of a paragraph is rarely greater."""
_INDENT = 0.8
"""Of a line's height: a first line that is indented by more begins a paragraph."""
_SIZE_CHANGE = 1.12
_MARKER = re.compile(r"[^\w\s]|\(?\w{1,3}[.)]")
"""A bullet or a number before a list item: it belongs to the text after it, however wide the gap."""
BULLET = re.compile(r"[\u2022\u2023\u2043\u00b7\u2013\u25a0-\u25ff\u2700-\u27bf\ue000-\uf8ff*-]\s+(?=\S)")
"""Bullets, shapes, and the private characters of symbol fonts."""
_NUMBER = re.compile(r"\(?\w{1,3}[.)]\s+(?=\S)")


@dataclass(frozen=True, slots=True)
class Line:
    """Words beside each other in one column."""

    text: str
    box: Box
    is_bold: bool
    size: float
    """Of the font of most of its words, in points."""


@dataclass(slots=True)
class Paragraph:
    lines: list[Line] = field(default_factory=list[Line])

    @property
    def size(self) -> float:
        return min(line.size for line in self.lines)

    @property
    def is_bold(self) -> bool:
        return all(line.is_bold for line in self.lines)


Block = Paragraph | Table


def page_blocks(content: PageContent) -> list[Block]:
    """Return the page's paragraphs and tables in reading order."""
    tables, words = ruled_tables(content)
    rows = [_segments(row) for row in _rows(words)]
    lines = [line for row in rows for line in row]
    return list(_blocks(_in_reading_order([*lines, *tables])))


# --- lines ------------------------------------------------------------------------------------------------
def _rows(words: Iterable[Word]) -> Iterator[list[Word]]:
    """Yield the words of equal height on the page, from top to bottom, each row from left to right."""
    row: list[Word] = []
    for word in sorted(words, key=lambda word: word.box.middle[1]):
        if row and word.box.middle[1] - row[0].box.middle[1] > _SAME_LINE * row[0].box.height:
            yield sorted(row, key=lambda word: word.box.left)
            row = []
        row.append(word)
    if row:
        yield sorted(row, key=lambda word: word.box.left)


def _segments(row: Sequence[Word]) -> list[Line]:
    """Return the parts of a row between wide gaps."""
    segments: list[list[Word]] = []
    for word in row:
        last = segments[-1][-1] if segments else None
        if last is not None and last.text == word.text and word.box.left - last.box.left < 1:
            continue  # printed twice, to look bold
        gap = word.box.left - last.box.right if last is not None else 0.0
        is_marked = bool(segments) and len(segments[-1]) == 1 and _MARKER.fullmatch(segments[-1][0].text)
        if last is None or (gap > _WIDE_GAP * max(last.box.height, word.box.height) and not is_marked):
            segments.append([])
        segments[-1].append(word)
    return [_line(segment) for segment in segments]


def _line(words: Sequence[Word]) -> Line:
    text = words[0].text
    for before, word in pairwise(words):
        is_apart = word.box.left - before.box.right > 0.1 * word.box.height
        text += f" {word.text}" if is_apart or before.text[-1:].isalnum() else word.text
    return Line(
        text,
        around([word.box for word in words]),
        is_bold=all(word.is_bold for word in words),
        size=median(word.size for word in words),
    )


def around(boxes: Sequence[Box]) -> Box:
    """Return the smallest box that holds all boxes."""
    return Box(
        min(box.left for box in boxes),
        min(box.top for box in boxes),
        max(box.right for box in boxes),
        max(box.bottom for box in boxes),
    )


# --- columns ------------------------------------------------------------------------------------------------
def _in_reading_order(items: Sequence[Line | Table]) -> list[list[Line | Table]]:
    """Return the items in groups that are read one after the other: a column, or rows across the page."""
    gutter = _gutter(items)
    if gutter is None:
        return [sorted(items, key=lambda item: (item.box.top, item.box.left))]
    ordered = sorted(items, key=attrgetter("box.top"))
    crossing = [item for item in ordered if item.box.left < gutter < item.box.right]
    groups: list[list[Line | Table]] = [[]]
    for number, band in enumerate(_bands(ordered, gutter)):
        if _beside(band, gutter):
            left = [item for item in band if item.box.right <= gutter]
            right = [item for item in band if item.box.right > gutter]
            groups += [*_in_reading_order(left), *_in_reading_order(right), []]
        else:  # above or below columns, or between them
            groups[-1] += sorted(band, key=lambda item: (item.box.top, item.box.left))
        groups[-1] += crossing[number : number + 1]
    return [group for group in groups if group]


def _gutter(items: Sequence[Line | Table]) -> float | None:
    """Return where most lines have prose beside them; None on a page with one column."""
    ordered = sorted(items, key=attrgetter("box.top"))
    starts = Counter(round(item.box.left / _SAME_START) for item in items)
    places = (_SAME_START * (start - 0.6) for start, count in starts.items() if count >= _COLUMN_LINES)
    counts = [(sum(map(_beside, _bands(ordered, place), repeat(place))), place) for place in places]
    count, place = max(counts, default=(0, 0.0))
    return place if count else None


def _bands(ordered: Iterable[Line | Table], gutter: float) -> Iterator[list[Line | Table]]:
    """Yield the items between those that cross the gutter."""
    band: list[Line | Table] = []
    for item in ordered:
        if item.box.left < gutter < item.box.right:
            yield band
            band = []
        else:
            band.append(item)
    yield band


def _beside(band: Sequence[Line | Table], gutter: float) -> int:
    """Return how many lines of the shorter column have the other one beside them; 0 for no prose."""
    lines = [item for item in band if isinstance(item, Line)]
    left = [line for line in lines if line.box.right <= gutter]
    right = [line for line in lines if line.box.left >= gutter]
    if min(len(left), len(right)) < _COLUMN_LINES or not (_is_prose(left) and _is_prose(right)):
        return 0
    sides = around([line.box for line in left]), around([line.box for line in right])
    top, bottom = max(side.top for side in sides), min(side.bottom for side in sides)
    within = [sum(top <= line.box.middle[1] <= bottom for line in side) for side in (left, right)]
    return min(within) if min(within) >= _COLUMN_LINES else 0


def _is_prose(lines: Sequence[Line]) -> bool:
    return median(len(line.text) for line in lines) >= _PROSE_CHARACTERS


# --- paragraphs and tables without lines ------------------------------------------------------------------
def _blocks(groups: Iterable[list[Line | Table]]) -> Iterator[Block]:
    for group in groups:
        rows: list[list[Line]] = []
        for item in group:
            if isinstance(item, Table):
                yield from _paragraphs_and_tables(rows)
                rows = []
                yield item
            elif rows and item.box.middle[1] - rows[-1][0].box.middle[1] < _SAME_LINE * item.size:
                rows[-1].append(item)
            else:
                rows.append([item])
        yield from _paragraphs_and_tables(rows)


def _paragraphs_and_tables(rows: Sequence[list[Line]]) -> Iterator[Block]:
    """Yield tables for rows of which enough in a sequence are aligned, and paragraphs for the others."""
    plain: list[list[Line]] = []
    place = 0
    while place < len(rows):
        end = _end_of_table(rows, place)
        table = _aligned(rows[place:end])
        if table is not None:
            yield from _paragraphs(plain)
            yield table
            plain = []
        else:
            end = max(end, place + 1)
            plain += rows[place:end]
        place = end
    yield from _paragraphs(plain)


def _end_of_table(rows: Sequence[list[Line]], start: int) -> int:
    """Return the first row that does not go on with the table: one text at the left or after a gap."""
    left = rows[start][0].box.left
    end = start
    while end < len(rows):
        row = rows[end]
        if len(row) > 1:
            left = row[0].box.left
        elif end == start or not _goes_on(rows[end - 1][0], row[0], left=left):
            break
        end += 1
    return end


def _goes_on(line: Line, below: Line, *, left: float) -> bool:
    """Return whether the text is a further line of a cell, right of the first column's."""
    distance = below.box.middle[1] - line.box.middle[1]
    return below.box.left > left + below.size and distance < 2 * below.size


def _aligned(rows: Sequence[list[Line]]) -> Table | None:
    """Return a table of rows whose cells lie below each other; None if they do not."""
    if sum(len(row) > 1 for row in rows) < _TABLE_ROWS:
        return None
    most = max(map(len, rows))
    columns: list[Box] = []
    full = (row for row in rows if len(row) >= _FULL_ROW * most)
    for box in sorted((line.box for row in full for line in row), key=attrgetter("left")):
        if columns and box.left < columns[-1].right:
            columns[-1] = around([columns[-1], box])
        else:
            columns.append(box)
    if len(columns) < 2:
        return None
    cells: list[list[str]] = []
    for row in rows:
        texts = _cells(row, columns)
        if len(row) == 1:  # a further line of a cell
            cells[-1] = [f"{above} {text}".strip() for above, text in zip(cells[-1], texts, strict=True)]
        else:
            cells.append(texts)
    filled = sum(bool(cell) for row in cells for cell in row)
    if 2 * filled < len(cells) * len(columns):
        return None
    is_bold = all(line.is_bold for line in rows[0]) and not all(line.is_bold for line in rows[1])
    size = median(line.size for row in rows for line in row)
    return Table(cells, around(columns), size, has_header=is_bold or None)


def _cells(row: Iterable[Line], columns: Sequence[Box]) -> list[str]:
    """Return the text in each column; each line of text belongs to the nearest."""
    texts = [""] * len(columns)
    for line in row:
        x = line.box.middle[0]
        distances = [max(column.left - x, x - column.right, 0.0) for column in columns]
        nearest = distances.index(min(distances))
        texts[nearest] = f"{texts[nearest]} {line.text}".strip()
    return texts


def _paragraphs(rows: Sequence[list[Line]]) -> Iterator[Paragraph]:
    lines = [_joined(row) for row in rows]
    if not lines:
        return
    pitches = [below.box.middle[1] - line.box.middle[1] for line, below in pairwise(lines)]
    usual = median(sorted(pitches)[: max(1, len(pitches) // 2)]) if pitches else 0.0
    if len(pitches) < _FEW_LINES:  # each may be a paragraph
        usual = min(usual, _SINGLE_SPACING * median(line.size for line in lines))
    right = max(line.box.right for line in lines)
    paragraph = Paragraph([lines[0]])
    for line, below in pairwise(lines):
        if _begins_paragraph(line, below, usual=max(usual, 0.9 * line.size), right=right):
            yield paragraph
            paragraph = Paragraph()
        paragraph.lines.append(below)
    yield paragraph


def _joined(row: Sequence[Line]) -> Line:
    if len(row) == 1:
        return row[0]
    text = " ".join(line.text for line in row)
    box = around([line.box for line in row])
    longest = max(row, key=lambda line: len(line.text))  # a number in the margin may be larger
    return Line(text, box, all(line.is_bold for line in row), longest.size)


def _begins_paragraph(line: Line, below: Line, *, usual: float, right: float) -> bool:
    sizes = sorted((line.size, below.size))
    is_short = line.box.right < right - 0.25 * (right - line.box.left)
    return (
        abs(below.box.middle[1] - line.box.middle[1]) > _PARAGRAPH_GAP * usual
        or below.box.middle[1] < line.box.middle[1]
        or sizes[1] > _SIZE_CHANGE * sizes[0]
        or line.is_bold != below.is_bold
        or below.box.left - line.box.left > _INDENT * line.size
        or (BULLET.match(below.text) or _NUMBER.match(below.text)) is not None
        or (is_short and line.text.endswith((".", ":", "!", "?")))
    )
