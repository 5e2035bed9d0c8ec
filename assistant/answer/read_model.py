"""Lets the model that writes read a conversation: what is asked last, and how a handbook would call it.

A reading may widen what is found, never what is allowed; an emergency that it names raises the banner beside
those that the heads find, and takes none away.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from assistant.answer.ask_json import Told, ask_json
from assistant.answer.prompt import fill_slots, load_prompt
from assistant.answer.services import TenantServices
from assistant.domain.clock import Deadline
from assistant.domain.public import PublicModel
from assistant.stores.ports import ChatMessage

PROMPT = "read/1"
_MOST_TOKENS = 400
_Short = Annotated[str, StringConstraints(max_length=300)]


class ModelReading(PublicModel):
    """What the model says of a conversation."""

    language: str = Field(pattern=r"^[a-z]{2,3}$")
    """ISO 639-1 code of the customer's language."""
    asks: bool
    """False for thanks, a greeting, small talk."""
    facts: tuple[_Short, ...] = Field(max_length=12)
    """What the conversation says that decides, in its words."""
    emergency: str | None
    """Name of the tenant's red flag that somebody may be in now."""
    queries: tuple[_Short, ...] = Field(max_length=3)
    """Searches, in the language of the documents."""


class ReadByModel:
    """Reads conversations of one tenant.

    Example::

        told = await read.run(block, deadline=deadline)
        told.value.queries  # ("Can an order with cold items be split?",)
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        template = load_prompt(PROMPT)
        flags = "\n".join(
            f"- {flag.name}: {flag.text.partition('.')[0]}" for flag in services.tenant.red_flags
        )
        self._template, self._system = template, template.system.replace("{{flags}}", flags)

    async def run(self, conversation: str, *, deadline: Deadline) -> Told[ModelReading] | None:
        """Return the reading; None where the model gave none in time. ``conversation``: its block."""
        user = fill_slots(self._template, {"conversation": conversation})
        messages = ChatMessage("system", self._system), ChatMessage("user", user)
        return await ask_json(
            self._services,
            messages,
            ModelReading,
            max_tokens=_MOST_TOKENS,
            deadline=deadline,
            failure="conversation_not_read",
        )
