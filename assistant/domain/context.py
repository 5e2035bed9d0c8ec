"""Whose live data a question is about, and the record of what was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from assistant.domain.answers import RecordId
from assistant.domain.public import PublicModel

SystemName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
"""Name of a ``[[reach]]`` entry."""
SubjectKind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
"""What an id of the context names: ``customer``, ``order``, ``prescription``."""
SubjectId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]


@dataclass(frozen=True, slots=True)
class CareContext:
    """Whose conversation it is: what the care application signed, verified. Nothing else says it."""

    agent: str
    """``sub`` of the agent that the care application gave it to; equals the identity's."""
    customer: str
    ids: Mapping[str, tuple[str, ...]]
    """Ids that this customer's data may be read by, by subject kind: ``{"order": ("4471-2208",)}``. The
    customer's own is among them, as ``customer``."""
    expires_at: datetime
    token_id: str | None = None
    """Of the signed token, which counts for one answer; None for plain ids."""


class PlainContext(PublicModel):
    """Whose conversation it is, in plain ids that nobody signed: for tenants without a deployment, and for
    the ``dev`` profile."""

    customer: SubjectId
    ids: dict[SubjectKind, Annotated[tuple[SubjectId, ...], Field(max_length=100)]] = Field(
        default_factory=dict, max_length=20
    )


ContextToken = Annotated[str, StringConstraints(min_length=1, max_length=8_192)]
"""What the care application signed, as it came."""


class LiveRead(PublicModel):
    """The record of one read of a live system: who, whose, when and what, without any value."""

    read_id: RecordId
    at: datetime
    agent: str
    answer_id: RecordId | None = None
    """None for a test of a connector."""
    system: SystemName
    operation: str = Field(max_length=64)
    subject: str | None = Field(default=None, max_length=128)
    """Keyed pseudonym of whose data were asked for: the context's customer, else the id itself with its kind.
    None where the data are nobody's, or no id was given."""
    outcome: str = Field(max_length=40)
    """``ready`` or a code of ``ElementProblem``."""
    cached: bool = False


@dataclass(frozen=True, slots=True)
class LiveReadQuery:
    """Which reads of live systems: in [since, until), of an agent, of a customer's data, or all."""

    since: datetime
    until: datetime
    agent: str | None = None
    subject: str | None = None
    """Keyed pseudonym of the customer."""
    after: str | None = None
    """``next_after`` of the page before, of the same query."""
    limit: int = 100

    def wants(self, read: LiveRead) -> bool:
        """Whether the read matches agent and subject."""
        return self.agent in (None, read.agent) and self.subject in (None, read.subject)


@dataclass(frozen=True, slots=True)
class LiveReadPage:
    reads: tuple[LiveRead, ...]
    next_after: str | None
    """Where the next page begins, opaque; None on the last one."""


def place_of(read: LiveRead) -> str:
    """Return a read's place in the order of all: its instant in UTC, which sorts as text, and its id."""
    return f"{read.at.astimezone(UTC).isoformat(timespec='microseconds')}#{read.read_id}"
