"""Keys of this option: ``[recall]``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import KeyMark, StrictModel

PLACE_OF_ID, PLACE_OF_CHAT = "{conversation_id}", "{chat}"


class RecallSection(StrictModel):
    """How replies that were sent on words which changed are worked off."""

    due_days: int = Field(default=3, ge=1, le=90)
    """Days from the sweep that finds a reply to the day on which it is due."""
    conversation_url: str | None = Field(
        default=None,
        max_length=500,
        pattern=r"^(https://|\{[a-z][a-z0-9-]*\}/)[^\s{}]*\{(conversation_id|chat)\}[^\s{}]*$",
    )
    """Address of a conversation in the company's helpdesk, with ``{conversation_id}`` in place of the id that
    a delivered reply carries, or ``{chat}`` in place of the care context's first id of the kind ``chat``.
    ``{orders}/`` at its beginning is the address of the system "orders" of ``[[reach]]``."""


class RecallTenant(TenantConfig):
    """A tenant file with the keys of this option."""

    recall: Annotated[RecallSection, KeyMark.NO_ANSWER] = RecallSection()
