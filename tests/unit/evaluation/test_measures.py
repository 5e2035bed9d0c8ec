from __future__ import annotations

import pytest

from assistant.evaluation.measures import Judged, estimate, figures, paired
from tests.unit.evaluation.results import TUNING, question, result


def test_the_halves_are_apart() -> None:
    results = [result(question("a")), result(question("b", documents=(TUNING,)), right=0.0)]
    assert figures(results, split="held_out")["right"].value == 1.0
    assert figures(results, split="tuning")["right"].value == 0.0


def test_an_interval_is_as_wide_as_documents_differ_not_questions() -> None:
    values = {f"q{n}": float(n % 2) for n in range(40)}
    each_its_own = estimate(values, {qid: qid for qid in values})
    two_documents = estimate(values, {qid: str(int(value)) for qid, value in values.items()})
    assert each_its_own.value == two_documents.value == 0.5
    assert (two_documents.low, two_documents.high) == (0.0, 1.0)
    assert 0.3 < each_its_own.low < 0.5 < each_its_own.high < 0.7


def test_two_runs_differ_question_by_question() -> None:
    before = [result(question("a")), result(question("gone"))]
    after = [result(question("a"), right=0.0), result(question("new"))]
    difference = paired(before, after)
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
