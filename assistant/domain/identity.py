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
    """The verified caller, for example tenant "north-shop", agent "a-17", roles {AGENT}, labels {"claims"}.

    The tenant chooses the services; nothing in a body, path or header does.
    """

    tenant: str
    """Name of the tenant file."""
    agent: str
    """The token's ``sub``."""
    roles: frozenset[Role]
    labels: frozenset[str]
    """Access labels: a document with labels is visible to an agent who holds one of them."""


REVOCATIONS = TypeAdapter(dict[str, AwareDatetime])
"""A tenant's revocations as JSON: ``{"a-17": "2026-03-01T09:30:00Z"}``. Tokens of that agent which were
issued until then are refused."""


SubjectKind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
"""What an id of the context names: ``customer``, ``order``, ``prescription``."""
SubjectId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
"""An id as the live system writes it: visible ASCII without spaces, so that it can stand in a request."""


@dataclass(frozen=True, slots=True)
class CareContext:
    """Whose conversation it is, as the care application signed it; verified. The customer is known from
    nowhere else, also not from the question's words."""

    agent: str
    """``sub`` of the agent that the care application gave it to; equals the identity's."""
    customer: str
    """The customer's id."""
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
"""The signed token of the care application, unchanged and not yet verified."""
