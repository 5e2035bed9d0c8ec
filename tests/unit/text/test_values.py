"""Codes, quantities and counted days: what a text and a question hold of them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import orjson
import pytest

from assistant.domain.documents import Span, Unit, UnitKind
from assistant.text.codes import codes_asked, codes_in, numbers_in, rows_with_code, unknown_codes
from assistant.text.language import has_unsupported_numbers, language, quantities
from assistant.text.values import counted_days


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


@pytest.mark.parametrize(
    ("said", "held"),
    [
        ("Give 1,000 units", "1000 units are given"),
        ("Give 10mg", "a dose of 10 mg"),
        ("Give 0.50 mg", "a dose of .5 mg"),
        ("after twenty-four hours", "within 24 hours"),
        ("10 mg", "5\u201310 mg"),
        ("75 percent", "75%"),
        ("90 days", "| Mail supply (days) | 90 |"),
        ("form PR-2", "the form pr-2 is signed"),
        ("one of them", "nothing in figures"),
        ("\u00bd tablet", "1/2 tablet"),
    ],
)
def test_the_same_figure_is_found_however_it_is_written(said: str, held: str) -> None:
    assert not has_unsupported_numbers(quantities(said), quantities(held))


@pytest.mark.parametrize(
    ("said", "held"),
    [
        ("10 mg", "10 mcg"),
        ("0.5 mg", "5 mg"),
        ("0.5 g", "500 mg"),
        ("day 25", "day 23"),
        ("twenty-four hours", "20 hours or 4 hours"),
        ("3 days", "3 weeks"),
        ("form PR-3", "form PR-2"),
        ("B12", "vitamin B6 and 12 others"),
        ("9 p.m.", "9 a.m."),
    ],
)
def test_another_figure_is_not(said: str, held: str) -> None:
    assert has_unsupported_numbers(quantities(said), quantities(held))


TODAY = date(2026, 11, 27)
SINCE, AHEAD = "Refund within 180 days of the charge.", "A visit is moved no more than 30 days before it."


def counted(text: str, *lines: str, today: date = TODAY) -> str | None:
    return counted_days(text, lines, today=today, language=language("en"))


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ("charged 3/14, too late today?", SINCE, "3/14/2026 to today, 11/27/2026: 258 days"),
        ("my visit is jan 5", AHEAD, "today, 11/27/2026, to 1/5/2027: 39 days"),
        ("the visit is 1/9/27", AHEAD, "today, 11/27/2026, to 1/9/2027: 43 days"),
        ("refund was promised 11/26/26", SINCE, "11/26/2026 to today, 11/27/2026: 1 day"),
        ("charged Sept. 20, 2026", SINCE, "9/20/2026 to today, 11/27/2026: 68 days"),
        ("charge of 2026-10-30", SINCE, "10/30/2026 to today, 11/27/2026: 28 days"),
        ("charged 14/10/2026", SINCE, "10/14/2026 to today, 11/27/2026: 44 days"),
        ("the charge was two weeks ago", SINCE, "two weeks ago: 14 days"),
    ],
)
def test_the_days_of_a_date_are_counted_where_a_line_about_it_limits_them(
    text: str, line: str, shown: str
) -> None:
    assert counted(text, line) == shown
    assert counted(text, "Refunds of charges and visits take 30 business days.") is None
    assert counted(text, "Keep it within 300 days of delivery.") is None


def test_two_dates_in_order_are_a_span_where_a_line_has_a_limit() -> None:
    assert counted("charged 11/3, refund seen 11/9", SINCE) == "11/3 to 11/9: 6 days"
    assert counted("charged 11/3, refund seen 11/9", "Refunds take 30 business days.") is None


def test_a_date_of_the_year_before_is_counted_after_its_end() -> None:
    shown = counted("charged 12/20", SINCE, today=date(2027, 1, 5))
    assert shown == "12/20/2026 to today, 1/5/2027: 16 days"


NOT_COUNTED = (
    "charge dob 3/4/71; charge of 1/2 tablet; charge 24/7; charge 2/30; charged 11/27; charge 3/4/5/6"
    "; the visit is 12/9/27; charged 11/3 or 11/9; a charge until March 8; charged 11/9, seen 11/3"
    "; charged 10/1, 10/9 and 10/12"
)


@pytest.mark.parametrize("text", NOT_COUNTED.split("; "))
def test_what_is_no_near_date_or_has_several_readings_is_not_counted(text: str) -> None:
    assert counted(text, SINCE, AHEAD) is None


# A language model wrote these from the documents alone, with the days that a person would count on 20 March.
DATED = [
    orjson.loads(line) for line in Path(__file__).with_name("dated_messages.jsonl").read_bytes().splitlines()
]


def test_of_dated_messages_most_days_are_counted_and_few_are_wrong() -> None:
    found = [(counted(row["text"], *row["lines"], today=date(2026, 3, 20)), row["days"]) for row in DATED]
    kept = sum(shown is not None and f": {days} day" in shown for shown, days in found)
    wrong = sum(shown is not None and f": {days} day" not in shown for shown, days in found)
    assert (kept, wrong) == (24, 1), found
