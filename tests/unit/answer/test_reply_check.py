"""The check of a text for a patient, against lines, what the patient said, and a draft."""

from __future__ import annotations

import pytest

from assistant.answer.reply_check import check_reply
from assistant.text.language import language

LINE = "Damaged item\n\nThe desk ships a replacement within 14 days. Keep the item for 7 days, not longer."
SAID = "Rosa, order 7714402, came broken on 11/30. when does the replacement ship"


def faults(text: str, *, line: str = LINE) -> list[tuple[str, tuple[str, ...]]]:
    checks = check_reply(text, lines=[line], given=[SAID], language=language("en"))
    return [(check.kind, check.values) for check in checks]


@pytest.mark.parametrize(
    "text",
    [
        "Rosa, a new one ships within two weeks.",
        "Keep what came for a week; the new one is there in 14 days.",
        "About order 7714402: it ships within 14 days, by December 14.",
        "Hang on to it for a week, please.",
    ],
    ids=["another unit", "a week", "a reckoned date", "no name"],
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
        ("Hi Rita, a new one ships within 14 days.", "Rita"),
        ("Ngozi, a new one ships within 14 days.", "Ngozi"),
        ("A new one ships within 14 days, by January 2.", "1/2"),
    ],
)
def test_what_nothing_holds_is_named(text: str, value: str) -> None:
    (kind, values), *_ = faults(text)
    assert (kind, value in values) == ("not_held", True)


def test_a_line_said_the_other_way_round_is_a_contradiction() -> None:
    line = "Refunds\n\nA closed card does not get a refund from the desk within 14 days."
    assert faults("A closed card does get a refund from the desk within 14 days.", line=line) == [
        ("contradicts", ())
    ]


def test_a_reply_without_any_value_of_the_lines_lacks_one() -> None:
    assert faults("We send a new one soon.") == [("missing", ("14 day",))]
