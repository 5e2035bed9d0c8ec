"""The table of costs in docs/from-nothing.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assistant.cli.costs.priced_resources import Line, priced
from assistant.cli.costs.prices import Prices
from template_checks.upgrades import templates_by_stack_name

PAGE = Path(__file__).parents[3] / "docs" / "from-nothing.md"
BEGIN = "<!-- costs, made by python -m assistant.cli.costs -->"
END = "<!-- end of costs -->"
HOURS_A_MONTH = 730


def with_costs(page: str, *, assembly: Path, prices: Prices) -> str:
    """Return the page with its costs written anew, for every tenant of ``cdk.out``.

    Raises ConfigurationError where something has no price.
    """
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    tenants = {
        folder.name.removeprefix("assembly-").lower(): list(
            priced(_in_order(templates_by_stack_name(folder)))
        )
        for folder in sorted(assembly.glob("assembly-*"))
    }
    return f"{head}{BEGIN}\n{markdown(tenants, prices)}{END}{tail}"


def markdown(tenants: Mapping[str, Sequence[Line]], prices: Prices) -> str:
    """Return a row a part of the bill, two columns a tenant: on and paused, in USD an hour."""
    parts = list(dict.fromkeys(line.part for lines in tenants.values() for line in lines))
    names = list(tenants)
    rows = [
        f"| USD an hour, {prices.region}, prices of {prices.date} | "
        + " | ".join(f"{name} on | {name} paused" for name in names)
        + " |",
        "| --- |" + " --- | --- |" * len(names),
    ]
    for part in parts:
        rows.append(_row(part, [_cost(tenants[name], prices, part=part) for name in names]))
    whole = [_cost(tenants[name], prices) for name in names]
    rows.append(_row("**together**", whole))
    months = [(on * HOURS_A_MONTH, paused * HOURS_A_MONTH) for on, paused in whole]
    rows.append(
        "| USD a month of 730 hours | " + " | ".join(f"{on:,.0f} | {off:,.0f}" for on, off in months) + " |"
    )
    return "\n".join(rows) + "\n"


def _cost(lines: Sequence[Line], prices: Prices, *, part: str | None = None) -> tuple[float, float]:
    """Return what costs an hour while on, and while paused."""
    some = [line for line in lines if part is None or line.part == part]
    costs = [(line, line.amount * prices.of(line.kind, line.name).usd_per_hour) for line in some]
    return sum(cost for _, cost in costs), sum(cost for line, cost in costs if not line.only_on)


def _row(name: str, costs: Sequence[tuple[float, float]]) -> str:
    return f"| {name} | " + " | ".join(f"{on:.2f} | {paused:.2f}" for on, paused in costs) + " |"


def _in_order(templates: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [templates[name] for name in sorted(templates)]
