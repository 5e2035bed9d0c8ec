"""Chains of audit records: each names the one before it, so that a digest of a day shows what is missing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, date, datetime

from assistant.domain.audit import AuditLink, WriterStart, day_of, link_after
from assistant.domain.errors import AssistantError, ConflictError, DependencyError
from assistant.process.settings import RunningIn

PutRecord = Callable[[str, AuditLink], Awaitable[bool]]
"""Makes an audit record durable: its content and its place in the chain. A repeat with the same arguments
changes nothing. Returns False where a record of that name is stored already, so that nothing was written."""


class AuditChain:
    """The chain of one writer of audit records: one record after the other, in the order of the calls.

    A record whose write failed may be stored or not. It keeps its place: the next call first writes the same
    record again, so that no two records follow one.
    """

    def __init__(self, put_start: PutRecord) -> None:
        self._put_start = put_start
        self._lock = asyncio.Lock()
        self._next: dict[date, AuditLink] = {}
        """The place of the next record of each day."""
        self._latest = AuditLink(writer=uuid.uuid4().hex, day=date.min, sequence=0, previous="")
        """Of these the one that was given last."""
        self._unsettled: tuple[str, AuditLink, PutRecord] | None = None
        self._failure: DependencyError | None = None

    async def append(self, content: str, *, at: datetime, put: PutRecord) -> None:
        """Add a record of that time. Raises what ``put`` raises.

        Who waits while the store fails gets the same error, and does not try it again in turn.
        """
        failure, day = self._failure, day_of(at)
        async with self._lock:
            if self._failure is not None and self._failure is not failure:
                raise self._failure
            if self._unsettled is not None:
                with suppress(ConflictError):  # of another caller, who has had an error already
                    await self._settle(*self._unsettled)
            if day not in self._next:
                await self._settle(self._start(), self._first_of(day), self._put_start)
            await self._settle(content, self._next[day], put)

    def _first_of(self, day: date) -> AuditLink:
        return self._latest.model_copy(update={"day": day, "sequence": 0})

    def _start(self) -> str:
        process, latest = RunningIn.read(), self._latest.day
        start = WriterStart(
            kind=process.program,
            task=process.task,
            at=datetime.now(UTC),
            follows=None if latest == date.min else latest,
        )
        return start.model_dump_json()

    async def _settle(self, content: str, link: AuditLink, put: PutRecord) -> None:
        """Write a record, and go on from it where it stands."""
        self._unsettled = content, link, put
        try:
            stands = await put(content, link)
        except DependencyError as error:
            self._failure = error
            raise
        except AssistantError:  # refused: it is not stored
            self._unsettled = None
            raise
        self._unsettled = self._failure = None
        if stands:
            self._next[link.day] = self._latest = link_after(content, link)
