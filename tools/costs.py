"""``python -m tools.costs [cdk.out]``: writes the table of costs into docs/cost.md."""

from __future__ import annotations

import sys
from pathlib import Path

from assistant.cli.aws.cost import make_bill, rows_of
from assistant.domain.errors import ConfigurationError
from assistant.tenant.prices import load_prices
from template_checks.upgrades import templates_by_stack_name
from tools.tables import markdown_table, with_table

PAGE = Path(__file__).parents[1] / "docs" / "cost.md"


def with_costs(page: str, *, assembly: Path) -> str:
    """Return the page with a new table of costs, for every tenant of ``cdk.out``.

    Raises ConfigurationError where something has no price.
    """
    prices = load_prices()
    bills = {
        folder.name.removeprefix("assembly-").lower(): make_bill(
            list(templates_by_stack_name(folder).values()), prices, questions=prices.load.questions_a_month
        )
        for folder in sorted(assembly.glob("assembly-*"))
    }
    head = [f"USD a month, {prices.region}, {prices.date}", *bills]
    return with_table(page, markdown_table(head, rows_of(bills)), begin="costs, made by", end="end of costs")


def main(assembly: Path) -> None:
    if not (assembly / "manifest.json").exists():
        raise ConfigurationError(f"{assembly}: no templates here; run make synth first.")
    PAGE.write_text(with_costs(PAGE.read_text(encoding="utf-8"), assembly=assembly), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "cdk.out"))
    except ConfigurationError as error:
        sys.exit(error.message)
