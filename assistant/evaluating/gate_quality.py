"""The evidence gate's errors, and thresholds that keep both kinds of them low."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True, slots=True)
class GateObservation:
    """The gate's two raw features for one question."""

    qid: str
    answerable: bool
    best_cosine: float
    coverage: float


@dataclass(frozen=True, slots=True)
class GateQuality:
    """Errors and, with "let through" as the positive class, precision and recall."""

    min_cosine: float
    min_coverage: float
    answerable_refused: float
    unanswerable_let_through: float
    precision: float
    recall: float


def gate_quality(
    observations: Sequence[GateObservation], *, min_cosine: float, min_coverage: float
) -> GateQuality:
    """Judge one pair of thresholds. Raises ValueError unless both kinds of question are there."""
    answerable = [o for o in observations if o.answerable]
    unanswerable = [o for o in observations if not o.answerable]
    if not answerable or not unanswerable:
        raise ValueError("The gate is judged on answerable and unanswerable questions: one kind is missing.")

    def passed(group: Sequence[GateObservation]) -> int:
        return sum(o.best_cosine >= min_cosine and o.coverage >= min_coverage for o in group)

    let_through, wrongly_let_through = passed(answerable), passed(unanswerable)
    total = let_through + wrongly_let_through
    return GateQuality(
        min_cosine=min_cosine,
        min_coverage=min_coverage,
        answerable_refused=1 - let_through / len(answerable),
        unanswerable_let_through=wrongly_let_through / len(unanswerable),
        precision=let_through / total if total else 0.0,
        recall=let_through / len(answerable),
    )


def tune_gate(
    observations: Sequence[GateObservation], *, max_refused: float = 0.08, step: float = 0.01
) -> GateQuality:
    """Choose thresholds on the tuning split: fewest unanswerable let through while at most ``max_refused``
    of the answerable are refused; among equals the middle of the widest margin, so that a threshold does
    not sit on one question's own value.
    """
    grid = [round(step * i, 4) for i in range(int(1 / step) + 1)]
    judged = [
        gate_quality(observations, min_cosine=cosine, min_coverage=coverage)
        for cosine, coverage in product(grid, grid)
    ]
    allowed = [quality for quality in judged if quality.answerable_refused <= max_refused]
    best = min(
        allowed, key=lambda q: (q.unanswerable_let_through, q.answerable_refused)
    )  # threshold 0 refuses nobody, so the list is never empty
    equals = [
        q
        for q in allowed
        if (q.unanswerable_let_through, q.answerable_refused)
        == (best.unanswerable_let_through, best.answerable_refused)
    ]
    equals.sort(key=lambda q: (q.min_cosine, q.min_coverage))
    middle_cosine = equals[len(equals) // 2].min_cosine
    column = [q for q in equals if q.min_cosine == middle_cosine]
    return column[len(column) // 2]
