"""What the learning loop needs of stores. Every adapter is bound to one tenant when it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from assistant.domain.acts import StoredAct
from assistant.domain.answers import StoredSent, StoredVerdict
from assistant.options.feedback.events import FeedbackEvent, SealedText


class FeedbackStore(Protocol):
    """The tenant's feedback: events by day, and sealed texts. All methods raise DependencyError."""

    async def append(self, events: Sequence[FeedbackEvent], texts: Sequence[SealedText]) -> None:
        """Store a group of at most 500 events. The same group again changes nothing; an event that comes in
        two groups is read once."""
        ...

    def read(self, since: datetime, until: datetime) -> AsyncIterator[FeedbackEvent]:
        """Yield the events with ``at`` in [since, until), each id once, by time, without the documents that
        were withdrawn since, and without events that are about these alone. An event of another schema
        version or tenant, and a damaged line, raise InvalidRequestError naming it."""
        ...

    async def texts(self, text_ids: Collection[str]) -> dict[str, SealedText]:
        """Return the sealed texts that are there, by id."""
        ...

    async def texts_about(self, subject: str) -> list[str]:
        """Return the ids of the texts that are sealed with the subject's key; it reads every text."""
        ...


class PatientDataFilter(Protocol):
    """Finds patients' data in text and replaces it."""

    def replace(self, text: str) -> ReplacedText: ...


@dataclass(frozen=True, slots=True)
class ReplacedText:
    text: str
    """With a placeholder such as ``<PHONE_NUMBER>`` in place of each finding."""
    found: dict[str, int]
    """Findings by kind."""
    member_numbers: tuple[str, ...]
    """Member numbers that stood in the text, as written: subjects of erasure."""


class CaseIntake(Protocol):
    """Takes events that want a reviewer to the desk."""

    async def take(self, events: Sequence[FeedbackEvent]) -> None:
        """Open a case where an event wants one; an event that was taken before changes nothing. Raises
        RecordsUnavailableError."""
        ...


TEXTS = "texts/"
"""Folder of the sealed texts."""
OutboxKind = Literal["answer", "verdict", "sent", "act"]


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A row of the answers' store that has not been moved yet."""

    row_id: str
    """Opaque to all but the store."""
    kind: OutboxKind
    answer_id: str
    stored: StoredVerdict | StoredSent | StoredAct | None
    """What the agent did; None for an answer, whose record is read by its id."""


class FeedbackOutbox(Protocol):
    """The rows of the answers' store that the mover has still to take. A row enters it in the same write that
    stores it. All methods raise RecordsUnavailableError."""

    async def pending(self, *, limit: int = 500) -> list[OutboxRow]:
        """Return rows that were not confirmed, oldest first."""
        ...

    async def confirm(self, rows: Sequence[OutboxRow]) -> None:
        """Take rows out, after their events are in the feedback store. A second call changes nothing."""
        ...
