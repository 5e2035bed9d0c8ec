"""The dated file beside this module: list prices on demand of one region, and what is assumed of use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from assistant.domain.errors import ConfigurationError
from assistant.option import Place
from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import StrictModel, read_strict

Kind = Literal["endpoint", "search", "unit"]
HOURS_A_MONTH = 730
FILE = Path(__file__).with_name("prices-2026-11-25.toml")


class Price(StrictModel):
    usd: float = Field(gt=0)
    per: Literal["hour", "month", "use"]
    units: int = Field(default=1, ge=1)
    """How many of them ``usd`` buys."""
    checked: bool
    """Whether a stored page shows it; the head of the file says more."""
    source: str = Field(min_length=1)

    @property
    def hours(self) -> int:
        """Units of a month in which one of them stands all the time."""
        return HOURS_A_MONTH if self.per == "hour" else 1

    @property
    def usd_per_hour(self) -> float:
        """What one costs that stands all the time."""
        return self.usd / self.units * self.hours / HOURS_A_MONTH


class Use(StrictModel):
    """A line that is paid by use, with the assumed amounts in units of its price."""

    part: str
    name: str
    of: str = Field(pattern=r"^AWS::")
    """Resource type that pays it; templates without one do not."""
    price: str
    """Name of the price in the table ``unit``."""
    month: float = Field(default=0, ge=0)
    """Amount without any question."""
    each: bool = False
    """Whether ``month`` counts for each resource of the type."""
    question: float = Field(default=0, ge=0)
    written: float = Field(default=0, ge=0)
    """More than ``question``, of an answer that the model writes."""
    why: str


USES = Place[Callable[[TenantConfig], Sequence[tuple[Use, Price]]]]("uses of a tenant")
"""What returns the lines that an option's keys add, each with its price."""


class AssumedLoad(StrictModel):
    questions_a_month: float = Field(gt=0)
    busy_hours: int = Field(ge=1, le=24)
    """Hours of a day with full load; the others have a tenth of it."""


class Prices(StrictModel):
    region: str
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    free: frozenset[str]
    """Resource types that cost nothing, or are paid by another resource's line."""
    load: AssumedLoad
    endpoint: Mapping[str, Price]
    """By SageMaker's name of the instance."""
    search: Mapping[str, Price]
    """By OpenSearch Service's name of the instance."""
    unit: Mapping[str, Price]
    use: tuple[Use, ...]

    def of(self, kind: Kind, name: str) -> Price:
        """Return a price. Raises ConfigurationError when there is none."""
        table: Mapping[str, Price] = getattr(self, kind)
        try:
            return table[name]
        except KeyError:
            raise ConfigurationError(f"{FILE}: there is no price [{kind}.{name!r}]; add it.") from None

    def of_tenant(self, tenant: TenantConfig) -> Prices:
        """Return the prices with what a tenant pays by use of options. Raises ConfigurationError."""
        added = [line for uses in USES.joined() for line in uses(tenant)]
        units = {use.price: price for use, price in added}
        lines = (*self.use, *(use for use, _ in added))
        return self.model_copy(update={"unit": {**self.unit, **units}, "use": lines})

    def usd_of_use(self, *, written: bool) -> float:
        """Return what one question adds to the lines that are paid by use."""
        return sum(
            (use.question + (use.written if written else 0)) * price.usd / price.units
            for use in self.use
            for price in (self.of("unit", use.price),)
        )


def load_prices(path: Path = FILE) -> Prices:
    """Read the dated file of prices. Raises ConfigurationError naming file, line and key."""
    return read_strict(path, Prices)
