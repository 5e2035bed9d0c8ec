"""Estimates how agents judge answers and open sources, and what their acts say of each document.

Everything is estimated under the shipped ranker's probabilities, which no signal of the window has moved:

- *Trust.* An answer that is shown first is accepted too often although it is wrong. For each way to judge,
  P(accepted | right) and P(accepted | wrong) by EM: the trust bias of Agarwal et al. (WWW 2019).
- *Agents.* The same two rates for each agent, shrunk towards those of all (Dawid and Skene, 1979). An agent
  whose judgements do not rise with the ranker's own probability, or fall with it, is left out.
- *Position.* P(opened at position k) = examination of k times (relevance + noise), by regression EM (Wang et
  al., WSDM 2018), with the ranker's probability as the regression.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from assistant.tuning.signals import CHANNELS, Flags, Floats, Numbers, Signals

Doubles = NDArray[np.float64]
_ROUNDS = 40
"""Of EM. The rates are settled to 1e-3 after some 25."""
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
_PRIOR_ACCEPTED = {"right": (18.0, 2.0), "wrong": (6.0, 14.0)}
"""Counts (accepted, refused) that stand for what was known before."""
_AGENT_STRENGTH = 20.0
"""Judgements that an agent's own rates are shrunk with towards those of all."""
_LEAST_OPENED = 50
"""Opened sources from which on positions are estimated; with fewer, they are not used."""


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
    """How agents judge and open, as estimated."""

    channels: Mapping[str, Rates]
    agents: Mapping[str, Rates]
    """By pseudonym, of those who judged."""
    left_out: tuple[str, ...]
    """Pseudonyms of agents whose judgements are no evidence or contradict everything."""
    examination: tuple[float, ...] = ()
    """P(examined) by position, 1 to 20; empty where too few sources were opened."""
    noise: float = 1.0
    """P(opened | examined, wrong) / P(opened | examined, right)."""
    z: Mapping[str, float] = field(default_factory=dict[str, float])
    """By way to judge: how far acceptance rises with the ranker's own probability, in standard errors; over
    all agents, since those who were left out were chosen by it."""


def behaviour_of(signals: Signals, before: Floats) -> tuple[Behaviour, Flags]:
    """Return how agents judge and open, and which answers count.

    Rates are estimated again without the agents who were left out, until nobody else has to be.
    """
    right = before[np.arange(len(signals)), signals.quoted].astype(np.float64)
    known = dict[int, Rates]()
    refused: list[int] = []
    counted = np.ones(len(signals), bool)
    while True:
        channels, agents = _judging(signals, right, counted)
        known |= agents
        against = sorted(agent for agent, rates in agents.items() if rates.difference < LEAST_DIFFERENCE)
        if not against or len(against) == len(agents):
            break
        refused += against
        counted = ~np.isin(signals.agents, refused)
    judging = Behaviour(
        channels=channels,
        agents={signals.agent_names[agent]: rates for agent, rates in sorted(known.items())},
        left_out=tuple(signals.agent_names[agent] for agent in sorted(refused)),
        z={
            channel: _rise(right[of], signals.judged_good[of])
            for number, channel in enumerate(CHANNELS)
            if channel in channels and (of := signals.channel == number).any()
        },
    )
    relevant: Doubles = before * np.exp(evidence_of(signals, judging, counted)).astype(np.float64)
    relevant = relevant / (relevant.sum(axis=1, keepdims=True) + 1.0 - before.sum(axis=1, keepdims=True))
    examination, noise = _examination(signals, relevant, counted)
    return replace(judging, examination=examination, noise=noise), counted


def _rise(right: Doubles, good: Flags) -> float:
    """Return the slope of acceptance over P(right), in standard errors; 0 where P(right) does not vary."""
    x: Doubles = right - right.mean()
    spread = float((x**2).sum())
    if spread < 1e-6 or len(right) < 3:
        return 0.0
    slope = float((x * good).sum()) / spread
    rest: Doubles = good - good.mean() - slope * x
    error = np.sqrt(float((rest**2).sum()) / (len(right) - 2) / spread)
    return float(slope / max(error, 1e-9))


