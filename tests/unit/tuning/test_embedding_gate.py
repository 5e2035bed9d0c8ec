"""The gate of a tuned embedding model: gains, checks, looks, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.evaluation.measures import Results
from assistant.tuning.gate import (
    LOOKS,
    TRAINING_FACTS,
    VECTOR_LEG,
    checks_of,
    count_look,
    gains_of,
    read_tuning_facts,
    refusals,
)
from tests.unit.evaluation.results import question, result, unanswerable

N = 400


def results(vector: float = 0.6, *, lost: int = 0, wrongly_answered: int = 0) -> Results:
    """Return results of N questions about documents of their own, of which ``lost`` miss the document."""
    found = [
        result(
            question(f"q{number}", documents=(f"d{number}",), answer_contains=("7 days",)),
            vector_ndcg=vector,
            ndcg=0.0 if number < lost else 1.0,
            first=0.0 if number < lost else 1.0,
            right=float(number >= lost),
        )
        for number in range(N)
    ]
    found += [
        result(unanswerable(f"u{number}"), outcome="answered" if number < wrongly_answered else "refused")
        for number in range(100)
    ]
    return {one.qid: one for one in found}


def judged(before: Results, after: Results) -> tuple[str, ...]:
    return refusals(gains_of(before, after), checks_of(before, after))


def test_a_model_that_finds_more_and_loses_nothing_passes() -> None:
    assert judged(results(0.6), results(0.7)) == ()


def test_the_gain_is_told_with_a_paired_interval() -> None:
    (gain,) = [one for one in gains_of(results(0.6), results(0.7)) if one.name == VECTOR_LEG]
    assert (gain.before, gain.after) == (0.6, 0.7)
    assert gain.difference.questions == N
    assert gain.difference.low == pytest.approx(0.1)


def test_a_model_whose_vectors_find_no_more_is_refused() -> None:
    (reason,) = judged(results(0.6), results(0.6))
    assert reason == "vector leg, nDCG@10: +0.0 points. A tuned model must find more."


def test_a_model_that_may_lose_more_than_two_points_of_the_sum_is_refused() -> None:
    reasons = judged(results(0.6), results(0.7, lost=6))
    assert [reason.split(":")[0] for reason in reasons] == [
        "whole sum, nDCG@10",
        "right document first",
        "quoted answer right",
    ]


def test_a_model_that_answers_unanswerable_questions_is_refused() -> None:
    (reason,) = judged(results(0.6), results(0.7, wrongly_answered=8))
    assert reason.startswith("unanswerable: not answered without a warning")


def test_too_few_questions_refuse_any_model() -> None:
    few = [
        {qid: one for qid, one in found.items() if qid in {"q1", "q2"}} for found in (results(), results(0.9))
    ]
    assert "2 questions about unseen documents; 60 are needed." in judged(*few)


def test_questions_without_a_known_text_judge_no_quote() -> None:
    generated = {
        qid: one.model_copy(update={"question": one.question.model_copy(update={"answer_contains": ()})})
        for qid, one in results().items()
    }
    assert "quoted answer right" not in {check.name for check in checks_of(generated, generated)}


def test_each_model_is_one_look_at_the_same_questions(tmp_path: Path) -> None:
    ledger = tmp_path / "looks.jsonl"
    looks = [count_look(ledger, questions_sha256="q", model_sha256=model) for model in ("a", "b", "a")]
    assert looks == [1, 2, 1]
    assert count_look(ledger, questions_sha256="other", model_sha256="b") == 1


def test_no_look_is_left_after_the_last(tmp_path: Path) -> None:
    ledger = tmp_path / "looks.jsonl"
    for number in range(LOOKS):
        count_look(ledger, questions_sha256="q", model_sha256=f"{number}")
    with pytest.raises(ConfigurationError, match="Write other questions"):
        count_look(ledger, questions_sha256="q", model_sha256="one more")


def test_a_damaged_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "looks.jsonl").write_text('{"questions": "q"}\n')
    with pytest.raises(ConfigurationError, match="ledger of looks is damaged"):
        count_look(tmp_path / "looks.jsonl", questions_sha256="q", model_sha256="a")


def facts(folder: Path, **changed: object) -> Path:
    base = {
        "task": "embedding",
        "training_set": "s",
        "held_out": ["d1"],
        "mix": 0.5,
        "set": {"tenant": "clinic"},
        "loss": {"first": 1.0},
    }
    (folder / TRAINING_FACTS).write_text(json.dumps({**base, **changed}))
    return folder


def test_the_facts_beside_tuned_weights_are_read(tmp_path: Path) -> None:
    found = read_tuning_facts(facts(tmp_path), tenant="clinic")
    assert (found.held_out, found.mix, found.tenant) == (("d1",), 0.5, "clinic")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"set": {"tenant": "pharmacy"}}, "was tuned on pairs of pharmacy, not of clinic"),
        ({"task": "answers"}, "task: Input should be 'embedding'"),
        ({"mix": 0.0}, "mix: Input should be greater than 0"),
    ],
)
def test_facts_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_tuning_facts(facts(tmp_path, **changed), tenant="clinic")


def test_weights_without_facts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Name a folder that the training job wrote"):
        read_tuning_facts(tmp_path, tenant="clinic")
