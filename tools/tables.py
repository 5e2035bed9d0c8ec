"""Markdown tables of the pages and of measured figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure beside what is asked of it."""

    what: str
    asked: str
    measured: str
    holds: bool
    timed: bool = True
    """Whether the machine's speed decides it."""


def figures_table(figures: Iterable[Figure]) -> str:
    """Return the figures as Markdown; a missed one is marked."""
    marks = {True: "", False: " (missed)"}
    rows = [(figure.what, figure.asked, f"{figure.measured}{marks[figure.holds]}") for figure in figures]
    return markdown_table(("what", "asked", "measured"), rows)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, each line with its end."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
