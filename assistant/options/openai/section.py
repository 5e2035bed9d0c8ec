"""Keys of this option: ``[openai]``."""

from __future__ import annotations

from typing import Annotated, Literal

from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import KeyMark, StrictModel


class OpenAiSection(StrictModel):
    """How clients of OpenAI's API are served."""

    system_messages: Literal["ignored", "refused"] = "ignored"
    """What comes of messages of the roles ``system`` and ``developer``, which are never read: they are named
    in the header ``Warning``, or the request is refused (422)."""


class OpenAiTenant(TenantConfig):
    """A tenant file with the keys of this option."""

    openai: Annotated[OpenAiSection, KeyMark.NO_ANSWER] = OpenAiSection()
