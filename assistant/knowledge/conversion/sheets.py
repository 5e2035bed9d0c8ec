"""Reads workbooks by openpyxl, with each value as Excel shows it by xlfmt.

A value whose format is not understood stays as it is stored. What Excel does not show is left out and named.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import product
from pathlib import PurePosixPath
from typing import Any, cast
from zipfile import ZipFile

from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.conversion.containers import BROKEN, macros, open_container
from assistant.knowledge.conversion.regions import MOST_CELLS, GridCell, Regions, Row
from assistant.knowledge.page import Block, Heading, Loss, Page, Place, Run, Runs, Shift, plain

_SHOWN_PLACES = 5
_RANGE = re.compile(
    rb"""<(?:\w{1,20}:)?(?:mergeCell|hyperlink)\b[^<>]*?\bref=["']([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})["']"""
)
"""openpyxl makes a cell for each place in such a range."""
_UNSTORED = re.compile(
    rb"""<c r="([A-Z]{1,3}\d{1,7})"(?![^<>]*\bt="str")[^<>]*><f\b"""
    rb"""(?:[^<>]*/>|[^<>]*>[^<]*</f>)\s*(?:<v\s*/>|<v></v>)?</c>"""
)
"""A formula without a stored value."""
_WORDS = re.compile(rb"<a:t>([^<]+)</a:t>")
_LITERALS = re.compile(r'"[^"]*"|\\.|_.|\*.|\[[^][]*\]|General|AM/PM|A/P|E[+-]', re.I | re.S)
_LETTERS = re.compile(r"[^\W\d_]")
_DATE_LETTERS = frozenset("ymdhsegb")
_ELAPSED = re.compile(r"\[([hms])\1*\]")
_LOCALE = re.compile(r"\[\$-[^][]*\]")
"""It names a language. xlfmt writes "$" for it before a number."""
_DATE_DOT = re.compile(r"""("[^"]*"|\\.|\[[^][]*\]|\.0+)|\.""", re.DOTALL)
"""A dot between parts of a date, which xlfmt leaves out: "04032026"; group 1 has what is none."""
_SHORT_EXPONENT = re.compile(r"E[+-]0(?!0)", re.IGNORECASE)
"""xlfmt writes 12.5 as "1.3E-1"."""
_CONDITION = re.compile(r"\[[<>=]")
"""After it xlfmt loses the sign of some negative numbers."""
_OF_THE_READER = ("mm-dd-yy", "m/d/yy h:mm")
"""Formats that Excel shows by the country of its reader."""
_PRINTED = re.compile(
    r'(?:\w{1,20}\s{1,3})?&P(?:\s{0,3}\S{1,20}\s{1,3}&N)?|&"[^"]*"|&K[0-9A-F]{6}|&\d+|&[A-Z]', re.I
)
"""Codes of a printed header, with the words around a page number."""
_FIRST_DAY = datetime.combine(date.min, time())
_SHIFTS = {"superscript": Shift.RAISED, "subscript": Shift.LOWERED}


def convert_xlsx(raw: bytes) -> Page:
    """Return a workbook: its visible sheets, each under its name, with formulas by their stored values.

    Hidden sheets, rows and columns, struck cells, comments, pictures, macros and formulas without a stored
    value are losses. Raises DocumentInvalidError.
    """
    with open_container(raw, part="xl/workbook.xml") as container:
        losses = [*map(Loss, macros(container)), *_drawings(container)]
        unstored, is_rich = _checked_sheets(container)
    workbook = _workbook(raw, rich_text=is_rich)
    blocks: list[Block] = []
    banners: list[str] = []
    for sheet in workbook.worksheets:
        cells = _Sheet(sheet, is_1904=workbook.epoch.year == 1904)
        if sheet.sheet_state != "visible":
            losses.append(Loss(f"hidden sheet {sheet.title} was not read", words=cells.words()))
            continue
        rows = cells.rows()
        if rows:
            place = Place("sheet", name=sheet.title)
            blocks += [Heading(2, plain(sheet.title), place), *Regions(place, level=3).blocks(rows)]
        losses += cells.losses()
        banners += _banners(sheet)
    if unstored and (missing := list(_missing(raw, workbook, unstored))):
        more = f" and {len(missing) - _SHOWN_PLACES} more" if len(missing) > _SHOWN_PLACES else ""
        shown = ", ".join(missing[:_SHOWN_PLACES])
        what = f"formulas without a stored value: {shown}{more}. Open and save the file in Excel."
        losses.append(Loss(what))
    return Page(tuple(blocks), banner="; ".join(dict.fromkeys(banners)), losses=tuple(losses))


def _workbook(raw: bytes, *, data_only: bool = True, rich_text: bool = False) -> Any:
    from openpyxl import load_workbook  # pyright: ignore

    try:
        return load_workbook(io.BytesIO(raw), data_only=data_only, rich_text=rich_text)
    except BROKEN as error:
        problem = f"it is not a whole Excel file ({type(error).__name__})"
        raise DocumentInvalidError(f"{problem}. Open it in Excel and save it again.") from None


