"""Finds the tables on a sheet or in a file of separated values.

Neither file says where a table begins: ``_bands`` cuts the rows where an empty row or column separates
tables, and ``documents.tables`` says what each row of a band is. Rows that go on after an empty row keep the
names of the table above.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from assistant.documents.page import Block, Place
from assistant.documents.tables import (
    MOST_CELLS,
    NOTE_WORDS,
    Region,
    Row,
    blocks_of,
    finish,
    names_columns,
    read_band,
)
from assistant.domain.errors import DocumentInvalidError

_NO_NAME = re.compile(r"\d|:\s*\Z")
_FEWEST_NAMES = 3
_MOST_BESIDE = 20
"""Cuts at empty columns, one inside another."""


def region_blocks(rows: Sequence[Row], place: Place) -> Iterator[Block]:
    """Yield the tables and notes of the rows of a sheet or file that have a cell.

    The rows "Fees of 2026", "Visit | Amount", "First | 20" are a note and a table with one row of names.
    ``place`` is the sheet's or file's. Raises DocumentInvalidError for too many cells.
    """
    regions = list[Region]()
    for band in _with_names([*_bands(rows, set())]):
        read_band(band, regions, names_expected=True)
    finish(regions)
    if sum((len(each.header) + len(each.rows)) * len(each.columns) for each in regions) > MOST_CELLS:
        raise DocumentInvalidError(f"its tables have more than {MOST_CELLS:,} cells. Split the file.")
    for region in regions:
        yield from blocks_of(region, place)


def _with_names(bands: Sequence[list[Row]]) -> Iterator[list[Row]]:
    """Yield the bands; a row of names that is one by itself, above an empty row, is of the band below it."""
    names = None
    for band in bands:
        if names and not _names_band(names, band):
            yield [names]
            names = None
        if not names and not band[1:] and len(band[0].texts) >= _FEWEST_NAMES and _are_names(band[0]):
            names = band[0]
        else:
            yield [replace(names, number=band[0].number - 1), *band] if names else band
            names = None
    if names:
        yield [names]


def _names_band(names: Row, band: Sequence[Row]) -> bool:
    columns = {column for row in band for column in row.cells}
    return columns <= names.cells.keys() and bool(names_columns([names, *band], sorted(names.cells)))


def _are_names(row: Row) -> bool:
    return not any(_NO_NAME.search(text) for text in row.texts.values())


def _bands(rows: Sequence[Row], above: set[int], cuts: int = 0) -> Iterator[list[Row]]:
    """Yield rows without an empty row or column that separates tables. ``above``: columns of the rows above;
    ``cuts``: made at columns before."""
    for _, group in groupby(
        enumerate(rows), key=lambda pair: pair[1].number - pair[0]
    ):  # numbers without a gap
        band = [row for _, row in group]
        if cuts < _MOST_BESIDE and (halves := _halves(band, above)):
            for half in halves:
                yield from _bands(half, set(), cuts + 1)
        else:
            yield band
        above |= {column for row in band for column in row.cells}


def _halves(band: Sequence[Row], above: set[int]) -> tuple[list[Row], list[Row]] | None:
    """Return what is left and right of the first empty column that separates tables; None where none does. In
    rows that go on with a table ``above`` cells of that are empty."""
    columns = sorted({column for row in band for column in row.cells})
    goes_on = not names_columns(band, columns, names_expected=True)
    for before, after in pairwise(columns):
        if after > before + 1 and not (goes_on and above.issuperset(range(before, after + 1))):
            left, right = _between(band, 0, after), _between(band, after, columns[-1] + 1)
            if _is_apart(left, right):
                return left, right
    return None


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
    if any(sum(len(row.texts) for row in side) < 2 for side in sides) or _is_note(right, left):
        return True
    are_wide = all(len({column for row in side for column in row.cells}) > 1 for side in sides)
    return are_wide and all(
        len(side[0].texts) == 1
        or names_columns(side, sorted({column for row in side for column in row.cells}), names_expected=True)
        for side in sides
    )


def _is_note(side: Sequence[Row], table: Sequence[Row]) -> bool:
    """Return whether texts of one column beside the first rows of a table are a note, as they have no name:
    the first one has a digit or ends in a colon, or one is long."""
    first, texts = side[0], [row.text for row in side]
    is_one = len({column for row in side for column in row.cells}) == 1
    is_top = first.number == table[0].number and side[-1].number - first.number < len(side)
    has_name = not (_NO_NAME.search(texts[0]) or any(len(text.split()) >= NOTE_WORDS for text in texts))
    return is_one and is_top and 2 * len(side) < len(table) and not has_name
