"""What a document's card says of it."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from assistant.documents.parsing import parse_document
from assistant.documents.passages import LONGEST_WORD, build_card, distinct_words, find_abbreviations
from assistant.domain.documents import ItemFacts
from tests.unit.documents.knowledge import document

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ask for a prior authorization (PA).", [("pa", "prior authorization")]),
        ("Ask for Prior Authorization (PA; see below).", [("pa", "prior authorization")]),
        ("Send the explanation of benefits (EOB), please.", [("eob", "explanation of benefits")]),
        ("Take hydrochlorothiazide (HCTZ) daily.", [("hctz", "hydrochlorothiazide")]),
        ("All prior authorizations (PAs) expire.", [("pa", "prior authorization")]),
        ("A heating pad (HP). Saline Solution (SS).", [("hp", "heating pad"), ("ss", "saline solution")]),
        ("Dispense as written (DAW). Delayed and wrong (DAW).", []),
        ("The plan. Authorization (PA) is next.", []),
        ("The card (CARD) is lost.", []),
        ("Call us (see below) or them (the plan).", []),
        ("No letters of it here (XYZ).", []),
        ("(PA) alone, and PA (prior authorization).", []),
        ("One letter (A), or far too many letters (ABCDEFGHIJ).", []),
        ("prior\nauthorization (PA)", []),
        ("\u0130 stanbul office (IO)", []),
        ("", []),
    ],
)
def test_abbreviations_that_a_text_defines(text: str, expected: list[tuple[str, str]]) -> None:
    assert list(find_abbreviations(text)) == expected


def test_words_are_folded_letters_of_three_or_more_each_once() -> None:
    text = f"The PLAN\u2019s plan: B12, 79 caf\u00e9, don't, re-check it; \ufb01ll {'x' * (LONGEST_WORD + 1)}"
    assert distinct_words(text) == ("caf\u00e9", "check", "fill", "plan", "the")


def test_a_card_has_the_document_s_fields_and_the_words_of_title_questions_and_text() -> None:
    source = document(
        "refill",
        "# Steps\n\nAsk for a prior authorization (PA).",
        questions=["May it be early?"],
        labels=("staff",),
        owner="claims",
        effective_date="2026-03-01",
        item={"item_id": "k2", "rating": 4.5},
    )
    card = build_card(source, parse_document(source), content_hash="hash", updated_at=NOON)
    assert (card.document_id, card.content_hash, card.updated_at) == ("refill", "hash", NOON)
    assert (card.title, card.questions, card.labels) == ("About refill", ("May it be early?",), ("staff",))
    assert (card.owner, card.effective_date) == ("claims", date(2026, 3, 1))
    assert card.abbreviations == (("pa", "prior authorization"),)
    assert card.item == ItemFacts(item_id="k2", rating=4.5)
    assert {"about", "refill", "early", "steps", "authorization"} <= set(card.words)
