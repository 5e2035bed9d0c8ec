"""Reading answers back, and what agents append to them: verdicts and what was sent."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.answering.services import TenantServices
from assistant.domain.answers import (
    AnswerRecord,
    Sent,
    Source,
    StoredSent,
    StoredVerdict,
    Verdict,
)
from assistant.domain.identity import Identity


@dataclass(frozen=True, slots=True)
class AnswerReading:
    """One answer as its reader may see it."""

    record: AnswerRecord
    sources: tuple[Source, ...]
    """With fresh links; no snippets, for the record keeps a passage's text only by hash."""
    verdicts: tuple[StoredVerdict, ...]
    sent: tuple[StoredSent, ...]


class ReadAnswers:
    """Gives agents their own answers, auditors any; each read of an auditor is recorded first."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def one(self, answer_id: str, *, identity: Identity) -> AnswerReading:
        """Raises NotFoundError (unknown, or another's: one path for both), RecordsUnavailableError."""
        raise NotImplementedError

    async def conversation(self, conversation_id: str, *, identity: Identity) -> list[AnswerReading]:
        """Return a conversation's newest 50 answers, oldest first. Raises as ``one`` does."""
        raise NotImplementedError


class AppendToAnswer:
    """Lets the agent who asked mark the answer and keep what was sent. Nobody else may, auditors included."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def verdict(self, answer_id: str, verdict: Verdict, *, identity: Identity) -> StoredVerdict:
        """Raises NotFoundError, ConflictError (same id, other content), InvalidRequestError (a wrong
        citation that the answer does not have), RecordsUnavailableError."""
        raise NotImplementedError

    async def sent(self, answer_id: str, sent: Sent, *, identity: Identity) -> StoredSent:
        """Raises NotFoundError, ConflictError, RecordsUnavailableError."""
        raise NotImplementedError
