"""Reads tables in plain text: those of lines and corners, and columns that are made of blanks.

Plain text, mails, Markdown and ``<pre>`` call it. These lines are two tables side by side; the indented text
goes on with the cell above it::

    Boats         hour   day     Bikes      hour   day
    Canoe         $8     $30     City bike  $4     $15
    Kayak         $9     $35     Tandem     $8     $30
      with sail
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from assistant.documents.page import Block, Paragraph, Run
from assistant.documents.tables import Region, Row, finished, is_number, read_band, text_row

_BORDER = re.compile(r"\A\s*\+(?:[-=:]+\+)+\s*")
"""A line between rows of a grid: "+-----+-----+", below the names "+=====+=====+"."""
_RULE = re.compile(r"\A[\s|+:]*[-=_][\s|+:=_-]*")
"""A line of strokes."""
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_WIDE = re.compile(r"\S {2,}\S")
_GAP = re.compile(r"\S(?: {3,}|\t)\s*\S")
"""What a reader sees as a gap between columns."""
_DIGIT = re.compile(r"\d")
_FEWEST_LINES = 3
"""Fewer lines with gaps may be an accident."""
_WIDEST_LINE = 400
"""Characters; it bounds the time."""
_INDENT = 2
"""Blanks from which a text is indented."""


def has_gaps(text: str) -> bool:
    """Return whether lines of a text look like columns."""
    return sum(_GAP.search(line) is not None for line in text.split("\n")) > 1


def aligned_blocks(lines: Sequence[str]) -> list[Block]:
    """Return the tables that the lines are; none for other text."""
    lines = [line.expandtabs() for line in lines if line.strip()]
    borders = [at for at, line in enumerate(lines) if _BORDER.fullmatch(line)]
    if len(borders) > 1 and borders[0] == 0:
        return _grid_blocks(lines, borders)
    strokes = [at for at, line in enumerate(lines) if _RULE.fullmatch(line)]
    lines = [line.replace("|", " ").rstrip() for line in lines if not _RULE.fullmatch(line)]
    columns = _columns(lines)
    if len(columns) < 2:
        return []
    rows = _cells(lines, columns)
    head = strokes[0] if strokes[:1] in ([1], [2]) else _rows_of_names(rows)
    regions = list[Region]()
    for first, end in _sides(rows, len(columns)):
        made = [text_row(texts[first:end], at, at) for at, texts in enumerate(rows, start=1)]
        read_band([row for row in made if row.cells], regions, declared=head)
    return finished(regions)


def preformatted(text: str) -> list[Block]:
    """Return the blocks of lines that are shown as they are: tables, and the parts between them. None without
    a table."""
    parts = [(part, aligned_blocks(part.split("\n"))) for part in _BLANK_LINES.split(text) if part.strip()]
    if not any(tables for _, tables in parts):
        return []
    return [block for part, tables in parts for block in tables or [Paragraph((Run(part.strip("\n")),))]]


def _grid_blocks(lines: Sequence[str], borders: Sequence[int]) -> list[Block]:
    """Return the table of a grid, and the text below it. Lines between two borders are one row; text in a
    place without a bar goes on in the next column."""
    ends = [at for at, sign in enumerate(lines[0]) if sign == "+"]
    rows = list[Row]()
    head = 0
    for above, below in pairwise(borders):
        cells = dict[int, list[str]]()
        for line in lines[above + 1 : below]:
            column = 1
            for number, (left, right) in enumerate(pairwise(ends), start=1):
                column = number if line[left : left + 1] == "|" else column
                cells.setdefault(column, []).append(line[left + 1 : right + 1].rstrip("|"))
        texts = [" ".join("".join(cells.get(number, ())).split()) for number in range(1, len(ends))]
        rows.append(text_row(texts, len(rows) + 1, len(rows) + 1))
        head = len(rows) if "=" in lines[below] else head
    regions = list[Region]()
    read_band(rows, regions, declared=head)
    rest = "\n".join(lines[borders[-1] + 1 :])
    after: list[Block] = [Paragraph((Run(rest),))] if rest else []
    return [*finished(regions), *after]


def _columns(lines: Sequence[str]) -> list[tuple[int, int]]:
    """Return the [left, right) of each column; none where too few lines have gaps at the same places.

    Between two columns all lines are blank, and in most of them the gap is wider than that between words.
    """
    wide = [line for line in lines if _WIDE.search(line.strip())]
    if len(wide) < _FEWEST_LINES or 2 * len(wide) < len(lines):
        return []
    width = max(map(len, wide))
    if width > _WIDEST_LINE:
        return []
    places = "".join(
        " " if all(line[at : at + 1] in ("", " ") for line in wide) else "x" for at in range(width)
    )
    columns = list[tuple[int, int]]()
    for found in re.finditer("x+", places):
        left, right = columns[-1][1] if columns else 0, found.start()
        gaps = sum(_is_gap(line, left, right) for line in wide)
        filled = sum(bool(line[right : found.end()].strip()) for line in wide)
        if columns and (2 * gaps <= len(wide) or (gaps < len(wide) and 2 * filled <= len(wide))):
            columns[-1] = columns[-1][0], found.end()
        else:
            columns.append(found.span())
    return columns


def _is_gap(line: str, left: int, right: int) -> bool:
    """Return whether more than one blank is around the places [left, right) of a line, or it ends there."""
    return not line[right:].strip() or not line[:left].strip() or "  " in line[max(0, left - 1) : right + 1]


def _cells(lines: Sequence[str], columns: Sequence[tuple[int, int]]) -> list[list[str]]:
    """Return the texts of each row. A text that is indented below another one goes on with it, or is a part
    of what it names: "Kayak", "  with sail" is "Kayak with sail"."""
    ends = [*(left for left, _ in columns[1:]), max(map(len, lines))]
    begins = [0, *ends[:-1]]
    cut = [[line[begin:end] for begin, end in zip(begins, ends, strict=True)] for line in lines]
    for at, line in enumerate(lines):
        is_cut = line[: begins[1]].endswith(" ") and is_number(line[begins[1] :].strip())
        if not is_cut and not _WIDE.search(line.strip()):  # one text
            place = next(place for place, text in enumerate(cut[at]) if text.strip())
            cut[at] = [line[begins[place] :] if number == place else "" for number in range(len(columns))]
    indents = [
        Counter(len(row[at]) - len(row[at].lstrip()) for row in cut if row[at].strip()).most_common(1)[0][0]
        for at in range(len(columns))
    ]
    rows, above = list[list[str]](), [""] * len(columns)
    for row in cut:
        texts = [" ".join(text.split()) for text in row]
        filled = [at for at, text in enumerate(texts) if text]
        indented = [
            at
            for at in filled
            if len(row[at]) - len(row[at].lstrip()) >= indents[at] + _INDENT
            and above[at]
            and not _DIGIT.search(texts[at] + above[at])
        ]
        if indented == filled and rows:
            rows[-1] = [" ".join(filter(None, pair)) for pair in zip(rows[-1], texts, strict=True)]
            continue
        rows.append([f"{above[at]} {text}" if at in indented else text for at, text in enumerate(texts)])
        above = [text if at in filled and at not in indented else above[at] for at, text in enumerate(texts)]
    return rows


def _rows_of_names(rows: Sequence[Sequence[str]]) -> int:
    """Return 2 where the first row has names over equal names in the second, which alone has a first one:
    " | North | South" over "Size | wing | wing"; else 0."""
    upper, lower = rows[0], rows[1]
    is_below = not upper[0] and bool(lower[0]) and len({*lower[1:]}) < len(lower[1:])
    return 2 if is_below and not any(map(_DIGIT.search, (*upper, *lower))) else 0


def _sides(rows: Sequence[Sequence[str]], width: int) -> Iterator[tuple[int, int]]:
    """Yield the [first, end) columns of each table: two where one of the first rows names them twice."""
    half = width // 2
    heads = [row for row in rows[:_FEWEST_LINES] if any(row[1:half])]
    if width % 2 == 0 and half > 1 and any(row[1:half] == row[half + 1 :] for row in heads):
        yield from ((0, half), (half, width))
    else:
        yield 0, width
