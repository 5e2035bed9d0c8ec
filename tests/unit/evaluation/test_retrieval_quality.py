from __future__ import annotations

from math import log2

import pytest

from assistant.evaluation.measures import mean_ndcg
from tests.unit.evaluation.results import question, unanswerable


def test_ndcg_is_the_mean_over_answerable_questions_only() -> None:
    questions = [question("q1", documents=("a",)), question("q2", documents=("b",)), unanswerable("u1")]
    found = mean_ndcg(questions, {"q1": ["a", "x"], "q2": ["x", "b"], "u1": ["x"]})
    assert found == pytest.approx((1 + 1 / log2(3)) / 2)


def test_a_question_with_no_result_counts_as_zero() -> None:
    questions = [question("q1", documents=("a",)), question("q2", documents=("b",))]
    assert mean_ndcg(questions, {"q1": ["a"], "q2": []}) == 0.5
