"""Runs of an evaluation as they are kept, the committed baseline, and the figures that are asked by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.domain.public import PublicModel
from assistant.evaluation.measures import JUDGED, MEASURES, TITLES, Estimate, Judged, figures
from assistant.evaluation.questions import Split
from assistant.models.recorded import first_fault
from assistant.tenant.toml_file import StrictModel, read_strict

MOST_STALE = 0.02
"""Share of a recording's lines that may be of other prompts than today's."""


class TenantRun(PublicModel):
    """One tenant's results of one run."""

    tenant: str
    questions_sha256: str
    writer: str = ""
    """Name of the model that wrote, or of the recording that was played; empty where answers were quoted."""
    writer_sha256: str | None = None
    """Of its weights, where they are known: not behind a chat server, and not of a recording."""
    results: tuple[Judged, ...]

    @property
    def held_out(self) -> dict[str, Estimate]:
        return figures(self.results, split=JUDGED)

    @property
    def problems(self) -> list[str]:
        """Say why no figure may rest on it: a step that stayed degraded, a wrong quote, a stale recording."""
        messages: list[str] = []
        late = [one for one in self.results if one.degraded]
        if late:
            steps = ", ".join(sorted({step for one in late for step in one.degraded}))
            messages.append(
                f"DEGRADED  {self.tenant}: {len(late)} questions, {late[0].id} first: {steps}. "
                "Free the machine, or take a faster model, and ask again."
            )
        messages += [
            f"QUOTE  {self.tenant}, {one.id}: {TITLES[name]}. Correct assistant/answer/choose.py."
            for one in self.results
            for name in ("quote_differs", "quote_begins_late")
            if one.values.get(name)
        ]
        stale = sum(one.values.get("plays") == 0.0 for one in self.results)
        if stale > MOST_STALE * len(self.results):
            messages.append(
                f"STALE  {self.tenant}: {stale} recorded answers are of other prompts than today's. "
                "Record again."
            )
        return messages


class Run(PublicModel):
    """An evaluation as it is kept under ``STATE/evaluations``."""

    schema_version: Literal[4] = 4
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
                for name, one in run.held_out.items()
            },
        )
    content = Baseline(tenants=dict(sorted(tenants.items()))).model_dump(mode="json")
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def falls(run: TenantRun, baseline: TenantBaseline) -> list[str]:
    """Say which measures fell by more than their noise."""
    held_out, fallen = run.held_out, list[str]()
    for name, title, better in MEASURES:
        was, now = baseline.measures.get(name), held_out.get(name)
        if was and now and better * (was.value - now.value) > was.half_width + 1e-9:
            noise = f"its noise is {was.half_width:.3f}"
            fallen.append(f"FELL  {run.tenant}: {title}: {now.value:.3f}, was {was.value:.3f}; {noise}")
    return fallen


# Figures by name


class Figure(StrictModel):
    """A row of ``evaluation/figures.toml``: what is asked of whom, and what is wanted of the measures."""

    title: str
    run: Literal[
        "answers",
        "support",
        "routing",
        "approved",
        "red_flags",
        "live",
        "written_live",
        "chats",
        "suggestions",
    ]
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
    least: Mapping[str, float] = {}
    most: Mapping[str, float] = {}
    """What is asked of measures. Gains and ``change_loss`` are held against it by the lower end of the
    interval, all others by the value."""

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
        return [self._row(name, estimates.get(name)) for name in names]

    def _row(self, name: str, now: Estimate | None) -> FigureRow:
        """Return a measure beside its bound. Without an estimate a bound is missed."""
        is_most = name in self.most
        bound = self.most.get(name, self.least.get(name))
        if bound is None:
            return FigureRow(name, now)
        is_met = False
        if now is not None:
            value = now.low if name.startswith(("gain", "change_loss")) else now.value
            is_met = value <= bound if is_most else value >= bound
        return FigureRow(name, now, f"{'≤' if is_most else '≥'} {bound:.2f}", is_met)


class FigureRow(NamedTuple):
    """A measure beside what is asked of it."""

    measure: str
    estimate: Estimate | None
    """None where no question measures it."""
    asked: str = ""
    is_met: bool = True

    @property
    def cells(self) -> tuple[str, ...]:
        """Return title, value, interval, number of questions, bound and "met" or "missed"."""
        state = ("met" if self.is_met else "missed") if self.asked else ""
        return (*estimate_cells(self.measure, self.estimate), self.asked, state)


def estimate_cells(measure: str, now: Estimate | None) -> tuple[str, ...]:
    """Return a measure's title, value, interval and number of questions, for a table."""
    numbers = ("-", "", "0")
    if now is not None:
        numbers = (f"{now.value:.3f}", f"{now.low:.3f} to {now.high:.3f}", str(now.questions))
    return (TITLES.get(measure, measure), *numbers)


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
