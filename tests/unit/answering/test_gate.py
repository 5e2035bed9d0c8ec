"""Three outcomes of one probability, by what right and wrong answers are worth."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from assistant.answering.gate import NOTHING_VISIBLE, Gate, explain
from assistant.answering.rank import Weights, WeightsFile
from assistant.domain.answers import Certainty, GateDecision
from assistant.settings.tenant import GateSection

BY_COSINE = Weights(
    WeightsFile(kind="gate", features={"passage_cosine": 10.0}, bias=-5.0, fitted_on="a test"), sha256="0"
)
"""Probability 0.5 at cosine 0.5."""
WORTH = GateSection(right_sure=1.0, right_possible=0.7, wrong_possible=-0.3, wrong_sure=-0.75)
"""Thresholds 0.6 and 0.3."""


def judged(
    *, cosine: float, worth: GateSection = WORTH, **features: float
) -> tuple[GateDecision, Certainty | None]:
    gate = Gate(worth)
    gate.weights = BY_COSINE
    return gate.run({"passage_cosine": cosine, **features})


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
    decision, found = judged(cosine=cosine)
    assert found is certainty
    assert decision.passed is (certainty is not None)


@pytest.mark.parametrize(
    "worth", [GateSection(), WORTH, GateSection(right_possible=0.2, wrong_possible=-1.0, wrong_sure=-3.0)]
)
def test_at_each_probability_the_outcome_is_worth_most(worth: GateSection) -> None:
    answered, possibly = worth.thresholds
    for percent in range(101):
        right = percent / 100
        sure = right * worth.right_sure + (1 - right) * worth.wrong_sure
        possible = right * worth.right_possible + (1 - right) * worth.wrong_possible
        taken = sure if right >= answered else possible if right >= possibly else 0.0
        best = max(sure, possible, 0.0)
        assert taken == pytest.approx(best)


def test_the_thresholds_of_the_default_utilities() -> None:
    answered, possibly = GateSection().thresholds
    assert (answered, possibly) == (pytest.approx(1.8 / 2.1), pytest.approx(0.2 / 0.9))


@pytest.mark.parametrize("worth", [{"right_possible": 1.0}, {"wrong_possible": -2.0}, {"answered": 0.5}])
def test_utilities_that_are_out_of_order_or_replaced_are_refused(worth: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        GateSection.model_validate(worth)


def test_a_document_about_another_number_is_never_a_sure_answer() -> None:
    assert judged(cosine=0.9, title_other_number=1.0)[1] is Certainty.POSSIBLY


def test_the_decision_keeps_numbers_and_thresholds() -> None:
    decision = judged(cosine=0.512345, coverage=1.0)[0]
    assert (decision.best_cosine, decision.coverage) == (0.5123, 1.0)
    assert decision.probability == pytest.approx(0.5308, abs=1e-4)
    assert (decision.answered_from, decision.possibly_from) == (0.6, 0.3)


def test_a_model_is_not_asked_where_every_document_is_far() -> None:
    gate = Gate(GateSection(hopeless_cosine=0.4))
    assert [gate.is_hopeless(cosine) for cosine in (-1.0, 0.39, 0.4, 0.9)] == [True, True, False, False]


def test_the_explanation_names_the_nearest_document() -> None:
    assert explain(title="Reject 79") == "Not in the knowledge base. The nearest document is “Reject 79”."


def test_where_nothing_is_visible_the_filters_and_rights_are_named() -> None:
    assert "access rights" in explain(title=None)
    assert not NOTHING_VISIBLE.passed
