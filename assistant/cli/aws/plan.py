"""How many instances answer a load in time, what they cost, and what happens when things change."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from assistant.cli.aws.simulation import Load, simulate
from assistant.cli.aws.timings import Timings
from assistant.domain.errors import ConfigurationError
from assistant.tenant.prices import HOURS_A_MONTH

_MOST_INSTANCES = 200
_SIMULATED_S = 2 * 3600.0
_QUIET = 0.1
_RATES = (0.5, 1.0, 1.5, 2.0)
"""Of the load that is asked about."""
_LEAST_REQUESTS, _MOST_REQUESTS = 5_000, 20_000
DEFAULT_LENGTHS = "assumed: prompts of some 4,500 tokens (five documents of the pharmacy), answers of some 45"
"""Decision 0064, and the median and spread of 355 recorded answers; the spread of prompts is a guess."""


def default_lengths(longest: int) -> list[tuple[int, int]]:
    """Return tokens of prompt and answer, 1,000 pairs; ``longest``: both together."""
    generator = np.random.default_rng(22)
    answers = generator.lognormal(np.log(45), 0.5, 1000).clip(1, longest / 2)
    prompts = generator.lognormal(np.log(4500), 0.3, 1000).clip(1, longest - answers)
    return list(zip(prompts.astype(int).tolist(), answers.astype(int).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Demand:
    questions_per_s: float
    """In the busiest hour."""
    lengths: Sequence[tuple[int, int]]
    """Tokens of prompt and answer; a question draws one of the pairs."""
    busy_hours: int = 24
    """Hours of a day with that load; the others have a tenth of it."""

    def mean(self, busy: float, quiet: float) -> float:
        """Return the mean over a day of what busy and quiet hours have."""
        return (busy * self.busy_hours + quiet * (24 - self.busy_hours)) / 24

    def load(self, rate: float) -> Load:
        """Return Poisson arrivals; ``rate`` multiplies the questions a second."""
        generator = np.random.default_rng(22)  # always the same: two plans differ by their inputs alone
        requests = min(_MOST_REQUESTS, max(_LEAST_REQUESTS, self.questions_per_s * _SIMULATED_S))
        at = np.sort(generator.random(generator.poisson(requests * rate))) * requests / self.questions_per_s
        drawn = generator.choice(np.asarray(self.lengths), len(at))
        return Load(at.tolist(), drawn[:, 0].tolist(), drawn[:, 1].tolist())


@dataclass(frozen=True, slots=True)
class Question:
    """What a plan is made for."""

    demand: Demand
    timings: Timings
    first_token_s: float
    """95 of 100 questions get their first token within it."""
    zones: int
    usd_per_hour: float

    def spared(self, needed: int) -> int:
        """Return the least instances of which ``needed`` are left when the fullest zone is lost."""
        counts = range(needed, 2 * needed + 2)
        return next(each for each in counts if self.zones == 1 or each - ceil(each / self.zones) >= needed)


@dataclass(frozen=True, slots=True)
class Scenario:
    what: str
    needed: int | None
    """Instances that answer in time; None where 200 do not."""
    p50_s: float
    p95_s: float
    unanswered: float
    """Share that was refused after a minute."""
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    instances: int
    """So many answer in time even while one zone is lost."""
    usd_a_month: float
    usd_a_question: float
    usd_a_month_by_hour: float
    """If every hour of the day has as many as it needs."""
    scenarios: tuple[Scenario, ...]
    """What happens to the planned instances."""


def make_plan(question: Question) -> Plan:
    """Raises ConfigurationError when no number of instances answers in time."""
    demand = question.demand
    needed = instances_needed(question, 1.0)
    if needed is None:
        raise ConfigurationError(
            f"Not even {_MOST_INSTANCES} instances give 95 of 100 questions a first token within "
            f"{question.first_token_s * 1000:,.0f} ms. Allow more time, let the model read less "
            "(reads_tokens), or take a faster instance."
        )
    instances = question.spared(needed)
    by_hour = demand.mean(instances, question.spared(instances_needed(question, _QUIET) or needed))
    month = question.usd_per_hour * HOURS_A_MONTH
    asked_a_month = demand.mean(1.0, _QUIET) * demand.questions_per_s * 3600 * HOURS_A_MONTH
    return Plan(
        instances=instances,
        usd_a_month=instances * month,
        usd_a_question=instances * month / asked_a_month,
        usd_a_month_by_hour=by_hour * month,
        scenarios=tuple(_scenario(question, instances, rate) for rate in _RATES),
    )


def _scenario(question: Question, instances: int, rate: float) -> Scenario:
    outcome = simulate(question.demand.load(rate), question.timings, instances=instances)
    p50, p95 = (outcome.first_token_s(each) for each in (50, 95))
    needed = instances_needed(question, rate)
    return Scenario(f"{rate:.0%} of the load", needed, p50, p95, outcome.unanswered, outcome.tokens_per_s)


def instances_needed(question: Question, rate: float) -> int | None:
    """Return the least instances that answer in time, by doubling and halving; None: more than 200."""
    load = question.demand.load(rate)

    def is_enough(instances: int) -> bool:
        outcome = simulate(load, question.timings, instances=instances)
        return outcome.first_token_s(95) <= question.first_token_s

    late, enough = 0, 1
    while not is_enough(enough):
        if enough >= _MOST_INSTANCES:
            return None
        late, enough = enough, min(_MOST_INSTANCES, 2 * enough)
    while enough - late > 1:
        middle = (late + enough) // 2
        late, enough = (late, middle) if is_enough(middle) else (middle, enough)
    return enough
