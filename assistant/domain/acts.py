"""What an agent did with an answer beside verdicts and sent texts, as its record keeps it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from assistant.domain.answers import RecordId
from assistant.domain.public import PublicModel

DOCUMENT_SUBJECT = "document:"
"""Begins the subject of a document, before its id: of the keys that a withdrawal destroys."""


class AgentAct(StrEnum):
    """What a client reports of an answer beside verdicts and sent texts."""

    OPENED_SOURCE = "opened_source"
    POSSIBLY_TAKEN = "possibly_taken"
    POSSIBLY_PASSED_OVER = "possibly_passed_over"
    """This and the one before: clients before 0.3.0 report them. They are stored, and nothing reads them."""
    OFFERED_USED = "offered_used"
    SUGGESTION_OPENED = "suggestion_opened"
    """The answer began because the agent opened an unasked suggestion."""
    SUGGESTION_INSERTED = "suggestion_inserted"
    """Its lines went into the reply."""


class Act(PublicModel):
    """What the agent did with an answer. Append-only: the same id twice is one record."""

    act_id: RecordId
    kind: AgentAct
    n: int | None = Field(default=None, ge=1, le=100)
    """Number of the opened source; None for the other kinds."""


class StoredAct(PublicModel):
    answer_id: RecordId
    agent: str
    at: datetime
    act: Act
