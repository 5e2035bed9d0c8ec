import pytest

from assistant.evaluating.gate_quality import GateObservation, gate_quality, tune_gate


def observation(
    qid: str, *, answerable: bool, cosine: float, coverage: float = 1.0, missing_code: bool = False
) -> GateObservation:
    return GateObservation(
        qid=qid,
        answerable=answerable,
        best_cosine=cosine,
        coverage=coverage,
        missing_code=missing_code,
    )


def test_counts_both_errors_at_the_given_thresholds() -> None:
    quality = gate_quality(
        [
            observation("a", answerable=True, cosine=0.9),
            observation("b", answerable=True, cosine=0.2),
            observation("c", answerable=False, cosine=0.9),
            observation("d", answerable=False, cosine=0.1),
        ],
        min_cosine=0.5,
        min_coverage=0.5,
    )
    assert quality.answerable_refused == 0.5
    assert quality.unanswerable_let_through == 0.5
    assert quality.precision == 0.5
    assert quality.recall == 0.5


def test_a_missing_code_refuses_whatever_the_scores() -> None:
    quality = gate_quality(
        [
            observation("a", answerable=True, cosine=0.9),
            observation("u", answerable=False, cosine=1.0, missing_code=True),
        ],
        min_cosine=0.5,
        min_coverage=0.5,
    )
    assert quality.unanswerable_let_through == 0.0


def test_coverage_makes_up_for_cosine() -> None:
    covered = observation("a", answerable=True, cosine=0.45, coverage=1.0)
    bare = observation("u", answerable=False, cosine=0.45, coverage=0.0)
    quality = gate_quality([covered, bare], min_cosine=0.5, min_coverage=0.5)
    assert quality.answerable_refused == 0.0
    assert quality.unanswerable_let_through == 0.0


def test_one_kind_of_question_alone_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="one kind is missing"):
        gate_quality([observation("a", answerable=True, cosine=1)], min_cosine=0, min_coverage=0)


def test_tuning_separates_what_can_be_separated() -> None:
    observations = [observation(f"a{i}", answerable=True, cosine=0.7) for i in range(20)]
    observations += [observation(f"u{i}", answerable=False, cosine=0.3) for i in range(10)]
    best = tune_gate(observations)
    assert best.answerable_refused == 0.0
    assert best.unanswerable_let_through == 0.0
    assert best.min_cosine == pytest.approx(0.5)


def test_tuning_takes_the_lesser_error_where_they_overlap() -> None:
    observations = [observation(f"a{i}", answerable=True, cosine=0.5 + i / 100) for i in range(20)]
    observations += [observation(f"u{i}", answerable=False, cosine=0.3 + i / 100) for i in range(10)]
    observations += [observation("high", answerable=False, cosine=0.65)]
    best = tune_gate(observations)
    assert best.answerable_refused == 0.0
    assert best.unanswerable_let_through == pytest.approx(1 / 11)
