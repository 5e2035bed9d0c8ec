"""Is there evidence? Decided from raw cosine and weighted coverage."""

from __future__ import annotations

import pytest

from assistant.answering.evidence_gate import evidence_features, explain, gate
from assistant.answering.language import language
from assistant.answering.vocabulary import Vocabulary
from assistant.domain.documents import Passage
from assistant.domain.retrieval import RankedPassage, Retrieved
from assistant.settings import GateSection
from tests.fakes.answering import passage

GLOSSARY = {"bounced": "rejected claim", "script": "prescription"}
REJECT_79 = passage(title="Reject 79: refill too soon", text="The claim was rejected. Wait until day 23.")


def ranked(*passages: Passage, cosine: float | None, fused_score: float = 0.03) -> tuple[RankedPassage, ...]:
    return tuple(
        RankedPassage(
            passage=each,
            rank=rank,
            fused_score=fused_score,
            lexical_rank=rank,
            lexical_score=9.0,
            vector_rank=rank,
            cosine=cosine,
        )
        for rank, each in enumerate(passages, start=1)
    )


def vocabulary() -> Vocabulary:
    return Vocabulary(language("en"), glossary=GLOSSARY)


def passes(
    question: str, *passages: Passage, cosine: float, fused_score: float = 0.03, follow_up: bool = False
) -> bool:
    retrieved = Retrieved(
        passages=ranked(*passages, cosine=cosine, fused_score=fused_score),
        best_cosine=cosine,
        index_version="1",
    )
    thresholds = GateSection(min_cosine=0.5, min_coverage=0.5)
    return gate(
        question, retrieved, thresholds=thresholds, vocabulary=vocabulary(), follow_up=follow_up
    ).passed


def coverage(question: str, *passages: Passage) -> float:
    return evidence_features(question, ranked(*passages, cosine=0.5), vocabulary=vocabulary()).coverage


def test_similar_and_covered_passes() -> None:
    assert passes("When is a rejected refill too soon?", REJECT_79, cosine=0.6)


def test_dissimilar_and_uncovered_does_not() -> None:
    assert not passes("Which vaccine protects against shingles?", REJECT_79, cosine=0.2)


@pytest.mark.parametrize(("cosine", "passed"), [(0.26, True), (0.24, False)])
def test_full_coverage_makes_up_for_a_quarter_of_cosine(cosine: float, *, passed: bool) -> None:
    assert passes("rejected refill claim", REJECT_79, cosine=cosine) is passed


@pytest.mark.parametrize(("cosine", "passed"), [(0.76, True), (0.74, False)])
def test_no_coverage_needs_a_quarter_more_of_cosine(cosine: float, *, passed: bool) -> None:
    assert passes("vaccine shingles", REJECT_79, cosine=cosine) is passed


def test_a_follow_up_on_another_subject_does_not_pass_on_the_cosine_of_the_question_before_it() -> None:
    assert passes("vaccine shingles", REJECT_79, cosine=0.9)
    assert not passes("vaccine shingles", REJECT_79, cosine=0.9, follow_up=True)
    assert passes("and the rejected claim?", REJECT_79, cosine=0.9, follow_up=True)
    assert passes("and by mail?", REJECT_79, cosine=0.9, follow_up=True)


def test_nothing_found_never_passes() -> None:
    retrieved = Retrieved(passages=(), best_cosine=0.99, index_version="1")
    lowest = GateSection(min_cosine=-1.0, min_coverage=0.0)
    assert not gate("rejected claim", retrieved, thresholds=lowest, vocabulary=vocabulary()).passed


def test_a_named_code_that_no_passage_holds_is_silence() -> None:
    assert passes("What to do about reject 79?", REJECT_79, cosine=0.9)
    assert not passes("What to do about reject 78?", REJECT_79, cosine=0.9)


def test_a_code_is_not_found_inside_another_number() -> None:
    assert not passes("What to do about reject 7?", REJECT_79, cosine=0.9)


def test_leading_zeros_of_a_code_do_not_matter() -> None:
    assert passes("code 079", REJECT_79, cosine=0.9)


def test_the_fused_score_is_not_looked_at() -> None:
    assert not passes("vaccine shingles", REJECT_79, cosine=0.2, fused_score=1.0)


def test_coverage_counts_title_and_heading() -> None:
    bare = passage(title="Transfers", heading="Escalation", text="Call.")
    assert coverage("escalation of transfers", bare) == 1.0


def test_coverage_is_over_all_passages() -> None:
    one, other = passage(title="Transfers", text="Ask."), passage(title="Parcels", text="Ask.", heading="")
    assert coverage("transfers parcels", one, other) == 1.0
    assert coverage("transfers parcels", one) < 1.0


def test_stop_words_do_not_count_and_stems_do() -> None:
    assert coverage("What do I do when claims are rejecting?", REJECT_79) == 1.0


def test_the_glossary_s_words_are_found_by_either_side() -> None:
    assert coverage("bounced", REJECT_79) == 1.0
    assert coverage("bounced", passage(title="It bounced", text="Ask.")) == 1.0


def test_a_rare_word_missing_weighs_more_than_a_common_one() -> None:
    assert coverage("claim semaglutide", REJECT_79) < coverage("claim house", REJECT_79)


def test_a_caller_s_own_number_weighs_little() -> None:
    assert coverage("claim of 68", REJECT_79) > coverage("claim of soap", REJECT_79)


def test_a_token_of_letters_and_digits_weighs_much() -> None:
    assert coverage("claim 340B", REJECT_79) < coverage("claim semaglutide", REJECT_79)


def test_missing_terms_are_named_heaviest_first() -> None:
    features = evidence_features(
        "Is the house claim for semaglutide rejected with code 12?",
        ranked(REJECT_79, cosine=0.5),
        vocabulary=vocabulary(),
    )
    assert features.missing_terms[0] == "semaglutide"
    assert set(features.missing_terms) == {"semaglutide", "house", "code", "12"}
    assert features.missing_codes == ("12",)


def test_the_best_cosine_is_that_of_the_passages_shown() -> None:
    features = evidence_features("claim", ranked(REJECT_79, cosine=None), vocabulary=vocabulary())
    assert features.best_cosine == 0.0


def test_a_question_without_content_terms_is_judged_by_meaning() -> None:
    assert coverage("And then what?", REJECT_79) == 1.0


def test_the_decision_keeps_numbers_and_thresholds() -> None:
    retrieved = Retrieved(passages=ranked(REJECT_79, cosine=0.61234), best_cosine=0.7, index_version="1")
    decision = gate(
        "claim", retrieved, thresholds=GateSection(min_cosine=0.4, min_coverage=0.6), vocabulary=vocabulary()
    )
    assert (decision.best_cosine, decision.coverage) == (0.6123, 1.0)
    assert (decision.min_cosine, decision.min_coverage) == (0.4, 0.6)


def test_the_explanation_says_what_was_looked_at() -> None:
    retrieved = Retrieved(passages=ranked(REJECT_79, cosine=0.2), best_cosine=0.2, index_version="1")
    decision = gate("shingles vaccine", retrieved, thresholds=GateSection(), vocabulary=vocabulary())
    said = explain(decision, passages=1)
    assert "0.20" in said
    assert "\u201cshingles\u201d" in said
