"""What a sentence may say of the units that it cites. docs/decisions/0028 has the figures."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.answer.support import REASONS, Checked, SupportChecker
from assistant.domain.answers import Support
from assistant.text.language import language

ENGLISH = language("en")
UNITS = [
    "The Claims Desk (ext. 4100) sends the letter to the prescriber within 2 business days.",
    "Never fill a controlled medicine early for cash.",
    "If the parcel is lost, the Delivery Desk (ext. 4400) sends a new one.",
    "Copies cost 25 cents for one page and 5 dollars for a whole record.",
    "Mail orders of up to 30 days' supply need no signature.",
    "Take 10 mg of Lisinopril twice a day, 1,000 mg a month at most.",
    "Open from 8:00 a.m. to 5 p.m. since May 3, 2026, at (800) 555-0100; 75 percent of calls are short.",
    "The patient may not clear the alert before the pharmacist has seen it.",
    "Form CR-1 is kept for 24 hours.",
]
CHECKER = SupportChecker(
    {
        1: [f"Early refills\nSteps\n{text}" for text in UNITS],
        2: ["Pens\nPens are blue.", "Pens\nCaps are red."],
    },
    given=["Does Tramadol need 7 forms?"],
    language=ENGLISH,
)


def check(sentence: str, *units: int) -> Checked:
    return CHECKER.check(sentence, [(1, unit) for unit in units])


@pytest.mark.parametrize(
    ("sentence", "unit"),
    [
        ("The Claims Desk sends the prescriber the letter in no more than two business days.", 1),
        ("No signature is needed for mail orders of at most 30 days' supply.", 5),
        ("A patient may not clear the alert until the pharmacist has seen it.", 8),
    ],
)
def test_a_sentence_in_other_words_is_supported(sentence: str, unit: int) -> None:
    assert check(sentence, unit) == Checked(Support.SUPPORTED)


@pytest.mark.parametrize(
    ("sentence", "values"),
    [
        ("The Claims Desk sends the letter to the prescriber within 3 business days.", ("3 day",)),
        ("Take 20 mg of Lisinopril twice a day.", ("20 mg",)),
        ("Send the letter to Wegovy.", ("Wegovy",)),
        ("It opened on May 4.", ("5/4",)),
    ],
)
def test_a_value_that_nothing_given_holds_is_withheld(sentence: str, values: tuple[str, ...]) -> None:
    assert check(sentence, 1) == Checked(Support.UNSUPPORTED, "withheld", values, ("foreign_value",))


@pytest.mark.parametrize(
    "sentence",
    [
        "Take 10mg twice daily.",
        "1. Open from 8 AM to 17:00.",
        "Open since 3 May.",
        "75% of calls are short.",
        "Form CR-1 is kept for one day.",
        "The patient takes Tramadol and asks for 7 forms.",
    ],
)
def test_a_value_in_another_form_is_not_withheld(sentence: str) -> None:
    assert check(sentence, 1).detail != "withheld"


def test_a_value_of_another_unit_is_marked() -> None:
    wrong = check("The Claims Desk (ext. 4400) sends the letter to the prescriber.", 1)
    assert wrong == Checked(Support.UNSUPPORTED, "check", ("4400",), ("value_not_cited",))


def test_a_number_in_words_that_the_cited_unit_lacks_is_marked() -> None:
    wrong = CHECKER.check("Pens are blue in two cases.", [(2, 1)])
    assert wrong == Checked(Support.UNSUPPORTED, "check", ("2",), ("value_not_cited",))


def test_two_cited_units_carry_a_sentence_together() -> None:
    assert CHECKER.check("Pens are blue and caps are red.", [(2, 1), (2, 2)]).support is Support.SUPPORTED


def test_a_whole_document_may_be_cited() -> None:
    assert CHECKER.check("Pens are blue and caps are red.", [(2, None)]).support is Support.SUPPORTED


def test_a_sentence_without_a_citation_is_marked() -> None:
    assert check("Pens are blue.") == Checked(Support.UNSUPPORTED, "check", (), ("no_citation",))


def test_without_documents_nothing_is_supported() -> None:
    assert SupportChecker({}, given=(), language=ENGLISH).check("Caps are red.", []).detail == "check"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(" ".join(UNITS).split()), max_size=40).map(" ".join))
def test_any_text_is_supported_or_has_a_known_reason(text: str) -> None:
    found = check(text, 1, 2)
    assert (found.support is Support.SUPPORTED) == (found.detail is None) == (found.reasons == ())
    assert set(found.reasons) <= set(REASONS)
