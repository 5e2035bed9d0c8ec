"""Chats of patients with a care team, for a reference: one item each, over a table.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``chats`` | id of the chat | the chat as JSON, its version and when it expires |

Whoever knows a patient's chat id may write in it, so it cannot be guessed. One process serves the chats,
and numbers their changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal
from uuid import uuid4

from pydantic import Field

from assistant.domain.clock import Clock
from assistant.domain.errors import ConflictError, NotFoundError, OverloadedError
from assistant.domain.identity import SubjectId, SubjectKind
from assistant.domain.public import PublicModel, RecordId
from assistant.stores.table import ABSENT, EXPIRES_AT, Range, Table, equal, keyed

MOST_CHARACTERS = 2_000
"""Characters of a message: half of what the panel takes of a turn (``MOST_TURN_CHARACTERS``)."""
_MOST_MESSAGES, _MOST_OPEN = 100, 50
"""Messages of a chat, and open chats: anybody may open them, so each has a limit."""
_KEPT = timedelta(hours=12)
"""After its last write a chat expires."""
_WRITE_ATTEMPTS = 5
_PARTITION = "chats"


class Message(PublicModel):
    message_id: RecordId
    who: Literal["patient", "agent"]
    text: str = Field(min_length=1, max_length=MOST_CHARACTERS)
    at: datetime


class Chat(PublicModel):
    """A chat as pages show it."""

    chat_id: RecordId
    customer: SubjectId
    ids: dict[SubjectKind, tuple[SubjectId, ...]] = Field(default_factory=dict)
    story: str | None = None
    """Name of the story that a simulated patient tells; None for a person."""
    opened_at: datetime
    closed_at: datetime | None = None
    messages: tuple[Message, ...] = ()

    @property
    def is_full(self) -> bool:
        return len(self.messages) >= _MOST_MESSAGES


class Changes(PublicModel):
    """What a page that asks again and again gets."""

    number: int
    """Of the latest change: the page names it when it asks again."""
    chats: tuple[Chat, ...]


class StoredChats:
    """The chats of one table. A change wins only over the version that it was made from, and is tried again.

    All coroutines raise RecordsUnavailableError.
    """

    def __init__(self, table: Table, *, clock: Clock) -> None:
        self._table, self.clock = table, clock
        self._began = self._latest = int(clock.now().timestamp() * 1_000)
        """Numbers of changes: another process begins with a greater one."""
        self._changed: dict[str, int] = {}
        """The number of each chat's last change in this process."""

    async def since(self, number: int, only: str | None = None) -> Changes:
        """Return what changed after a number, of all chats or of ``only``; everything where the number is of
        another process. Raises NotFoundError: ``only`` is unknown, or expired."""
        latest, is_known = self._latest, self._began <= number <= self._latest
        if only is not None:
            is_due = not is_known or self._changed.get(only, 0) > number
            return Changes(number=latest, chats=(await self.get(only),) if is_due else ())
        if not is_known:
            return Changes(number=latest, chats=tuple(await self.list()))
        chats: list[Chat] = []
        for chat_id in [name for name, changed in self._changed.items() if changed > number]:
            with suppress(NotFoundError):
                chats.append(await self.get(chat_id))
        return Changes(number=latest, chats=tuple(chats))

    async def list(self) -> Sequence[Chat]:
        """Return the chats that are kept, the oldest first."""
        now_s = self.clock.now().timestamp()
        items = await self._table.query(Range(_PARTITION))
        kept = (Chat.model_validate_json(item["body"]) for item in items if item[EXPIRES_AT] > now_s)
        return sorted(kept, key=lambda chat: chat.opened_at)

    async def get(self, chat_id: str) -> Chat:
        """Return a chat. Raises NotFoundError, also for an expired one."""
        return (await self._read(chat_id))[0]

    async def open(
        self, customer: str, ids: dict[str, tuple[str, ...]], *, text: str, story: str | None = None
    ) -> Chat:
        """Begin a chat with a patient's first message. ``ids``: the customer's things by kind, which a live
        system may be asked about. ``story``: name of a simulated patient's. Raises OverloadedError."""
        if sum(chat.closed_at is None for chat in await self.list()) >= _MOST_OPEN:
            raise OverloadedError("Too many chats wait.", retry_after_s=60.0)
        now, chat_id = self.clock.now(), uuid4().hex
        first = Message(message_id=uuid4().hex, who="patient", text=text, at=now)
        chat = Chat(
            chat_id=chat_id, customer=customer, ids=ids, story=story, opened_at=now, messages=(first,)
        )
        await self._write(chat, version=0)
        return chat

    async def add(
        self, chat_id: str, who: Literal["patient", "agent"], text: str, *, message_id: str
    ) -> Chat:
        """Add a message; one of this id is added once. Raises NotFoundError, ConflictError (it has ended; the
        id is of another message)."""

        def with_message(chat: Chat) -> Chat:
            same_id = [message for message in chat.messages if message.message_id == message_id]
            if any((message.who, message.text) != (who, text) for message in same_id):
                raise ConflictError("The id is of another message of this chat: use a new one.")
            if same_id:
                return chat
            if chat.closed_at is not None or chat.is_full:
                raise ConflictError("The chat has ended: begin another one.")
            message = Message(message_id=message_id, who=who, text=text, at=self.clock.now())
            return chat.model_copy(update={"messages": (*chat.messages, message)})

        return await self._change(chat_id, with_message)

    async def close(self, chat_id: str) -> None:
        """End a chat; it is kept until it expires. Raises NotFoundError, ConflictError."""
        now = self.clock.now()
        await self._change(
            chat_id, lambda chat: chat if chat.closed_at else chat.model_copy(update={"closed_at": now})
        )

    async def _change(self, chat_id: str, change: Callable[[Chat], Chat]) -> Chat:
        """Write what ``change`` makes of a chat, and return it; where it returns the chat itself there is
        nothing to write. Where another change came first, it is read and changed again. Raises NotFoundError,
        ConflictError, and what ``change`` raises."""
        for _ in range(_WRITE_ATTEMPTS):
            chat, version = await self._read(chat_id)
            changed = change(chat)
            if changed is chat or await self._write(changed, version=version):
                return changed
        raise ConflictError("Many write to this chat at once. Send it again.")

    async def _read(self, chat_id: str) -> tuple[Chat, int]:
        """Return a chat and its version. Raises NotFoundError."""
        item = await self._table.get((_PARTITION, chat_id))
        if item is None or item[EXPIRES_AT] <= self.clock.now().timestamp():
            raise NotFoundError("There is no such chat.")
        return Chat.model_validate_json(item["body"]), int(item["version"])

    async def _write(self, chat: Chat, *, version: int) -> bool:
        """Write a chat over the version that was read (0: there is none yet), and number the change. Return
        False, with nothing written, where the stored version is another."""
        expires = int((self.clock.now() + _KEPT).timestamp())
        attributes = {"body": chat.model_dump_json(), "version": version + 1, EXPIRES_AT: expires}
        when = equal(version=version) if version else ABSENT
        is_written = await self._table.put(keyed((_PARTITION, chat.chat_id), **attributes), when=when)
        if is_written:
            self._latest += 1
            self._changed[chat.chat_id] = self._latest
        return is_written
