"""The measures of an evaluation, each with an interval bootstrapped by cluster; the series of runs on
main, and the figures that are asked by name.

A measure is a mean over the questions that have a value for it. Questions about one document, or in one
wording, depend on each other, so whole clusters are resampled, 1,000 times, always with the same seed.

    rows = [Judged("q1", "refills", {"right": 1.0}), Judged("q2", "refills", {"right": 0.0})]
    figures(rows)["right"].value   # 0.5, of 2 questions in 1 cluster
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field

from assistant.domain.errors import NotFoundError
from assistant.domain.public import PublicModel
from assistant.evaluation.questions import Split, split_of
from assistant.models.recorded import read_rows
from assistant.tenant.toml_file import StrictModel, read_strict

JUDGED: Split = "held_out"
"""The half that series and comparisons are about: nothing was learned from it."""
RESAMPLES = 1_000
_SEED = 20_261_120
"""Any number: it is fixed so that the same values give the same interval."""
_LOW, _HIGH = 0.025, 0.975
"""Quantiles of the resampled means that bound the 95 % interval."""


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
    Measure("near", "answerable: only the nearest section is shown", -1),
    Measure("true_near", "unanswerable: only the nearest section is shown", 0),
    Measure("messy_loss", "messy message: right answers lost against clean", -1),
    Measure("follow_up_told", "follow-up: to be asked in full, as no model reads it"),
    Measure("full_told", "… any other question: the same, wrongly", -1),
    Measure("written_right", "written answer right"),
    Measure("written_refused", "… answerable: refused", -1),
    Measure("written_rightly_refused", "… unanswerable: refused"),
    Measure("written_withheld", "… with a withheld sentence", 0),
    Measure("written_false", "… unanswerable: answered without a warning", -1),
    Measure("written_failed", "… failed, or no text in the limit: a quote in its place", -1),
    Measure("first_token_s", "first token, mean, s", 0),
    Measure("tokens_per_s", "tokens a second", 0),
    Measure("usd_per_1000", "USD per 1,000 answers, one at a time", 0),
)
"""In the order of the report: correctness first. A title that begins with "…" continues the row above it.