def _checked_sheets(container: ZipFile) -> tuple[set[str], bool]:
    """Return the places of formulas without a stored value, and whether parts of texts are raised or struck.

    Raises DocumentInvalidError for too many cells.
    """
    unstored, is_rich = set[str](), False
    for name in container.namelist():
        if PurePosixPath(name).parent.name != "worksheets" and not name.endswith("sharedStrings.xml"):
            continue
        content = container.read(name)
        is_rich |= b"vertAlign" in content or b"strike" in content
        cells = content.count(b"<c ") + sum(map(_area, _RANGE.finditer(content)))
        if cells > MOST_CELLS:
            problem = (
                f"its sheet {PurePosixPath(name).stem} has {cells:,} cells; at most {MOST_CELLS:,} are read"
            )
            raise DocumentInvalidError(f"{problem}. Split it, or end its merged cells where its data end.")
        unstored |= {found.decode() for found in _UNSTORED.findall(content)}
    return unstored, is_rich


def _area(found: re.Match[bytes]) -> int:
    left, right = (_column(letters) for letters in (found[1], found[3]))
    return (abs(right - left) + 1) * (abs(int(found[4]) - int(found[2])) + 1)


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number


def _missing(raw: bytes, workbook: Any, unstored: set[str]) -> Iterator[str]:
    """Yield the places of visible sheets with a formula whose value nobody computed."""
    for sheet in _workbook(raw, data_only=False).worksheets:
        if sheet.sheet_state == "visible":
            for cell in sheet._cells.values():
                place = cell.coordinate
                is_formula = cell.data_type == "f" and place in unstored
                if is_formula and workbook[sheet.title][place].value is None:
                    yield f"{sheet.title}!{place}"


def _drawings(container: ZipFile) -> Iterator[Loss]:
    """Yield what lies over the cells."""
    names = container.namelist()
    for folder, what in (
        ("xl/charts/chart", "charts that were not read"),
        ("xl/media/", "pictures that were not read"),
    ):
        if count := sum(name.startswith(folder) for name in names):
            yield Loss(f"{what}: {count}")
    texts = (container.read(name) for name in names if name.startswith("xl/drawings/drawing"))
    if words := sum(len(found.split()) for text in texts for found in _WORDS.findall(text)):
        yield Loss("text boxes that were not read", words=words)


def _banners(sheet: Any) -> Iterator[str]:
    """Yield the printed header and footer of a sheet, if they are more than a page number."""
    for line in (sheet.oddHeader, sheet.oddFooter):
        parts = (_PRINTED.sub(" ", str(part.text or "")) for part in (line.left, line.center, line.right))
        words = " ".join(" ".join(parts).split())
        if any(map(str.isalpha, words)):
            yield words


class _Sheet:
    """The cells of a sheet as they are shown."""

    def __init__(self, sheet: Any, *, is_1904: bool) -> None:
        self._sheet = sheet
        self._is_1904 = is_1904
        self._fonts: dict[int, tuple[bool, Shift, bool]] = {}
        rows = (number for number, row in sheet.row_dimensions.items() if row.hidden or row.height == 0)
        columns = (
            number
            for column in sheet.column_dimensions.values()
            if column.hidden or column.width == 0
            for number in range(column.min, column.max + 1)
        )
        self._hidden = sorted(set(rows)), sorted(set(columns))
        self._lost = Counter[str]()

    def words(self) -> int:
        return sum(len(str(cell.value).split()) for _, cell in self._cells())

    def losses(self) -> Iterator[Loss]:
        where = str(Place("sheet", name=self._sheet.title))
        for cell in self._sheet._cells.values():
            if cell.comment is not None:
                self._lost["comments"] += len(cell.comment.text.split())
        for what, words in self._lost.items():
            yield Loss(what, where, words)

    def rows(self) -> list[Row]:
        """Return the visible rows with a value, in order. Row and column numbers count visible ones."""
        rows: dict[int, dict[int, GridCell]] = {}
        lines: dict[int, int] = {}
        cells = dict(self._cells())
        ends = {(found.min_row, found.min_col): found for found in self._sheet.merged_cells.ranges}
        last = max((row for row, _ in cells), default=0), max((column for _, column in cells), default=0)
        for (row, column), cell in cells.items():
            merged = ends.get((row, column))
            bottom, right = (
                (min(merged.max_row, last[0]), min(merged.max_col, last[1])) if merged else (row, column)
            )
            top, left = self._visible(row - 1, 0) + 1, self._visible(column - 1, 1) + 1
            height, width = self._visible(bottom, 0) - top + 1, self._visible(right, 1) - left + 1
            runs = self._runs(cell)
            text = " ".join("".join(run.text for run in runs if not (run.is_struck or run.is_hidden)).split())
            if height < 1 or width < 1:
                self._lost["hidden rows" if height < 1 else "hidden columns"] += len(text.split())
                continue
            lines.setdefault(top, row)
            for place in product(range(top, top + height), range(left, left + width)):
                rows.setdefault(place[0], {}).setdefault(place[1], _COVERED)
            rows[top][left] = GridCell(runs, text, height, width, self._font(cell)[2])
        return [
            Row(number, dict(sorted(found.items())), lines.get(number, number))
            for number, found in sorted(rows.items())
        ]

    def _cells(self) -> Iterator[tuple[tuple[int, int], Any]]:
        for place, cell in sorted(self._sheet._cells.items()):
            if cell.value is not None:
                yield place, cell

    def _visible(self, number: int, axis: int) -> int:
        """Return how many rows (axis 0) or columns (1) up to a number are visible."""
        return number - bisect_right(self._hidden[axis], number)

    def _font(self, cell: Any) -> tuple[bool, Shift, bool]:
        """Return whether a cell is struck, how it is shifted, and whether it is bold."""
        key = cell._style.fontId
        if key not in self._fonts:
            font = cell.font
            self._fonts[key] = (bool(font.strike), _SHIFTS.get(font.vertAlign, Shift.NONE), bool(font.bold))
        return self._fonts[key]

    def _runs(self, cell: Any) -> Runs:
        value, (is_struck, shift, _) = cell.value, self._font(cell)
        link = (cell.hyperlink.target or "") if cell.hyperlink is not None else ""
        if isinstance(value, list):  # rich text: pieces with fonts of their own
            pieces = ((str(piece), getattr(piece, "font", None)) for piece in cast(list[Any], value))
            return tuple(
                Run(text, _SHIFTS.get(font.vertAlign, Shift.NONE), bool(font.strike), link=link)
                if font is not None
                else Run(text, shift, is_struck, link=link)
                for text, font in pieces
            )
        number_format = cell.number_format
        shown = shown_value(value, number_format, is_1904=self._is_1904)
        if not shown and str(value).strip():
            return (Run(_raw(value), is_hidden=True),)
        return (Run(shown, shift, is_struck, link=link),)


