"""The base of all data that is stored or crosses a process border."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict


class PublicModel(BaseModel):
    """Frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def fields_of(source: PublicModel, model: type[PublicModel], *, but: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of ``source`` that ``model`` has too, by name, except those in ``but``."""
    names = type(source).model_fields.keys() & model.model_fields.keys()
    return {name: getattr(source, name) for name in names.difference(but)}
