"""Keys of this option: ``[mcp]``."""

from __future__ import annotations

from assistant.tenant.tenant import TenantConfig, TenantSection
from assistant.tenant.toml_file import Tables


class McpSection(TenantSection):
    """Clients of the Model Context Protocol."""

    served: bool = False
    """Whether agents may ask by ``POST /v1/mcp``: tools that answer, search and open a document."""


TABLES: Tables = {TenantConfig: McpSection}
