"""The evidence gate's errors, and thresholds that keep both kinds of them low."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from assistant.answering.evidence_gate import COSINE_PER_COVERAGE


@dataclass(frozen=True, slots=True)
class GateObservation:
    """The gate's raw features for one question."""

    qid: str
    answerable: bool
    best_cosine: float
    coverage: float
    missing_code: bool = False
    """The question names a code that no passage holds: refused whatever the scores."""

    @property
    def evidence(self) -> float:
        """The number that the gate compares with its threshold."""
        return self.best_cosine + COSINE_PER_COVERAGE * self.coverage


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
    needed = min_cosine + COSINE_PER_COVERAGE * min_coverage

    def passed(group: Sequence[GateObservation]) -> int:
        return sum(not o.missing_code and o.evidence >= needed for o in group)

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


def tune_gate(observations: Sequence[GateObservation]) -> GateQuality:
    """Choose thresholds on the tuning split: the least sum of both error rates, and among equals the
    middle of the widest gap between two questions' evidence, so that no threshold sits on a question.

    The line through the two thresholds has one degree of freedom; ``min_coverage`` is set to the median
    coverage of the answerable questions and ``min_cosine`` follows.
    """
    min_coverage = round(median(o.coverage for o in observations if o.answerable), 2)
    levels = sorted({o.evidence for o in observations})
    middles = [(low + high) / 2 for low, high in pairwise(levels)]
    widths = [high - low for low, high in pairwise(levels)]
    judged = [
        (
            gate_quality(
                observations,
                min_cosine=round(middle - COSINE_PER_COVERAGE * min_coverage, 3),
                min_coverage=min_coverage,
            ),
            width,
        )
        for middle, width in zip(middles, widths, strict=True)
    ]
    best, _ = min(
        judged, key=lambda item: (item[0].answerable_refused + item[0].unanswerable_let_through, -item[1])
    )
    return best
