"""Numbers with units in values and questions."""

from __future__ import annotations

import pytest

from assistant.text.measures import Span, amounts, shown_amount, span_of


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("4.5 L", Span(4_500.0, 4_500.0, "volume")),
        ("22\N{EN DASH}42 cm", Span(220.0, 420.0, "length")),
        ("±2.5 mmHg", Span(2.5, 2.5, "pressure")),
        ("7,000 per minute", Span(7_000.0, 7_000.0, "per minute")),
        ("1 bottle", Span(1.0, 1.0, "bottle")),
        ("3 bottles", Span(3.0, 3.0, "bottle")),
        ("35 m²", Span(35.0, 35.0, "area")),
        ("210 m³/h", Span(210.0, 210.0, "air")),
    ],
)
def test_a_value_is_read_in_the_first_unit_of_its_dimension(text: str, span: Span) -> None:
    assert span_of(text) == span


@pytest.mark.parametrize("text", ["yes", "cool and warm", "H13", "4 of 5 from 3 reviews", "", "12"])
def test_other_text_is_no_value(text: str) -> None:
    assert span_of(text) is None


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("under $80 please", [(80.0, None, "money")]),
        ("below 100$", [(100.0, None, "money")]),
        ("at least 5 litres and 2.5kg", [(5.0, None, "volume"), (2.5, None, "mass")]),
        ("between $60 and $150", [(60.0, 150.0, "money")]),
        ("a 40 m² room", [(40.0, None, "area")]),
        ("for 80 sqm", [(80.0, None, "area")]),
        ("two bottles at once", [(2.0, None, "bottle")]),
        ("under 80 or so", [(80.0, None, "")]),
    ],
)
def test_amounts_of_a_question_are_found_with_their_units(
    question: str, found: list[tuple[float, float | None, str]]
) -> None:
    assert [(one.value, one.to, one.dimension) for one in amounts(question)] == found


def test_pounds_and_inches_are_converted() -> None:
    (pounds, inches) = amounts("15 lb and 20 inches")
    assert pounds.value * pounds.factor == pytest.approx(6_803.9, abs=0.1)
    assert inches.value * inches.factor == pytest.approx(508.0)


def test_an_amount_is_shown_as_a_reader_writes_it() -> None:
    assert (shown_amount(80.0, "$"), shown_amount(8.5, "kg")) == ("$80", "8.5 kg")
