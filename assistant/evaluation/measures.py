"""The measures of an evaluation, each with an interval bootstrapped by cluster.

A measure is a mean over the questions that have a value for it. Questions about one document, or in one
wording, depend on each other, so whole clusters are resampled, 1,000 times, always with the same seed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from assistant.domain.public import PublicModel
from assistant.evaluation.questions import QuestionResult, Split

RESAMPLES = 1_000
_SEED = 20_261_120
_LOW, _HIGH = 0.025, 0.975

Results = Mapping[str, QuestionResult]


class Measure(NamedTuple):
    """One row of the summary."""

    name: str
    title: str
    better: int = 1
    """1: more is better; -1: less is; 0: neither, shown for comparison."""


MEASURES: tuple[Measure, ...] = (
    Measure("right", "quoted answer right"),
    Measure("right_with_also", 'right with "also possible"'),
    Measure("gold_covered", "gold excerpts quoted"),
    Measure("telltale", "states the other branch (conditioned questions)", -1),
    Measure("quote_differs", "quote differs from the stored text", -1),
    Measure("quote_begins_late", "quote begins after a procedure's first step", -1),
    Measure("first", "right document first"),
    Measure("three", "right document among three"),
    Measure("ndcg", "nDCG@10 of documents"),
    Measure("vector_ndcg", "… nDCG@10 of the vector leg alone", 0),
    Measure("rrf_first", "… first by plain RRF", 0),
    Measure("gain", "first, paired gain over RRF"),
    Measure("undisputed_first", "right document first, where no other contends"),
    Measure("refused", "answerable: nothing is near", -1),
    Measure("true_refused", "unanswerable: nothing is near", 0),
    Measure("messy_loss", "messy message: right answers lost against clean", -1),
    Measure("change_same", "change of subject: quoted as asked alone"),
    Measure("change_loss", "change of subject: right answers lost", -1),
    Measure("plays", "recorded answers that play"),
    Measure("written_right", "written answer right"),
    Measure("written_messy", "… messy messages"),
    Measure("raw_right", "… the model's own text", 0),
    Measure("unchanged", "… right ones that reach the agent unchanged"),
    Measure("written_refused", "… answerable: refused", -1),
    Measure("written_rightly_refused", "… unanswerable: refused"),
    Measure("written_withheld", "… with a withheld sentence", 0),
    Measure("written_sure", "… answerable: without a warning", 0),
    Measure("written_false", "… unanswerable: answered without a warning", -1),
    Measure("right_plain", "right: plain questions"),
    Measure("right_condition", "right: questions with a condition"),
    Measure("right_messy", "right: messy messages"),
    Measure("right_double", "right: double questions"),
    Measure("right_follow_up", "right: follow-ups"),
)
"""In the order of the summary: correctness first. The judges give the values by name."""
TITLES = {measure.name: measure.title for measure in MEASURES}


class Estimate(PublicModel):
    """A measure over one half's questions."""

    value: float
    low: float
    high: float
    """[low, high]: 95 of 100 resamples lie in it."""
    questions: int

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


class Spread(PublicModel):
    """Median and 95th percentile."""

    p50: float
    p95: float


def estimate(values: Mapping[str, float], clusters: Mapping[str, str]) -> Estimate | None:
    """Return mean and interval of values by question id, drawn by ``clusters``; None where there are none."""
    if not values:
        return None
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for qid, value in sorted(values.items()):
        sums[clusters[qid]] += value
        counts[clusters[qid]] += 1
    names = sorted(sums)
    total, number = np.array([sums[name] for name in names]), np.array([counts[name] for name in names])
    drawn = np.random.default_rng(_SEED).integers(0, len(names), size=(RESAMPLES, len(names)))
    means = total[drawn].sum(axis=1) / number[drawn].sum(axis=1)
    low, high = np.quantile(means, [_LOW, _HIGH])
    return Estimate(
        value=round(float(total.sum() / number.sum()), 4),
        low=round(float(low), 4),
        high=round(float(high), 4),
        questions=int(number.sum()),
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """One question of a figure, with its value for each measure that applies to it."""

    id: str
    cluster: str
    """What is resampled together: a document, an item, a wording."""
    values: Mapping[str, float]
    miss: str = ""
    """What went wrong, for a reader; empty where nothing did."""
    degraded: tuple[str, ...] = ()
    """Steps that were left out: no figure may rest on it."""


def figures(judged: Sequence[Judged]) -> dict[str, Estimate]:
    """Return each measure's mean with its interval, in the order in which the measures appear."""
    clusters = {one.id: one.cluster for one in judged}
    estimated = {
        name: estimate({one.id: one.values[name] for one in judged if name in one.values}, clusters)
        for name in dict.fromkeys(name for one in judged for name in one.values)
    }
    return {name: one for name, one in estimated.items() if one is not None}


def judged_of(results: Results, *, split: Split | None) -> list[Judged]:
    """Return the values of each question of one half (None: of both), with those against another question."""
    judged: list[Judged] = []
    for qid, result in results.items():
        if split in (None, result.split):
            values = result.values | (result.written.values if result.written else {})
            if clean := results.get(result.question.clean or ""):
                values["messy_loss"] = float(clean.is_right) - float(result.is_right)
            judged.append(Judged(qid, result.cluster, values))
    return judged


def estimates(results: Results, *, split: Split | None) -> dict[str, Estimate]:
    """Return every measure of one half that has questions, by name, in the order of the summary."""
    estimated = figures(judged_of(results, split=split))
    return {measure.name: estimated[measure.name] for measure in MEASURES if measure.name in estimated}


def paired(before: Results, after: Results, *, split: Split | None) -> dict[str, Estimate]:
    """Return every measure's difference, after minus before, over the questions that both have."""
    old = {one.id: one.values for one in judged_of(before, split=split)}
    differences = [
        replace(one, values={name: value - was[name] for name, value in one.values.items() if name in was})
        for one in judged_of(after, split=split)
        if (was := old.get(one.id)) is not None
    ]
    return figures(differences)


def spread(values: Iterable[float]) -> Spread | None:
    """Return median and 95th percentile; None of nothing."""
    if not (sample := list(values)):
        return None
    p50, p95 = np.quantile(sample, [0.5, 0.95])
    return Spread(p50=round(float(p50), 2), p95=round(float(p95), 2))


def latencies(results: Sequence[QuestionResult]) -> dict[str, Spread]:
    """Return milliseconds by step, in the order in which the steps run."""
    by_step: dict[str, list[float]] = {}
    for result in results:
        for step, spent_ms in result.timings_ms.items():
            by_step.setdefault(step, []).append(spent_ms)
    spreads = {step: spread(values) for step, values in by_step.items()}
    return {step: one for step, one in spreads.items() if one is not None}


def lengths(results: Sequence[QuestionResult]) -> dict[str, Spread]:
    """Return the words of what is shown for answerable questions."""
    shown = [result for result in results if result.question.answerable and result.is_found]
    spreads = {
        "quote": spread(float(result.words) for result in shown if result.question.kind != "double"),
        "quote, double question": spread(
            float(result.words) for result in shown if result.question.kind == "double"
        ),
        "quote and also possible": spread(float(result.words + result.also_words) for result in shown),
    }
    return {name: one for name, one in spreads.items() if one is not None}
