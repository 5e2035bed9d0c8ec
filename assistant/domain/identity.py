"""The caller, from a verified token and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import AwareDatetime, TypeAdapter


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
