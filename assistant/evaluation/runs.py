"""Runs of an evaluation as they are kept, the committed baseline, and the figures that are asked by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.domain.public import PublicModel
from assistant.evaluation.measures import MEASURES, TITLES, Estimate, Measure, estimates
from assistant.evaluation.questions import QuestionResult, Split
from assistant.recorded_model import first_fault
from assistant.settings.toml_file import StrictModel, read_strict

JUDGED = "held_out"
"""The half that bounds and baseline are about: nothing was learned of it."""


class TenantRun(PublicModel):
    """One tenant's results of one run."""

    tenant: str
    questions: str
    """The file that they came from."""
    questions_sha256: str
    index_version: str
    embedding_model: str
    least_cosine: float
    """From which something is near a question."""
    weights: dict[str, str]
    """SHA-256 (hex) of each weights file, by kind."""
    seconds: float
    writer: str = ""
    """Name of the model that wrote, or of the recording that was played; empty where answers were quoted."""
    writer_sha256: str | None = None
    """Of its weights, where they are known: not behind a chat server, and not of a recording."""
    results: tuple[QuestionResult, ...]

    @property
    def by_qid(self) -> dict[str, QuestionResult]:
        return {result.qid: result for result in self.results}

    @property
    def judged(self) -> dict[str, Estimate]:
        return estimates(self.by_qid, split=JUDGED)


class Run(PublicModel):
    """An evaluation as it is kept under ``STATE/evaluations``."""

    schema_version: Literal[3] = 3
    name: str
    made_at: AwareDatetime
    tenants: tuple[TenantRun, ...]

    def of(self, tenant: str) -> TenantRun | None:
        """Return one tenant's results; None where it was not asked."""
        return next((one for one in self.tenants if one.tenant == tenant), None)


class BaselineValue(PublicModel):
    """What stands today, and the half-width of its interval, at least one question: a fall by more fails."""

    value: float
    half_width: float


class TenantBaseline(PublicModel):
    questions_sha256: str
    measures: dict[str, BaselineValue]


class Baseline(PublicModel):
    """``evaluation/baseline.json``."""

    schema_version: Literal[1] = 1
    tenants: dict[str, TenantBaseline]


@dataclass(frozen=True, slots=True)
class Fall:
    """A measure that got worse than the baseline by more than its noise."""

    tenant: str
    measure: Measure
    was: float
    is_now: float
    allowed: float


def run_path(evaluations_dir: Path, name: str) -> Path:
    """Return where a run is kept."""
    return evaluations_dir / f"{name}.json"


def read_run(evaluations_dir: Path, name: str) -> Run:
    """Return a kept run. Raises NotFoundError naming those that there are, ConfigurationError."""
    path = run_path(evaluations_dir, name)
    if not path.is_file():
        kept = sorted(one.stem for one in evaluations_dir.glob("*.json"))
        listed = f"there are {', '.join(kept)}" if kept else "none is kept yet"
        raise NotFoundError(f"There is no evaluation {name} in {evaluations_dir}; {listed}.")
    try:
        return Run.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigurationError(
            f"{path} is not an evaluation of this version ({first_fault(error)}). Run it again by that name."
        ) from None


def read_baseline(path: Path) -> Baseline | None:
    """Return the committed baseline; None where there is none. Raises ConfigurationError."""
    if not path.is_file():
        return None
    try:
        return Baseline.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigurationError(
            f"{path} is not a baseline ({first_fault(error)}). Write it anew: assistant evaluate --accept."
        ) from None


def accept(path: Path, runs: Sequence[TenantRun]) -> None:
    """Write the runs into the baseline; other tenants of it stay as they are."""
    before = read_baseline(path)
    tenants = dict(before.tenants) if before else {}
    for run in runs:
        tenants[run.tenant] = TenantBaseline(
            questions_sha256=run.questions_sha256,
            measures={
                name: BaselineValue(
                    value=one.value, half_width=round(max(one.half_width, 1 / one.questions), 4)
                )
                for name, one in run.judged.items()
            },
        )
    content = Baseline(tenants=dict(sorted(tenants.items()))).model_dump(mode="json")
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def falls(run: TenantRun, baseline: TenantBaseline) -> list[Fall]:
    """Return the measures that fell by more than their noise."""
    judged = run.judged
    fallen: list[Fall] = []
    for measure in MEASURES:
        was, now = baseline.measures.get(measure.name), judged.get(measure.name)
        if was is None or now is None or measure.better == 0:
            continue
        if measure.better * (was.value - now.value) > was.half_width + 1e-9:
            fallen.append(Fall(run.tenant, measure, was.value, now.value, was.half_width))
    return fallen


