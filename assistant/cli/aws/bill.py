"""A tenant's month, line by line: what its templates pay for, and what is assumed of its use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from assistant.domain.errors import ConfigurationError
from assistant.tenant.prices import FILE, Kind, Prices
from template_checks.priced import LLM, PRICED, Line, priced, resource_types

State = Literal["paused", "on", "quoted", "written"]
STATES: tuple[State, ...] = ("paused", "on", "quoted", "written")
"""Paused; on without questions; all answers quoted, where no LLM runs; all answers written by the LLM."""


@dataclass(frozen=True, slots=True)
class BillLine:
    part: str
    name: str
    price: str
    usd: float
    """Of ``units``."""
    units: int
    checked: bool
    quantity: Mapping[State, float]
    """Units a month."""

    def month(self, state: State) -> float:
        """Return USD a month."""
        return self.quantity[state] * self.usd / self.units


@dataclass(frozen=True, slots=True)
class Bill:
    questions: float
    """A month, in the states ``quoted`` and ``written``."""
    lines: tuple[BillLine, ...]

    def month(self, state: State, *, part: str | None = None) -> float:
        """Return USD a month of one part, or of all."""
        return sum(line.month(state) for line in self.lines if part is None or line.part == part)

    def thousand(self, state: State) -> float:
        """Return USD of 1,000 questions, with their share of all that stands."""
        return self.month(state) / self.questions * 1000

    def largest(self, state: State, *, count: int) -> list[BillLine]:
        return sorted(self.lines, key=lambda line: line.month(state), reverse=True)[:count]


def make_bill(
    templates: Sequence[Mapping[str, Any]], prices: Prices, *, questions: float, llm_instances: int = 1
) -> Bill:
    """Return the bill of one tenant's templates.

    ``llm_instances``: what the load needs, where it is more than the templates begin with.
    Raises ConfigurationError for a resource type or an instance without a price.
    """
    types = resource_types(templates)
    known = prices.free | PRICED.keys() | {use.of for use in prices.use}
    if unknown := sorted(types.keys() - known):
        raise ConfigurationError(
            f"{FILE}: no price is known of {', '.join(unknown)}. Add a [[use]] with `of`, or a row of `free`."
        )
    amounts: dict[tuple[str, str, Kind, str], list[float]] = defaultdict(lambda: [0.0] * len(STATES))

    def add(part: str, name: str, kind: Kind, price: str, quantity: Callable[[State], float]) -> None:
        found = amounts[part, name, kind, price]
        for place, state in enumerate(STATES):
            found[place] += quantity(state)

    standing = list(priced(templates))
    first = sum(line.amount for line in standing if line.part == LLM and line.kind == "endpoint")
    growth = max(1.0, llm_instances / first) if first else 1.0
    for line in standing:
        hours = prices.of(line.kind, line.name).hours
        add(line.part, line.name, line.kind, line.name, _standing(line, hours, growth))
    for use in prices.use:
        if count := types[use.of]:
            month = use.month * (count if use.each else 1)
            asked = {"quoted": use.question, "written": use.question + use.written}
            add(
                use.part,
                use.name,
                "unit",
                use.price,
                lambda state, month=month, asked=asked: month + questions * asked.get(state, 0.0),
            )
    return Bill(questions, tuple(_lines(amounts, prices)))


def _standing(line: Line, hours: int, growth: float) -> Callable[[State], float]:
    def quantity(state: State) -> float:
        if (state == "paused" and line.only_on) or (state == "quoted" and line.part == LLM):
            return 0.0
        return line.amount * hours * (growth if state == "written" and line.part == LLM else 1.0)

    return quantity


def _lines(
    amounts: Mapping[tuple[str, str, Kind, str], Sequence[float]], prices: Prices
) -> Iterable[BillLine]:
    for (part, name, kind, price_name), quantities in amounts.items():
        price, by_state = prices.of(kind, price_name), dict(zip(STATES, quantities, strict=True))
        if any(quantities):
            yield BillLine(part, name, price_name, price.usd, price.units, price.checked, by_state)
