"""What the learning loop needs of stores. Every adapter is bound to one tenant when it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from assistant.domain.acts import StoredAct
from assistant.domain.answers import StoredSent, StoredVerdict
from assistant.options.feedback.events import FeedbackEvent


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
