"""The measures of an evaluation, each with an interval bootstrapped by cluster.

A measure is a mean over the questions that have a value for it. Questions about one document, or in one
wording, depend on each other, so whole clusters are resampled, 1,000 times, always with the same seed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from assistant.domain.public import PublicModel
from assistant.evaluation.questions import Split, split_of

JUDGED: Split = "held_out"
"""The half that baseline and comparisons are about: nothing was learned of it."""
RESAMPLES = 1_000
_SEED = 20_261_120
_LOW, _HIGH = 0.025, 0.975


class Measure(NamedTuple):
    """One row of the summary."""

    name: str
    title: str
    better: int = 1
    """1: more is better; -1: less is; 0: neither, shown for comparison."""


MEASURES: tuple[Measure, ...] = (
    Measure("right", "quoted answer right"),
    Measure("telltale", "states the other branch (conditioned questions)", -1),
    Measure("quote_differs", "quote differs from the stored text", -1),
    Measure("quote_begins_late", "quote begins after a procedure's first step", -1),
    Measure("first", "right document first"),
    Measure("gain", "… paired gain over plain rank fusion"),
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
    Measure("reply_faults", "replies to the patient that the check stops", 0),
    Measure("planted_named", "changes planted in replies that the check names", 1),
    Measure("planted_number", "… of a number"),
    Measure("planted_date", "… of a date"),
    Measure("planted_negation", "… of a negation, or a sense turned round"),
    Measure("planted_name", "… of a name"),
    Measure("rewordings_stopped", "right rewordings of replies that the check stops", -1),
    Measure("checks_read", "… of these texts: read by the model", 0),
    Measure("written_false", "… unanswerable: answered without a warning", -1),
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


def estimate(values: Mapping[str, float], clusters: Mapping[str, str]) -> Estimate:
    """Return mean and interval of values by question id, one at least, drawn by ``clusters``."""
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
    """What came of one question, with its value for each measure that applies to it."""

    id: str
    cluster: str
    """What is resampled together: a document, which also decides the half; an item, a wording."""
    values: Mapping[str, float]
    miss: str = ""
    """What went wrong, for a reader; empty where nothing did."""
    degraded: tuple[str, ...] = ()
    """Steps that were left out each time it was asked: no figure may rest on it."""
    sizes: Mapping[str, float] = field(default_factory=dict[str, float])
    """Milliseconds by step, and the words of the quote."""

    @property
    def split(self) -> Split:
        return split_of(self.cluster)

    @property
    def is_right(self) -> bool:
        return self.values.get("right") == 1.0


def figures(judged: Iterable[Judged], *, split: Split | None = None) -> dict[str, Estimate]:
    """Return each measure's mean with its interval: those of ``MEASURES`` first, then as they appear.

    ``split``: of this half alone.
    """
    rows = [one for one in judged if split in (None, one.split)]
    clusters = {one.id: one.cluster for one in rows}
    named = dict.fromkeys(name for one in rows for name in one.values)
    return {
        name: estimate({one.id: one.values[name] for one in rows if name in one.values}, clusters)
        for name in (*(name for name in TITLES if name in named), *(n for n in named if n not in TITLES))
    }


def paired(before: Sequence[Judged], after: Sequence[Judged]) -> dict[str, Estimate]:
    """Return every measure's difference, after minus before, over the held-out questions that both have."""
    old = {one.id: one.values for one in before}
    differences = [
        replace(one, values={name: value - was[name] for name, value in one.values.items() if name in was})
        for one in after
        if (was := old.get(one.id)) is not None
    ]
    return figures(differences, split=JUDGED)


def spreads(judged: Iterable[Judged]) -> dict[str, tuple[float, float]]:
    """Return median and 95th percentile of each size, in the order in which they appear."""
    by_name: dict[str, list[float]] = defaultdict(list)
    for name, size in (sized for one in judged for sized in one.sizes.items()):
        by_name[name].append(size)
    quantiles = {name: np.quantile(sizes, [0.5, 0.95]) for name, sizes in by_name.items()}
    return {name: (round(float(p50), 1), round(float(p95), 1)) for name, (p50, p95) in quantiles.items()}
