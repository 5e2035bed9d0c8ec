"""Runs of an evaluation as they are kept, what is asked of them, and what the committed baseline holds."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.domain.public import PublicModel
from assistant.evaluation.measures import MEASURES, Estimate, Measure, estimates
from assistant.evaluation.questions import QuestionResult

JUDGED = "held_out"
"""The half that bounds and baseline are about: nothing was learned of it."""


class TenantRun(PublicModel):
    """One tenant's results of one run."""

    tenant: str
    questions: str
    """The file that they came from."""
    questions_sha256: str
    drawn: str | None
    """The seed, where only some of the questions were asked."""
    index_version: str
    embedding_model: str
    answered_from: float
    possibly_from: float
    weights: dict[str, str]
    """SHA-256 (hex) of each weights file, by kind."""
    seconds: float
    results: tuple[QuestionResult, ...]

    @property
    def by_qid(self) -> dict[str, QuestionResult]:
        return {result.qid: result for result in self.results}

    @property
    def judged(self) -> dict[str, Estimate]:
        return estimates(self.by_qid, split=JUDGED)


class Run(PublicModel):
    """An evaluation as it is kept under ``STATE/evaluations``."""

    schema_version: Literal[1] = 1
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
class Bound:
    """What is asked of a measure, and whether it holds."""

    asked: float
    is_met: bool


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
            f"{path} is not an evaluation of this version ({_first(error)}). Run it again under that name."
        ) from None


def read_asked(path: Path, tenant: str) -> Mapping[str, float]:
    """Return the bounds of a tenant's measures; none without the file. Raises ConfigurationError."""
    if not path.is_file():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}.") from None
    known = {measure.name for measure in MEASURES}
    asked: dict[str, float] = {}
    for table in ("every", tenant):
        for name, value in tables.get(table, {}).items():
            if name not in known or not isinstance(value, int | float):
                raise ConfigurationError(f"{path}: [{table}] {name} is not a measure with a number.")
            asked[name] = float(value)
    return asked


def bound_of(measure: Measure, now: Estimate, asked: Mapping[str, float]) -> Bound | None:
    """Return the bound that a measure has, held against an estimate."""
    wanted = asked.get(measure.name)
    if wanted is None:
        return None
    if measure.zero_within:
        return Bound(wanted, now.low > wanted if measure.better > 0 else now.low <= wanted)
    return Bound(wanted, measure.better * now.value >= measure.better * wanted)


def read_baseline(path: Path) -> Baseline | None:
    """Return the committed baseline; None where there is none. Raises ConfigurationError."""
    if not path.is_file():
        return None
    try:
        return Baseline.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigurationError(
            f"{path} is not a baseline ({_first(error)}). Write it anew: assistant evaluate --accept."
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
    """Return the measures that fell by more than their noise. A draw has noise of its own on top."""
    judged = run.judged
    found: list[Fall] = []
    for measure in MEASURES:
        was, now = baseline.measures.get(measure.name), judged.get(measure.name)
        if was is None or now is None or measure.better == 0:
            continue
        allowed = was.half_width + (now.half_width if run.drawn is not None else 0.0)
        if measure.better * (was.value - now.value) > allowed + 1e-9:
            found.append(Fall(run.tenant, measure, was.value, now.value, allowed))
    return found


def changed(before: TenantRun, after: TenantRun) -> list[tuple[QuestionResult, QuestionResult]]:
    """Return the questions whose outcome, right document or right answer differs, as (before, after)."""
    old = before.by_qid
    pairs = [(old[one.qid], one) for one in after.results if one.qid in old]
    return [
        (one, other)
        for one, other in pairs
        if (one.outcome, one.right, one.first, one.telltale)
        != (other.outcome, other.right, other.first, other.telltale)
    ]


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
