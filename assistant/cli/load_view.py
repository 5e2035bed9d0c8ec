"""The report of a load, for people and for programs."""

from __future__ import annotations

import orjson

from assistant.cli.loading import LoadReport
from assistant.cli.terminal import Terminal, plain

_SHOWN_FAILURES = 100


def show_report(terminal: Terminal, report: LoadReport) -> None:
    """Print what was brought, in numbers that add up, and every failure by name and line."""
    summary = report.summary
    terminal.out.print(
        f"{summary.lines:,} read = {summary.documents:,} documents + {summary.duplicates:,} duplicates "
        f"+ {summary.withdrawn:,} withdrawn + {len(summary.failures):,} failures"
    )
    terminal.out.print(
        f"{summary.documents:,} documents = {summary.added:,} added + {summary.changed:,} changed "
        f"+ {summary.unchanged:,} unchanged"
    )
    terminal.out.print(f"{report.live:,} live, {len(report.failed):,} failed, after {report.seconds:.1f} s")
    failures = [
        *(f"{one.origin}: {one.reason} ({one.code})" for one in summary.failures),
        *(f"{one.document_id}: {one.failure_reason} ({one.failure_code})" for one in report.failed),
        *(
            f"{one.document_id}: withheld, nothing of it answers until it is sent again"
            for one in summary.withheld
        ),
    ]
    for failure in failures[:_SHOWN_FAILURES]:
        terminal.err.print(plain(failure, style="red"))
    if len(failures) > _SHOWN_FAILURES:
        terminal.err.print(f"… and {len(failures) - _SHOWN_FAILURES:,} more; --json names all", style="red")


def report_as_json(report: LoadReport) -> str:
    """Return one JSON object: the numbers, and all failures."""
    summary = report.summary
    return orjson.dumps(
        {
            "lines": summary.lines,
            "documents": summary.documents,
            "added": summary.added,
            "changed": summary.changed,
            "unchanged": summary.unchanged,
            "duplicates": summary.duplicates,
            "withdrawn": summary.withdrawn,
            "withheld": [one.document_id for one in summary.withheld],
            "live": report.live,
            "seconds": round(report.seconds, 3),
            "failures": [
                {"origin": one.origin, "code": one.code, "reason": one.reason} for one in summary.failures
            ],
            "failed_documents": [
                {
                    "document_id": one.document_id,
                    "state": one.state,
                    "code": one.failure_code,
                    "reason": one.failure_reason,
                }
                for one in report.failed
            ],
        }
    ).decode()
