"""Reads workbooks by openpyxl, with each value as Excel shows it by xlfmt.

A value whose format is not understood stays as it is stored. What Excel does not show is left out and named.

``_checked_facts`` reads the parts' bytes first: for the limit of cells, and for what openpyxl does not tell.
Then each sheet is read: ``_cells`` yields its cells with a value, ``_rows`` the visible ones of them in
rows, of which ``region_blocks`` makes headings and tables, and ``_lost_words`` what of them is not shown.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from html import unescape
from itertools import product
from pathlib import PurePosixPath
from typing import Any, NamedTuple, cast
from zipfile import ZipFile

from assistant.documents import page as model
from assistant.documents.formats.regions import region_blocks
from assistant.documents.parsing.html import with_markup_read
from assistant.documents.symbols import symbols
from assistant.documents.tables import COVERED, MOST_CELLS, GridCell, Row
from assistant.domain.errors import DocumentInvalidError
from assistant.options.office.formats import ooxml

_SHOWN_PLACES = 5
"""Cells that a loss names."""
_RANGE = re.compile(
    rb"""<(?:\w{1,20}:)?(?:mergeCell|hyperlink)\b[^<>]*?\bref=["']([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})["']"""
)
"""``<mergeCell ref="A1:C3"/>``: openpyxl makes a cell for each place in such a range."""
_UNSTORED = re.compile(
    rb"""<c r="([A-Z]{1,3}\d{1,7})"(?![^<>]*\bt="str")[^<>]*><f\b"""
    rb"""(?:[^<>]*/>|[^<>]*>[^<]*</f>)\s*(?:<v\s*/>|<v></v>)?</c>"""
)
"""A formula without a stored value: ``<c r="B7"><f>SUM(B1:B6)</f></c>``. A text (t="str") may be empty."""
_LINKING = re.compile(
    rb"""<c r="([A-Z]{1,3}\d{1,7})"[^<>]*><f>HYPERLINK\((?:"|&quot;)([^"<>]{1,2000}?)(?:"|&quot;)"""
)
"""A formula that links to an address: ``<c r="B7"><f>HYPERLINK("https://a.example","Prices")</f>…``."""
_REMARK = "[Threaded comment]"
"""Begin of the note that Excel puts in place of a comment."""
_LITERALS = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?![hms]+\])[^][]*\]|General|AM/PM|A/P|E[+-]', re.I | re.S)
"""Parts of a number format whose letters are no codes of dates: text, colours, fillers, exponents."""
_LETTERS = re.compile(r"[^\W\d_]")
_DATE_LETTERS = frozenset("ymdhsegb")
"""Codes of dates and times: year, month or minute, day, hour, second, era (e, g), Buddhist year."""
_LOCALE = re.compile(r"\[\$-[^][]*\]")
"""It names a language. xlfmt writes "$" for it before a number."""
_DATE_DOT = re.compile(r"""("[^"]*"|\\.|\[[^][]*\]|\.0+)|\.""", re.DOTALL)
"""A dot between parts of a date, which xlfmt leaves out: "04032026"; group 1 has what is none."""
_SHORT_EXPONENT = re.compile(r"E[+-]0(?!0)", re.IGNORECASE)
"""xlfmt writes 12.5 as "1.3E-1"."""
_CONDITION = re.compile(r"\[[<>=]")
"""After it xlfmt loses the sign of some negative numbers."""
# Formats of which xlfmt's text is not that of each reader.
_OF_THE_READER = ("General", "mm-dd-yy", "m/d/yy h:mm")
"""Formats that Excel shows by the column's width or the country of its reader."""
_PRINTED = re.compile(
    r'(?:\w{1,20}\s{1,3})?&P(?:\s{0,3}\S{1,20}\s{1,3}&N)?|&"[^"]*"|&K(?:[0-9A-F]{6}|\d\d[+-]\d{3})|&\d+|&[A-Z]',
    re.I,
)
"""Codes of a printed header, with the words around a page number: ``&"Arial"&10Page &P of &N``."""
_FIRST_DAY = datetime(1899, 12, 30)  # noqa: DTZ001 - of a calendar without zones
"""Day 0 of Excel's calendar. Workbooks with the calendar of 1904 have another epoch."""
_GREY_FILL = 1
"""Number of the second fill of each workbook; the first is none."""
_SHIFTS = {"superscript": model.Shift.RAISED, "subscript": model.Shift.LOWERED}


