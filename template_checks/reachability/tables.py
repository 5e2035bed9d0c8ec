"""The report as text for a terminal, and as Markdown for a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from template_checks.findings import Finding
from template_checks.reachability.report import Report

_PATHS = ("from", "to", "port", "by", "")
_CALLS = ("caller", "service", "by", "actions", "")


def as_text(report: Report) -> str:
    """Return both tables, then what is wrong or not proven, then one line of what came of it."""
    parts = [_text_table(_PATHS, path_rows(report)), _text_table(_CALLS, call_rows(report))]
    parts += [finding_as_text(finding) for finding in report.findings]
    parts.append(f"{len(report.rows)} paths, {len(report.calls)} called services: {report.status}\n")
    return "\n".join(parts)


def path_rows(report: Report) -> list[tuple[str, ...]]:
    return [(row.source, row.target, row.port, row.by, row.judged) for row in report.rows]


def call_rows(report: Report) -> list[tuple[str, ...]]:
    return [(row.caller, row.service, row.by, ", ".join(row.actions), row.judged) for row in report.calls]


def _text_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def finding_as_text(finding: Finding) -> str:
    return f"{finding.status}: {finding.where} {finding.code}\n  {finding.message}\n  {finding.mend}"
