"""How much is measured: all of it, or as much as shows that everything works."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.load.questions import ANSWER_TOKENS


@dataclass(frozen=True, slots=True)
class Effort:
    pairs: int
    """Of runs, bare and service; each figure is the median over them."""
    single_answers: int
    stream_answers: int
    """Of each of 50 streams, one after the other; the first is the ramp when there are several."""
    many_answers: int
    """The same of many streams."""
    stream_tokens: int
    many_streams: int
    rate_s: float
    rounds: int
    resumed_streams: int
    killed_streams: int
    judges_times: bool


FULL = Effort(
    pairs=5,
    single_answers=7,
    stream_answers=3,
    many_answers=2,
    stream_tokens=ANSWER_TOKENS,
    many_streams=200,
    rate_s=3.0,
    rounds=5,
    resumed_streams=500,
    killed_streams=200,
    judges_times=True,
)
QUICK = Effort(
    pairs=1,
    single_answers=2,
    stream_answers=1,
    many_answers=1,
    stream_tokens=30,
    many_streams=100,
    rate_s=1.0,
    rounds=2,
    resumed_streams=50,
    killed_streams=20,
    judges_times=False,
)
