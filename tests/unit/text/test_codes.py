"""What is a code of a text or a question, and which of them a text does not have."""

from __future__ import annotations

import pytest

from assistant.domain.documents import Span, Unit, UnitKind
from assistant.text.codes import (
    codes_asked,
    codes_in,
    codes_of_cell,
    numbers_in,
    rows_with_code,
    unknown_codes,
)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Fee of QX-1417 (or qx_1418), J3490", ["qx-1417", "qx-1418", "j-3490"]),
        ("version 4.2.1, not 4.2.10", ["4-2-1", "4-2-10"]),
        ("12.5/25 and 10/325 mg of 0002-8215-01", ["12-5-25", "10-325", "0002-8215-01"]),
        ("QX\u20111417 or QX\u20131417", ["qx-1417", "qx-1417"]),
        ("ZIP 10115; E11.9.", ["10115", "e-11-9"]),
        ("300 mg, 300mg, 12.5mg, 30-day, 90-day, 340B, 1,000, $12.50, 24/7, 10-14 days", []),
        ("11/03/2026, 2026-11-03, 3.11.2026, in 2026, 10:30", []),
        ("A1C, COVID-19, B12, e.g. type-2", []),
    ],
)
def test_a_code_has_parts_and_is_neither_a_quantity_nor_a_date(text: str, codes: list[str]) -> None:
    assert codes_in(text) == codes


@pytest.mark.parametrize(
    "question", ["qx 1417 fee", "QX1417?", "the (qx-1417)", "QX.1417, please", "Qx/1417"]
)
def test_each_way_to_ask_for_a_code_has_its_term(question: str) -> None:
    assert "qx-1417" in codes_asked(question)


def test_a_cell_is_one_code_as_a_whole_too() -> None:
    assert codes_of_cell("QX 1417") == {"qx-1417"}
    assert codes_of_cell("Syringe (QX-1417)") == {"qx-1417", "syringe-qx-1417"}


def row(ordinal: int, *cells: str) -> Unit:
    """Return a row of cells without names."""
    text, places = " | ".join(cells), list[tuple[str, int, int]]()
    for cell in cells:
        start = text.index(cell)
        places.append(("", start, start + len(cell)))
    span = Span(0, len(text))
    return Unit(ordinal=ordinal, kind=UnitKind.ROW, text=text, span=span, heading="", cells=tuple(places))


LINE = Unit(ordinal=0, kind=UnitKind.SENTENCE, text="QX-1598 is $5.", span=Span(0, 14), heading="")
ROWS = [row(1, "QX-1598", "$5"), row(2, "qx - 1600", "$6"), row(3, "10117", "x"), row(4, "0002-8215-01", "y")]


@pytest.mark.parametrize(
    ("question", "rows"),
    [("QX-1600", {2}), ("qx 1598, qx1600", {1, 2}), ("QX-1", set[int]()), ("$5", set[int]())],
)
def test_a_row_has_the_codes_of_its_cells(question: str, rows: set[int]) -> None:
    assert rows_with_code(codes_asked(question), ROWS) == rows


def test_a_code_of_most_rows_tells_none_apart() -> None:
    assert rows_with_code(codes_asked("QX-1598"), [ROWS[0], ROWS[0], ROWS[1]]) == frozenset()


@pytest.mark.parametrize(
    ("question", "unknown"),
    [
        ("fee of QX-1417", ["QX-1417"]),
        ("fee of qx 1417", ["qx 1417"]),
        ("fee of AB-1417 and ab 1417", ["AB-1417"]),
        ("zip 10115", ["10115"]),
        ("0002 8215 02", ["0002 8215 02"]),
        ("order 483210", []),
        ("fee of qx 1598 and QX1600 for 300 mg on 11/03/2026", []),
    ],
)
def test_a_code_is_unknown_that_no_line_has_and_that_is_surely_one_or_like_a_listed_one(
    question: str, unknown: list[str]
) -> None:
    assert [*unknown_codes(codes_asked(question), "List", [LINE, ROWS[1]], ROWS)] == unknown


def test_beside_rows_a_number_alone_is_a_code() -> None:
    assert unknown_codes(codes_asked("10115?"), "List", [ROWS[0]], []) == ("10115",)
    assert unknown_codes(codes_asked("10115?"), "List", [LINE], []) == ()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("Reject 079 or A5", {"79", "a5"}), ("It is 7.5", {"7", "5"}), ("none", set[str]()), ("00", {"0"})],
)
def test_every_token_with_a_digit_is_a_number(text: str, numbers: set[str]) -> None:
    assert numbers_in(text) == numbers
