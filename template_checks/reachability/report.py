"""What the proof says: a row for every path that there is, and a finding for every one that should not be, or
should and is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from template_checks.findings import Finding, Status


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """``source`` reaches ``port`` of ``target``."""

    source: str
    target: str
    port: str
    by: str
    """What it goes by: the VPC's own route, a gateway endpoint, PrivateLink."""
    judged: str
    """``declared``, ``undeclared``, or ``not proven`` with why."""


@dataclass(frozen=True, slots=True, order=True)
class CallRow:
    """``caller`` calls ``actions`` of a service, by an endpoint."""

    caller: str
    service: str
    by: str
    actions: tuple[str, ...]
    judged: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    rows: tuple[Row, ...]
    calls: tuple[CallRow, ...]
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """The worst of all findings."""
        worst_first = list(Status)
        found = {finding.status for finding in self.findings} or {Status.PASSED}
        return min(found, key=worst_first.index)


def merged(reports: Iterable[Report]) -> Report:
    """Return one report of several worlds."""
    found = list(reports)
    return Report(
        rows=tuple(sorted({row for report in found for row in report.rows})),
        calls=tuple(sorted({row for report in found for row in report.calls})),
        findings=tuple(dict.fromkeys(finding for report in found for finding in report.findings)),
    )
