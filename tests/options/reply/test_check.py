"""The values and names of a text for a patient that neither lines nor the conversation have."""

from __future__ import annotations

import pytest

from assistant.options.reply.write import foreign_in
from assistant.text.language import language
from assistant.text.values import Values

LINE = "The desk ships a replacement within 14 days. Keep the item for 7 days, not longer."
SAID = "Rosa, order 7714402, came broken on 11/30. when does the replacement ship"

CLOSINGS = (
    "Get well soon, Ines",
    "Warmly, Anna from the care line",
    "Yours, Dr. Weiss's office",
    "Kind regards, Teresa from the diabetes line",
)


def faults(text: str, *, line: str = LINE) -> list[tuple[str, tuple[str, ...]]]:
    held = Values.joined([Values.of(part, language("en")) for part in (line, SAID)])
    return [(check.kind, check.values) for check in foreign_in(text, held, but={"911"})]


@pytest.mark.parametrize(
    "text",
    [
        "Rosa, a new one ships within two weeks.",
        "Keep what came for a week; the new one is there in 14 days.",
        "Hi Dana,\n\na new one ships within 14 days.\n\nBest regards,\nSam Oduya",
        "Dear Ms. Oduya, a new one ships within 14 days. Kind regards, Sam",
        "Good morning Ngozi! It ships within 14 days.\nThanks\nYour Support Team",
        "Hello, it ships within 14 days. Best, Ngozi",
        "Hey there Ngozi, it ships within 14 days.",
        "Thank you for writing, Ngozi. It ships within 14 days.",
        "Hello Xiomara and family,\nit ships within 14 days.\n\nTake care!\nSunniva",
        "Call 911 now.",
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
        ("It ships in 14 months.", "14 month"),
        ("On order 7714420 a new one ships within 14 days.", "7714420"),
        ("Hi, Rita Kowalski ships a new one within 14 days.", "Kowalski"),
        ("It ships within 14 days, says Dr. Kowalski.", "Kowalski"),
        ("Dear Sam, it ships within 14 days. Ask Kowalski. Regards, Sam", "Kowalski"),
        ("It ships within 14 days, and 7 days more, so 22 days.", "22 day"),
        ("A new one ships within 14 days, by January 2.", "1/2"),
        ("Take 911 mg.", "911 mg"),
    ],
)
def test_what_nothing_holds_is_named(text: str, value: str) -> None:
    (kind, values), *_ = faults(text)
    assert (kind, value in values) == ("not_held", True)


def test_the_number_of_a_step_holds_no_value() -> None:
    line = "5. The desk ships a new one after three photos."
    assert faults("We ship a new one after 5 photos.", line=line) == [("not_held", ("5",))]
    assert faults("We ship a new one after 3 photos.", line=line) == []
