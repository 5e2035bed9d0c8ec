"""Numbers, doses and codes in one form."""

from __future__ import annotations

import pytest

from assistant.text.language import has_unsupported_numbers, quantities


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


def test_values_measures_and_codes_are_told_apart() -> None:
    found = quantities("Give 5 to 10 mg of A5 on day 3.")
    assert found.measures == {("5", "mg"), ("10", "mg")}
    assert found.bare == {"3"}
    assert found.values == {"3", "5", "10"}
    assert found.codes == {"a5"}
