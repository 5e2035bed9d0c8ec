"""Markdown tables of the pages and of measured figures.

Figure("indexing", "≥ 12,000 tokens/s", "17,008 tokens/s", holds=True)
| indexing | ≥ 12,000 tokens/s | 17,008 tokens/s |
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assistant.domain.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure beside its target."""

    what: str
    asked: str
    """The target as text; empty without one."""
    measured: str
    holds: bool
    """Whether the target is reached; True without one."""
    timed: bool = True
    """Whether it depends on the machine's speed. Then a missed target is marked, but fails no run."""


def figures_table(figures: Iterable[Figure]) -> str:
    """Return the figures as a Markdown table; a missed one is marked."""
    marks = {True: "", False: " (missed)"}
    rows = [(figure.what, figure.asked, f"{figure.measured}{marks[figure.holds]}") for figure in figures]
    return markdown_table(("what", "asked", "measured"), rows)


def print_figures(figures: Sequence[Figure], *, before: str) -> int:
    """Print the figures and the machine; return the exit status: 1 where a target is missed that no time
    decides.

    ``before``: ``machine_line()`` of the beginning.
    """
    print(figures_table(figures), end="")
    print(f"\nbefore: {before}; after: {machine_line()}")
    return 0 if all(figure.holds or figure.timed for figure in figures) else 1


def machine_line() -> str:
    """Return the machine's cores and present load averages: ``16 cores, load 0.3 0.5 0.4 at 14:02:11``."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, load {load} at {time.strftime('%H:%M:%S')}"


def with_table(page: str, table: str, *, begin: str, end: str) -> str:
    """Return the page with ``table`` in place of what is between two comments, such as ``<!-- figures: make
    bench -->`` and ``<!-- end of costs -->``, for ``begin`` ``costs, made by`` and ``end`` ``end of costs``.

    Raises ConfigurationError where the page has none or several such places.
    """
    block = re.compile(rf"(<!-- {re.escape(begin)}.*? -->\n).*?(<!-- {re.escape(end)} -->)", re.DOTALL)
    page, count = block.subn(lambda match: f"{match[1]}{table}{match[2]}", page)
    if count != 1:
        raise ConfigurationError(f"The page has {count} places for {begin}.")
    return page


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown, with a line end after each row. Cells are written as they are."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
