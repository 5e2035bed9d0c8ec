"""Who calls, from a verified token, and whose conversation it is, as the care application signed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints, TypeAdapter

from assistant.domain.public import PublicModel


class Role(StrEnum):
    AGENT = "agent"
    KNOWLEDGE_OWNER = "knowledge_owner"
    AUDITOR = "auditor"
    REVIEWER = "reviewer"
    MANAGER = "manager"


@dataclass(frozen=True, slots=True)
class Identity:
    """The verified caller. The tenant chooses the services; nothing in a body, path or header does."""

    tenant: str
    agent: str
    """The token's ``sub``."""
    roles: frozenset[Role]
    labels: frozenset[str]


REVOCATIONS = TypeAdapter(dict[str, AwareDatetime])
"""What is kept of a tenant's revoked tokens: agent = the instant until which they were issued."""


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
    """Id of the signed token, which counts for one answer; None for plain ids."""


class PlainContext(PublicModel):
    """Whose conversation it is, in plain ids that nobody signed: for tenants without a deployment, and for
    the ``dev`` profile."""

    customer: SubjectId
    ids: dict[SubjectKind, Annotated[tuple[SubjectId, ...], Field(max_length=100)]] = Field(
        default_factory=dict, max_length=20
    )


ContextToken = Annotated[str, StringConstraints(min_length=1, max_length=8_192)]
"""What the care application signed, as it came."""
