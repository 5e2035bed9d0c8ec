"""The dated file of prices beside this module: on-demand list prices of one region, and the amounts of use
that are assumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from assistant.domain.errors import ConfigurationError
from assistant.option import installed
from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import StrictModel, read_strict

Kind = Literal["endpoint", "search", "unit"]
"""Table of the file that has a price: instances of endpoints, instances of the search domain, all else."""
HOURS_A_MONTH = 730
"""365 days, by twelve."""
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
    def units_a_month(self) -> int:
        """What is paid in a month for one that stands all the time: its hours, or the month."""
        return HOURS_A_MONTH if self.per == "hour" else 1

    @property
    def usd_per_hour(self) -> float:
        """What one costs that stands all the time; for prices per hour or month."""
        return self.usd / self.units * self.units_a_month / HOURS_A_MONTH


class Use(StrictModel):
    """A line that is paid by use, with the assumed amounts in units of its price."""

    part: str
    name: str
    resource_type: str = Field(pattern=r"^AWS::")
    """The CloudFormation type that pays it; templates without one do not."""
    price: str
    """Name of the price in the table ``unit``."""
    amount_a_month: float = Field(default=0, ge=0)
    """Without any question."""
    per_resource: bool = False
    """Whether ``amount_a_month`` counts for each resource of the type."""
    per_question: float = Field(default=0, ge=0)
    more_per_written_answer: float = Field(default=0, ge=0)
    """Added to ``per_question`` where a model writes the answer."""
    more_per_written_probe: float | None = Field(default=None, ge=0)
    """The same of a question of the probe. Absent: ``more_per_written_answer``."""
    why: str


class ModelCall(StrictModel):
    """A call of a model for one question."""

    prompt_tokens: int = Field(gt=0)
    written_tokens: int = Field(gt=0)
    probe: bool = False
    """Whether a question of the probe has it too: it is a single message, and nobody replies."""


class AssumedLoad(StrictModel):
    questions_a_month: float = Field(gt=0)
    probe_questions_a_month: float = Field(ge=0)
    """Of the care side's probe, beside them."""
    calls: Mapping[Literal["reading", "answer", "check", "reply", "reply_check"], ModelCall]
    busy_hours: int = Field(ge=1, le=24)
    """Hours of a day with full load; the others have a tenth of it."""

    def busy_rate(self, questions_a_month: float) -> float:
        """Return questions a second of a busy hour."""
        mean_share = (self.busy_hours + 0.1 * (24 - self.busy_hours)) / 24  # of a busy hour's load
        return questions_a_month / mean_share / (HOURS_A_MONTH * 3600)


class RegionalPrices(StrictModel):
    """What is known of another region's prices; all else is taken as in the file's region."""

    endpoint: Mapping[str, Price] = {}
    search: Mapping[str, Price] = {}
    unit: Mapping[str, Price] = {}


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
    elsewhere: Mapping[str, RegionalPrices] = {}
    """By region."""
    use: tuple[Use, ...]

    def of(self, kind: Kind, name: str) -> Price:
        """Return a price. Raises ConfigurationError when there is none."""
        table: Mapping[str, Price] = getattr(self, kind)
        try:
            return table[name]
        except KeyError:
            raise ConfigurationError(f"{FILE}: there is no price [{kind}.{name!r}]; add it.") from None

    def of_tenant(self, tenant: TenantConfig) -> Prices:
        """Return the prices in a tenant's region, as far as they are known, with what it pays by use of
        options. Raises ConfigurationError."""
        added = [line for option in installed() for line in option.prices(tenant, self.load)]
        region = tenant.deployment.region if tenant.deployment else ""
        regional = self.elsewhere.get(region, RegionalPrices())
        return self.model_copy(
            update={
                "endpoint": {**self.endpoint, **regional.endpoint},
                "search": {**self.search, **regional.search},
                "unit": {**self.unit, **regional.unit, **{use.price: price for use, price in added}},
                "use": (*self.use, *(use for use, _ in added)),
            }
        )

    def usd_of_use(self, *, written: bool) -> float:
        """Return what one question adds to the lines that are paid by use."""
        usd = 0.0
        for use in self.use:
            price = self.of("unit", use.price)
            amount = use.per_question + (use.more_per_written_answer if written else 0)
            usd += amount * price.usd / price.units
        return usd


def load_prices(path: Path = FILE) -> Prices:
    """Read the dated file of prices. Raises ConfigurationError naming file, line and key."""
    return read_strict(path, Prices)
