"""cdk-nag's own report: each row of the table must have silenced something in it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from stacks.policy import Acknowledgement, pattern_of

REPORT = "validation-report.json"
PACKS = ("AwsSolutions", "HIPAA.Security")


def read_silenced(report: Path) -> set[tuple[str, str]]:
    """Return (construct path below its stage, finding id) of everything that a row silenced."""
    plugins = json.loads(report.read_text(encoding="utf-8"))["pluginReports"]
    return {
        (str(violation["acknowledgedAt"]).split("/", 1)[-1], str(violation["acknowledgedId"]))
        for plugin in plugins
        for violation in plugin.get("suppressedViolations", ())
    }


def rows_without_effect(
    rows: Iterable[Acknowledgement], silenced: set[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return (construct, finding) of every cdk-nag row that silenced nothing anywhere."""
    return [
        (row.construct, finding)
        for row in rows
        for finding in row.findings
        if finding.startswith(tuple(f"{pack}::" for pack in PACKS))
        and not any(
            row.construct == construct and pattern_of(finding).fullmatch(found)
            for construct, found in silenced
        )
    ]
