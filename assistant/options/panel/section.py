"""Keys of this option: ``[panel]``."""

from __future__ import annotations

from pydantic import Field

from assistant.tenant.tenant import TenantConfig, TenantSection
from assistant.tenant.toml_file import Tables


class PanelSection(TenantSection):
    """``[panel]``: the console in a helpdesk."""

    least_suggestion: float = Field(default=0.75, ge=0.5, le=1.0)
    """Probability that the document is right, from which one is suggested unasked in a running chat; 1.0:
    never. ``GET /v1/turns/counts`` says what your agents made of suggestions."""


TABLES: Tables = {TenantConfig: PanelSection}