_COVERED = GridCell((), "")


# Values


def shown_value(value: Any, number_format: str, *, is_1904: bool = False) -> str:
    """Return a value as Excel shows it; as it is stored where its format is not understood."""
    if isinstance(value, str) and (number_format in ("General", "@") or not re.search("[;@]", number_format)):
        return value
    return _shown(value, number_format, is_1904)


@lru_cache(maxsize=10_000, typed=True)
def _shown(value: Any, number_format: str, is_1904: bool) -> str:
    from xlfmt import format_value  # pyright: ignore

    if number_format == "General" or number_format in _OF_THE_READER:
        return _raw(value)
    plain_format = _LITERALS.sub("", number_format)
    letters = {letter.lower() for letter in _LETTERS.findall(plain_format)}
    is_time = isinstance(value, date | time | timedelta)
    if is_time and letters - _DATE_LETTERS:  # openpyxl takes "Standard" for a date
        from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900, to_excel  # pyright: ignore

        epoch = CALENDAR_MAC_1904 if is_1904 else CALENDAR_WINDOWS_1900
        return _raw(cast(Any, to_excel)(value, epoch))
    if (letters and not is_time) or _SHORT_EXPONENT.search(number_format):
        return _raw(value)
    understood = _LOCALE.sub("", number_format)
    if is_time:
        letters |= set(_ELAPSED.findall(number_format.lower()))
        understood = _DATE_DOT.sub(lambda found: found[1] or "\\.", understood)
    try:
        shown = str(cast(Any, format_value)(_cut(value, letters), understood, date1904=is_1904))
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return _raw(value)
    is_below = isinstance(value, int | float) and value < 0
    has_lost_sign = is_below and _CONDITION.search(number_format) and not set("-(") & set(shown)
    return _raw(value) if has_lost_sign or "###" in shown else " ".join(shown.split())


def _cut(value: Any, letters: set[str]) -> Any:
    """Return a time to the minute or hour where its format ends. Excel cuts, and xlfmt rounds."""
    if "s" in letters and not isinstance(value, timedelta):
        return value
    if isinstance(value, time):
        value = datetime.combine(date.min, value) - _FIRST_DAY
    step = timedelta(milliseconds=1) if "s" in letters else timedelta(minutes=1 if "m" in letters else 60)
    half_second = timedelta(milliseconds=0 if "s" in letters else 500)  # what a stored fraction may lack
    if isinstance(value, timedelta):
        return Decimal((value + half_second) // step * step // timedelta(milliseconds=1)) / 86_400_000
    if isinstance(value, datetime):
        return _FIRST_DAY + (value - _FIRST_DAY + half_second) // step * step
    return value


def _raw(value: Any) -> str:
    """Return a value as it is stored, whole."""
    match value:
        case bool():
            return str(value).upper()
        case datetime():
            return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "minutes")
        case date() | time():
            return value.isoformat()
        case timedelta():
            seconds = round(abs(value.total_seconds()))
            sign = "-" if value < timedelta() else ""
            return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        case float():
            return format(Decimal(format(value, ".15g")), "f")
        case _:
            return str(value)
