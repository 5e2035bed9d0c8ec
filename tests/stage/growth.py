"""How CPU time grows with a text. A slow or busy machine does not change the verdict.

Regular expressions and parsers run in C, where no steps can be counted. So CPU times of one process are
compared: a short text, a long text and a bare loop take turns, and the least time of each counts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

LONGEST = 32_000
"""Characters. A quadratic pattern takes half a second for as many, a linear one a millisecond."""
_TIMES = 16
MOST_GROWTH = 4.0
"""As far from the growth of linear work, 1 (1.0 to 1.8 measured), as from that of quadratic work, 16 (15 to
16 measured): the long text is 16 times the short one."""
_ROUNDS = 5
_SHORT_ONES = 4
"""Calls with the short text in a round: one alone, delayed by a busy machine, would hide the growth."""


def growth(work: Callable[[str], object], text_of: Callable[[int], str], *, longest: int = LONGEST) -> float:
    """Return how many times more CPU a character of the long text takes than one of the short text.

    ``text_of`` returns a text of about that many characters. A character of the short text counts at least as
    much as a step of a bare loop: less is noise. Quadratic work must take many times as long for
    ``longest`` characters as what the work costs for any text.
    """
    short, long = text_of(longest // _TIMES), text_of(longest)
    work(short)  # untimed: what only the first call does would hide the growth
    in_turns = [partial(work, long), partial(_bare_loop, long), *[partial(work, short)] * _SHORT_ONES]
    least_s = [float("inf")] * len(in_turns)
    grown = float("inf")
    for _ in range(_ROUNDS):
        least_s = [min(before_s, cpu_s(do)) for before_s, do in zip(least_s, in_turns, strict=True)]
        long_s, bare_s, short_s = *least_s[:2], min(least_s[2:])
        grown = (long_s / len(long)) / max(short_s / len(short), bare_s / len(long))
        if grown <= MOST_GROWTH:
            break
    return grown


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


def _bare_loop(text: str) -> None:
    for _ in text:
        pass


RUNS = (
    *" \t\n\r\u00a0\u2028\u0085a1_-*#><[](|`~!.,:;&\\/\"'\u2026\u2019%=+@{\u3002\u0301\U0001f600",
    *("a ", "a. ", "A. ", ". ", "? ", "1 ", "1-", "1,", "1.", "1/", "1 mg ", "1 to ", "1a-"),
    *("a-", "a'", "a_", "- ", "* ", "1. ", "  - ", "\n- ", "\n  - ", "\n1. ", "\n> ", "\n#"),
    *("\n\n", " \n", "\n ", "|a", "|a|b\n", "a:\n", "not ", "non-", "step ", "(ab) ", " (AB),"),
    *("![", "[a](", "](", "[a]: b\n", "`a", "**a", "*a_", "<a ", "<a>", "</a>", "<div>", "<p>"),
    *("<ul><li>", "<table><tr><td>", "<!--", "<?", "&#", "http://a ", "a@a.", "[1]", "[1"),
    *("---\n", "a: [", '"a",'),
)


def worst(
    work: Callable[[str], object], units: Sequence[str] = RUNS, *, longest: int = LONGEST
) -> dict[str, float]:
    """Return the growth for each run for which it is too much."""

    def run(unit: str) -> Callable[[int], str]:
        # What ends a run decides whether a pattern tries again: each is between two words.
        return lambda size: f"x {(unit * (size // len(unit) + 1))[:size]} y"

    grown = {unit: growth(work, run(unit), longest=longest) for unit in units}
    return {unit: ratio for unit, ratio in grown.items() if ratio > MOST_GROWTH}


SAMPLED = 1 if os.environ.get("EXAMPLES") == "new" else 12
"""A pattern or a reader tries each run only at night, else each another twelfth of them."""
