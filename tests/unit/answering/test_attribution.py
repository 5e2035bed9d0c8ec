"""Which passages hold what a sentence says."""

from __future__ import annotations

import pytest

from assistant.answering.attribution import Attribution
from assistant.answering.language import language
from assistant.answering.passage_text import PassageText
from assistant.answering.sentences import SentenceSpan
from assistant.domain.answers import Sentence, Support
from assistant.domain.documents import Passage
from tests.fakes.answering import passage

REFILL = passage(
    "refill",
    text=(
        "Retail medicines that are not controlled may be refilled on day 23 of 30. "
        "Send other early requests to the Claims Desk at ext. 4100. "
        "Never fill a controlled medicine early for cash. "
        "The patient may choose to queue the refill."
    ),
)
TRANSFER = passage(
    "transfer",
    title="Transfer out",
    heading="",
    text="A prescription goes to another pharmacy within 1 business day. Balances owed do not delay it.",
)


def texts(*passages: Passage) -> list[PassageText]:
    return [PassageText(passage, language=language("en")) for passage in passages]


def attribute(text: str, *passages: Passage) -> Sentence:
    attribution = Attribution(texts(*passages or (REFILL, TRANSFER)), language=language("en"))
    return attribution.attribute(SentenceSpan(0, len(text), text), index=3)


@pytest.mark.parametrize(
    ("text", "citation"),
    [
        ("Retail medicines may be refilled on day 23 of 30.", 1),
        ("Refill a medicine that is not controlled on day 23.", 1),
        ("Early requests are sent to the Claims Desk.", 1),
        ("The other pharmacy has the prescription within one business day.", 2),
        ("Owed balances do not delay a transfer.", 2),
        ("Never fill early for cash.", 1),
        ("Do not fill a controlled medicine early for cash.", 1),
    ],
)
def test_a_sentence_cites_the_passage_that_holds_it(text: str, citation: int) -> None:
    sentence = attribute(text)
    assert (sentence.citations, sentence.support, sentence.reasons) == ((citation,), Support.SUPPORTED, ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Grapefruit juice interacts with several statins.", "no_passage"),
        ("Yes.", "no_passage"),
        ("Retail medicines may be refilled on day 25 of 30.", "number_not_in_passage"),
        ("Send early requests to the Claims Desk at ext. 4101.", "number_not_in_passage"),
        ("A prescription goes to another pharmacy within 1 week.", "no_passage number_not_in_passage"),
        ("Grapefruit juice needs 3 days.", "no_passage number_not_in_passage"),
        ("Grapefruit juice needs day 23.", "no_passage"),
        ("Send form PR-2 with other early requests to the Claims Desk.", "number_not_in_passage"),
        ("Fill a controlled medicine early for cash.", "negation_differs"),
        ("Balances owed delay it.", "negation_differs"),
        ("The patient may not choose to queue the refill.", "negation_differs"),
    ],
)
def test_anything_else_is_unsupported_and_says_why(text: str, reason: str) -> None:
    sentence = attribute(text)
    assert (sentence.citations, sentence.support) == ((), Support.UNSUPPORTED)
    assert sentence.reasons == tuple(reason.split())


def test_scattered_words_of_a_long_passage_are_no_statement() -> None:
    scattered = passage(
        text=(
            "Nurses call. Lunch waits. Doctors sign. Forms exist. Claims wait. Bells ring. "
            "Couriers drive. Rain falls. Shelves bend. Stores open."
        ),
        title="Notes",
        heading="",
    )
    assert attribute("Nurses sign forms so that couriers reach stores.", scattered).citations == ()


def test_of_two_that_fit_the_better_and_then_the_first_is_cited() -> None:
    weaker = passage("weaker", text="Retail medicines may be refilled.", heading="")
    assert attribute("Retail medicines may be refilled.", weaker, REFILL).citations == (1,)
    assert attribute(
        "Retail medicines that are not controlled may be refilled.", weaker, REFILL
    ).citations == (2,)


def test_two_passages_are_cited_that_only_together_hold_the_sentence() -> None:
    morning = passage("morning", title="Morning", heading="", text="Insulin parcels leave Monday mornings.")
    evening = passage("evening", title="Evening", heading="", text="Ointment boxes travel Friday evenings.")
    both = "Insulin parcels leave Monday mornings, ointment boxes travel Friday evenings."
    assert attribute(both, morning, evening).citations == (1, 2)


def test_title_and_heading_count() -> None:
    bare = passage(title="Refill too soon", heading="Escalation", text="Call ext. 4100.")
    assert attribute("For escalation of a refill that is too soon, call ext. 4100.", bare).citations == (1,)


def test_without_passages_nothing_is_supported() -> None:
    attribution = Attribution((), language=language("en"))
    sentence = attribution.attribute(SentenceSpan(0, 8, "Take it."), index=0)
    assert (sentence.support, sentence.reasons) == (Support.UNSUPPORTED, ("no_passage",))


def test_the_sentence_keeps_its_place() -> None:
    attribution = Attribution(texts(REFILL), language=language("en"))
    sentence = attribution.attribute(SentenceSpan(7, 19, "Queue a refill."), index=4)
    assert (sentence.index, sentence.start, sentence.end) == (4, 7, 19)
