"""What counts as an edit, a changed fact, a kept sentence, and the same question in other words."""

from __future__ import annotations

import pytest

from assistant.domain.answers import CandidateDocument
from assistant.learning.signals import compare, is_reformulation, keeps_any
from assistant.text.language import language
from tests.contracts import samples

ENGLISH = language("en")
SHOWN = "Take 5 mg twice a day. Do **not** take it with alcohol. Come on May 3 [1]. Use form RX100."


def test_a_text_that_was_sent_as_it_stood_has_no_distance() -> None:
    sent = "Take 5 mg twice a day. Do not take it with alcohol. Come on May 3. Use form RX100."
    edit = compare([SHOWN], sent)
    assert (edit.distance, edit.changed_facts) == (0, ())
    assert edit.words == 19


def test_the_distance_is_in_words_and_to_the_nearest_draft() -> None:
    edit = compare(["Come on day 24.", "Something else entirely, at length."], "Come by on day 24.")
    assert (edit.distance, edit.words) == (1, 5)


def test_a_text_without_a_draft_is_all_new() -> None:
    edit = compare([], "Three new words.")
    assert (edit.distance, edit.words, edit.changed_facts) == (3, 3, ())


@pytest.mark.parametrize(
    ("sent", "changed"),
    [
        ("Take 10 mg twice a day.", ("dose",)),
        ("Take 5 mg three times a day.", ("dose",)),
        ("Do take it with alcohol.", ("negation",)),
        ("Come on May 4.", ("date",)),
        ("Use form RX200.", ("code",)),
        ("Take 10 mg twice a day. Come on June 3.", ("date", "dose")),
        ("Please take 5 mg twice a day.", ()),
        ("Take 5 mg twice a day.", ()),
        ("Call us at 555 0100 if anything is unclear to you.", ()),
    ],
)
def test_a_changed_fact_has_its_kind(sent: str, changed: tuple[str, ...]) -> None:
    assert compare([SHOWN], sent).changed_facts == changed


def test_a_changed_number_is_a_changed_fact() -> None:
    assert compare(["Wait 24 days."], "Wait 23 days.").changed_facts == ("number",)


def test_a_sentence_is_kept_whatever_its_markdown() -> None:
    assert keeps_any(["It **never** expires [2]."], "Hello. It never expires. Bye.")
    assert not keeps_any(["It **never** expires [2]."], "Hello. Bye.")
    assert not keeps_any([], "Hello.")


SAME = [
    ("When may insulin be refilled?", "How early can I refill insulin?"),
    ("claim rejected code 79", "Insurance rejects the claim with code 79, refill too soon"),
    ("Does metformin interact with alcohol?", "Is alcohol allowed with metformin?"),
    ("Who signs for a controlled substance?", "Signature needed at pickup of a controlled substance"),
    ("side effects of lisinopril cough", "patient coughs since lisinopril, is that a side effect"),
]
SAME_BY_DOCUMENT = [
    (
        "Can a patient transfer a prescription to another pharmacy?",
        "moving a prescription to a different pharmacy",
    ),
    ("How long is the return window for opened shoes?", "return period shoes already worn"),
    ("flu shot age limit", "From which age do we give the flu vaccine?"),
]
OTHER = [
    ("When may insulin be refilled?", "When may adderall be refilled?"),
    ("What are the opening hours?", "Can I return worn shoes?"),
    ("How do I store insulin?", "What is the copay for insulin?"),
    ("Does metformin interact with alcohol?", "What is the highest dose of metformin?"),
    ("Can a patient transfer a prescription?", "Who may pick up a prescription?"),
    ("Prior authorization denied, next step?", "How long does a prior authorization take?"),
]
OTHER_OF_ONE_DOCUMENT = [
    ("How much is the copay for insulin?", "And for children?"),
    ("Refill 3 days early", "Refill 10 days early"),
    ("What about the flu shot for adults?", "thanks"),
]
MISSED = [
    ("What is the copay for generics?", "How much does a patient pay for generic drugs?"),
    ("delivery to a hotel", "Can an order be delivered to a hotel address?"),
]
"""The same of one document, in words with other stems."""
MISTAKEN = [("Is there a fee for express delivery?", "How long does express delivery take?")]
"""Two questions to one document that share its words."""


def decided(pair: tuple[str, str], *, one_document: bool) -> bool:
    shared = (CandidateDocument(document_id="shared", score=1.0, features={}),) if one_document else ()
    earlier, later = (
        samples.answer("a1").model_copy(update={"question": question, "candidates": shared})
        for question in pair
    )
    return is_reformulation(earlier, later, language=ENGLISH)


@pytest.mark.parametrize("pair", SAME)
def test_the_same_in_other_words_is_a_reformulation(pair: tuple[str, str]) -> None:
    assert decided(pair, one_document=False)


@pytest.mark.parametrize("pair", SAME_BY_DOCUMENT)
def test_ranking_knows_a_reformulation_that_words_do_not_show(pair: tuple[str, str]) -> None:
    assert decided(pair, one_document=True)
    assert not decided(pair, one_document=False)


@pytest.mark.parametrize("pair", OTHER)
def test_another_question_is_none(pair: tuple[str, str]) -> None:
    assert not decided(pair, one_document=False)


@pytest.mark.parametrize("pair", OTHER_OF_ONE_DOCUMENT)
def test_another_question_to_the_same_document_is_none(pair: tuple[str, str]) -> None:
    assert not decided(pair, one_document=True)


def test_what_the_rule_gets_wrong_is_known() -> None:
    """Two of 17 reformulations are missed and one of 16 others is mistaken for one, of the pairs above."""
    assert [decided(pair, one_document=True) for pair in MISSED] == [False, False]
    assert [decided(pair, one_document=True) for pair in MISTAKEN] == [True]
