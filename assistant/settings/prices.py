"""Prices by the hour, from the dated file beside this module: list prices on demand of one region."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from assistant.domain.errors import ConfigurationError
from assistant.settings.toml_file import StrictModel, read_strict

Kind = Literal["endpoint", "search", "unit"]
HOURS_A_MONTH = 730
FILE = Path(__file__).with_name("prices-2026-11-20.toml")


class Price(StrictModel):
    usd_per_hour: float = Field(gt=0)
    found: Literal["api", "pages", "list", "estimate"]
    """Where the price is from; the head of the file defines each."""
    source: str = Field(min_length=1)


class Prices(StrictModel):
    region: str
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    by_use: frozenset[str]
    """Resource types without an hourly cost of their own."""
    free: frozenset[str]
    endpoint: Mapping[str, Price]
    """By SageMaker's name of the instance."""
    search: Mapping[str, Price]
    """By OpenSearch Service's name of the instance."""
    unit: Mapping[str, Price]

    def of(self, kind: Kind, name: str) -> Price:
        """Return a price. Raises ConfigurationError when there is none."""
        table: Mapping[str, Price] = getattr(self, kind)
        try:
            return table[name]
        except KeyError:
            raise ConfigurationError(f"{FILE}: there is no price [{kind}.{name!r}]; add it.") from None


def load_prices(path: Path = FILE) -> Prices:
    """Read the dated file of prices. Raises ConfigurationError naming file, line and key."""
    return read_strict(path, Prices)