def _judging(signals: Signals, right: Doubles, counted: Flags) -> tuple[dict[str, Rates], dict[int, Rates]]:
    """Return the rates of each channel and of each agent, over the answers that count."""
    channels: dict[str, Rates] = {}
    by_agent: dict[int, list[tuple[float, Rates]]] = {}
    for number, channel in enumerate(CHANNELS):
        of = (signals.channel == number) & counted
        if channel == "reformulated" or not of.any():
            continue
        channels[channel], own = _rates(right[of], signals.judged_good[of], signals.agents[of])
        for agent, counted_rates in own.items():
            by_agent.setdefault(agent, []).append(counted_rates)
    return channels, {agent: _mean_rates(kept) for agent, kept in by_agent.items()}


def _rates(right: Doubles, good: Flags, agents: Numbers) -> tuple[Rates, dict[int, tuple[float, Rates]]]:
    """Return P(accepted | right) and P(accepted | wrong) of all judgements of one channel, and of each agent
    with the number of judgements, by EM. ``right`` is P(right) before the judgement."""
    everyone = np.zeros(len(agents), np.int64)
    accepted = _by_em(
        right, good, everyone, np.array([_PRIOR_ACCEPTED["right"]]), np.array([_PRIOR_ACCEPTED["wrong"]])
    )
    pooled = Rates(float(accepted[0][0]), float(accepted[1][0]))
    known, at, counts = np.unique(agents, return_inverse=True, return_counts=True)
    strength = _AGENT_STRENGTH / 2
    prior = [
        np.tile([strength * rate, strength * (1 - rate)], (len(known), 1))
        for rate in (pooled.right, pooled.wrong)
    ]
    own = _by_em(right, good, at, prior[0], prior[1])
    return pooled, {
        int(agent): (float(count), Rates(float(own[0][i]), float(own[1][i])))
        for i, (agent, count) in enumerate(zip(known, counts, strict=True))
    }


def _by_em(
    right: Doubles, good: Flags, groups: Numbers, prior_right: Doubles, prior_wrong: Doubles
) -> tuple[Doubles, Doubles]:
    """Return P(accepted | right) and P(accepted | wrong) of each group. Priors are counts (accepted,
    refused)."""
    count = len(prior_right)
    if_right, if_wrong = _by_regression(right, good, groups, prior_right, prior_wrong)
    for _ in range(_ROUNDS):
        posterior = _posterior(right, good, if_right[groups], if_wrong[groups])
        sums = [
            np.bincount(groups, part, minlength=count)
            for part in (posterior * good, posterior, (1 - posterior) * good, 1 - posterior)
        ]
        if_right = (sums[0] + prior_right[:, 0]) / (sums[1] + prior_right.sum(axis=1))
        if_wrong = (sums[2] + prior_wrong[:, 0]) / (sums[3] + prior_wrong.sum(axis=1))
    return if_right, if_wrong


def _by_regression(
    right: Doubles, good: Flags, groups: Numbers, prior_right: Doubles, prior_wrong: Doubles
) -> tuple[Doubles, Doubles]:
    """Return where EM starts: accepted = wrong + (right - wrong) * P(right) by least squares, with the prior
    counts as rows of certain answers. From one start for all, EM would take hundreds of rounds to turn an
    agent around who flips every verdict."""
    count = len(prior_right)

    def total(values: Doubles) -> Doubles:
        return np.bincount(groups, values, minlength=count).astype(np.float64)

    number = total(np.ones(len(right))) + prior_right.sum(axis=1) + prior_wrong.sum(axis=1)
    x, xx = total(right) + prior_right.sum(axis=1), total(right**2) + prior_right.sum(axis=1)
    y = total(good.astype(np.float64)) + prior_right[:, 0] + prior_wrong[:, 0]
    xy = total(right * good) + prior_right[:, 0]
    slope: Doubles = (number * xy - x * y) / np.maximum(number * xx - x**2, 1e-9)
    if_wrong: Doubles = (y - slope * x) / number
    return np.clip(if_wrong + slope, 0.02, 0.98), np.clip(if_wrong, 0.02, 0.98)


def _posterior(right: Doubles, good: Flags, if_right: Doubles, if_wrong: Doubles) -> Doubles:
    """Return P(right | judgement)."""
    of_right: Doubles = right * np.where(good, if_right, 1 - if_right)
    of_wrong: Doubles = (1 - right) * np.where(good, if_wrong, 1 - if_wrong)
    return of_right / (of_right + of_wrong)


def _mean_rates(kept: list[tuple[float, Rates]]) -> Rates:
    total = sum(count for count, _ in kept)
    return Rates(
        sum(count * rates.right for count, rates in kept) / total,
        sum(count * rates.wrong for count, rates in kept) / total,
    )


