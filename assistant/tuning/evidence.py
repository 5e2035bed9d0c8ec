"""Tells what agents' acts say of each candidate: log P(acts | it is right), up to a constant.

Everything is estimated by straight lines over the shipped ranker's probability of being right, which no act
of the window has moved:

- *Trust.* What is shown first is accepted too often although it is wrong: P(accepted | right) and
  P(accepted | wrong) for each way to judge (the trust bias of Agarwal et al., WWW 2019).
- *Agents.* The same for each agent, shrunk towards those of all. An agent whose judgements do not rise with
  the ranker's own probability, or fall with it, is left out.
- *Opened sources.* The same for each position, with one slope for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from assistant.tuning.signals import CHANNELS, Flags, Floats, Signals

LEAST_RISE = 3.0
"""Standard errors by which acceptance must rise with the ranker's probability over all agents, else it is
taken for chance."""
LEAST_DIFFERENCE = 0.15
"""Of P(accepted | right) and P(accepted | wrong): below it judgements are taken for chance."""
_STRONGEST = 20.0
"""Bound on the likelihood ratio of one judgement."""
_MARKED_WRONG = 0.1
"""P(marked as wrongly cited | right) / P(marked | wrong)."""
_FOUND_NEXT = 4.0
"""Ratio for a document that the agent accepted when they asked again."""
_REFORMULATED = 1 / 3
"""Ratio for the quoted document when the agent asked again. Only those who ask again leave an event, so that
no rate can be estimated."""
_USUAL = (20.0, 0.9, 0.3)
"""Judgements of right and as many of wrong documents, and their rates: what was known before."""
_AGENT_STRENGTH = 3.0
"""Judgements of each sort that an agent's own rates are shrunk with towards those of all."""
_LEAST_OPENED = 50
"""Opened sources from which on they count."""