``evaluation.judging`` writes the values under these names. A trial of ``evaluation.trials`` gives its values
a readable name and needs no row here.
"""
TITLES = {measure.name: measure.title for measure in MEASURES}


class Estimate(PublicModel):
    """A measure over one half's questions."""

    value: float
    low: float
    high: float
    """[low, high]: 95 of 100 resamples lie in it."""
    questions: int
    """Number of questions that have a value."""

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def estimate(values: Mapping[str, float], clusters: Mapping[str, str]) -> Estimate:
    """Return mean and interval of ``values`` by question id, at least one.

    ``clusters``: the cluster of each question id. A resample draws as many clusters as there are, with
    replacement, and takes the mean over their questions.
    """
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for qid, value in sorted(values.items()):
        sums[clusters[qid]] += value
        counts[clusters[qid]] += 1
    names = sorted(sums)
    total, count = np.array([sums[name] for name in names]), np.array([counts[name] for name in names])
    resamples = np.random.default_rng(_SEED).integers(0, len(names), size=(RESAMPLES, len(names)))
    means = total[resamples].sum(axis=1) / count[resamples].sum(axis=1)
    low, high = np.quantile(means, [_LOW, _HIGH])
    return Estimate(
        value=round(float(total.sum() / count.sum()), 4),
        low=round(float(low), 4),
        high=round(float(high), 4),
        questions=int(count.sum()),
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """The result of one question, with its value for each measure that applies to it.

    Example: ``Judged("clinic-a-001", "NHLBI-0000077-6", {"right": 1.0, "first": 1.0, "near": 0.0})``.
    """

    id: str
    cluster: str
    """Questions of one cluster are resampled together: a document, whose id also decides the half; or an item
    or a wording, whose questions were split into files before."""
    values: Mapping[str, float]
    """By name of the measure: 0.0 or 1.0, or a difference of two such values. A measure that is absent does
    not apply to the question, and is not counted."""
    miss: str = ""
    """What went wrong, for a reader; empty if nothing did."""
    degraded: tuple[str, ...] = ()
    """Steps that were left out each time it was asked. A run with one has no valid figures."""

    @property
    def split(self) -> Split:
        return split_of(self.cluster)

    @property
    def is_right(self) -> bool:
        return self.values.get("right") == 1.0


def figures(judged: Iterable[Judged], *, split: Split | None = None) -> dict[str, Estimate]:
    """Return each measure's mean with its interval: those of ``MEASURES`` first, then as they appear.

    ``split``: count the questions of this half alone; None: all.
    """
    rows = [row for row in judged if split in (None, row.split)]
    clusters = {row.id: row.cluster for row in rows}
    named = dict.fromkeys(name for row in rows for name in row.values)
    return {
        name: estimate({row.id: row.values[name] for row in rows if name in row.values}, clusters)
        for name in (*(name for name in TITLES if name in named), *(n for n in named if n not in TITLES))
    }


def paired(before: Sequence[Judged], after: Sequence[Judged]) -> dict[str, Estimate]:
    """Return every measure's difference, after minus before, over the held-out questions that both have."""
    values_before = {row.id: row.values for row in before}
    differences = [
        replace(row, values={name: value - old[name] for name, value in row.values.items() if name in old})
        for row in after
        if (old := values_before.get(row.id)) is not None
    ]
    return figures(differences, split=JUDGED)


# --- the series ------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TenantRun:
    """One tenant's results of one run."""

    tenant: str
    questions_sha256: str
    results: tuple[Judged, ...]

    @property
    def held_out(self) -> dict[str, Estimate]:
        return figures(self.results, split=JUDGED)


def faults(judged: Iterable[Judged]) -> list[str]:
    """Return why no figure may rest on these questions, a line each: a step that stayed degraded, a wrong
    quote. Empty where one may."""
    rows = list(judged)
    quotes = [
        f"QUOTE  {row.id}: {TITLES[name]}. Correct assistant/answer/section.py."
        for row in rows
        for name in ("quote_differs", "quote_begins_late")
        if row.values.get(name)
    ]
    late = [row for row in rows if row.degraded]
    if not late:
        return quotes
    steps = ", ".join(sorted({step for row in late for step in row.degraded}))
    advice = "Free the machine, or take a faster model, and ask again."
    return [f"DEGRADED  {len(late)} questions, {late[0].id} first: {steps}. {advice}", *quotes]


class SeriesValue(PublicModel):
    """A measure's value on main. A later run fails when it is worse by more than ``half_width``.

    ``half_width`` is that of the interval, and at least one question: 1 / their number.
    """

    value: float
    half_width: float

    def bound(self, better: int) -> float:
        """Return the worst value that a later run may have."""
        return round(self.value - better * self.half_width, 4)


class SeriesRun(PublicModel):
    """A line of ``evaluation/series.jsonl``: one tenant's figures as a landing on main left them."""

    made_on: date
    tenant: str
    questions_sha256: str
    measures: dict[str, SeriesValue]

    @classmethod
    def of(cls, run: TenantRun, *, made_on: date) -> SeriesRun:
        values = {
            name: SeriesValue(value=now.value, half_width=round(max(now.half_width, 1 / now.questions), 4))
            for name, now in run.held_out.items()
        }
        return cls(made_on=made_on, tenant=run.tenant, questions_sha256=run.questions_sha256, measures=values)

    def bounds(self, better: int) -> dict[str, float]:
        """Return the bound of each measure of which more is better (1), or less (-1)."""
        kept = [measure.name for measure in MEASURES if measure.better == better]
        return {name: self.measures[name].bound(better) for name in kept if name in self.measures}


def last_of_series(path: Path) -> dict[str, SeriesRun]:
    """Return the last line of each tenant; none without the file. Raises ConfigurationError naming the
    line."""
    return {line.tenant: line for line in read_rows(path, SeriesRun)} if path.is_file() else {}


# --- figures by name ---------------------------------------------------------------------------------------


class Figure(StrictModel):
    """A table of ``evaluation/figures.toml``: what is asked of which tenants, and the bounds of the measures.

    [figures.quoted-clinic]
    title = "no model: the quoted section is right, clinic"
    run = "answers"
    tenants = ["clinic"]
    questions = ["{tenant}.jsonl"]
    least = { right = 0.6 }
    """

    title: str
    run: str
    """The trial that asks the questions: ``answers``, a name of ``conversations.MODEL_TRIALS`` or of
    ``trials.trial_named``."""
    tenants: tuple[str, ...] = Field(min_length=1)
    questions: tuple[str, ...]
    """Files beside ``figures.toml``; ``{tenant}`` stands for the tenant's name."""
    recording: str | None = None
    """File of recorded answers that are played, of the trials in ``MODEL_TRIALS``."""
    half: Split | None = None
    """Half of the documents whose questions count; None: all of them, of files that were split before."""
    blind: bool = True
    """Whether its misses must stay unread, so that nothing is tuned on them."""
    measures: tuple[str, ...] = ()
    """Measures that are shown; empty: all."""
    least: Mapping[str, float] = {}
    most: Mapping[str, float] = {}
    """Bounds by measure: the value must be at least, or at most, this."""
    by_low_end: tuple[str, ...] = ()
    """Measures of which the lower end of the interval is compared with the bound, not the value."""

    def paths(self, folder: Path, *, tenant: str) -> list[Path]:
        """Return the files of one tenant's questions."""
        return [folder / name.format(tenant=tenant) for name in self.questions]

    def rows(self, estimates: Mapping[str, Estimate]) -> list[FigureRow]:
        """Return a row for each measure that is shown, and for each that has a bound."""
        names = dict.fromkeys([*(self.measures or estimates), *self.least, *self.most])
        return [self._row(name, estimates.get(name)) for name in names]

    def _row(self, name: str, now: Estimate | None) -> FigureRow:
        """Return a measure beside its bound. Without an estimate a bound is missed."""
        is_most = name in self.most
        bound = self.most.get(name, self.least.get(name))
        if bound is None:
            return FigureRow(name, now)
        value = None if now is None else now.low if name in self.by_low_end else now.value
        is_met = value is not None and (value <= bound if is_most else value >= bound)
        return FigureRow(name, now, f"{'≤' if is_most else '≥'} {bound:.2f}", is_met)


class FigureRow(NamedTuple):
    """A measure beside its bound."""

    measure: str
    estimate: Estimate | None
    """None where no question measures it."""
    asked: str = ""
    """The bound as it is shown, such as "≥ 0.85"; empty without one, and then ``is_met`` is True."""
    is_met: bool = True

    @property
    def cells(self) -> tuple[str, ...]:
        """Return title, value, interval, number of questions, bound and "met" or "missed"."""
        numbers, state = ("-", "", "0"), ("met" if self.is_met else "missed") if self.asked else ""
        if (now := self.estimate) is not None:
            numbers = (f"{now.value:.3f}", f"{now.low:.3f} to {now.high:.3f}", str(now.questions))
        return (TITLES.get(self.measure, self.measure), *numbers, self.asked, state)


class _Figures(StrictModel):
    figures: Mapping[str, Figure]


def read_figures(folder: Path) -> Mapping[str, Figure]:
    """Return the figures of a folder by name; none without the file. Raises ConfigurationError."""
    path = folder / "figures.toml"
    return read_strict(path, _Figures).figures if path.is_file() else {}


def figure_named(figures: Mapping[str, Figure], name: str) -> Figure:
    """Return a figure. Raises NotFoundError that lists all names."""
    if name not in figures:
        raise NotFoundError(f"There is no figure {name}. There are: {', '.join(figures)}.")
    return figures[name]
