import pytest

from assistant.evaluating.gate_quality import GateObservation, gate_quality, tune_gate


def observation(qid: str, *, answerable: bool, cosine: float, coverage: float) -> GateObservation:
    return GateObservation(qid=qid, answerable=answerable, best_cosine=cosine, coverage=coverage)


def test_counts_both_errors_at_the_given_thresholds() -> None:
    quality = gate_quality(
        [
            observation("a", answerable=True, cosine=0.9, coverage=0.9),
            observation("b", answerable=True, cosine=0.2, coverage=0.9),
            observation("c", answerable=False, cosine=0.9, coverage=0.9),
            observation("d", answerable=False, cosine=0.9, coverage=0.1),
        ],
        min_cosine=0.5,
        min_coverage=0.5,
    )
    assert quality.answerable_refused == 0.5
    assert quality.unanswerable_let_through == 0.5
    assert quality.precision == 0.5
    assert quality.recall == 0.5


def test_one_kind_of_question_alone_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="one kind is missing"):
        gate_quality(
            [observation("a", answerable=True, cosine=1, coverage=1)], min_cosine=0, min_coverage=0
        )


def test_tuning_separates_what_can_be_separated() -> None:
    observations = [observation(f"a{i}", answerable=True, cosine=0.7, coverage=0.8) for i in range(20)]
    observations += [observation(f"u{i}", answerable=False, cosine=0.3, coverage=0.8) for i in range(10)]
    best = tune_gate(observations)
    assert best.answerable_refused == 0.0
    assert best.unanswerable_let_through == 0.0
    assert 0.3 < best.min_cosine <= 0.7


def test_tuning_never_refuses_more_than_allowed() -> None:
    observations = [observation(f"a{i}", answerable=True, cosine=i / 20, coverage=1.0) for i in range(20)]
    observations += [observation(f"u{i}", answerable=False, cosine=0.9, coverage=1.0) for i in range(10)]
    assert tune_gate(observations, max_refused=0.1).answerable_refused <= 0.1
