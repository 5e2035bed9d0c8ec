"""The base of all data that is stored or crosses a process border."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable
from io import StringIO
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

RecordId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula. An apostrophe before it makes the cell a text."""


class PublicModel(BaseModel):
    """Frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def fields_of(source: PublicModel, model: type[PublicModel], *, but: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of ``source`` that ``model`` has too, by name, except those in ``but``."""
    names = type(source).model_fields.keys() & model.model_fields.keys()
    return {name: getattr(source, name) for name in names.difference(but)}


def csv_line(cells: Iterable[object]) -> str:
    """Return a line of CSV in which no text begins a formula, which a spreadsheet would run: the text "=1+1"
    is written as "'=1+1". Numbers stay as they are."""
    line = StringIO()
    csv.writer(line).writerow(
        f"'{cell}" if isinstance(cell, str) and cell.startswith(_BEGINS_FORMULA) else cell for cell in cells
    )
    return line.getvalue()