def convert_xlsx(raw: bytes) -> model.Page:
    """Return a workbook: its visible sheets, each under its name, with formulas by their stored values.

    Hidden sheets, rows and columns, struck cells, comments, pictures, macros and formulas without a stored
    value are losses. Raises DocumentInvalidError.
    """
    from openpyxl.reader.excel import ExcelReader  # pyright: ignore

    container = ooxml.open_container(raw, part="xl/workbook.xml")
    facts = {name: _checked_facts(container, name) for name in container.namelist()}
    with ooxml.whole_file("Excel"):
        is_rich = any(part.is_rich for part in facts.values())
        reader: Any = ExcelReader(io.BytesIO(raw), data_only=True, rich_text=is_rich)
        reader.read()
    parts = (
        relation.target
        for _, relation in reader.parser.find_sheets()
        if relation.target in reader.valid_files and "chartsheet" not in relation.Type
    )  # in the order of the sheets: a name may be that of two
    sheets = [
        _read_sheet(sheet, facts[part], container, reader.wb.epoch)
        for sheet, part in zip(reader.wb.worksheets, parts, strict=True)
    ]
    losses = [*ooxml.macros(container)]
    for what, folder in (("charts without text", "xl/charts/chart"), ("pictures without text", "xl/media/")):
        if count := sum(name.startswith(folder) for name in container.namelist()):
            losses.append(model.Loss(what, count=count))
    losses += [loss for sheet in sheets for loss in sheet.losses]
    if places := [place for sheet in sheets for place in sheet.unstored]:
        shown = model.first_of(places, most=_SHOWN_PLACES)
        what = f"formulas without a stored value: {shown}. Open and save the file in Excel."
        losses.append(model.Loss(what))
    blocks = tuple(block for sheet in sheets for block in sheet.blocks)
    banner = "; ".join(dict.fromkeys(banner for sheet in sheets for banner in sheet.banners))
    return with_markup_read(model.Page(blocks, banner=banner, losses=tuple(losses)))


class _Facts(NamedTuple):
    """What is read from the bytes of one part of a workbook, a sheet or the texts that sheets share."""

    unstored: Sequence[str]
    """Cells with a formula without a stored value: "B7"."""
    links: Mapping[str, str]
    """Cell = address, of formulas that link."""
    is_rich: bool
    """Whether some text is raised, lowered or struck in part."""


def _checked_facts(container: ZipFile, name: str) -> _Facts:
    """Return the facts of a part; those of other kinds are not read. Raises DocumentInvalidError for too many
    cells."""
    if PurePosixPath(name).parent.name != "worksheets" and not name.endswith("sharedStrings.xml"):
        return _Facts((), {}, is_rich=False)
    content = container.read(name)
    cells = content.count(b"<c ") + sum(_area(covered.decode()) for covered in _RANGE.findall(content))
    if cells > MOST_CELLS:
        sheet = f"its sheet {PurePosixPath(name).stem} has {cells:,} cells"
        problem = f"{sheet}; at most {MOST_CELLS:,} are read"
        raise DocumentInvalidError(f"{problem}. Split it, or end its merged cells where its data end.")
    unstored = [cell.decode() for cell in _UNSTORED.findall(content)]
    links = {at.decode(): unescape(to.decode()) for at, to in _LINKING.findall(content)}
    return _Facts(unstored, links, b"vertAlign" in content or b"strike" in content)


