"""The figures that can be asked again by name: rows of ``evaluation/figures.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.evaluation.measures import Estimate
from assistant.evaluation.questions import Split
from assistant.settings.toml_file import StrictModel, read_strict

GAIN = "gain"
"""A measure whose name begins with it is held against its bound by the lower end of its interval."""


class Figure(StrictModel):
    """What is asked of whom, and what is wanted of the measures."""

    title: str
    run: Literal["answers", "support", "routing", "approved", "red_flags", "live"]
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
    asked: str | None = None
    """File with further least values."""

    def paths(self, folder: Path, *, tenant: str) -> list[Path]:
        """Return the files of questions."""
        return [folder / name.format(tenant=tenant) for name in self.questions]


class _Figures(StrictModel):
    figures: Mapping[str, Figure]


def read_figures(folder: Path) -> Mapping[str, Figure]:
    """Return the figures of a folder by name, with the values of their ``asked`` files.

    Raises ConfigurationError.
    """
    found = read_strict(folder / "figures.toml", _Figures).figures
    return {
        name: figure.model_copy(update={"least": _least(folder, figure)}) for name, figure in found.items()
    }


def _least(folder: Path, figure: Figure) -> Mapping[str, float]:
    if figure.asked is None:
        return figure.least
    return {**figure.least, **tomllib.loads((folder / figure.asked).read_text(encoding="utf-8"))}


def figure_named(figures: Mapping[str, Figure], name: str) -> Figure:
    """Return a figure. Raises NotFoundError that lists all names."""
    if name not in figures:
        raise NotFoundError(f"There is no figure {name}. There are: {', '.join(figures)}.")
    return figures[name]


@dataclass(frozen=True, slots=True)
class FigureRow:
    """A measure of a figure beside what is asked of it."""

    measure: str
    estimate: Estimate | None
    """None where no question measures it."""
    asked: str = ""
    is_met: bool = True


def held_against(figure: Figure, estimates: Mapping[str, Estimate]) -> list[FigureRow]:
    """Return a row for each measure that is shown, and for each that is asked.

    Raises ConfigurationError for a measure with two bounds.
    """
    if both := figure.least.keys() & figure.most.keys():
        raise ConfigurationError(f"{', '.join(both)}: give it a least or a most value, not both.")
    bounds = {**figure.least, **figure.most}
    names = dict.fromkeys([*(figure.measures or estimates), *bounds])
    rows: list[FigureRow] = []
    for name in names:
        now, bound = estimates.get(name), bounds.get(name)
        if bound is None or now is None:
            rows.append(FigureRow(name, now, is_met=bound is None))
            continue
        value = now.low if name.startswith(GAIN) else now.value
        is_met = value <= bound if name in figure.most else value >= bound
        rows.append(FigureRow(name, now, f"{'≤' if name in figure.most else '≥'} {bound:.2f}", is_met))
    return rows
