"""Keys of this option: ``[overview]``."""

from __future__ import annotations

from pydantic import Field

from assistant.tenant.tenant import TenantConfig, TenantSection
from assistant.tenant.toml_file import Tables


class OverviewSection(TenantSection):
    """The manager's page."""

    smallest_group: int = Field(default=5, ge=1, le=1_000)
    """Agents. What fewer agents sent and marked on a day is in no number, and a smaller group of agents has
    no line of its own."""


TABLES: Tables = {TenantConfig: OverviewSection}
