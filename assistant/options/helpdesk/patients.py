"""Simulated patients: they write where no person does, and while a desk is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import structlog
from pydantic import Field, TypeAdapter

from assistant.domain.errors import AssistantError
from assistant.domain.identity import SubjectId, SubjectKind
from assistant.domain.public import PublicModel
from assistant.options.helpdesk.chats import Chat, StoredChats

_log = structlog.get_logger(__name__)
_QUIET = timedelta(seconds=30)
"""So long after a person wrote no simulated patient comes."""
_BETWEEN, _TYPES_FOR, _GIVES_UP = timedelta(seconds=8), timedelta(seconds=3), timedelta(minutes=20)
_MOST_AT_ONCE = 3
_LOOKS_EVERY_S = 1.0


class Story(PublicModel):
    """What a patient writes, message by message, each after a reply."""

    name: str = Field(min_length=1, max_length=80)
    customer: SubjectId
    ids: dict[SubjectKind, tuple[SubjectId, ...]] = Field(default_factory=dict)
    lines: tuple[str, ...] = Field(min_length=1)


def shipped_stories() -> Sequence[Story]:
    """Return the stories of ``patients.json``, of customers of the sample order system."""
    content = Path(__file__).with_name("patients.json").read_bytes()
    return TypeAdapter(tuple[Story, ...]).validate_json(content)


@dataclass(slots=True)
class SimulatedPatients:
    chats: StoredChats
    stories: Sequence[Story]
    desks: int = 0
    """Pages of agents that are open."""
    _told: int = 0

    async def run(self) -> None:
        """Write until cancelled. A store that does not answer is asked again."""
        with self.chats.watching() as watcher:
            while True:
                await watcher.wait(_LOOKS_EVERY_S)
                try:
                    await self.step()
                except AssistantError as error:
                    _log.warning("simulated_patients_wait", error=type(error).__name__)

    async def step(self) -> None:
        """Write what is due now; nothing, and the store is not asked, while no desk is open."""
        if not self.desks:
            return
        now, chats = self.chats.clock.now(), await self.chats.list()
        simulated = [chat for chat in chats if chat.story is not None and chat.closed_at is None]
        for chat in simulated:
            await self._go_on(chat)
        wrote = [one.at for chat in chats if chat.story is None for one in chat.messages]
        opened = [chat.opened_at for chat in chats]
        is_quiet = all(now - at > _QUIET for at in wrote) and all(now - at > _BETWEEN for at in opened)
        if is_quiet and len(simulated) < _MOST_AT_ONCE:
            story = self.stories[self._told % len(self.stories)]
            self._told += 1
            await self.chats.open(story.customer, dict(story.ids), text=story.lines[0], story=story.name)

    async def _go_on(self, chat: Chat) -> None:
        last, age = chat.messages[-1], self.chats.clock.now() - chat.messages[-1].at
        if last.who == "patient":
            if age > _GIVES_UP:
                await self.chats.close(chat.chat_id)
            return
        if age < _TYPES_FOR:
            return
        lines = next((one.lines for one in self.stories if one.name == chat.story), ())
        said = sum(one.who == "patient" for one in chat.messages)
        if said < len(lines):
            await self.chats.add(chat.chat_id, "patient", lines[said], message_id=uuid4().hex)
        else:
            await self.chats.close(chat.chat_id)