@dataclass(frozen=True, slots=True)
class Rates:
    """P(accepted | the quoted document is right) and P(accepted | it is wrong)."""

    right: float
    wrong: float

    @property
    def difference(self) -> float:
        return self.right - self.wrong


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How agents judge, as estimated."""

    channels: Mapping[str, Rates]
    differences: Floats
    """By agent: P(accepted | right) less P(accepted | wrong)."""
    left_out: tuple[str, ...]
    """Pseudonyms of agents whose judgements are no evidence or contradict everything."""
    counted: Flags
    """(n,) Whose answers count."""
    rise: Mapping[str, float]
    """By way to judge: how far acceptance rises with the ranker's own probability, in standard errors; over
    all agents, since those who were left out were chosen by it."""


def behaviour_of(signals: Signals, chance: Floats) -> Behaviour:
    """Return how agents judge, and which answers count. ``chance``: P(right) by the shipped ranker, (n, k).

    Rates are estimated again without the agents who were left out, until nobody else has to be.
    """
    right, good = chance[np.arange(len(signals)), signals.quoted], signals.judged_good
    rated = (signals.channel >= 0) & (signals.channel != CHANNELS.index("reformulated"))
    left_out = np.zeros(len(signals.agent_names), bool)
    while True:
        counted = ~left_out[signals.agents]
        rows = rated & counted
        pooled = _rates(right[rows], good[rows])
        strength = (_AGENT_STRENGTH, pooled.right, pooled.wrong)
        differences = np.full(len(left_out), pooled.difference)
        for agent in np.unique(signals.agents[rows]):
            own = rows & (signals.agents == agent)
            differences[agent] = _rates(right[own], good[own], strength).difference
        against = differences < LEAST_DIFFERENCE
        if not against.any() or against[signals.agents[rows]].all():
            break
        left_out |= against
    of_channel = {name: rated & (signals.channel == number) for number, name in enumerate(CHANNELS)}
    return Behaviour(
        channels={
            name: _rates(right[of & counted], good[of & counted])
            for name, of in of_channel.items()
            if (of & counted).any()
        },
        differences=differences,
        left_out=tuple(sorted(signals.agent_names[agent] for agent in np.flatnonzero(left_out))),
        counted=counted,
        rise={name: _rise(right[of], good[of]) for name, of in of_channel.items() if of.any()},
    )


def _rates(right: Floats, good: Flags, usual: tuple[float, float, float] = _USUAL) -> Rates:
    """Return the ends of the line of acceptance over P(right), by least squares. ``usual``: judgements of
    certainly right and of certainly wrong documents, each so many, and their rates."""
    count, if_right, if_wrong = usual
    total, x, xx = len(right) + 2 * count, right.sum() + count, (right**2).sum() + count
    y, xy = good.sum() + count * (if_right + if_wrong), (right * good).sum() + count * if_right
    slope = (total * xy - x * y) / (total * xx - x**2)
    wrong = (y - slope * x) / total
    ends = np.clip([wrong + slope, wrong], 0.02, 0.98)
    return Rates(float(ends[0]), float(ends[1]))


def _rise(right: Floats, good: Flags) -> float:
    """Return the slope of acceptance over P(right), in standard errors; 0 where P(right) does not vary."""
    x = right - right.mean()
    spread = float((x**2).sum())
    if spread < 1e-6 or len(right) < 3:
        return 0.0
    slope = float((x * good).sum()) / spread
    rest = good - good.mean() - slope * x
    error = np.sqrt(float((rest**2).sum()) / (len(right) - 2) / spread)
    return float(slope / max(error, 1e-9))


def evidence_of(signals: Signals, behaviour: Behaviour, chance: Floats) -> Floats:
    """Return log P(acts | right = d) up to a constant, (n, k); 0 for answers that do not count."""
    rows = np.arange(len(signals))
    pooled = max(0.02, float(np.mean([rates.difference for rates in behaviour.channels.values()] or [1.0])))
    trust = np.clip(behaviour.differences[signals.agents] / pooled, 0.0, 1.0)
    evidence = np.zeros(signals.documents.shape)
    for number, channel in enumerate(CHANNELS):
        of = rows[signals.channel == number]
        if channel == "reformulated":
            ratio = np.full(len(of), _REFORMULATED)
        elif (rates := behaviour.channels.get(channel)) is not None:
            accepted, refused = rates.right / rates.wrong, (1 - rates.right) / (1 - rates.wrong)
            ratio = np.where(signals.judged_good[of], accepted, refused) ** trust[of]
        else:
            continue
        evidence[of, signals.quoted[of]] += np.log(np.clip(ratio, 1 / _STRONGEST, _STRONGEST))
    wrong = signals.wrong.copy()
    wrong[rows, signals.quoted] &= signals.channel != CHANNELS.index("verdict")  # the verdict has told it
    evidence += wrong * np.log(_MARKED_WRONG) + signals.found_next * np.log(_FOUND_NEXT)
    judged = chance * np.exp(evidence)
    judged /= judged.sum(axis=1, keepdims=True) + 1.0 - chance.sum(axis=1, keepdims=True)
    evidence += _of_openings(signals, judged, behaviour.counted)
    evidence[~behaviour.counted] = 0.0
    return evidence


def _of_openings(signals: Signals, chance: Floats, counted: Flags) -> Floats:
    """Return what opened sources say, and those that were passed over where another was opened: who opened
    nothing may not have looked. ``chance``: P(right) after the judgements.

    P(opened) is a line over P(right): each position has a level of its own, since agents look at some more
    often than at others, and all have one slope.
    """
    shown = signals.listed & signals.opened.any(axis=1, keepdims=True)
    shown[np.arange(len(signals)), signals.quoted] = False
    used = shown & counted[:, None]
    if int((signals.opened & used).sum()) < _LEAST_OPENED:
        return np.zeros(chance.shape)
    count = np.maximum(used.sum(axis=0), 1)
    right, opened = ((values * used).sum(axis=0) / count for values in (chance, signals.opened))
    x = (chance - right) * used
    slope = max(0.0, float((x * signals.opened).sum()) / max(float((x**2).sum()), 1e-9))
    if_right: Floats = np.clip(opened + slope * (1.0 - right), 0.05, 0.95)
    if_wrong: Floats = np.clip(opened - slope * right, 0.05, 0.95)
    ratio: Floats = np.where(signals.opened, if_right / if_wrong, (1 - if_right) / (1 - if_wrong))
    return np.where(shown, np.log(ratio), 0.0)
