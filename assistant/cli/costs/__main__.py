"""``python -m assistant.cli.costs [cdk.out]``: writes the table of costs into docs/from-nothing.md."""

from __future__ import annotations

import sys
from pathlib import Path

from assistant.cli.costs.prices import load_prices
from assistant.cli.costs.table import PAGE, with_costs
from assistant.domain.errors import ConfigurationError


def main(assembly: Path) -> None:
    if not (assembly / "manifest.json").exists():
        raise ConfigurationError(f"{assembly}: no templates here; run make synth first.")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_costs(page, assembly=assembly, prices=load_prices()), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "cdk.out"))
    except ConfigurationError as error:
        sys.exit(error.message)
