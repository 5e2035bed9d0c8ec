from __future__ import annotations

import pytest

from assistant.evaluation.measures import (
    Judged,
    Results,
    estimate,
    estimates,
    figures,
    judged_of,
    paired,
    spread,
)
from assistant.evaluation.questions import QuestionResult
from tests.unit.evaluation.results import HELD_OUT, TUNING, question, result, unanswerable


def values(measure: str, results: Results) -> dict[str, float]:
    judged = judged_of(results, split=None)
    return {one.id: one.values[measure] for one in judged if measure in one.values}


def by_id(*results: QuestionResult) -> dict[str, QuestionResult]:
    return {one.qid: one for one in results}


def test_all_answerable_questions_are_the_denominator() -> None:
    results = by_id(
        result(question("a")),
        result(question("b"), is_found=False, right=0.0),
        result(unanswerable("u")),
    )
    assert values("right", results) == {"a": 1.0, "b": 0.0}
    assert values("refused", results) == {"a": 0.0, "b": 1.0}
    assert values("true_refused", results) == {"u": 1.0}


def test_the_halves_are_apart() -> None:
    results = by_id(result(question("a")), result(question("b", documents=(TUNING,)), right=0.0))
    assert estimates(results, split="held_out")["right"].value == 1.0
    assert estimates(results, split="tuning")["right"].value == 0.0


def test_a_messy_message_is_held_against_its_clean_question() -> None:
    messy = result(question("m", kind="messy", clean="a"), right=0.0)
    loss = values("messy_loss", by_id(result(question("a")), messy))
    assert loss == {"m": 1.0}


def test_an_interval_is_as_wide_as_documents_differ_not_questions() -> None:
    values = {f"q{n}": float(n % 2) for n in range(40)}
    each_its_own = estimate(values, {qid: qid for qid in values})
    two_documents = estimate(values, {qid: str(int(value)) for qid, value in values.items()})
    assert each_its_own is not None
    assert two_documents is not None
    assert each_its_own.value == two_documents.value == 0.5
    assert (two_documents.low, two_documents.high) == (0.0, 1.0)
    assert 0.3 < each_its_own.low < 0.5 < each_its_own.high < 0.7


def test_an_interval_is_the_same_each_time() -> None:
    values = {f"q{n}": float(n % 3 == 0) for n in range(30)}
    clusters = {qid: qid for qid in values}
    assert estimate(values, clusters) == estimate(dict(reversed(values.items())), clusters)
    assert estimate({}, {}) is None


def test_two_runs_differ_question_by_question() -> None:
    before = by_id(result(question("a")), result(question("gone")))
    after = by_id(result(question("a"), right=0.0))
    difference = paired(before, after, split="held_out")
    assert (difference["right"].value, difference["right"].questions) == (-1.0, 1)


def test_figures_are_means_with_intervals_by_cluster() -> None:
    judged = [
        Judged("1", "k2", {"first": 1.0, "gain": 0.5}),
        Judged("2", "k2", {"first": 1.0}),
        Judged("3", "k3", {"first": 0.0}),
    ]
    found = figures(judged)
    assert found["first"].value == pytest.approx(2 / 3, abs=1e-4)
    assert (found["first"].low, found["first"].high) == (0.0, 1.0)
    assert (found["gain"].value, found["gain"].questions) == (0.5, 1)


def test_a_spread_is_median_and_95th_percentile() -> None:
    found = spread(float(n) for n in range(101))
    assert found is not None
    assert (found.p50, found.p95) == (50.0, 95.0)
    assert spread([]) is None


@pytest.mark.parametrize("document", [HELD_OUT, TUNING])
def test_the_hand_made_documents_lie_in_the_halves_that_they_are_named_for(document: str) -> None:
    assert question(documents=(document,)).split == ("held_out" if document == HELD_OUT else "tuning")
