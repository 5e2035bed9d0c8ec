"""Keys of this option: ``[openai]``."""

from __future__ import annotations

from typing import Literal

from assistant.tenant.tenant import TenantConfig, TenantSection
from assistant.tenant.toml_file import Tables


class OpenAiSection(TenantSection):
    """How clients of OpenAI's API are served."""

    system_messages: Literal["ignored", "refused"] = "ignored"
    """What comes of messages of the roles ``system`` and ``developer``, which are never read: they are named
    in the header ``Warning``, or the request is refused (422)."""


TABLES: Tables = {TenantConfig: OpenAiSection}
