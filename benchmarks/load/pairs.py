"""Figures that are measured against ``bare``: runs of both in turn, so that the machine treats both alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load.efforts import Effort
from benchmarks.load.pacing import ADDED_TO_MS, FIRST_TOKEN_S, TOKEN_S
from benchmarks.load.scene import Run, Scene
from benchmarks.load.started_processes import Started

FEW_STREAMS = 50
RATE_TOKENS = 20
RATE_STREAMS = 32
_SINGLE_TOKENS = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """Bare's run and the service's, one right after the other."""

    bare: Run
    service: Run


@dataclass(slots=True)
class Pairs:
    """All pairs of one benchmark, by what was run."""

    single: list[Pair] = field(default_factory=list[Pair])
    fifty: list[Pair] = field(default_factory=list[Pair])
    many: list[Pair] = field(default_factory=list[Pair])
    rate: list[Pair] = field(default_factory=list[Pair])

    def all(self) -> list[Pair]:
        return [*self.single, *self.fifty, *self.many, *self.rate]


def measure_pairs(scene: Scene, service: Started, effort: Effort, *, say: Callable[[str], None]) -> Pairs:
    """Run every kind of load on both, ``effort.pairs`` times."""
    pairs = Pairs()
    for number in range(effort.pairs):
        turn = _Turn(scene, service, effort, backwards=number % 2 == 1)
        say(f"pair {number + 1} of {effort.pairs}: one stream")
        scene.pace(tokens=_SINGLE_TOKENS)
        pairs.single.append(
            turn.run(run="streams", streams=1, answers=effort.single_answers, tokens=_SINGLE_TOKENS)
        )
        scene.pace(tokens=effort.stream_tokens)
        say(f"pair {number + 1} of {effort.pairs}: {FEW_STREAMS} streams")
        pairs.fifty.append(turn.streams(FEW_STREAMS, answers=effort.stream_answers))
        say(f"pair {number + 1} of {effort.pairs}: {effort.many_streams} streams")
        pairs.many.append(turn.streams(effort.many_streams, answers=effort.many_answers))
        say(f"pair {number + 1} of {effort.pairs}: as many answers as it can")
        scene.pace(delayed=False, tokens=RATE_TOKENS)
        pairs.rate.append(
            turn.run(run="rate", streams=RATE_STREAMS, duration_s=effort.rate_s, tokens=RATE_TOKENS)
        )
    scene.pace()
    return pairs


@dataclass(frozen=True, slots=True)
class _Turn:
    scene: Scene
    service: Started
    effort: Effort
    backwards: bool

    def streams(self, count: int, *, answers: int) -> Pair:
        whole_s = FIRST_TOKEN_S + self.effort.stream_tokens * TOKEN_S
        return self.run(
            run="streams",
            streams=count,
            answers=answers,
            ramp_s=whole_s,
            tokens=self.effort.stream_tokens,
        )

    def run(self, **plan: Any) -> Pair:
        if self.backwards:
            service = self.scene.load(self.service, **plan)
            return Pair(self.scene.load(self.scene.bare, **plan), service)
        bare = self.scene.load(self.scene.bare, **plan)
        return Pair(bare, self.scene.load(self.service, **plan))


def added_ms(run: Run, percent: float) -> float:
    """Return what a run added to the first token, at a percentile; infinite when there was no text."""
    return percentile(run.outcome.first_text_ms, percent) - ADDED_TO_MS


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the exact percentile by nearest rank; infinite of nothing."""
    if not values:
        return math.inf
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def median_of(pairs: Sequence[Pair], value: Callable[[Pair], float]) -> float:
    return statistics.median(value(pair) for pair in pairs)