def _area(reference: str) -> int:
    """Return the number of cells of a range: 9 for "A1:C3"."""
    from openpyxl.utils.cell import range_boundaries  # pyright: ignore

    left, top, right, bottom = cast("tuple[int, int, int, int]", range_boundaries(reference))
    return (abs(right - left) + 1) * (abs(bottom - top) + 1)


class _ReadSheet(NamedTuple):
    losses: Sequence[model.Loss]
    blocks: Sequence[model.Block] = ()
    banners: Sequence[str] = ()
    unstored: Sequence[str] = ()
    """Places of formulas without a stored value: "Prices!B7"."""


def _read_sheet(sheet: Any, facts: _Facts, container: ZipFile, epoch: datetime) -> _ReadSheet:
    """Return a sheet under its name; of a hidden one only what is lost. ``sheet``: openpyxl's."""
    if sheet.sheet_state != "visible":
        values = (cell.value for _, cell in _filled(sheet) if cell.value is not None)
        words = sum(len(str(value).split()) for value in values)
        return _ReadSheet([model.Loss(f"hidden sheet {sheet.title} was not read", words=words)])
    place = model.Place("sheet", name=sheet.title)
    cells = [*_cells(sheet, facts.links, epoch)]
    blocks = [*region_blocks(_rows(cells), place), *_over_the_cells(sheet, container, place)]
    heading = [model.Heading(2, (model.Run(sheet.title),), place)] if blocks else []
    losses = [*_losses(cells, place)]
    colors = defaultdict[int, dict[int, int]](dict)
    for (row, column), cell in sorted(sheet._cells.items()):
        fill: int = cell._style.fillId
        if fill > _GREY_FILL or cell.value is not None:
            colors[row][column] = fill if fill > _GREY_FILL else 0
    if model.are_telling(colors.values()):
        losses.append(model.Loss("colors of cells", str(place)))
    unstored = [f"{sheet.title}!{cell}" for cell in facts.unstored]
    return _ReadSheet(losses, [*heading, *blocks], [*_banners(sheet)], unstored)


def _over_the_cells(sheet: Any, container: ZipFile, place: model.Place) -> Iterator[model.Block]:
    """Yield what lies over the cells of a sheet: text boxes, alternative texts of pictures, and arrows."""
    for relation in sheet._rels:
        if relation.Type.endswith("/drawing"):
            drawing = ooxml.part(container, relation.target)
            yield from (model.Paragraph((model.Run(text),), place) for text in ooxml.diagram_texts(drawing))
            described = (element.get("descr", "") for element in drawing.iter())
            yield from (model.Figure(ooxml.caption(text), place=place) for text in described if text)
            yield from (model.Figure((), "arrow", place) for each in drawing if ooxml.is_arrow(each))


def _banners(sheet: Any) -> Iterator[str]:
    """Yield the printed header and footer of a sheet, if they are more than a page number."""
    for line in (sheet.oddHeader, sheet.oddFooter):
        parts = (_PRINTED.sub(" ", str(part.text or "")) for part in (line.left, line.center, line.right))
        words = " ".join(" ".join(parts).split())
        if any(map(str.isalpha, words)):
            yield words


def _filled(sheet: Any) -> list[tuple[tuple[int, int], Any]]:
    """Return the cells with a value or a note, each with its row and column (from 1), in order."""
    cells = sheet._cells.items()
    return sorted((place, cell) for place, cell in cells if cell.value is not None or cell.comment)


class _Cell(NamedTuple):
    """A cell with a value."""

    row_in_file: int
    rows: range
    """Rows that it covers, counted from 1 among the visible ones; empty if all of them are hidden."""
    columns: range
    """Like ``rows``."""
    shown: GridCell
    comment: str
    """Its comment, which is not read; empty without one. A note is in ``shown``."""