def _examination(signals: Signals, relevant: Doubles, counted: Flags) -> tuple[tuple[float, ...], float]:
    """Return P(examined) by position and the noise of openings, by regression EM; empty without openings.

    ``relevant``: (n, k) P(right) after the judgement of the answer.
    """
    shown = signals.listed & counted[:, None]
    shown[np.arange(len(signals)), signals.quoted] = False
    opened = signals.opened & shown
    if int(opened.sum()) < _LEAST_OPENED:
        return (), 1.0
    columns = np.flatnonzero(shown.any(axis=0))
    shown, opened, relevant = shown[:, columns], opened[:, columns], relevant[:, columns]
    noise = _noise_by_regression(relevant[shown], opened[shown])
    examined = np.zeros(len(columns))
    for _ in range(_ROUNDS):
        posterior: Doubles = relevant / np.maximum(relevant + (1 - relevant) * noise, 1e-9)
        openable: Doubles = (shown * (relevant + (1 - relevant) * noise)).sum(axis=0)
        examined = np.clip((opened.sum(axis=0) + 2.0) / (openable + 10.0), 1e-3, 1.0)
        by_noise = float((opened * (1 - posterior)).sum()) + 1.0
        noise = min(1.0, by_noise / (float((shown * (1 - relevant) * examined).sum()) + 1.0))
    every = np.full(signals.documents.shape[1], float(examined.min()))
    every[columns] = examined
    return tuple(float(value) for value in every), noise


def _noise_by_regression(relevant: Doubles, opened: Flags) -> float:
    """Return where EM starts: P(opened) is linear in P(right); the noise is its value at 0 by that at 1."""
    x = relevant - relevant.mean()
    slope = float((x * opened).sum() / max(float((x**2).sum()), 1e-9))
    at_0 = float(opened.mean()) - slope * float(relevant.mean())
    return float(np.clip(at_0 / max(at_0 + slope, 1e-3), 0.02, 1.0))


def evidence_of(signals: Signals, behaviour: Behaviour, counted: Flags) -> Floats:
    """Return log P(acts | right = d) up to a constant for each answer, (n, k)."""
    rows = np.arange(len(signals))
    evidence = np.zeros(signals.documents.shape, np.float32)
    for number, channel in enumerate(CHANNELS):
        of = (signals.channel == number) & counted
        if channel == "reformulated":
            ratio = np.full(int(of.sum()), _REFORMULATED)
        elif channel in behaviour.channels:
            ratio = _ratios(signals, of, behaviour.channels[channel], behaviour)
        else:
            continue
        evidence[rows[of], signals.quoted[of]] += np.log(np.clip(ratio, 1 / _STRONGEST, _STRONGEST))
    evidence += np.where(signals.wrong, np.log(_MARKED_WRONG), 0.0).astype(np.float32)
    evidence += np.where(signals.found_next, np.log(_FOUND_NEXT), 0.0).astype(np.float32)
    if behaviour.examination:
        examined = np.array(behaviour.examination, np.float32)
        passed = np.log((1 - np.minimum(examined, 0.95)) / (1 - np.minimum(examined, 0.95) * behaviour.noise))
        shown = signals.listed.copy()
        shown[rows, signals.quoted] = False
        seen = shown & signals.opened.any(axis=1, keepdims=True)  # who opened nothing may not have looked
        opened = np.log(min(_STRONGEST, 1 / max(behaviour.noise, 1e-3)))
        evidence += np.where(signals.opened, opened, np.where(seen, passed, 0.0)).astype(np.float32)
    evidence[~counted] = 0.0
    return evidence


def _ratios(signals: Signals, of: Flags, pooled: Rates, behaviour: Behaviour) -> Doubles:
    """Return P(judgement | right) / P(judgement | wrong): the channel's, not steeper than the agent's own."""
    own = np.array(
        [
            behaviour.agents[name].difference if name in behaviour.agents else pooled.difference
            for name in signals.agent_names
        ]
    )
    trust = np.clip(own[signals.agents[of]] / max(pooled.difference, 1e-3), 0.0, 1.0)
    good = signals.judged_good[of]
    full = np.where(good, pooled.right / pooled.wrong, (1 - pooled.right) / (1 - pooled.wrong))
    return full**trust
