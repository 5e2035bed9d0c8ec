"""Which sentences a unit carries whole. The figures over generated pairs stand in docs/decisions/0028."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.answering.support import REASONS, SupportChecker
from assistant.domain.documents import Document, Passage
from assistant.knowledge.files import SourceDocument, read_sources
from assistant.knowledge.parsing import parse_document
from assistant.knowledge.passages import PassageCutter
from assistant.text.language import language
from tests.fakes.answering import UPDATED_AT
from tests.unit.answering.support_pairs import Half, SupportPair, half_of, support_pairs
from tests.unit.knowledge.knowledge import word_counts

ROOT = Path(__file__).parents[3]
TENANTS = ("clinic", "pharmacy")
ENGLISH = language("en")
PAGE = """
# Early refills

## Steps

1. The Claims Desk (ext. 4100) sends the letter to the prescriber within 2 business days.
2. Never fill a controlled medicine early for cash.
3. If the parcel is lost, the Delivery Desk (ext. 4400) sends a new one.
4. Only a pharmacist may clear the alert.
5. Offer a callback unless the patient wants to wait.
6. Copies cost 25 cents for one page and 5 dollars for a whole record.
7. Treat a bottle that was left in the sun as damaged.
8. Mail orders of up to 30 days' supply need no signature.

## Time limits

| Plan | File within | Decision |
|---|---|---|
| Medicare | 65 days | 72 hours |
| Commercial | 180 days | 30 days |

## Exceptions

