"""Numbers with units in values and questions."""

from __future__ import annotations

import pytest

from assistant.text.measures import Span, amounts, currencies_of, shown_amount, span_of


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
        ("-3 °C", Span(-3.0, -3.0, "temperature")),
        ("\N{MINUS SIGN}3 °C", Span(-3.0, -3.0, "temperature")),
        ("-20 to +5 °C", Span(-20.0, 5.0, "temperature")),
        ("-20\N{EN DASH}-5 °C", Span(-20.0, -5.0, "temperature")),
        ("2", Span(2.0, 2.0, "")),
        ("36 to 48", Span(36.0, 48.0, "")),
        ("14 °F", Span(-10.0, -10.0, "temperature")),
    ],
)
def test_a_value_is_read_in_the_first_unit_of_its_dimension(text: str, span: Span) -> None:
    assert span_of(text) == span


@pytest.mark.parametrize(
    "text", ["yes", "cool and warm", "H13", "4 of 5 from 3 reviews", "", "3, 4", "3, winter"]
)
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
        ("eleven or twelve bottles", [(11.0, 12.0, "bottle")]),
        ("two bottles at once", [(2.0, None, "bottle")]),
        ("under 80 or so", [(80.0, None, "")]),
    ],
)
def test_amounts_of_a_question_are_found_with_their_units(
    question: str, found: list[tuple[float, float | None, str]]
) -> None:
    assert [(one.value, one.to, one.dimension) for one in amounts(question)] == found


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("for -10 degrees", [(-10.0, None)]),
        ("for minus 10 °C", [(-10.0, None)]),
        ("for \N{MINUS SIGN}10°C", [(-10.0, None)]),
        ("for -10", [(-10.0, None)]),
        ("between -10 and -5 °C", [(-10.0, -5.0)]),
        ("-10 to 5 degrees celsius", [(-10.0, 5.0)]),
    ],
)
def test_a_sign_before_a_number_is_kept(question: str, found: list[tuple[float, float | None]]) -> None:
    assert [(one.value, one.to) for one in amounts(question)] == found
    assert {one.dimension for one in amounts(question)} == {"temperature"}


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("10-20 kg", [(10.0, 20.0)]),
        ("10\N{EN DASH}20 kg", [(10.0, 20.0)]),
        ("10 - 20 kg", [(10.0, 20.0)]),
        ("a pack: -20 l, - 2 kg", [(20.0, None), (2.0, None)]),
        ("a pack \N{EN DASH} 20 l", [(20.0, None)]),
        ("the K-2 of 2 kg", [(2.0, None), (2.0, None)]),
    ],
)
def test_a_dash_is_no_sign(question: str, found: list[tuple[float, float | None]]) -> None:
    assert [(one.value, one.to) for one in amounts(question)] == found


def test_fahrenheit_is_converted() -> None:
    (amount,) = amounts("for 14 °F")
    assert (amount.least, amount.most, amount.shown) == (pytest.approx(-10.0), pytest.approx(-10.0), "14 °F")


def test_pounds_and_inches_are_converted() -> None:
    (pounds, inches) = amounts("15 lb and 20 inches")
    assert pounds.value * pounds.factor == pytest.approx(6_803.9, abs=0.1)
    assert inches.value * inches.factor == pytest.approx(508.0)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (80.0, "$", "$80"),
        (8.5, "kg", "8.5 kg"),
        (299.9, "euros", "€299.90"),
        (300.0, "chf", "300 CHF"),
        (-5.0, "°c", "-5 °C"),
        (1_500_000.0, "jpy", "¥1500000"),
    ],
)
def test_an_amount_is_shown_as_a_reader_writes_it(value: float, unit: str, shown: str) -> None:
    assert shown_amount(value, unit) == shown


@pytest.mark.parametrize(
    ("question", "codes"),
    [
        ("€300", {"EUR"}),
        ("300 €", {"EUR"}),
        ("300€", {"EUR"}),
        ("300 euro", {"EUR"}),
        ("300 Euros", {"EUR"}),
        ("EUR 300", {"EUR"}),
        ("300 EUR", {"EUR"}),
        ("£300", {"GBP"}),
        ("300 pounds sterling", {"GBP"}),
        ("300 quid", {"GBP"}),
        ("CHF 300", {"CHF"}),
        ("300 Swiss francs", {"CHF"}),
        ("US$300", {"USD"}),
        ("$300", {"USD", "CAD", "AUD"}),
        ("300 dollars", {"USD", "CAD", "AUD"}),
        ("CA$300", {"CAD"}),
        ("300 Canadian dollars", {"CAD"}),
        ("A$ 300", {"AUD"}),
        ("¥300", {"JPY"}),
        ("300 yen", {"JPY"}),
        ("300 kr", {"SEK", "NOK", "DKK"}),
        ("kr. 300", {"SEK", "NOK", "DKK"}),
        ("300 kronor", {"SEK"}),
        ("300 kroner", {"NOK", "DKK"}),
        ("300,00 €", {"EUR"}),
        ("300,- €", {"EUR"}),
        ("300 kg", set[str]()),
    ],
)
def test_money_is_read_by_sign_code_and_word(question: str, codes: set[str]) -> None:
    (amount,) = amounts(f"a tent under {question} please")
    assert (amount.value, set(currencies_of(amount.unit))) == (300.0, codes)
    assert (amount.dimension == "money") == bool(codes)


@pytest.mark.parametrize(("written", "value"), [("1,299", 1_299.0), ("1,5", 1.5), ("299,90", 299.9)])
def test_a_comma_before_one_or_two_digits_is_a_decimal_point(written: str, value: float) -> None:
    assert [one.value for one in amounts(f"under {written} kg")] == [value]


def test_a_word_that_begins_like_a_number_is_none() -> None:
    assert not list(amounts("a tent for weighty onesies"))


def test_the_word_after_a_price_is_no_part_of_it() -> None:
    (amount,) = amounts("under $80 waterproof")
    assert (amount.start, amount.end) == (len("under "), len("under $80"))
