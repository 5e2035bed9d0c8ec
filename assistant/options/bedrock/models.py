"""The dated file of Bedrock's models: prices, and who keeps prompts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from assistant.tenant.toml_file import StrictModel, read_strict

FILE = Path(__file__).with_name("models.toml")


class Retention(StrictModel):
    model: str
    """Beginning of the ids."""
    days: int = Field(ge=0)
    what: str
    source: str
    date: str


class TokenPrice(StrictModel):
    model: str
    input: float = Field(gt=0)
    """USD for a million tokens of prompts."""
    output: float = Field(gt=0)
    checked: bool
    """Whether a stored page shows it."""
    source: str


class Models(StrictModel):
    date: str
    retention: tuple[Retention, ...]
    price: tuple[TokenPrice, ...]


@cache
def known_models() -> Models:
    """Raises ConfigurationError naming file, line and key."""
    return read_strict(FILE, Models)


def retention_of(model_id: str) -> Retention | None:
    """Return who keeps prompts of a model, and for how long; None where nobody is known to."""
    rows = [row for row in known_models().retention if model_id.startswith(row.model)]
    longest = max(rows, key=lambda row: len(row.model), default=None)
    return longest if longest is not None and longest.days else None
