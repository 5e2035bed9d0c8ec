"""The dated file of prices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from assistant.domain.errors import ConfigurationError
from assistant.settings.toml_file import read_strict

FILE = Path(__file__).with_name("prices-2026-11-20.toml")


class Price(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    usd_per_hour: float = Field(gt=0)
    found: Literal["api", "pages", "list", "estimate"]
    """What stands behind the figure; the head of the file says what each means."""
    source: str = Field(min_length=1)


class Prices(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    endpoint: Mapping[str, Price]
    """By SageMaker's name of the instance."""
    search: Mapping[str, Price]
    """By OpenSearch Service's name of the instance."""
    unit: Mapping[str, Price]

    def of(self, kind: Literal["endpoint", "search", "unit"], name: str) -> Price:
        """Raises ConfigurationError: something costs that has no price here."""
        table: Mapping[str, Price] = getattr(self, kind)
        try:
            return table[name]
        except KeyError:
            raise ConfigurationError(f"{FILE}: there is no price [{kind}.{name!r}]; add it.") from None


def load_prices(path: Path = FILE) -> Prices:
    """Raises ConfigurationError naming file, line and key."""
    return read_strict(path, Prices)