- **Cash fills.** We do not reverse them.
- The cold chain team inspects each red card. Its report goes to the Safety Office.
- An appeal is free. The plan answers in writing.
"""


def passages(document: Document) -> tuple[Passage, ...]:
    cutter = PassageCutter(word_counts(), max_tokens=256, language=ENGLISH)
    return cutter.cut(document, parse_document(document), content_hash="hash", updated_at=UPDATED_AT)


@cache
def page() -> SupportChecker:
    document = Document(document_id="early", title="Early refills", content=PAGE, media_type="text/markdown")
    return SupportChecker(passages(document), language=ENGLISH)


def reason(sentence: str) -> str | None:
    """Return why a sentence about the page above is unsupported; None of a supported one."""
    result = page().check(sentence)
    assert bool(result.citations) != bool(result.reasons)
    return result.reasons[0] if result.reasons else None


@pytest.mark.parametrize(
    "sentence",
    [
        "The Claims Desk sends the letter to the prescriber within 2 business days.",
        "Within two business days, the letter is sent to the prescriber by the Claims Desk.",
        "The Claims Desk forwards the letter to the prescriber in no more than two business days.",
        "Under no circumstances fill a controlled medicine early for cash.",
        "You must not fill a controlled medicine early for cash.",
        "The Delivery Desk sends a new parcel when the parcel is lost.",
        "Unless the patient wants to wait, offer a callback.",
        "A whole record costs $5.",
        "No signature is needed for mail orders of at most 30 days' supply.",
        "For Medicare, file within 65 days.",
        "The decision for a commercial plan takes 30 days.",
        "We do not reverse cash fills.",
    ],
)
def test_a_sentence_in_other_words_is_supported(sentence: str) -> None:
    assert reason(sentence) is None


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        pytest.param("The Claims Desk sends the letter to the Safety Office.", "no_unit", id="object"),
        pytest.param("Grapefruit juice interacts with several statins.", "no_unit", id="unheard of"),
        pytest.param(
            "The Claims Desk sends the letter within 3 business days.", "number_differs", id="number"
        ),
        pytest.param("A whole record costs 25 cents.", "number_differs", id="number of another thing"),
        pytest.param(
            "Mail orders of at least 30 days' supply need no signature.", "number_differs", id="limit"
        ),
        pytest.param("For Medicare, the decision takes 30 days.", "number_differs", id="row"),
        pytest.param("The decision takes 72 hours.", "row_differs", id="row unnamed"),
        pytest.param("Fill a controlled medicine early for cash.", "negation_differs", id="negation dropped"),
        pytest.param("Mail orders of up to 30 days' supply need a signature.", "negation_differs", id="no"),
        pytest.param(
            "Do not treat a bottle that was left in the sun as damaged.", "negation_differs", id="not"
        ),
        pytest.param("Offer a callback if the patient wants to wait.", "negation_differs", id="inverted"),
        pytest.param("The Delivery Desk sends a new parcel.", "condition_dropped", id="condition dropped"),
        pytest.param("The parcel is lost.", "condition_dropped", id="condition as a fact"),
        pytest.param(
            "The Delivery Desk sends a new one, whether or not the parcel is lost.",
            "condition_dropped",
            id="condition denied",
        ),
        pytest.param("We do not reverse them.", "condition_dropped", id="label dropped"),
        pytest.param("A patient may clear the alert.", "actor_differs", id="actor"),
        pytest.param(
            "The prescriber sends the letter to the Claims Desk within 2 business days.",
            "actor_differs",
            id="actor and object exchanged",
        ),
        pytest.param(
            "If the parcel is lost, the Claims Desk sends the letter to the prescriber.",
            "no_unit",
            id="merge",
        ),
    ],
)
def test_a_wrong_claim_is_flagged_with_its_reason(sentence: str, expected: str) -> None:
    assert reason(sentence) == expected


def test_two_adjacent_units_carry_a_sentence_that_joins_them() -> None:
    assert reason("An appeal is free, and the plan answers in writing.") is None


def test_units_that_are_not_adjacent_do_not_carry_a_sentence_together() -> None:
    assert reason("An appeal is free, and the Claims Desk sends the letter to the prescriber.") == "no_unit"


def test_the_desk_is_the_one_that_was_named_before_it() -> None:
    content = "## Steps\n\n1. Send it to the Claims Desk.\n2. The desk answers within 2 days.\n"
    document = Document(document_id="d", title="Claims", content=content, media_type="text/markdown")
    checker = SupportChecker(passages(document), language=ENGLISH)
    assert checker.check("The Claims Desk answers within 2 days.").citations == (1,)


def test_the_citation_is_the_number_of_the_passage() -> None:
    first = Document(document_id="a", title="Pens", content="Pens are blue.", media_type="text/markdown")
    other = Document(document_id="b", title="Caps", content="Caps are red.", media_type="text/markdown")
    checker = SupportChecker([*passages(first), *passages(other)], language=ENGLISH)
    assert checker.check("Caps are red.").citations == (2,)


def test_without_passages_nothing_is_supported() -> None:
    assert SupportChecker([], language=ENGLISH).check("Caps are red.").reasons == ("no_unit",)


@pytest.mark.parametrize("sentence", ["", " ", "...", "Yes, please ask them.", "It is what it is.", "5."])
def test_a_sentence_that_says_nothing_is_unsupported(sentence: str) -> None:
    assert reason(sentence) == "no_unit"


def test_a_long_sentence_is_checked() -> None:
    assert reason("If the parcel is lost, send 5 letters and call " * 110) is not None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(PAGE.split()), max_size=40).map(" ".join))
def test_any_text_has_citations_or_a_known_reason(text: str) -> None:
    result = page().check(text)
    assert result.citations or (len(result.reasons) == 1 and result.reasons[0] in REASONS)


@cache
def checker_of(tenant: str) -> dict[str, SupportChecker]:
    items = read_sources([ROOT / "knowledge" / tenant])
    documents = [item.document for item in items if isinstance(item, SourceDocument)]
    held_out = [document for document in documents if half_of(document.document_id) == "held_out"]
    return {d.document_id: SupportChecker(passages(d), language=ENGLISH) for d in held_out}


def is_supported(pair: SupportPair) -> bool:
    return bool(checker_of(pair.tenant)[pair.document_id].check(pair.claim).citations)


@cache
def generated(half: Half = "held_out") -> list[SupportPair]:
    pairs = [pair for tenant in TENANTS for pair in support_pairs(ROOT / "knowledge" / tenant, tenant=tenant)]
    return [pair for pair in pairs if pair.half == half]


def by_hand(name: str) -> Iterator[SupportPair]:
    for line in (ROOT / "evaluation" / "support" / name).read_text(encoding="utf-8").splitlines():
        fields = {"kind": "faithful", "form": "by hand", **json.loads(line)}
        half = half_of(fields["document_id"])
        if half == "held_out":
            del fields["id"]
            yield SupportPair(half=half, **fields)


def test_of_wrong_claims_at_most_5_percent_are_supported_and_10_of_each_kind() -> None:
    wrong = [pair for pair in generated() if pair.kind != "faithful"]
    of_kind = Counter(pair.kind for pair in wrong)
    supported = Counter(pair.kind for pair in wrong if is_supported(pair))
    assert supported.total() <= 0.05 * len(wrong)
    assert {kind: count for kind, count in supported.items() if count > 0.1 * of_kind[kind]} == {}


def test_of_scripted_faithful_claims_at_most_5_percent_are_flagged() -> None:
    faithful = [pair for pair in generated() if pair.kind == "faithful"]
    assert sum(not is_supported(pair) for pair in faithful) <= 0.05 * len(faithful)


def test_of_paraphrases_by_hand_at_most_40_percent_are_flagged() -> None:
    faithful = list(by_hand("paraphrases.jsonl"))
    assert sum(not is_supported(pair) for pair in faithful) <= 0.4 * len(faithful)


def test_of_wrong_claims_by_hand_at_most_5_percent_are_supported() -> None:
    wrong = list(by_hand("wrong_claims.jsonl"))
    assert sum(map(is_supported, wrong)) <= 0.05 * len(wrong)


def test_each_tenant_has_pairs_of_each_kind() -> None:
    count = Counter((p.tenant, p.kind) for half in ("tuning", "held_out") for p in generated(half))
    least = {(tenant, kind): 200 if kind == "faithful" else 60 for tenant, kind in count}
    assert len(count) == len(TENANTS) * 8
    assert {key: n for key, n in count.items() if n < least[key]} == {}
