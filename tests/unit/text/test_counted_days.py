"""Days between the date of a message and today, where a document limits them."""

from __future__ import annotations

from datetime import date

import pytest

from assistant.text.language import language
from assistant.text.values import counted_days

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


@pytest.mark.parametrize(
    "text",
    [
        *(
            "charge dob 3/4/71",
            "charge of 1/2 tablet",
            "charge 24/7",
            "charge 2/30",
            "charged 11/27",
            "charge 3/4/5/6",
        ),
        *(
            "the visit is 12/9/27",
            "charged 11/3 or 11/9",
            "a charge until March 8",
            "charged 11/9, seen 11/3",
            "charged 10/1, 10/9 and 10/12",
        ),
    ],
)
def test_what_is_no_near_date_or_has_several_readings_is_not_counted(text: str) -> None:
    assert counted(text, SINCE, AHEAD) is None


DAMAGED = ("Check the date. Damage must be reported within 7 days of delivery.", "Keep it for 14 days.")
REFUND = (
    "Reason: Same order charged twice; Limit from the charge: 180 days",
    "Reason: Price fell after a claim was rebilled; Limit from the charge: 90 days",
)
COPAY = ("For fills already paid for, we can rebill within 14 days after pick-up or delivery.",)
UNWANTED = (
    "If the plan is Medicare Part D and the patient tells us within 30 days of delivery, the desk refunds.",
    "Otherwise the patient must tell us within 14 days, and we refund once in 12 months.",
)
RENEWAL = (
    "The approval is about to end or ended within the last 90 days.",
    "The renewal queue picks up each approval 30 days before it ends.",
)
TRIP = ("the trip lasts at least 7 days;", "the request comes no more than 14 days before departure;")
CONTROLLED = ("Schedule: C-II; Prescription life with us: 90 days to first fill",)
PARTIAL = ("The rest must be filled within 30 days of the date written.",)
LAPSE = ("We rebill cash fills from the last 30 days when the plan shows the member active again.",)
COBRA = ("After losing a job, a person usually has 60 days to elect COBRA coverage.",)
APPEAL = (
    "Plan: Medicare Part D (redetermination); File within: 65 calendar days from the date of the notice",
    "Plan: Commercial, medicine not yet taken; File within: 180 days from the notice",
)
HOLD = ("If the patient agrees to wait, place a backorder hold. It lasts 10 calendar days.",)
RECORDS = ("Format: Account page or PDF; Our time after RA-1: 10 calendar days",)
PLAN = ("Medicare members have 60 days from the event to file a grievance with their plan.",)
STRIPS = ("We may ask no more than 30 days before the supply ends.",)
INJURY = (
    "If the patient paid cash and the claim is accepted within 14 days after pick-up, the desk rebills.",
)
RETURN = ("The item is evidence and must come back within 10 days.",)
REMINDER = ("A text goes out 3 days before a store refill starts and 7 days before a mail refill starts.",)
PHONE = ("Phone number changed within the last 7 days, or on this call.",)
SHARE = ("Fill: Retail, not controlled; Share of the supply that must be used: 75 percent (day 23 of 30)",)
# A language model wrote these from the documents alone, with the days that a person would count on 20 March.
DATED: tuple[tuple[str, tuple[str, ...], int | None], ...] = (
    ("parcel came on March 9 and two bottles were crushed, can they still report it?", DAMAGED, 11),
    ("Order delivered 3/14, box was soaked through. too late to report the damage?", DAMAGED, 6),
    ("the pills arrived broken, it came two weeks ago", DAMAGED, 14),
    ("shipped 3/3, arrived 3/9, everything leaked", DAMAGED, 11),
    ("charged twice for the same order on Sept 2, can we still refund it?", REFUND, 199),
    ("double charge from 10/1/2025, is that still in time?", REFUND, 170),
    ("price dropped after the rebill, the charge was Dec 28. refund?", REFUND, 82),
    ("copay card: the fill was picked up on March 3, can we rebill it with the card?", COPAY, 17),
    ("pick-up was 2026-03-08, card active since today. rebill possible?", COPAY, 12),
    ("Medicare Part D patient got a refill nobody wanted, delivered Feb 25", UNWANTED, 23),
    ("unwanted auto refill arrived on the 2nd of March, commercial plan", UNWANTED, 18),
    ("PA ended on Dec 31, renew or new request?", RENEWAL, 79),
    ("approval expired November 30, 2025; is it still a renewal?", RENEWAL, 110),
    ("approval ends April 25, can I open the renewal?", RENEWAL, 36),
    ("vacation: she leaves on April 10, may we ask for the override now?", TRIP, 21),
    ("He flies April 1 and returns April 5, wants it early", TRIP, 4),
    ("away from 3/29 to 4/12, early refill?", TRIP, 14),
    ("C-II written on Jan 5, never filled. can we still fill it?", CONTROLLED, 74),
    ("partial fill of oxycodone, script dated Feb 26, is the rest still possible?", PARTIAL, 22),
    ("plan is active again after a missed premium. cash fill from Feb 10, can we rebill?", LAPSE, 38),
    ("lost his job on January 31, can he still take COBRA?", COBRA, 48),
    ("denial letter is dated Oct 15, 2025, commercial plan, can she still appeal?", APPEAL, 156),
    ("part D denial notice from January 20, how long to appeal?", APPEAL, 59),
    ("backorder hold since 3/11, when does it end?", HOLD, 9),
    ("RA-1 signed on March 1, he still waits for the PDF", RECORDS, 19),
    ("Medicare member wants to complain to the plan about something that happened Jan 12", PLAN, 67),
    ("strips run out on April 15, can we ask already?", STRIPS, 26),
    ("workers comp: patient paid cash on March 4, claim accepted today. refund?", INJURY, 16),
    ("Patient born 3/8/1962, parcel came broken", DAMAGED, None),
    ("how do I stop automatic refills from April 1 on?", REMINDER, None),
    ("hi, I am away until March 8, please stop my automatic refills", UNWANTED, None),
    ("her new plan starts April 1, code 69 on a fill from 3/18", LAPSE, None),
    (
        "vaccine appointment on 3/27 at 2 pm, can she move it?",
        ("Appointments can be booked up to 30 days ahead.",),
        None,
    ),
    ("order from 3/2, wrong strength in it", RETURN, None),
    ("he needs the tax statement from 1/1/2025 to 12/31/2025", REFUND, None),
    ("he moves on April 3, new address for all orders", PHONE, None),
    ("is the pharmacy open on May 25?", PHONE, None),
    ("lisinopril recall of March 12, lot B2214, what do I tell her?", RETURN, None),
    ("may I use my 12/25 coupon on March 20?", COPAY, None),
    ("refill due March 28, plan says too soon", SHARE, None),
)


def test_of_dated_messages_most_days_are_counted_and_few_are_wrong() -> None:
    found = [(counted(text, *lines, today=date(2026, 3, 20)), days) for text, lines, days in DATED]
    kept = sum(shown is not None and f": {days} day" in shown for shown, days in found)
    wrong = sum(shown is not None and f": {days} day" not in shown for shown, days in found)
    assert (kept, wrong) == (24, 1), found
