"""What a check says of the templates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from template_checks.templates import Resource


class Status(StrEnum):
    """From worst to best."""

    REFUSED = "refused"
    """The mistake is there."""
    NOT_PROVEN = "not proven"
    """It may be there: something that decides it stands neither in the templates nor in the facts."""
    PASSED = "passed"
    NOT_APPLICABLE = "not applicable"
    """Nothing in the templates could make it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at, and what came of it. ``code`` is stable (``nlb-idle-timeout``)."""

    status: Status
    code: str
    where: str = ""
    """``<stack>.<logical id>``; empty where it is about all templates together."""
    property: str = ""
    message: str = ""
    mend: str = ""
    """What to do about it."""


def refused(resource: Resource | None, code: str, *, at: str, message: str, mend: str) -> Finding:
    """Return the finding that a mistake is there."""
    return Finding(
        status=Status.REFUSED, code=code, where=where(resource), property=at, message=message, mend=mend
    )


def not_proven(resource: Resource | None, code: str, *, at: str, message: str, mend: str) -> Finding:
    """Return the finding that the templates and facts do not tell; ``mend`` says what would."""
    return Finding(
        status=Status.NOT_PROVEN, code=code, where=where(resource), property=at, message=message, mend=mend
    )


def passed(resource: Resource | None, code: str) -> Finding:
    """Return the finding that a resource was looked at and is right."""
    return Finding(status=Status.PASSED, code=code, where=where(resource))


def where(resource: Resource | None) -> str:
    """Return how a finding names a resource."""
    return f"{resource.template.name}.{resource.logical_id}" if resource else ""
