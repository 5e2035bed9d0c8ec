"""Keys of suggestions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import KeyMark, StrictModel


class SuggestSection(StrictModel):
    """``[suggest]``: unasked suggestions in a running chat."""

    least: float = Field(default=0.75, ge=0.5, le=1.0)
    """Probability that the document is right, from which one is suggested; 1.0: never. ``assistant learn
    suggestions`` says what the marks of your agents give."""


class SuggestTenant(TenantConfig):
    """A tenant file with the keys of this option."""

    suggest: Annotated[SuggestSection, KeyMark.NO_ANSWER] = SuggestSection()
