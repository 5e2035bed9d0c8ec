"""The measures of an evaluation, each with an interval bootstrapped by cluster.

A measure is a mean over the questions that have a value for it. Questions about one document, or in one
wording, depend on each other, so whole clusters are resampled, 1,000 times, always with the same seed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import quantiles

import ir_measures
import numpy as np
from ir_measures import nDCG

from assistant.domain.public import PublicModel
from assistant.evaluation.questions import (
    EvaluationQuestion,
    Kind,
    QuestionResult,
    Split,
    WrittenResult,
)

RESAMPLES = 1_000
_SEED = 20_261_120
_LOW, _HIGH = 0.025, 0.975

Results = Mapping[str, QuestionResult]
ValueOf = Callable[[QuestionResult, Results], float | None]
"""Returns a question's value; None where the measure does not apply to it."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of the summary."""

    name: str
    title: str
    value: ValueOf
    better: int = 1
    """1: more is better; -1: less is; 0: neither, shown for comparison."""
    zero_within: bool = False
    """The bound is held by the interval's end, not the value: a gain above zero, a loss within noise."""


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


def _of_answerable(value: Callable[[QuestionResult], float | bool | None]) -> ValueOf:
    def of(result: QuestionResult, _: Results) -> float | None:
        found = value(result) if result.question.answerable else None
        return None if found is None else float(found)

    return of


def _of_unanswerable(value: Callable[[QuestionResult], bool]) -> ValueOf:
    return lambda result, _: None if result.question.answerable else float(value(result))


def _of_kind(kind: Kind, value: Callable[[QuestionResult], bool]) -> ValueOf:
    return lambda result, _: float(value(result)) if result.question.kind == kind else None


def _messy_loss(result: QuestionResult, results: Results) -> float | None:
    clean = results.get(result.question.clean or "")
    return None if clean is None else float(clean.right) - float(result.right)


def _gain(result: QuestionResult, _: Results) -> float | None:
    if result.first is None or result.rrf_first is None:
        return None
    return result.first - result.rrf_first


def _right_words(result: QuestionResult, _: Results) -> float | None:
    """Return 1 where the words shown are of a right answer; wrong and absent answers count as wrong words."""
    return float(result.right and result.outcome == "answered") if result.question.answerable else None


def _change_loss(result: QuestionResult, _: Results) -> float | None:
    return None if result.change is None else float(result.right) - float(result.change.right)


def _of_written(value: Callable[[WrittenResult], bool | float | None], *, answerable: bool = True) -> ValueOf:
    """Return a measure of the questions that a model was to answer."""

    def of(result: QuestionResult, _: Results) -> float | None:
        if result.written is None or result.question.answerable is not answerable:
            return None
        found = value(result.written)
        return None if found is None else float(found)

    return of


def _unchanged(written: WrittenResult) -> bool | None:
    """Return whether a right raw answer reached the agent right, with every sentence."""
    return written.right and not written.withheld if written.raw_right else None


def _written_messy(result: QuestionResult, _: Results) -> float | None:
    return float(result.written.right) if result.written and result.question.kind == "messy" else None


