"""Converts workbooks by openpyxl, and CSV by the standard library: a row with its headers becomes a unit."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from itertools import islice
from pathlib import PurePosixPath
from typing import Any
from zipfile import ZipFile

from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.conversion.containers import BROKEN, macros, open_container
from assistant.knowledge.conversion.encodings import decoded
from assistant.knowledge.conversion.markup import Converted, heading, is_header, paragraphs, table

MOST_CELLS = 500_000
"""Cells between a sheet's first and last. openpyxl needs 27 µs for each: two thirds of the CPU time
of one file."""
_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_ROWS = 50
_PAIR = ("question", "answer")
"""The columns that make a sheet one of pairs: the names of a JSON line's fields."""
_SHOWN_FORMULAS = 5
_DIGITS = re.compile(r"[0#?]+(?:,[0#?]+)*(?:\.([0#?]+))?")
_CURRENCY = re.compile(r'\[\$([^\]-]+)[^\]]*\]|"([^"]+)"|([$€£¥])')


def convert_csv(raw: bytes) -> Converted:
    """Return a table of separated values; its first row names the columns. Raises DocumentInvalidError."""
    text = decoded(raw)
    try:
        delimiter = max(_DELIMITERS, key=lambda delimiter: _regularity(text, delimiter))
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DocumentInvalidError(f"it is not CSV: {error}. Export it again, with quotes.") from None
    return Converted(None, _sheet(rows, level=1))


def _regularity(text: str, delimiter: str) -> tuple[int, int]:
    """Return how many of the first rows have as many cells as the first, and how many those are."""
    sample = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    widths = [len(row) for row in islice(sample, _SAMPLE_ROWS) if row]
    if not widths or widths[0] < 2:
        return (0, 0)
    return (widths.count(widths[0]), widths[0])


def convert_xlsx(raw: bytes) -> Converted:
    """Return a workbook: for each visible sheet its rows, with formulas by their stored values.

    Hidden sheets, macros and formulas without a stored value are named in the notes. Raises
    DocumentInvalidError.
    """
    with open_container(raw, part="xl/workbook.xml") as container:
        notes = list(macros(container))
        has_formulas = _has_formulas(container)
    formulas = _formulas(raw) if has_formulas else set[tuple[str, str]]()
    parts: list[str] = []
    missing: list[str] = []
    for sheet in _sheets(raw, notes):
        cells: list[tuple[Any, ...]] = list(sheet.iter_rows())
        rows = [[_shown(cell) for cell in row] for row in cells]
        empty = [cell.coordinate for row in cells for cell in row if cell.value is None]
        missing += [f"{sheet.title}!{place}" for place in empty if (sheet.title, place) in formulas]
        _repeat_merged(sheet, rows)
        parts += [heading(2, sheet.title), _sheet(rows, level=3)]
    if missing:
        more = f" and {len(missing) - _SHOWN_FORMULAS} more" if len(missing) > _SHOWN_FORMULAS else ""
        shown = ", ".join(missing[:_SHOWN_FORMULAS])
        notes.append(f"formulas without a stored value: {shown}{more}. Open and save the file in Excel.")
    return Converted(None, "".join(parts), tuple(notes))


def _sheets(raw: bytes, notes: list[str] | None = None, *, data_only: bool = True) -> Iterator[Any]:
    """Yield the visible sheets of the workbook that have cells. Raises DocumentInvalidError."""
    from openpyxl import load_workbook  # pyright: ignore

    try:
        workbook: Any = load_workbook(io.BytesIO(raw), data_only=data_only)
    except BROKEN as error:
        problem = f"it is not a whole Excel file ({type(error).__name__})"
        raise DocumentInvalidError(f"{problem}. Open it in Excel and save it again.") from None
    for sheet in workbook.worksheets:
        if sheet.sheet_state != "visible":
            if notes is not None:
                notes.append(f"hidden sheet {sheet.title} was not read")
            continue
        cells = sheet.max_row * sheet.max_column
        if cells > MOST_CELLS:
            problem = f"the sheet {sheet.title} spans {cells:,} cells; at most {MOST_CELLS:,} are read"
            raise DocumentInvalidError(f"{problem}. Delete the empty rows and columns after its data.")
        yield sheet