def _cells(sheet: Any, links: Mapping[str, str], epoch: datetime) -> Iterator[_Cell]:
    """Yield the cells of a sheet with a value, in order. ``links``: addresses by cell, of formulas that
    link."""
    dimensions = sheet.row_dimensions.items()
    hidden_rows = sorted(number for number, row in dimensions if row.hidden or row.height == 0)
    groups = (group for group in sheet.column_dimensions.values() if group.hidden or group.width == 0)
    hidden_columns = sorted({number for group in groups for number in range(group.min, group.max + 1)})
    merged_by_corner = {(area.min_row, area.min_col): area for area in sheet.merged_cells.ranges}
    filled = _filled(sheet)
    last_row, last_column = (max((place[axis] for place, _ in filled), default=0) for axis in (0, 1))
    for (row, column), cell in filled:
        end_row, end_column = row, column
        if merged := merged_by_corner.get((row, column)):  # to the last filled row and column at most
            end_row, end_column = min(merged.max_row, last_row), min(merged.max_col, last_column)
        rows, columns = _visible(row, end_row, hidden_rows), _visible(column, end_column, hidden_columns)
        runs = () if cell.value is None else _runs(cell, links.get(cell.coordinate, ""), epoch)
        text = " ".join("".join(run.text for run in runs if run.is_in_force).split())
        note = cell.comment.text if cell.comment is not None else ""
        note, comment = ("", note) if note.startswith(_REMARK) else (note, "")
        blocks = tuple(model.Paragraph(part) for part in (runs, model.plain(note)) if part)
        shown = GridCell(blocks, text, len(rows), len(columns), bool(cell.font.bold))
        yield _Cell(row, rows, columns, shown, comment)


def _visible(first: int, last: int, hidden: Sequence[int]) -> range:
    """Return the numbers among the visible rows that rows ``first`` to ``last`` have; so for columns.

    ``hidden``: sorted numbers of hidden ones. With [2] hidden, rows 1 to 3 are range(1, 3).
    """
    begin, end = (number - bisect_right(hidden, number) + 1 for number in (first - 1, last))
    return range(begin, end)


def _rows(cells: Iterable[_Cell]) -> list[Row]:
    """Return the visible rows with a value, in order."""
    rows = defaultdict[int, dict[int, GridCell]](dict)
    row_in_file: dict[int, int] = {}  # by visible row
    for cell in cells:
        if cell.rows and cell.columns and cell.shown.blocks:
            row_in_file.setdefault(cell.rows.start, cell.row_in_file)
            for row, column in product(cell.rows, cell.columns):
                rows[row].setdefault(column, COVERED)
            rows[cell.rows.start][cell.columns.start] = cell.shown
    return [
        Row(number, dict(sorted(row.items())), row_in_file.get(number, number))
        for number, row in sorted(rows.items())
    ]


def _losses(cells: Iterable[_Cell], place: model.Place) -> Iterator[model.Loss]:
    """Yield what of a sheet is not shown, by what hides it."""
    lost, rows = Counter[str](), dict[int, int]()  # hidden row = its words
    for cell in cells:
        if not cell.rows:
            words = len(cell.shown.text.split())
            rows[cell.row_in_file] = rows.get(cell.row_in_file, 0) + words
        elif not cell.columns:
            lost["words of hidden columns"] += len(cell.shown.text.split())
        elif cell.comment:
            lost["words of comments"] += len(cell.comment.removeprefix(_REMARK).split())
    if rows:
        numbers = model.first_of([str(row) for row in rows], most=_SHOWN_PLACES)
        where = f"{place}, row{'s' * (len(rows) > 1)} {numbers}"
        yield model.Loss("hidden rows", where, sum(rows.values()), len(rows))
    yield from (model.Loss(what, str(place), words) for what, words in lost.items())


def _runs(cell: Any, link: str, epoch: datetime) -> model.Runs:
    """Return a cell's text as shown. A value that its format shows as nothing (";;;") is a hidden run.

    ``link``: the address to which the cell's formula leads; a link of the cell itself precedes it.
    """
    value = cell.value
    if cell.hyperlink is not None:
        link = cell.hyperlink.target or ""
    if isinstance(value, list):  # rich text: pieces with fonts of their own
        pieces = [(str(part), getattr(part, "font", cell.font)) for part in cast("Sequence[Any]", value)]
    else:
        shown = shown_value(value, cell.number_format, epoch=epoch)
        if not shown and str(value).strip():
            return (model.Run(_raw(value), is_hidden=True),)
        pieces = [(shown, cell.font)]
    return tuple(
        model.Run(
            symbols(text, str(font.name)),
            _SHIFTS.get(font.vertAlign, model.Shift.NONE),
            bool(font.strike),
            link=link,
        )
        for text, font in pieces
    )


