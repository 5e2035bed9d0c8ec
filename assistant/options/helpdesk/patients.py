"""Simulated patients: while an agent's page is open and no person has written lately, they begin chats, each
by a story of ``patients.json``, and write its next line after each reply.

    {"name": "A late order", "customer": "PT-204417", "ids": {"order": ["4471-2208"]},
     "lines": ["My metformin is still not here. What now?", "Who do I talk to tomorrow?"]}
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import structlog
from pydantic import Field, TypeAdapter

from assistant.domain.errors import AssistantError, ConflictError, NotFoundError
from assistant.domain.identity import SubjectId, SubjectKind
from assistant.domain.public import PublicModel
from assistant.options.helpdesk.chats import Chat, StoredChats

_log = structlog.get_logger(__name__)
_QUIET = timedelta(seconds=30)
"""No simulated chat begins so soon after a person's chat has a message, the agent's ones included."""
_BETWEEN, _NEXT_LINE, _NO_REPLY = timedelta(seconds=8), timedelta(seconds=3), timedelta(minutes=20)
"""From one chat's begin to the next; from the agent's reply to the patient's next line; until a simulated
patient ends a chat in which nobody replies."""
_MOST_AT_ONCE = 3
_OPEN_FOR = timedelta(seconds=90)
"""A desk counts as open for so long after it asked: a page in the background asks nothing."""
_STEP_EVERY_S = 1.0


class Story(PublicModel):
    """What a patient writes, message by message, each after a reply."""

    # ``customer`` and ``ids`` exist in the sample order system, so that live data of the chat can be read.
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
    """Writes the patients' side of chats. A process has one: ``run`` calls ``step`` every second."""

    chats: StoredChats
    stories: Sequence[Story]
    open_until: datetime | None = None
    """Until when a desk counts as open."""
    _begun: int = 0
    """Chats that were begun, so the stories come in turn."""

    async def run(self) -> None:
        """Write until cancelled. A store that does not answer is asked again."""
        while True:
            await asyncio.sleep(_STEP_EVERY_S)
            try:
                await self.step()
            except AssistantError as error:
                _log.warning("simulated_patients_wait", error=type(error).__name__)

    def see_desk(self) -> None:
        """Count a desk as open from now on for a while."""
        self.open_until = self.chats.clock.now() + _OPEN_FOR

    async def step(self) -> None:
        """Write what is due now; nothing, and the store is not asked, while no desk is open."""
        now = self.chats.clock.now()
        if self.open_until is None or now > self.open_until:
            return
        chats = await self.chats.list()
        simulated = [chat for chat in chats if chat.story is not None and chat.closed_at is None]
        for chat in simulated:
            # It ended or expired since it was read, or many write to it: the next step reads it again.
            with suppress(ConflictError, NotFoundError):
                await self._continue(chat)
        of_persons = [message.at for chat in chats if chat.story is None for message in chat.messages]
        opened = [chat.opened_at for chat in chats]
        is_quiet = all(now - at > _QUIET for at in of_persons) and all(now - at > _BETWEEN for at in opened)
        if is_quiet and len(simulated) < _MOST_AT_ONCE:
            story = self.stories[self._begun % len(self.stories)]
            self._begun += 1
            await self.chats.open(story.customer, dict(story.ids), text=story.lines[0], story=story.name)

    async def _continue(self, chat: Chat) -> None:
        """Write the story's next line after a reply, or end the chat: after its last line has its reply, or
        where no reply comes or the chat is full."""
        last, age = chat.messages[-1], self.chats.clock.now() - chat.messages[-1].at
        if last.who == "patient":
            if age > _NO_REPLY:
                await self.chats.close(chat.chat_id)
            return
        if age < _NEXT_LINE:
            return
        lines = next((story.lines for story in self.stories if story.name == chat.story), ())
        written = sum(message.who == "patient" for message in chat.messages)
        if written < len(lines) and not chat.is_full:
            await self.chats.add(chat.chat_id, "patient", lines[written], message_id=uuid4().hex)
        else:
            await self.chats.close(chat.chat_id)
