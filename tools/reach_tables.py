"""The tables of docs/architecture.md, what reaches and calls what, made from a tenant's templates::

    python -m tools.reach_tables cdk.out/assembly-Pharmacy docs/architecture.md

rewrites the text between the page's markers.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from assistant.cli.aws.templates import prove
from assistant.domain.errors import ConfigurationError
from template_checks import InvalidInputError
from template_checks.reachability import Report
from template_checks.templates import Templates
from tools.tables import markdown_table, with_table


def reach_table(report: Report) -> str:
    """Return every path as a Markdown table, grouped by source."""
    grouped: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for row in report.rows:
        grouped[row.source, row.port, row.by, row.judged].append(row.target)
    rows = [
        (source, ", ".join(targets), port, by, judged)
        for (source, port, by, judged), targets in grouped.items()
    ]
    return markdown_table(("from", "reaches", "on", "by", "judged"), rows)


def calls_table(report: Report) -> str:
    """Return the called services by caller as a Markdown table."""
    grouped: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in report.calls:
        grouped[row.caller, row.by, row.judged].add(row.service)
    rows = [
        (caller, ", ".join(sorted(services)), by, judged)
        for (caller, by, judged), services in sorted(grouped.items())
    ]
    return markdown_table(("caller", "calls", "by", "judged"), rows)


def rewritten(page: str, templates: Templates) -> str:
    """Return the page with its two tables made anew. Raises ConfigurationError where a marker is missing."""
    report = prove(templates)
    for name, table in (("reach", reach_table(report)), ("calls", calls_table(report))):
        page = with_table(page, table, begin=f"made: {name}", end=f"/made: {name}")
    return page


def main(templates: Path, page: Path) -> None:
    try:
        text = rewritten(page.read_text(encoding="utf-8"), Templates.read([templates]))
    except (ConfigurationError, InvalidInputError) as error:
        sys.exit(error.message)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