# Values


def shown_value(value: Any, number_format: str, *, epoch: datetime = _FIRST_DAY) -> str:
    """Return a value as Excel shows it; as it is stored where its format is not understood.

    ``shown_value(0.125, "0.0%")`` is "12.5%". ``value``: as openpyxl reads it. ``epoch``: day 0 of the
    workbook's calendar.
    """
    if isinstance(value, str) and (number_format in ("General", "@") or not re.search("[;@]", number_format)):
        return value
    return _shown(value, number_format, epoch)


@lru_cache(maxsize=10_000, typed=True)
def _shown(value: Any, number_format: str, epoch: datetime) -> str:
    """Return a value by xlfmt, after the changes to its format that xlfmt needs; else as it is stored."""
    from openpyxl.utils.datetime import to_excel  # pyright: ignore
    from xlfmt import format_value  # pyright: ignore

    letters = set(_LETTERS.findall(_LITERALS.sub("", number_format).lower()))
    is_time = isinstance(value, date | time | timedelta)
    if is_time and letters - _DATE_LETTERS:  # openpyxl takes "Standard" for a date
        return _raw(cast("Any", to_excel)(value, epoch))
    if _is_beyond_xlfmt(value, number_format, letters, is_time=is_time):
        return _raw(value)
    changed_format = _LOCALE.sub("", number_format)
    if is_time:
        changed_format = _DATE_DOT.sub(lambda match: match[1] or "\\.", changed_format)
    number = (  # a duration in days, which xlfmt takes
        Decimal(value // timedelta(milliseconds=1)) / 86_400_000 if isinstance(value, timedelta) else value
    )
    try:
        shown = str(cast("Any", format_value)(number, changed_format, date1904=epoch.year == 1904))
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return _raw(value)
    # "########": xlfmt's text for a date before the calendar begins
    return _raw(value) if "###" in shown else " ".join(shown.split())


def _is_beyond_xlfmt(value: Any, number_format: str, letters: set[str], *, is_time: bool) -> bool:
    """Return whether Excel shows a value otherwise than xlfmt. ``letters``: the format's codes."""
    is_below = isinstance(value, int | float) and value < 0
    return bool(
        number_format in _OF_THE_READER
        or (is_time and _is_cut(value, letters))
        or (letters and not is_time)  # no code of a number is a letter
        or _SHORT_EXPONENT.search(number_format)
        or (is_below and _CONDITION.search(number_format))
    )


def _is_cut(value: Any, letters: set[str]) -> bool:
    """Return whether a format leaves out the end of a time. Excel cuts it, and xlfmt rounds."""
    clock = _FIRST_DAY + value if isinstance(value, timedelta) else value
    rest = (getattr(clock, name, 0) for name in ("minute", "second", "microsecond"))
    return "h" in letters and any(
        part and letter not in letters for part, letter in zip(rest, "mss", strict=True)
    )


def _raw(value: Any) -> str:
    """Return a value as it is stored, whole: "TRUE", "2026-10-18 09:20", "26:05:00" (hours), "0.1"."""
    match value:
        case bool():
            return str(value).upper()
        case datetime():
            return value.isoformat(" ").removesuffix(" 00:00:00").removesuffix(":00")
        case date() | time():
            return value.isoformat()
        case timedelta():
            minutes, seconds = divmod(round(abs(value.total_seconds())), 60)
            sign = "-" if value < timedelta() else ""
            return f"{sign}{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        case float():
            return format(Decimal(format(value, ".15g")), "f")
        case _:
            return str(value)
