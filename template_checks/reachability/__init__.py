"""Reachability, from templates alone: which ports every workload reaches.

``prove`` computes every path that the templates open (routes, security groups, network ACLs, gateway
endpoints), compares them with the intended paths, and checks that every called service is reachable, endpoint
policies included. What depends on something outside the templates (routes of an existing VPC, rules of an
existing group) is ``not proven``, and counts as open in the search for paths that should not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from template_checks.facts import Facts, Finding, IntendedPaths, Status, finding_as_text, worst
from template_checks.reachability.paths import CallRow, Row, check_borders, open_paths, required_paths
from template_checks.reachability.scene import Scene
from template_checks.templates import Templates

__all__ = ["CallRow", "Report", "Row", "prove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A row for every path and call, and a finding for each that should not be, or is missing."""

    rows: tuple[Row, ...]
    calls: tuple[CallRow, ...]
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """The worst of all findings."""
        return worst(self.findings) or Status.PASSED

    def as_text(self) -> str:
        """Return both tables, then the findings, then one line with the result."""
        paths = [(row.source, row.target, row.port, row.by, row.judged) for row in self.rows]
        calls = [(row.caller, row.service, row.by, ", ".join(row.actions), row.judged) for row in self.calls]
        parts = [
            _text_table(("from", "to", "port", "by", ""), paths),
            _text_table(("caller", "service", "by", "actions", ""), calls),
            *map(finding_as_text, self.findings),
            f"{len(self.rows)} paths, {len(self.calls)} called services: {self.status}\n",
        ]
        return "\n".join(parts)


def prove(
    templates: Templates, *, facts: Facts | None = None, intended: IntendedPaths | None = None
) -> Report:
    """Return what can be reached, and what is wrong with it, over all worlds of the templates.

    Give all templates of one deployment.
    """
    found: dict[Row | CallRow | Finding, None] = {}
    for world in templates.worlds():
        scene = Scene(world, facts=facts or Facts(), intended=intended or IntendedPaths())
        for one in (*open_paths(scene), *check_borders(scene), *required_paths(scene)):
            found[one] = None
    return Report(
        rows=tuple(sorted(one for one in found if isinstance(one, Row))),
        calls=tuple(sorted(one for one in found if isinstance(one, CallRow))),
        findings=tuple(one for one in found if isinstance(one, Finding)),
    )


def _text_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )
