"""How CPU time grows with a text. A slow or busy machine does not change the verdict.

Regular expressions and parsers run in C, where no steps can be counted. So CPU times of one process are
compared: a short text, a long text and a bare loop take turns, and the least time of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
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
