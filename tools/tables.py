"""Markdown tables of the pages and of measured figures."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assistant.domain.errors import ConfigurationError


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


def print_figures(figures: Sequence[Figure], *, before: str) -> int:
    """Print the figures and the machine; return the exit status: 1 where one that is not timed is missed."""
    print(figures_table(figures), end="")
    print(f"\nbefore: {before}; after: {machine_line()}")
    return 0 if all(figure.holds or figure.timed for figure in figures) else 1


def machine_line() -> str:
    """Return on what was measured: cores and the load averages of now."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, load {load} at {time.strftime('%H:%M:%S')}"


def with_table(page: str, table: str, *, begin: str, end: str) -> str:
    """Return the page with the table between two lines, the first of which starts with ``begin``.

    Raises ConfigurationError where the page has none or several such places.
    """
    block = re.compile(rf"(<!-- {re.escape(begin)}.*? -->\n).*?(<!-- {re.escape(end)} -->)", re.DOTALL)
    page, count = block.subn(lambda found: f"{found[1]}{table}{found[2]}", page)
    if count != 1:
        raise ConfigurationError(f"The page has {count} places for {begin}.")
    return page


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, each line with its end."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
