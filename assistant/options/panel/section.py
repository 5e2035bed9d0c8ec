"""Keys of this option: ``[panel]``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import KeyMark, StrictModel, keys_of


class PanelSection(StrictModel):
    """``[panel]``: the console in a helpdesk."""

    least_suggestion: float = Field(default=0.75, ge=0.5, le=1.0)
    """Probability that the document is right, from which one is suggested unasked in a running chat; 1.0:
    never. ``assistant learn suggestions`` says what the marks of your agents give."""


class PanelTenant(TenantConfig):
    """A tenant file with the keys of this option."""

    panel: Annotated[PanelSection, KeyMark.NO_ANSWER] = PanelSection()


def least_suggestion(tenant: TenantConfig) -> float:
    """Return the probability from which a tenant's service suggests."""
    return keys_of(tenant, PanelTenant).panel.least_suggestion
