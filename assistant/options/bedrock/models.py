"""The dated file of Bedrock's models, ``models.toml``: prices, and who keeps prompts.

[[retention]]                          [[price]]
model = "openai."                      model = "amazon.nova-lite-v1:0"
days = 30                              input = 0.06
what = "prompts and answers that …"    output = 0.24
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pydantic import Field

from assistant.domain.errors import ConfigurationError
from assistant.tenant.prices import AssumedLoad, Price, Use
from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import StrictModel, read_strict

FILE = Path(__file__).with_name("models.toml")


class Retention(StrictModel):
    """For how long AWS or the model's provider keeps prompts."""

    model: str
    """Beginning of the models' ids. The longest one that fits a model counts."""
    days: int = Field(ge=0)
    """0: nobody keeps them."""
    what: str
    """What is kept, for a reader."""
    source: str
    """Where it was read."""
    date: str
    """When it was read: "2026-10-18"."""


class TokenPrice(StrictModel):
    """Price of a model on demand."""

    model: str
    """Id without an inference profile's region, so ids of profiles end with it."""
    region: str = "us-east-1"
    """Region that calls it."""
    input: float = Field(gt=0)
    """USD for a million tokens of prompts."""
    output: float = Field(gt=0)
    """USD for a million tokens of answers."""
    checked: bool
    """Whether a stored page shows it."""
    source: str


class Models(StrictModel):
    """``models.toml``."""

    date: str
    """When the file was last reviewed."""
    retention: tuple[Retention, ...]
    price: tuple[TokenPrice, ...]


@cache
def known_models() -> Models:
    """Return the file's tables. Raises ConfigurationError naming file, line and key."""
    return read_strict(FILE, Models)


def retention_of(model_id: str) -> Retention | None:
    """Return who keeps prompts of a model, and for how long; None where nobody is known to."""
    rows = [row for row in known_models().retention if model_id.startswith(row.model)]
    longest = max(rows, key=lambda row: len(row.model), default=None)
    return longest if longest is not None and longest.days else None


def uses(tenant: TenantConfig, load: AssumedLoad) -> Sequence[tuple[Use, Price]]:
    """Return the lines that a written answer adds to ``assistant aws cost``, each with its price: prompt
    tokens and written tokens of all calls for a question, where the tenant's region has no price at the
    model's first one. Empty for a tenant with its own endpoint.

    Raises ConfigurationError for a model without a price.
    """
    generation = tenant.generation
    if tenant.has_llm_endpoint:
        return []
    rows = [row for row in known_models().price if generation.model.endswith(row.model)]
    if not rows:
        raise ConfigurationError(f"{FILE}: there is no [[price]] of {generation.model}; add it.")
    region = tenant.deployment.region if tenant.deployment else ""
    row = next((row for row in rows if row.region == region), rows[0])
    calls = [call for name, call in load.calls.items() if generation.reads or name != "reading"]
    longest = generation.context_tokens - generation.max_tokens
    prompts = [(min(call.prompt_tokens, longest), call.probe) for call in calls]
    written = [(call.written_tokens, call.probe) for call in calls]
    return [
        (
            Use(
                part="Bedrock",
                name=f"{name} tokens of {row.model}",
                resource_type="AWS::ECS::Service",
                price=f"bedrock_{name}_token",
                more_per_written_answer=sum(tokens for tokens, _ in counts),
                more_per_written_probe=sum(tokens for tokens, of_probe in counts if of_probe),
                why=f"written: {len(counts)} calls, measured ([load.calls] of the price file)",
            ),
            Price(usd=usd, per="use", units=1_000_000, checked=row.checked, source=row.source),
        )
        for name, usd, counts in (("input", row.input, prompts), ("output", row.output, written))
    ]
