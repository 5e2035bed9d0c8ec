"""Is there evidence? Three outcomes of one probability, and a named code that decides alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from assistant.answering.gate import NOTHING_VISIBLE, Gate, Judged, explain, gate_features, missing_in
from assistant.answering.quote import Headings, QuestionTerms, UnitScorer
from assistant.answering.retrieve import RankedDocument, Weights, WeightsFile
from assistant.answering.understand import Term, Vocabulary
from assistant.domain.answers import Certainty, GateDecision
from assistant.domain.documents import StoredDocument
from assistant.settings.tenant import GateSection
from assistant.text.language import language
from tests.fakes.answering import document

GLOSSARY = {"bounced": "rejected claim", "script": "prescription"}
REJECT_79 = document(
    "reject-79", "The claim was rejected. Wait until day 23.", title="Reject 79: refill too soon"
)
THRESHOLDS = GateSection(answered=0.6, possibly=0.3)
BY_COSINE = Weights(
    WeightsFile(kind="gate", features={"passage_cosine": 10.0}, bias=-5.0, fitted_on="a test"), sha256="0"
)
"""Probability 0.5 at cosine 0.5."""


def vocabulary() -> Vocabulary:
    return Vocabulary(language("en"), glossary=GLOSSARY)


def held_by(*documents: StoredDocument) -> frozenset[str]:
    texts = "\n".join(passage.embedding_input for one in documents for passage in one.passages)
    return language("en").content_stems(texts)


def features_of(
    question: str, stored: StoredDocument = REJECT_79, *, ranked: Mapping[str, float] | None = None
) -> dict[str, float]:
    terms = vocabulary().terms(question)
    quoter = Weights(WeightsFile(kind="quoter", features={"overlap": 5.0}, fitted_on="a test"), sha256="0")
    scorer = UnitScorer(language("en"), quoter, Headings.of(reply=(), condition=()))
    scored = scorer.score(QuestionTerms(terms, question), stored, passage_cosines={})
    best = RankedDocument(stored.card.document_id, 3.0, ranked or {"passage_cosine": 0.6})
    return gate_features(QuestionTerms(terms, question), [best], scored, stems=held_by(stored))


def coverage(question: str, stored: StoredDocument = REJECT_79) -> float:
    return features_of(question, stored)["coverage"]


def judged(
    question: str = "claim",
    *,
    cosine: float,
    own_terms: tuple[Term, ...] = (),
    thresholds: GateSection = THRESHOLDS,
    stored: StoredDocument = REJECT_79,
) -> Judged:
    return Gate(BY_COSINE, thresholds).judge(
        {"passage_cosine": cosine, "coverage": coverage(question, stored)},
        terms=vocabulary().terms(question),
        missing_codes=missing_in(vocabulary().named_codes(question), stored),
        stems=held_by(stored),
        own_terms=own_terms,
    )


@pytest.mark.parametrize(
    ("cosine", "certainty"),
    [
        (0.9, Certainty.ANSWERED),
        (0.55, Certainty.ANSWERED),
        (0.5, Certainty.POSSIBLY),
        (0.43, Certainty.POSSIBLY),
        (0.4, None),
        (0.0, None),
    ],
)
def test_the_probability_has_three_outcomes(cosine: float, certainty: Certainty | None) -> None:
    outcome = judged(cosine=cosine)
    assert outcome.certainty is certainty
    assert outcome.decision.passed is (certainty is not None)


@pytest.mark.parametrize(
    ("answered", "possibly", "certainty"),
    [(0.5, 0.5, Certainty.ANSWERED), (0.51, 0.5, Certainty.POSSIBLY), (0.51, 0.51, None)],
)
def test_a_threshold_itself_is_enough(answered: float, possibly: float, certainty: Certainty | None) -> None:
    thresholds = GateSection(answered=answered, possibly=possibly)
    assert judged(cosine=0.5, thresholds=thresholds).certainty is certainty


def test_a_named_code_that_the_document_does_not_hold_is_silence() -> None:
    assert judged("What to do about reject 79?", cosine=0.9).certainty is Certainty.ANSWERED
    silent = judged("What to do about reject 78?", cosine=0.9)
    assert (silent.certainty, silent.decision.probability) == (None, 0.0)
    assert silent.decision.missing_terms[0] == "78"


def test_a_code_is_not_found_inside_another_number() -> None:
    assert judged("What to do about reject 7?", cosine=0.9).certainty is None


def test_leading_zeros_of_a_code_do_not_matter() -> None:
    assert judged("code 079", cosine=0.9).certainty is Certainty.ANSWERED


def test_each_of_two_named_codes_must_be_held() -> None:
    assert judged("Is it reject 79 or reject 75?", cosine=0.9).certainty is None


def test_a_number_that_is_not_called_a_code_may_be_missing() -> None:
    assert judged("She has 78 tablets", cosine=0.9).certainty is Certainty.ANSWERED


@pytest.mark.parametrize(
    ("question", "certainty"),
    [
        ("vaccine shingles", None),
        ("and the rejected claim?", Certainty.ANSWERED),
        ("and refills of a vaccine for shingles?", Certainty.ANSWERED),
        ("and by mail?", Certainty.ANSWERED),
        ("and then?", Certainty.ANSWERED),
    ],
)
def test_a_follow_up_on_another_subject_does_not_pass_on_the_scores_of_the_question_before_it(
    question: str, certainty: Certainty | None
) -> None:
    own_terms = vocabulary().terms(question)
    assert judged(question, cosine=0.9, own_terms=own_terms).certainty is certainty
    assert judged(question, cosine=0.9).certainty is Certainty.ANSWERED


def test_the_fused_score_is_not_looked_at() -> None:
    low, high = (features_of("claim", ranked={"fused_score": fused}) for fused in (0.0, 1.0))
    assert low == high


def test_the_cosine_is_that_of_the_best_document_and_none_counts_as_0() -> None:
    assert features_of("claim", ranked={"passage_cosine": 0.61})["passage_cosine"] == 0.61
    assert features_of("claim", ranked={"text_score": 3.0})["passage_cosine"] == 0.0


def test_coverage_counts_title_and_heading() -> None:
    bare = document("transfer", "## Escalation\n\nCall.", title="Transfers")
    assert coverage("escalation of transfers", bare) == 1.0


def test_terms_that_stand_together_count_apart_from_those_all_over_the_document() -> None:
    filler = "Call the desk. " * 3
    scattered = document("scattered", f"Transfers wait. {filler} Parcels wait.", title="Notes")
    together = document("together", f"Transfers wait. Parcels wait. {filler}", title="Notes")
    for stored, least, most in ((scattered, 0.3, 0.7), (together, 1.0, 1.0)):
        features = features_of("transfers parcels", stored)
        assert features["coverage"] == 1.0
        assert least <= features["coverage_together"] <= most


def test_stop_words_do_not_count_and_stems_do() -> None:
    assert coverage("What do I do when claims are rejecting?") == 1.0


def test_the_glossary_s_words_are_found_by_either_side() -> None:
    assert coverage("bounced") == 1.0
    assert coverage("bounced", document("bounced", "Ask.", title="It bounced")) == 1.0


def test_a_rare_word_missing_weighs_more_than_a_common_one() -> None:
    assert coverage("claim semaglutide") < coverage("claim house")


def test_a_caller_s_own_number_weighs_little() -> None:
    assert coverage("claim of 68") > coverage("claim of soap")


def test_a_token_of_letters_and_digits_weighs_much() -> None:
    assert coverage("claim 340B") < coverage("claim semaglutide")


def test_a_question_without_content_terms_has_no_coverage() -> None:
    """The probability is left to the other features: words that say nothing are no evidence."""
    assert coverage("And then what?") == 0.0


def test_missing_terms_are_named_heaviest_first_after_codes() -> None:
    decision = judged("Is the house claim for semaglutide rejected with code 12?", cosine=0.9).decision
    assert decision.missing_terms[:2] == ("12", "semaglutide")
    assert set(decision.missing_terms) == {"semaglutide", "house", "code", "12"}


def test_the_decision_keeps_numbers_and_thresholds() -> None:
    decision = judged(cosine=0.512345).decision
    assert (decision.best_cosine, decision.coverage) == (0.5123, 1.0)
    assert decision.probability == pytest.approx(0.5308, abs=1e-4)
    assert (decision.answered_from, decision.possibly_from) == (0.6, 0.3)


def test_the_explanation_names_the_missing_words_and_the_nearest_document() -> None:
    decision = judged("shingles vaccine", cosine=0.2).decision
    assert explain(decision, title="Reject 79") == (
        "Not in the knowledge base. "
        "The nearest document is “Reject 79”, which says nothing of “shingles” or “vaccine”."
    )


def test_the_explanation_names_three_words_at_most() -> None:
    decision = GateDecision(passed=False, best_cosine=0.0, coverage=0.0, missing_terms=tuple("abcd"))
    assert "“a”, “b” or “c”." in explain(decision, title="Reject 79")


def test_the_explanation_names_no_word_where_none_is_missing() -> None:
    decision = GateDecision(passed=False, best_cosine=0.0, coverage=1.0)
    assert explain(decision, title="Reject 79") == (
        "Not in the knowledge base. The nearest document is “Reject 79”."
    )


def test_the_explanation_is_in_an_agent_s_words() -> None:
    said = explain(judged("shingles vaccine", cosine=0.2).decision, title="Reject 79")
    assert not any(word in said for word in ("cosine", "probability", "coverage", "0.", "threshold"))


def test_where_nothing_is_visible_the_filters_and_rights_are_named() -> None:
    assert "access rights" in explain(NOTHING_VISIBLE, title=None)
    assert not NOTHING_VISIBLE.passed