def _has_formulas(container: ZipFile) -> bool:
    """Return whether a sheet may have formulas: only then the workbook is read a second time."""
    sheets = (name for name in container.namelist() if PurePosixPath(name).parent.name == "worksheets")
    return any(b"<f>" in (text := container.read(name)) or b"<f " in text for name in sheets)


def _formulas(raw: bytes) -> set[tuple[str, str]]:
    """Return sheet and place of each formula."""
    return {
        (sheet.title, cell.coordinate)
        for sheet in _sheets(raw, data_only=False)
        for row in sheet.iter_rows()
        for cell in row
        if cell.data_type == "f"
    }


def _repeat_merged(sheet: Any, rows: list[list[str]]) -> None:
    """Write the text of merged cells into each row that they span, once a row."""
    for merged in sheet.merged_cells.ranges:
        top, bottom, column = int(merged.min_row), int(merged.max_row), int(merged.min_col) - 1
        for row in rows[top:bottom]:
            row[column] = rows[top - 1][column]


# --- rows -------------------------------------------------------------------------------------------------
def _sheet(rows: Iterable[Sequence[str]], *, level: int) -> str:
    """Return a sheet's rows: pairs as sections under their questions, others as a table under its caption."""
    filled = [row for row in rows if any(cell.strip() for cell in row)]
    captions: list[str] = []
    while filled and sum(bool(cell.strip()) for cell in filled[0]) == 1 < max(map(len, filled)):
        captions.append(next(cell for cell in filled.pop(0) if cell.strip()))
    above = "".join(map(paragraphs, captions))
    names = [cell.strip().casefold() for cell in filled[0]] if filled else []
    if set(_PAIR) <= set(names):
        return above + "".join(_pairs(names, filled, level=level))
    return above + table(_without_empty_columns(filled), has_header=_names_columns(filled))


def _pairs(names: Sequence[str], rows: Sequence[Sequence[str]], *, level: int) -> Iterator[str]:
    """Yield each pair: the question as a heading, its answer, and the other columns by their names."""
    question, answer = (names.index(name) for name in _PAIR)
    for row in rows[1:]:
        cells = [*row, *[""] * (len(names) - len(row))]
        yield heading(level, cells[question]) + paragraphs(cells[answer])
        others = [
            f"{rows[0][place].strip()}: {cell.strip()}"
            for place, cell in enumerate(cells[: len(names)])
            if place not in (question, answer) and cell.strip()
        ]
        yield paragraphs("; ".join(others))


def _names_columns(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row is a header. Rows of a sheet nearly always have one: only a row with
    numbers or with an empty cell inside is none."""
    if len(rows) < 2:
        return False
    names = [cell.strip() for cell in rows[0]]
    while names and not names[-1]:
        names.pop()
    numbers = [name for name in names if not name.isdecimal() and re.fullmatch(r"[\d.,%\s$€£¥+-]+", name)]
    return is_header(rows) or (len(names) > 1 and not numbers and len(set(names) - {""}) > len(names) / 2)


def _without_empty_columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    kept = [
        column
        for column in range(max(map(len, rows), default=0))
        if any(column < len(row) and row[column].strip() for row in rows)
    ]
    return [[row[column] if column < len(row) else "" for column in kept] for row in rows]


# --- values -------------------------------------------------------------------------------------------------
def _shown(cell: Any) -> str:
    """Return a cell's value nearly as Excel shows it: percent, currency and decimals by its number format."""
    value: object = cell.value
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "minutes")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return _number(value, str(cell.number_format or "General"))


def _number(value: float, number_format: str) -> str:
    pattern = number_format.split(";", maxsplit=1)[0]
    digits = _DIGITS.search(pattern)
    if digits is None:
        return format(value, ".15g")
    decimals = len(digits[1] or "")
    if "%" in pattern:
        return f"{value * 100:.{decimals}f}%"
    grouping = "," if "," in digits[0] else ""
    number = f"{value:{grouping}.{decimals}f}"
    sign = _CURRENCY.search(pattern)
    if sign is None:
        return number
    symbol = next(filter(None, sign.groups()))
    if sign.start() < digits.start():
        return f"{symbol}{number}" if len(symbol.strip()) == 1 else f"{symbol.strip()} {number}"
    return f"{number} {symbol.strip()}"