def changed(before: TenantRun, after: TenantRun) -> list[tuple[QuestionResult, QuestionResult]]:
    """Return the questions whose result, right document or right answer differs, as (before, after)."""
    old = before.by_qid
    pairs = [(old[result.qid], result) for result in after.results if result.qid in old]
    return [
        (one, other)
        for one, other in pairs
        if one.is_found != other.is_found
        or any(one.values.get(name) != other.values.get(name) for name in ("right", "first", "telltale"))
    ]


# Figures by name


class Bounds(StrictModel):
    """What is asked of measures, by name.

    Gains and ``change_loss`` are held against their bounds by the lower end of the interval, all others by
    the value.
    """

    least: Mapping[str, float] = {}
    most: Mapping[str, float] = {}

    def row(self, name: str, now: Estimate | None) -> FigureRow:
        """Return a measure beside its bound. Without an estimate a bound is missed."""
        bound = self.least.get(name, self.most.get(name))
        if bound is None or now is None:
            return FigureRow(name, now, bound, is_met=bound is None)
        value = now.low if name.startswith(("gain", "change_loss")) else now.value
        is_most = name in self.most
        is_met = value <= bound if is_most else value >= bound
        return FigureRow(name, now, bound, f"{'≤' if is_most else '≥'} {bound:.2f}", is_met)


class Figure(Bounds):
    """A row of ``evaluation/figures.toml``: what is asked of whom, and what is wanted of the measures."""

    title: str
    run: Literal["answers", "support", "routing", "approved", "red_flags", "live", "written_live"]
    tenants: tuple[str, ...] = Field(min_length=1)
    questions: tuple[str, ...]
    """Files beside ``figures.toml``; ``{tenant}`` stands for the tenant's name."""
    recording: str | None = None
    """File of recorded answers that are played; only their questions are asked."""
    half: Split | None = None
    """Half of the documents whose questions count; None: all of them, of files that were split before."""
    blind: bool = True
    """Whether its misses must stay unread, so that nothing is tuned on them."""
    measures: tuple[str, ...] = ()
    """Measures that are shown; empty: all."""

    @model_validator(mode="after")
    def _has_one_bound_a_measure(self) -> Self:
        if both := self.least.keys() & self.most.keys():
            raise ValueError(f"{', '.join(both)}: give it a least or a most value, not both.")
        return self

    def paths(self, folder: Path, *, tenant: str) -> list[Path]:
        """Return the files of questions."""
        return [folder / name.format(tenant=tenant) for name in self.questions]

    def rows(self, estimates: Mapping[str, Estimate]) -> list[FigureRow]:
        """Return a row for each measure that is shown, and for each that is asked."""
        names = dict.fromkeys([*(self.measures or estimates), *self.least, *self.most])
        return [self.row(name, estimates.get(name)) for name in names]


class FigureRow(NamedTuple):
    """A measure beside what is asked of it."""

    measure: str
    estimate: Estimate | None
    """None where no question measures it."""
    bound: float | None
    asked: str = ""
    is_met: bool = True

    def cells(self, *before: str) -> tuple[str, ...]:
        """Return title, value, interval, number of questions, what stands ``before`` the bound, bound and
        "met" or "missed"."""
        now = self.estimate
        numbers = ("-", "", "0")
        if now is not None:
            numbers = (f"{now.value:.3f}", f"{now.low:.3f} to {now.high:.3f}", str(now.questions))
        state = "" if self.bound is None else "met" if self.is_met else "missed"
        return (TITLES.get(self.measure, self.measure), *numbers, *before, self.asked, state)


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


def bounds_of(figures: Mapping[str, Figure], tenant: str) -> Bounds:
    """Return what the figures ask of a tenant's answers to all its questions."""
    of_tenant = [
        figure
        for figure in figures.values()
        if figure.run == "answers" and figure.questions == ("{tenant}.jsonl",) and tenant in figure.tenants
    ]
    return Bounds(
        least={name: value for one in of_tenant for name, value in one.least.items()},
        most={name: value for one in of_tenant for name, value in one.most.items()},
    )
