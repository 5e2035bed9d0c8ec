"""The check of a text for a patient, against lines, what the patient said, and a draft."""

from __future__ import annotations

import pytest

from assistant.options.reply.check import check_reply
from assistant.text.language import language

LINE = "Damaged item\n\nThe desk ships a replacement within 14 days. Keep the item for 7 days, not longer."
SAID = "Rosa, order 7714402, came broken on 11/30. when does the replacement ship"

CLOSINGS = (
    "Get well soon, Ines",
    "Warmly, Anna from the care line",
    "Get well wishes from Pat in the pharmacy",
    "Yours, Dr. Weiss's office",
    "Kind regards, Teresa from the diabetes line",
    "Wishing you strength, Helen",
)
NOT_CLOSINGS = (
    " Humana pays.",
    "\n\nOur courier is Humana",
    "\n\nAsk your insurer, Humana",
    "\n\nYou may need:\n- Humana",
    " Please call Humana, Sam",
)


def faults(text: str, *, line: str = LINE) -> list[tuple[str, tuple[str, ...]]]:
    checks = check_reply(text, lines=[line], given=[SAID], language=language("en"))
    return [(check.kind, check.values) for check in checks]


@pytest.mark.parametrize(
    "text",
    [
        "Rosa, a new one ships within two weeks.",
        "Keep what came for a week; the new one is there in 14 days.",
        "Hang on to it for a week, please.",
        "Hi Dana,\n\na new one ships within 14 days.\n\nBest regards,\nSam Oduya",
        "Dear Ms. Oduya, a new one ships within 14 days. Kind regards, Sam",
        "Good morning Ngozi! It ships within 14 days.\nThanks\nYour Support Team",
        "Hello, it ships within 14 days. Best, Ngozi",
        "Hey there Ngozi, it ships within 14 days.",
        "Thank you for writing, Ngozi. It ships within 14 days.",
        "Hello Xiomara and family,\nit ships within 14 days.\n\nTake care!\nSunniva",
        *(f"{opening} it ships within 14 days." for opening in ("Gladly,", "Outlook:")),
        *(f"It ships within 14 days.{break_}{closing}" for closing in CLOSINGS for break_ in ("\n", "\n\n")),
    ],
)
def test_a_right_reply_is_not_stopped(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Rosa, a new one ships within three weeks.", "3 week"),
        ("A new one ships within a month, after 14 days.", "1 month"),
        ("It ships in 14 months.", "14 month"),
        ("On order 7714420 a new one ships within 14 days.", "7714420"),
        ("Hi, Rita Kowalski ships a new one within 14 days.", "Kowalski"),
        ("Hello Take Metformin, it ships within 14 days.", "Metformin"),
        ("It ships within 14 days. Thanks, Take Metformin.", "Metformin"),
        *((f"It ships within 14 days.{line}", "Humana") for line in NOT_CLOSINGS),
        ("With Humana, it ships within 14 days.", "Humana"),
        ("Dear Sam, it ships within 14 days. Ask Kowalski. Regards, Sam", "Kowalski"),
        ("It ships within 14 days, and 7 days more, so 22 days.", "22 day"),
        ("Ngozi, a new one ships within 14 days.", "Ngozi"),
        ("A new one ships within 14 days, by January 2.", "1/2"),
    ],
)
def test_what_nothing_holds_is_named(text: str, value: str) -> None:
    (kind, values), *_ = faults(text)
    assert (kind, value in values) == ("not_held", True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("About order 7714402: it ships within 14 days, by December 14.", "12/14"),
        ("It ships in 14 days and you keep it for 7 days: 21 days.", "21 day"),
    ],
)
def test_what_code_derives_is_told_and_stops_nothing(text: str, value: str) -> None:
    assert faults(text) == [("reckoned", (value,))]


def test_a_reply_that_repeats_a_line_without_a_value_lacks_none() -> None:
    line = f"{LINE} The replacement ships in a plain box."
    assert faults("Your replacement ships in a plain box.", line=line) == []


def test_the_number_of_a_step_holds_no_value() -> None:
    line = "Photos\n\n5. The desk ships a new one after three photos."
    assert faults("We ship a new one after 5 photos.", line=line) == [("not_held", ("5",))]
    assert faults("We ship a new one after 3 photos.", line=line) == []
