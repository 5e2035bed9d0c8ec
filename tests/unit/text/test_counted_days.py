"""Days between the dates of a message and today."""

from __future__ import annotations

from datetime import date

import pytest

from assistant.text.values import counted_days

TODAY = date(2026, 11, 27)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("charged 3/14, too late today?", "3/14/2026 to today, 11/27/2026: 258 days"),
        ("REFILL TOO SOON, NEXT FILL 12/09", "today, 11/27/2026, to 12/9/2026: 12 days"),
        ("my visit is jan 5", "today, 11/27/2026, to 1/5/2027: 39 days"),
        ("it expires 12/9/27", "today, 11/27/2026, to 12/9/2027: 377 days"),
        ("I complained 3/1", "3/1/2026 to today, 11/27/2026: 271 days"),
        ("refund was promised 11/26/26", "11/26/2026 to today, 11/27/2026: 1 day"),
        ("delivered Nov. 20, 2026", "11/20/2026 to today, 11/27/2026: 7 days"),
        ("denied on 2026-10-30", "10/30/2026 to today, 11/27/2026: 28 days"),
        ("charged 14/10/2026", "10/14/2026 to today, 11/27/2026: 44 days"),
    ],
)
def test_the_days_since_a_date_are_counted(text: str, shown: str) -> None:
    assert counted_days(text, today=TODAY) == (shown,)


def test_a_date_of_the_year_before_is_counted_after_its_end() -> None:
    counted = counted_days("delivered 12/20", today=date(2027, 1, 5))
    assert counted == ("12/20/2026 to today, 1/5/2027: 16 days",)


@pytest.mark.parametrize("text", ["dob 3/4/71", "1/2 tablet", "open 24/7", "2/30", "came 11/27", "3/4/5/6"])
def test_what_is_today_or_no_near_date_is_not_counted(text: str) -> None:
    assert counted_days(text, today=TODAY) == ()
