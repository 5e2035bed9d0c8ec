"""Reads tables in plain text: those of lines and corners, and columns that are made of blanks.

Plain text, mails, Markdown and ``<pre>`` call it. Values decide where a column is, and names are joined to
the columns that they stand above. These lines are two tables side by side; the indented text goes on with the
cell above it::

    Boats         hour   day     Bikes      hour   day
    Canoe         $8     $30     City bike  $4     $15
    Kayak         $9     $35     Tandem     $8     $30
      with sail
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, pairwise, product, zip_longest
from operator import itemgetter

from assistant.documents.page import Block, Cell, Paragraph, Run, Table, all_runs, text_of
from assistant.documents.tables import (
    Region,
    are_alike,
    finished,
    is_number,
    is_value,
    read_band,
    table_blocks,
    text_row,
)

_BORDER = re.compile(r"\A\s*\+(?:[-=:]+\+)+\s*")
"""A line between rows of a grid: "+-----+-----+", below the names "+=====+=====+"."""
_BOX = dict.fromkeys(range(0x2500, 0x2580), "+") | {
    **dict.fromkeys((0x2500, 0x2501, 0x2550), "-"),
    **dict.fromkeys((0x2502, 0x2503, 0x2551), "|"),
}
"""Characters that draw boxes, as those of a grid."""
_RULE = re.compile(r"\A[\s|+:]*[-=_][\s|+:=_-]*")
"""A line of strokes."""
_STROKES = re.compile(r"[-=_~<>]{2,}")
"""What draws a name across its columns: "--- Saturday ---"."""
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_TABS = (re.compile(r"\t"), re.compile(r"\t+"))
_FEWEST_DELIMITERS = {";": 1, "|": 1, ",": 2}
"""Fewest of each delimiter in every line of a table: prose has single commas, too."""
_LEADERS = re.compile(r"\.{4,}|(?: \.){4,}")
"""Dots that lead to the next column: "Canoe ....... $8"."""
_MARKER = re.compile(r"[^\w\s]|\w{1,3}[.)]")
"""What begins an item of a list."""
ITEM = re.compile(r"\A[^\S\n]*(?:[-*\u2022\u25aa\u25cf\u2013]|(\d{1,3})[.)])[^\S\n]+(?=\S)")
"""The begin of a line of plain text that is a list item: "- Bring a coat", or "2. Sign" with the number in
group 1."""
_SENTENCE_ENDS = (".", "!", "?", ":")
_TEXT = re.compile(
    r"[-=_~<]{2,} ?(?:(?![-=_~<>]{2})\S+ )+[-=_~>]{2,}|\S+(?: (?![-=_~<]{2,} \w)\S+)*",
)
"""A text of a line: words with one blank between them, or one that is drawn: "--- Saturday ---"."""
_WIDE = re.compile(r"(?<=\S) {2,}(?=\S)")
GAP = re.compile(r"\S(?: {3,}|\t)\s*\S")
"""What a reader sees as a gap between columns."""
_WORD = re.compile(r"[^\W_]+")
_DIGIT = re.compile(r"\d")
_FEWEST_LINES = 3
"""Fewer lines with gaps may be an accident."""
_MOST_NAMES = 3
"""Lines of names above the columns."""
_MOST_HEAD = 5
"""Lines of the head of a page."""
_SEEN_LINES = 50
"""Lines below names that tell where the columns are."""
_WIDEST_LINE = 400
"""Characters; it bounds the time."""
_MOST_ROUNDS = 9
"""Times that lines are left out to find the columns of the others; it bounds the time."""
_INDENT = 2
"""Blanks from which a text is indented."""

_Span = tuple[int, int]
"""The [left, right) of a text or a column."""


def has_gaps(text: str) -> bool:
    """Return whether lines of a text look like columns."""
    return sum(GAP.search(line) is not None for line in text.split("\n")) > 1


def aligned_blocks(lines: Sequence[str]) -> list[Block]:
    """Return the tables that the lines are; none for other text, and where a word would be lost."""
    lines = _without_leaders(lines)
    made = _tables_of(lines)
    kept = {word for runs in all_runs(made) for word in _WORD.findall(text_of(runs))}
    return made if kept.issuperset(_WORD.findall("\n".join(lines))) else []


def _tables_of(lines: Sequence[str]) -> list[Block]:
    for tabs in _TABS:
        if tables := _delimited(lines, tabs, fewest=1):
            return tables
    lines = [line.expandtabs() for line in lines]
    borders = [bool(_BORDER.fullmatch(line)) for line in lines]
    if sum(borders) > 1:
        inner = [
            line.lstrip()[:1] in "|+" and not is_border
            for line, is_border in zip(lines, borders, strict=True)
        ]
        begins = [at for at, is_border in enumerate(borders) if at and is_border and not inner[at - 1]]
        return [*chain(*(_grid_blocks(lines[at:end]) for at, end in pairwise((0, *begins, len(lines)))))]
    if head := _head([line.replace("|", " ").rstrip() for line in lines]):
        tables = _tables_of(lines[head:])
        return [*_lines_apart(lines[:head]), *tables] if tables else []
    stroke = next((at for at, line in enumerate(lines) if _RULE.fullmatch(line)), 0)
    lines = [
        line.replace("|", " ").rstrip() for line in lines if line.strip(" |") and not _RULE.fullmatch(line)
    ]
    wide = [line for line in lines if _is_wide(line)]
    if len(wide) < _FEWEST_LINES or 2 * len(wide) < len(lines) or max(map(len, wide)) > _WIDEST_LINE:
        return []
    begin, end, names = _names(lines, stroke)
    columns = _columns([line for line in lines[end:] if _is_wide(line)])
    if len(columns) < 2:
        return []
    rows = _cells([*lines[:begin], *lines[end:]], columns)
    if not names:
        return _tables(rows, len(columns), declared=stroke if stroke in (1, 2) else 0)
    return _tables([*rows[:begin], names, *rows[begin:]], len(columns), named=begin)


def _head(lines: Sequence[str]) -> int:
    """Return how many first lines are the head of a page, "North Clinic        Page 2", above the names of
    columns or their first values: the last of them stands as these do not."""
    below = dict[int, list[_Span]]()
    for first, line in enumerate(lines[: _MOST_HEAD + 1]):
        columns = _columns([line for line in lines[first : first + _SEEN_LINES] if _is_wide(line)])
        places = [_columns_below(text, columns) for text in _spans(line)]
        is_full = len(columns) > 1 and len(places) >= len(columns) - 1
        if is_full and all(len(each) == 1 for each in places) and len({*chain(*places)}) == len(places):
            below[first] = columns
    first = max(below, key=lambda at: len(_spans(lines[at])), default=0)
    heads = (at for at in range(first) if _is_head(lines[at], lines[first], below[first]))
    head = max(heads, default=-1) + 1
    while head < first and _is_in_middle(lines[head], below[first]):
        head += 1
    return head


def _is_in_middle(line: str, columns: Sequence[_Span]) -> bool:
    """Return whether the text of a line is in the middle of all columns, rather than of those of values."""
    (left, _), (first, _), *_, (_, right) = *columns, columns[-1]
    text = next(iter(_spans(line)), (left, right))
    is_inside = not _is_wide(line) and text[0] > left + _INDENT
    return is_inside and abs(sum(text) - left - right) < abs(sum(text) - first - right)


def _is_head(line: str, names: str, columns: Sequence[_Span]) -> bool:
    """Return whether the texts of a line are no parts of the names below it. Parts stand as the names do, or
    above several of them; and a line that has a left and a right text alone names no three columns."""
    texts, named = _spans(line), _spans(names)
    places = [_columns_below(text, columns) for text in texts]
    if len(texts) < 2 or places[0][:1] != [0] or named[0][0] >= columns[0][1]:
        return len(texts) > 1 and not all(places)
    if len(places[0]) > 1 or not all(places):
        return True
    is_part = [
        len(below) > 1 or any(_stands_as(text, name) for name in named)
        for text, below in zip(texts, places, strict=True)
    ]
    is_small = any(names[left].islower() for left, _ in named)
    is_twice = len({names[slice(*text)] for text in named}) < len(named)  # tables beside each other
    return not all(is_part) or (len(texts) == 2 < len(columns) and not is_small and not is_twice)


def _stands_as(text: _Span, other: _Span) -> bool:
    """Return whether two texts have the same left edge, right edge or middle."""
    return text[0] == other[0] or text[1] == other[1] or abs(sum(text) - sum(other)) <= _INDENT


def _without_leaders(lines: Sequence[str]) -> list[str]:
    """Return the lines that have a text, with blanks for dots that lead, and boxes in ASCII."""
    lines = [line.translate(_BOX) for line in lines if line.strip()]
    return [_LEADERS.sub(lambda dots: " " * len(dots[0]), line) for line in lines]


def text_parts(text: str) -> Iterator[tuple[str, list[Block]]]:
    """Yield the parts of a text between blank lines, each with the tables that it is: none for other text.
    What goes on with a part below a blank line is one with it."""
    parts = [part.split("\n") for part in _BLANK_LINES.split(text) if part.strip()]
    lines = list[str]()
    for part, below in zip_longest(parts, parts[1:], fillvalue=()):
        lines += part
        if not goes_on(lines, below):
            yield "\n".join(lines), aligned_blocks(lines)
            lines = []


def goes_on(above: Sequence[str], below: Sequence[str]) -> bool:
    """Return whether lines below a blank line are rows of the table above it, or those that the lines above
    name: they have no names of their own, stand as the rows above, and most columns have values of a kind."""
    above, below = (
        [line.expandtabs() for line in _without_leaders(part[:_SEEN_LINES])] for part in (above, below)
    )
    spans, texts = (
        [text for line in part if _is_wide(line) for text in _spans(line)] for part in (above, below)
    )
    if not texts or any(map(_BORDER.match, (*above, *below))) or _named_table(below):
        return False
    if shape := _shape(tuple(above)):
        columns, values = shape
        starts, ends = ({text[side] for text in spans} for side in (0, 1))
        if not all(start in starts or end in ends for start, end in texts):
            return False
        others = [[line[slice(*column)].strip() for line in below if _is_wide(line)] for column in columns]
        pairs = zip(values, ([*filter(None, column)] for column in others), strict=True)
        alike = [are_alike(*pair) for pair in pairs if all(pair)]
        return 2 * sum(alike) > len(alike)
    if len(above) > _MOST_NAMES:
        return False
    blocks = aligned_blocks([*above, *below])
    table = _named_table([*above, *below])
    if len(above) == 1 and not spans and above[0].strip()[0].isalnum():  # a title
        return table is None and any(isinstance(block, Table) for block in blocks)
    words = sorted(" ".join(line for line in above if not _RULE.fullmatch(line)).split())
    names = _texts_of(table.rows[: table.header_rows]) if table else []
    return words == sorted(" ".join(chain(*names)).split()) and not any(":" in word for word in words)


@lru_cache(maxsize=2)
def _shape(lines: tuple[str, ...]) -> tuple[list[_Span], list[list[str]]] | None:
    """Return the columns of lines that are a table with names, and the values in each."""
    table = _named_table(lines)
    columns = _columns([line for line in lines if _is_wide(line)]) if table else []
    rows = (
        [row for row in _texts_of(table.rows[table.header_rows :]) if len(row) == len(columns)]
        if table
        else []
    )
    return (columns, [[row[at] for row in rows if row[at]] for at in range(len(columns))]) if rows else None


def _named_table(lines: Sequence[str]) -> Table | None:
    """Return the table that lines are; None if none names its columns, or several do."""
    tables = [block for block in aligned_blocks(lines) if isinstance(block, Table) and block.header_rows]
    return tables[0] if len(tables) == 1 else None


def _texts_of(rows: Sequence[Sequence[Cell]]) -> list[list[str]]:
    return [[text_of(chain(*all_runs(cell.blocks))) for cell in row] for row in rows]


def delimited_blocks(lines: Sequence[str]) -> list[Block]:
    """Return the table of lines that one delimiter cuts alike, "Visit;Amount", "First;20", "Second;30"; none
    for other text."""
    lines = [line.strip() for line in lines if line.strip()]
    if any(line.endswith(_SENTENCE_ENDS) for line in lines) or all(map(ITEM.match, lines)):
        return []
    found = (
        _delimited(lines, re.compile(re.escape(sign)), fewest=n) for sign, n in _FEWEST_DELIMITERS.items()
    )
    return next((tables for tables in found if tables), list[Block]())


def _delimited(lines: Sequence[str], delimiter: re.Pattern[str], *, fewest: int) -> list[Block]:
    """Return the table of lines with as many of a delimiter; none where they differ, or are few."""
    rows = [[text.strip().strip('"') for text in delimiter.split(line)] for line in lines]
    is_table = len(rows) >= _FEWEST_LINES and fewest < len(rows[0]) and len({*map(len, rows)}) == 1
    return _tables(rows, len(rows[0]), names_expected=True) if is_table else []


def preformatted(text: str) -> list[Block]:
    """Return the blocks of lines that are shown as they are: tables, and the parts between them. None without
    a table."""
    parts = [*text_parts(text)]
    if not any(tables for _, tables in parts):
        return []
    return [block for part, tables in parts for block in tables or [Paragraph((Run(part.strip("\n")),))]]


def _tables(
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    declared: int = 0,
    named: int | None = None,
    names_expected: bool = False,
) -> list[Block]:
    """Return the tables of rows of texts; none for a list. ``declared``: how many first rows name the
    columns; ``named``: the place of the row that does."""
    if width == 2 and all(_MARKER.fullmatch(row[0]) for row in rows):
        return []
    regions = list[Region]()
    for first, end in _sides(rows, width):
        made = [text_row(texts[first:end], at, at) for at, texts in enumerate(rows, start=1)]
        for cell in made[named].cells.values() if named is not None else ():
            cell.is_name = True
        made = [row for row in made if row.cells]
        declared = 1 if named == 0 else declared
        read_band(made, regions, declared=declared, names_expected=names_expected)
    return finished(regions)


def _lines_apart(lines: Sequence[str]) -> list[Block]:
    """Return lines above or below a grid as a text."""
    return [Paragraph((Run("\n".join(lines)),))] if lines else []


def _grid_blocks(lines: Sequence[str]) -> list[Block]:
    """Return the table of a grid, and the text below it; lines without a grid as a text. A cell ends at a
    border; one without a bar in it is across the columns there. Below the names a line is a row, unless it
    has one text, or goes on with the cells above it."""
    borders = [at for at, line in enumerate(lines) if _BORDER.fullmatch(line)]
    if not borders[1:]:
        return _lines_apart(lines)
    corners = sorted({at for border in borders for at, sign in enumerate(lines[border]) if sign == "+"})
    ends = [at for at in corners if at - 1 not in corners]
    cells, tops = defaultdict[int, dict[range, str]](dict), [0] * len(ends)
    count = head = 0
    above, is_list = list[str](), not borders[2:]
    for at, line in enumerate(lines[: borders[-1]]):
        bars = _bars(line, ends)
        parts = [(number, end, line[left + 1 : right]) for (number, left), (end, right) in pairwise(bars)]
        texts = [part for *_, part in parts]
        strokes = [bool(part) and not part.strip("-=:") for part in texts]
        is_head = at in borders and ("=" in line or len(borders) == _FEWEST_LINES)
        head, is_list = head or (count if is_head else 0), is_list or at in borders[1:]
        is_row = is_list and sum(map(bool, map(str.strip, texts))) > 1 and not _goes_on(above, texts)
        count += is_row or any(strokes)
        for (number, end, part), is_stroke in zip(parts, strokes, strict=True):
            if is_stroke or is_row:
                tops[number:end] = [count] * (end - number)
            if not is_stroke:
                places, row = range(number, end), cells[tops[number]]
                row[places] = f"{row.get(places, '')} {part}"
        above = [] if any(strokes) else texts
    rows = [[*_grid_row(cells[row], len(ends) - 1)] for row in range(1, count + 1)]
    return [*table_blocks(rows, header_rows=head), *_lines_apart(lines[borders[-1] + 1 :])]


def _goes_on(above: Sequence[str], texts: Sequence[str]) -> bool:
    """Return whether the texts of a line in a grid go on with those above, or are below a border: no first
    word has room in the cell above it, a text above has several words, and no two are of one kind."""
    pairs = [pair for pair in zip(above, texts, strict=False) if all(map(str.strip, pair))]
    has_room = any(len(upper.rstrip()) + len(text.split()[0]) + 1 < len(upper) for upper, text in pairs)
    are_values = any(is_value(text.strip(), [upper.strip()]) for upper, text in pairs)
    is_new = bool(above) and bool(texts[0].strip()) and not above[0].strip()
    is_long = any(" " in upper.strip() for upper, _ in pairs)
    return not above or (is_long and not (has_room or are_values or is_new))


def _grid_row(texts: Mapping[range, str], width: int) -> Iterator[Cell]:
    """Yield the cells of a row. ``texts``: by the columns that each is across."""
    at = 0
    while at < width:
        here = [places for places in texts if places.start == at]
        ends = [places.stop for places in here] + [places.start for places in texts if places.start > at]
        text = " ".join(" ".join(texts[places] for places in here).split())
        end = min(ends) if here else at + 1
        yield Cell(tuple(_lines_apart(text and [text])), columns=end - at)
        at = end


def _bars(line: str, ends: Sequence[int]) -> list[tuple[int, int]]:
    """Return (number, place) of each end of a column that a line has a bar at, or beside it. The first and
    last ones always are: no text is left out."""
    line = line.rstrip()
    bars = [(0, -1 if line[: ends[0] + 1].strip(" |+") else ends[0])]
    for number, end in [*enumerate(ends)][1:-1]:
        places = (place for place in (end, end + 1, end - 1) if line[place : place + 1] in ("|", "+"))
        bars += [(number, place) for place in [*places][:1]]
    return [*bars, (len(ends) - 1, len(line) - 1 if line.endswith(("|", "+")) else len(line))]


# Columns made of blanks


def _is_wide(line: str) -> bool:
    """Return whether more than one blank is between texts of a line."""
    return _WIDE.search(line) is not None


def _columns(lines: Sequence[str]) -> list[_Span]:
    """Return the columns of lines with gaps; none where too few have them at the same places.

    Lines that have text where most others have a gap, as a note below the values, do not count; of lines that
    do not fit those of the fewest texts go first, as prose has few gaps.
    """
    columns = list[_Span]()
    for _ in range(_MOST_ROUNDS):
        columns, kept = _columns_of_all(lines), lines
        for left, right in columns:
            texts = [line[left:right] for line in lines]
            gaps = Counter(at for text in texts for gap in _WIDE.finditer(text) for at in range(*gap.span()))
            filled = sum(bool(text.strip()) for text in texts)
            for place, count in gaps.most_common(1):
                if 2 * count > filled:
                    kept = [line for line in kept if line[left + place : left + place + 1] in ("", " ")]
        if len(kept) == len(lines):
            counts = [len(_spans(line)) for line in lines]
            fitting = _fitting(lines, columns)
            fewest = min((count for count, fits in zip(counts, fitting, strict=True) if not fits), default=0)
            kept = [
                line
                for line, count, fits in zip(lines, counts, fitting, strict=True)
                if fits or count > fewest
            ]
        if len(kept) == len(lines):
            break
        lines = kept
    return columns


def _fitting(lines: Sequence[str], columns: Sequence[_Span]) -> list[bool]:
    """Return whether each line is blank between columns, and a text above two of them has one blank there
    before a word that begins or ends like most texts of its column: "Mountain bike $6". Prose has more such
    blanks than gaps."""
    texts = [_spans(line) for line in lines]
    starts, ends = (Counter(text[side] for line in texts for text in line) for side in (0, 1))

    filled = [sum(bool(line[left:right].strip()) for line in lines) for left, right in columns]

    def is_cut(line: str, text: _Span, at: int) -> bool:
        start = len(line) - len(line[columns[at][0] :].lstrip())
        return 2 * max(starts[start] + 1, ends[text[1]]) > filled[at]

    fitting = list[bool]()
    for line, spans in zip(lines, texts, strict=True):
        cuts = [is_cut(line, text, at) for text in spans for at in _columns_below(text, columns)[1:]]
        is_blank = not any(line[left:right].strip() for (_, left), (right, _) in pairwise(columns))
        fitting.append(is_blank and all(cuts) and len(cuts) < len(spans))
    return fitting


def _columns_of_all(lines: Sequence[str]) -> list[_Span]:
    """Return the columns between which all lines are blank, and in most of them the gap is wider than that
    between words."""
    width = max(map(len, lines), default=0)
    places = "".join(
        " " if all(line[at : at + 1] in ("", " ") for line in lines) else "x" for at in range(width)
    )
    columns = list[_Span]()
    for found in re.finditer("x+", places):
        left, right = columns[-1][1] if columns else 0, found.start()
        gaps = sum(_is_gap(line, left, right) for line in lines)
        filled = min(
            sum(bool(line[slice(*span)].strip()) for line in lines) for span in (*columns[-1:], found.span())
        )
        if columns and (2 * gaps <= len(lines) or (gaps < len(lines) and 2 * filled <= len(lines))):
            columns[-1] = columns[-1][0], found.end()
        else:
            columns.append(found.span())
    return columns


def _is_gap(line: str, left: int, right: int) -> bool:
    """Return whether more than one blank is around the places [left, right) of a line, or it ends there."""
    return not line[right:].strip() or not line[:left].strip() or "  " in line[max(0, left - 1) : right + 1]


def _cells(lines: Sequence[str], columns: Sequence[_Span]) -> list[list[str]]:
    """Return the texts of each row. A text that is indented below another one goes on with it, or is a part
    of what it names: "Kayak", "  with sail" is "Kayak with sail". A code that stands below another one
    has the words before that: "Hall A1", "     A2" is "Hall A2"."""
    begins = [0, *(left for left, _ in columns[1:])]
    ends = [*begins[1:], max(map(len, lines))]
    cut = [[line[begin:end] for begin, end in zip(begins, ends, strict=True)] for line in lines]
    for at, (line, fits) in enumerate(zip(lines, _fitting(lines, columns), strict=True)):
        is_cut = line[: begins[1]].endswith(" ") and is_number(line[begins[1] :].strip())
        if not fits or not (is_cut or _is_wide(line)):  # one text is not cut
            place = next(place for place, text in enumerate(cut[at]) if text.strip())
            cut[at] = [line[begins[place] :] if number == place else "" for number in range(len(columns))]
    indents = list[int]()
    for column in zip(*cut, strict=True):
        starts = [len(text) - len(text.lstrip()) for text in column if text.strip()]
        indent, count = next(iter(Counter(starts).most_common(1)), (0, 0))
        indents.append(indent if 2 * count > len(starts) else _WIDEST_LINE)  # else no text is indented
    rows, above = list[list[str]](), [""] * len(columns)
    for before, row in pairwise([[""] * len(columns), *cut]):
        texts = [" ".join((_words_before(*pair) + pair[1]).split()) for pair in zip(before, row, strict=True)]
        filled = [at for at, text in enumerate(texts) if text]
        indented = [
            at
            for at in filled
            if len(row[at]) - len(row[at].lstrip()) >= indents[at] + _INDENT
            and above[at]
            and not _DIGIT.search(texts[at] + above[at])
            and any(map(str.isalpha, texts[at]))
        ]
        if indented == filled and rows:
            rows[-1] = [" ".join(filter(None, pair)) for pair in zip(rows[-1], texts, strict=True)]
            continue
        rows.append([f"{above[at]} {text}" if at in indented else text for at, text in enumerate(texts)])
        above = [text if at in filled and at not in indented else above[at] for at, text in enumerate(texts)]
    return rows


def _words_before(above: str, text: str) -> str:
    """Return the words of the text above up to the one that a code such as "A2" stands below, if both are of
    one kind."""
    code = text.lstrip()
    at = len(text) - len(code)
    is_below_word = above[:at].strip() and above[at - 1 : at] == " " and code[:1].isalpha()
    is_code = is_below_word and _DIGIT.search(code) and are_alike([above[at:].strip()], [code.strip()])
    return above[:at] if is_code else ""


def _sides(rows: Sequence[Sequence[str]], width: int) -> Iterator[_Span]:
    """Yield the [first, end) columns of each table: two where one of the first rows names them twice."""
    half = width // 2
    heads = [row for row in rows[:_FEWEST_LINES] if any(row[1:half])]
    is_named = half > 1 and 2 * sum(bool(_DIGIT.search(row[half])) for row in rows) <= len(rows)
    if width % 2 == 0 and is_named and any(row[1:half] == row[half + 1 :] for row in heads):
        yield from ((0, half), (half, width))
    else:
        yield 0, width


# Names of columns


def _names(lines: Sequence[str], stroke: int) -> tuple[int, int, list[str]]:
    """Return the [begin, end) of the lines that name the columns, and the name of each column; (0, 0, [])
    where it is not certain that lines do.

    They stand above a line of strokes (``stroke`` lines above it), or do not stand as the values do: nothing
    is above the first column, or a text is above two columns.
    """
    first = next(at for at, line in enumerate(lines) if _is_wide(line))
    for end in (stroke, *range(first + _MOST_NAMES, first, -1)):
        body = [line for line in lines[end : end + _SEEN_LINES] if _is_wide(line)]
        columns = _columns(body) if 0 < end <= first + _MOST_NAMES else []
        begin = end
        while begin and end - begin < _MOST_NAMES and _may_name(lines[begin - 1], columns):
            begin -= 1
        if len(columns) < 2 or begin > first or begin == end or len(body) < max(2, end - begin):
            continue
        rows, names = _cells(body, columns), _names_above(lines[begin:end], columns)
        values = [[row[at] for row in rows if row[at]] for at in range(len(columns))]
        is_named = 2 * sum(map(bool, names[1:])) > len(columns) - 1
        are_values = any(map(is_value, names, values)) or not _are_apart(lines[begin:end], columns, values)
        if is_named and (end == stroke or not are_values):
            return begin, end, names
    return 0, 0, []


def _may_name(line: str, columns: Sequence[_Span]) -> bool:
    """Return whether a line has several texts, or one that is not above the first column."""
    texts = _spans(line)
    return len(texts) > 1 or not _columns_below(texts[0], columns[:1])


def _are_apart(lines: Sequence[str], columns: Sequence[_Span], values: Sequence[Sequence[str]]) -> bool:
    """Return whether lines have no values, and do not stand as the values do. The last one may, below others
    that do not, where it has parts of a name or repeats one, or where values of a column have digits and no
    text of it has."""
    texts = [[(line[slice(*text)], _columns_below(text, columns)) for text in _spans(line)] for line in lines]
    if any(is_value(text, values[at]) for line in texts for text, below in line for at in below):
        return False
    apart = [
        [0] not in [below for _, below in line] or any(len(below) != 1 for _, below in line) for line in texts
    ]
    if all(apart) or not all(apart[:-1]) or len(lines) < 2:
        return all(apart)
    words = [(text, at) for text, (at,) in texts[-1]]
    if any(text in values[at] for text, at in words):
        return False
    has_parts = any(len(below) > 1 for _, below in texts[-2]) or len(dict(words)) < len(words)
    filled = [[text for text in column if any(map(str.isalnum, text))] for column in values[1:]]
    return has_parts or any(column and all(map(_DIGIT.search, column)) for column in filled)


def _names_above(lines: Sequence[str], columns: Sequence[_Span]) -> list[str]:
    """Return the name above each column: the texts of all lines above it. None where a text of the last line
    is above no column."""
    names, spans = _lowest_names(lines[-1], columns), [*columns]
    for line in reversed(lines if names else ()):
        texts = _spans(line)
        narrow, wide = (ranges_above(texts, spans, is_wide=is_wide) for is_wide in (False, True))
        is_divided = line is lines[-2:][0] and sum(map(len, wide)) == len(columns) - 1
        ranges = wide if is_divided else narrow
        if line is not lines[-1]:
            names = _with_upper(names, [line[left:right] for left, right in texts], ranges)
        for text, below in zip(texts, ranges, strict=True):
            if len(below) == 1:
                left, right = spans[below[0]]
                spans[below[0]] = min(left, text[0]), max(right, text[1])
    return [" ".join(_STROKES.sub(" ", name).split()) for name in names]


def _lowest_names(line: str, columns: Sequence[_Span]) -> list[str]:
    """Return the text of the last line of names above each column. A text above two columns is cut between
    its words."""
    texts, names = _spans(line), [""] * len(columns)
    missing = len(columns) - len(texts)
    if missing == 0 or (missing == 1 and not _is_above(texts[0], columns[0])):
        return [*names[:missing], *(line[left:right] for left, right in texts)]
    for left, right in texts:
        below = _columns_below((left, right), columns)
        if not below:
            return []
        wide = [at for at in below if _is_above((left, right), columns[at])]
        words = [(left + word.start(), left + word.end()) for word in re.finditer(r"\S+", line[left:right])]
        if len(words) < len(wide) or len(wide) < 2:
            words, wide = [(left, right)], [max(below, key=lambda at: _overlap((left, right), columns[at]))]
        for word in words:
            place = min(wide, key=lambda at: abs(sum(word) - sum(columns[at])))
            names[place] = f"{names[place]} {line[slice(*word)]}".strip()
    return names


def ranges_above(
    texts: Sequence[_Span], columns: Sequence[_Span], *, is_wide: bool = False, nearest: float = 1
) -> list[range]:
    """Return the columns that each text of a line stands above: those that it covers, else the nearest one;
    or more if it stands in their middle. ``is_wide``: the most, where it stands in the middle of several
    ranges. ``nearest``: places that are as near as the same one."""
    covered = [
        [at for at in _columns_below(text, columns) if _is_above(text, columns[at])]
        or [min(range(len(columns)), key=lambda at: abs(sum(text) - sum(columns[at])))]
        for text in texts
    ]
    taken = {*chain.from_iterable(covered)}
    result = list[range]()
    for text, own in zip(texts, covered, strict=True):
        begin, end = first, last = own[0], own[-1] + 1
        while begin > 1 and begin - 1 not in taken:
            begin -= 1
        while end < len(columns) and end not in taken:
            end += 1
        shifts = dict[range, tuple[float, int]]()
        for left, right in product(range(begin, first + 1), range(last, end + 1)):
            edges = columns[left][0], columns[right - 1][1]
            shift = abs(sum(text) - sum(edges)) / 2
            if right - left == 1:
                shift = min(shift, abs(text[0] - edges[0]), abs(text[1] - edges[1]))
            size = left - right if is_wide else right - left
            shifts[range(left, right)] = max(nearest / 2 if is_wide else nearest, shift), size
        result.append(min(shifts, key=shifts.__getitem__))
    return result


def _with_upper(names: Sequence[str], texts: Sequence[str], ranges: Sequence[range]) -> list[str]:
    """Return the names below the texts of the line above them. A text goes on to the right as long as names
    that other texts have below them too are no repetition."""
    upper = {at: text for text, below in zip(texts, ranges, strict=True) for at in below}
    again = Counter(name for at, name in enumerate(names) if at not in upper)
    again.subtract(name for at, name in enumerate(names) if at in upper for _ in names)
    group = set[str]()
    for at, name in enumerate(names):
        if at in upper and upper.get(at - 1) != upper[at]:
            group = set[str]()
        elif at - 1 in upper and name not in group and at not in upper and again[name] > 1:
            upper[at] = upper[at - 1]
        group.add(name)
    return [f"{upper.get(at, '')} {name}" for at, name in enumerate(names)]


def _is_above(text: _Span, column: _Span) -> bool:
    """Return whether half of a text or column is above or below the other."""
    narrower = min(text[1] - text[0], column[1] - column[0])
    return 0 < narrower <= 2 * _overlap(text, column)


def _columns_below(text: _Span, columns: Sequence[_Span]) -> list[int]:
    """Return the columns that a text overlaps."""
    first = bisect_right(columns, text[0], key=itemgetter(1))
    return [*range(first, bisect_left(columns, text[1], lo=first, key=itemgetter(0)))]


def _spans(line: str) -> list[_Span]:
    return [found.span() for found in _TEXT.finditer(line)]


def _overlap(text: _Span, column: _Span) -> int:
    """Return how many places of a text are above a column."""
    return max(0, min(text[1], column[1]) - max(text[0], column[0]))