MEASURES: tuple[Measure, ...] = (
    Measure("right", "quoted answer right", _of_answerable(lambda r: r.right)),
    Measure("right_with_also", 'right with "also possible"', _of_answerable(lambda r: r.right_with_also)),
    Measure("right_answered", "right and shown without a warning", _right_words),
    Measure(
        "gold_covered",
        "gold excerpts quoted",
        _of_answerable(lambda r: r.gold_covered if r.outcome != "refused" else 0.0),
    ),
    Measure(
        "telltale",
        "states the other branch (conditioned questions)",
        lambda r, _: None if r.telltale is None else float(r.telltale),
        -1,
    ),
    Measure("first", "right document first", _of_answerable(lambda r: r.first)),
    Measure("three", "right document among three", _of_answerable(lambda r: r.three)),
    Measure("ndcg", "nDCG@10 of documents", _of_answerable(lambda r: r.ndcg)),
    Measure("vector_ndcg", "… nDCG@10 of the vector leg alone", _of_answerable(lambda r: r.vector_ndcg), 0),
    Measure("rrf_first", "… first by plain RRF", _of_answerable(lambda r: r.rrf_first), 0),
    Measure("gain", "first, paired gain over RRF", _gain, 1, zero_within=True),
    Measure("answered", "answerable: answered", _of_answerable(lambda r: r.outcome == "answered")),
    Measure(
        "sure_right",
        "right, of the answerable that are answered",
        _of_answerable(lambda r: r.right if r.outcome == "answered" else None),
    ),
    Measure("possibly", "answerable: possibly", _of_answerable(lambda r: r.outcome == "possibly"), -1),
    Measure("refused", "answerable: refused", _of_answerable(lambda r: r.outcome == "refused"), -1),
    Measure(
        "false_answered",
        "unanswerable: answered without a warning",
        _of_unanswerable(lambda r: r.outcome == "answered"),
        -1,
    ),
    Measure(
        "false_possibly", "unanswerable: possibly", _of_unanswerable(lambda r: r.outcome == "possibly"), 0
    ),
    Measure("true_refused", "unanswerable: refused", _of_unanswerable(lambda r: r.outcome == "refused")),
    Measure("messy_loss", "messy message: right answers lost against clean", _messy_loss, -1),
    Measure(
        "change_same",
        "change of subject: quoted as asked alone",
        lambda r, _: None if r.change is None else float(r.change.same),
    ),
    Measure("change_loss", "change of subject: right answers lost", _change_loss, -1, zero_within=True),
    Measure("written_right", "written answer right", _of_written(lambda w: w.right)),
    Measure("written_messy", "… messy messages", _written_messy),
    Measure("raw_right", "… the model's own text", _of_written(lambda w: w.raw_right), 0),
    Measure("unchanged", "… right ones that reach the agent unchanged", _of_written(_unchanged)),
    Measure("written_refused", "… answerable: refused", _of_written(lambda w: w.outcome == "refused"), -1),
    Measure(
        "written_sure", "… answerable: without a warning", _of_written(lambda w: w.outcome == "answered"), 0
    ),
    Measure(
        "written_false",
        "… unanswerable: answered without a warning",
        _of_written(lambda w: w.outcome == "answered", answerable=False),
        -1,
    ),
    Measure("right_plain", "right: plain questions", _of_kind("plain", lambda r: r.right)),
    Measure("right_condition", "right: questions with a condition", _of_kind("condition", lambda r: r.right)),
    Measure("right_messy", "right: messy messages", _of_kind("messy", lambda r: r.right)),
    Measure("right_double", "right: double questions", _of_kind("double", lambda r: r.right)),
    Measure("right_follow_up", "right: follow-ups", _of_kind("follow_up", lambda r: r.right)),
)
"""In the order of the summary: correctness first."""


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
    found = {
        name: estimate({one.id: one.values[name] for one in judged if name in one.values}, clusters)
        for name in dict.fromkeys(name for one in judged for name in one.values)
    }
    return {name: one for name, one in found.items() if one is not None}


def judged_of(results: Results, *, split: Split | None) -> list[Judged]:
    """Return the values of each question of one half (None: of both)."""
    return [
        Judged(
            qid,
            result.cluster,
            {one.name: value for one in MEASURES if (value := one.value(result, results)) is not None},
        )
        for qid, result in results.items()
        if split in (None, result.split)
    ]


def estimates(results: Results, *, split: Split | None) -> dict[str, Estimate]:
    """Return every measure of one half that has questions, by name, in the order of the summary."""
    found = figures(judged_of(results, split=split))
    return {one.name: found[one.name] for one in MEASURES if one.name in found}


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
    sample = sorted(values)
    if not sample:
        return None
    if len(sample) == 1:
        return Spread(p50=sample[0], p95=sample[0])
    points = quantiles(sample, n=100, method="inclusive")
    return Spread(p50=round(points[49], 2), p95=round(points[94], 2))


def latencies(results: Sequence[QuestionResult]) -> dict[str, Spread]:
    """Return milliseconds by step, in the order in which the steps run."""
    by_step: dict[str, list[float]] = {}
    for result in results:
        for step, spent_ms in result.timings_ms.items():
            by_step.setdefault(step, []).append(spent_ms)
    found = {step: spread(values) for step, values in by_step.items()}
    return {step: one for step, one in found.items() if one is not None}


def lengths(results: Sequence[QuestionResult]) -> dict[str, Spread]:
    """Return the words of what is shown for answerable questions that were not refused."""
    shown = [one for one in results if one.question.answerable and one.outcome != "refused"]
    found = {
        "quote": spread(float(one.words) for one in shown if one.question.kind != "double"),
        "quote, double question": spread(float(one.words) for one in shown if one.question.kind == "double"),
        "quote and also possible": spread(float(one.words + one.also_words) for one in shown),
    }
    return {name: one for name, one in found.items() if one is not None}


# --- nDCG of retrieval, by ir-measures ------------------------------------------------------------------


def mean_ndcg(questions: Iterable[EvaluationQuestion], rankings: Mapping[str, Sequence[str]]) -> float:
    """Return the mean nDCG@10 of the answerable questions.

    ``rankings`` maps a question id to document ids, best first.
    """
    qrels = [ir_measures.Qrel(q.qid, document_id, 1) for q in questions for document_id in q.documents]
    scored = [
        ir_measures.ScoredDoc(qid, document_id, float(-position))
        for qid, document_ids in rankings.items()
        for position, document_id in enumerate(document_ids)
    ]
    measure = nDCG @ 10
    found = ir_measures.calc_aggregate([measure], qrels, scored)  # pyright: ignore[reportUnknownMemberType]
    return float(found[measure])
