"""``python -m stacks.validators cdk.out``: cfn-lint, checkov, and the table of exceptions itself.

cdk-nag has judged already, while the templates were synthesized; here its report is held against the table.
Ends with 1 when a finding has no row, or a row no finding.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from assistant.domain.errors import ConfigurationError
from stacks.acknowledgements import TABLE
from stacks.policy import Acknowledgement
from stacks.validators.cfn_lint import run_cfn_lint
from stacks.validators.checkov import run_checkov
from stacks.validators.findings import Finding, explains, templates_of
from stacks.validators.nag_report import PACKS, REPORT, read_silenced, rows_without_effect


def main(assemblies: Sequence[str]) -> int:
    folders = [Path(name) for name in assemblies]
    rows = [row for stack_rows in TABLE.values() for row in stack_rows]
    templates = [template for folder in folders for template in templates_of(folder)]
    silenced: set[tuple[str, str]] = set()
    for folder in folders:
        silenced |= read_silenced(folder / REPORT)
        _require_packs(folder / REPORT)
    findings = [*run_cfn_lint(templates), *run_checkov(templates)]
    unexplained = [finding for finding in findings if not any(explains(row, finding) for row in rows)]
    idle = [*rows_without_effect(rows, silenced), *_idle(rows, findings)]
    for finding in unexplained:
        print(f"{finding.stage}/{finding.construct}: {finding.rule}: {finding.message}")
    for construct, rule in idle:
        print(f"{construct}: {rule}: the row in stacks/acknowledgements explains nothing; take it out")
    resources = sum(len(template.body.get("Resources", {})) for template in templates)
    print(
        f"{len(templates)} templates, {resources} resources: {len(findings)} findings of cfn-lint and "
        f"checkov, {len(unexplained)} unexplained; {len(silenced)} of cdk-nag silenced; "
        f"{len(rows)} rows, {len(idle)} findings in them without effect"
    )
    return 1 if unexplained or idle else 0


def _require_packs(report: Path) -> None:
    plugins = {
        plugin["pluginName"] for plugin in json.loads(report.read_text(encoding="utf-8"))["pluginReports"]
    }
    if missing := set(PACKS) - plugins:
        raise ConfigurationError(
            f"{report}: no report of {', '.join(sorted(missing))}: synthesize validated."
        )


def _idle(rows: Iterable[Acknowledgement], findings: Sequence[Finding]) -> list[tuple[str, str]]:
    return [
        (row.construct, rule)
        for row in rows
        for rule in row.findings
        if rule.startswith(("cfn-lint::", "checkov::"))
        and not any(explains(row, finding) and finding.rule == rule for finding in findings)
    ]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigurationError as error:
        sys.exit(error.message)
