"""What a check reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from template_checks.templates import Resource


class Status(StrEnum):
    """From worst to best."""

    REFUSED = "refused"
    NOT_PROVEN = "not proven"
    """Something that decides it is neither in the templates nor in the facts."""
    PASSED = "passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong with one resource. ``code`` is stable (``nlb-idle-timeout``)."""

    status: Status
    code: str
    where: str
    """``<stack>.<logical id>``."""
    property: str
    message: str
    fix: str
    """What to do about it."""


def refused(resource: Resource, code: str, *, at: str, message: str, fix: str) -> Finding:
    """Return the finding that something is wrong."""
    return _finding(Status.REFUSED, resource, code, at=at, message=message, fix=fix)


def not_proven(resource: Resource, code: str, *, at: str, message: str, fix: str) -> Finding:
    """Return the finding that templates and facts do not decide it; ``fix`` says what would."""
    return _finding(Status.NOT_PROVEN, resource, code, at=at, message=message, fix=fix)


def _finding(status: Status, resource: Resource, code: str, *, at: str, message: str, fix: str) -> Finding:
    where = f"{resource.template.name}.{resource.logical_id}"
    return Finding(status=status, code=code, where=where, property=at, message=message, fix=fix)


def worst(findings: Iterable[Finding]) -> Status | None:
    """Return the worst status; None without findings."""
    found = {finding.status for finding in findings}
    return next((status for status in Status if status in found), None)


def finding_as_text(finding: Finding) -> str:
    """Return a finding in three lines: what and where, the message, the fix."""
    return f"{finding.status}: {finding.where} {finding.code}\n  {finding.message}\n  {finding.fix}"
