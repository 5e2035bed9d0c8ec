"""``python -m stacks.validators cdk.out``: findings of cfn-lint and checkov, and the table of exceptions
itself.

cdk-nag validates during the synth, where rows silence its findings (``stacks.policy.acknowledge``); its
report is compared with the table here. Exits with 1 when a finding has no row. With ``--every-row`` it also
exits with 1 when a row has no finding; only our own check with tenants of every kind asks for that, because a
company's few tenants need not have each construct.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.domain.errors import ConfigurationError
from stacks.account import EXCEPTIONS as ACCOUNT_EXCEPTIONS
from stacks.care_app import EXCEPTIONS as CARE_EXCEPTIONS
from stacks.policy import Acknowledgement, pattern_of
from stacks.tenant import ROOT
from stacks.tenant_stage import EXCEPTIONS as TENANT_EXCEPTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What cfn-lint or checkov found. ``construct`` is a path below the stage (``Network/Vpc``); ``rule`` an
    id with its validator (``cfn-lint::W3010``)."""

    stage: str
    construct: str
    rule: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StackTemplate:
    """One synthesized template with its stage and stack."""

    stage: str
    stack: str
    region: str
    path: Path
    body: Mapping[str, Any]

    def construct_of(self, logical_id: str | None) -> str:
        """Return the path below the stage of a resource's construct; the stack's where there is none. CDK
        writes ``<stage>/Network/Vpc/Resource`` into the resource's metadata."""
        resource = self.body.get("Resources", {}).get(logical_id, {})
        path = str(resource.get("Metadata", {}).get("aws:cdk:path", ""))
        return path.split("/", 1)[1] if "/" in path else self.stack


def templates_of(assembly: Path) -> Iterator[StackTemplate]:
    """Yield every template of every stage below ``cdk.out``."""
    for manifest in sorted(assembly.glob("assembly-*/manifest.json")):
        artifacts = json.loads(manifest.read_text(encoding="utf-8"))["artifacts"]
        for artifact in artifacts.values():
            if artifact["type"] == "aws:cloudformation:stack":
                stage, stack = artifact["displayName"].split(" ")[0].split("/")[:2]  # "Pharmacy/Keys (name)"
                path = manifest.parent / artifact["properties"]["templateFile"]
                body = json.loads(path.read_text(encoding="utf-8"))
                region = artifact["environment"].rpartition("/")[2]
                yield StackTemplate(stage=stage, stack=stack, region=region, path=path, body=body)


def explains(row: Acknowledgement, finding: Finding) -> bool:
    """Return whether the row covers this rule on this construct or one above it."""
    below = finding.construct == row.construct or finding.construct.startswith(f"{row.construct}/")
    return below and finding.rule in row.findings


_TIMEOUT_S = 900


def run_cfn_lint(templates: Sequence[StackTemplate]) -> list[Finding]:
    """Return cfn-lint's findings, of each template by the rules of its region. Raises ConfigurationError when
    it does not run."""
    findings: list[Finding] = []
    for region in sorted({template.region for template in templates}):
        by_path = {str(template.path): template for template in templates if template.region == region}
        command = [str(Path(sys.executable).with_name("cfn-lint")), "--format", "json", "--regions", region]
        completed = subprocess.run(
            [*command, "--", *by_path], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        # The status is a sum of 2 (errors), 4 (warnings) and 8 (remarks); 1 is a failure of cfn-lint.
        if completed.returncode & ~0b1110:
            raise ConfigurationError(f"cfn-lint failed: {completed.stderr.strip()[-500:]}")
        for item in json.loads(completed.stdout or "[]"):
            template = by_path[item["Filename"]]
            match item["Location"].get("Path"):
                case ["Resources", str(logical_id), *_]:
                    construct = template.construct_of(logical_id)
                case _:
                    construct = template.stack
            rule, message = f"cfn-lint::{item['Rule']['Id']}", str(item["Message"])
            findings.append(Finding(stage=template.stage, construct=construct, rule=rule, message=message))
    return findings


COMMAND = ROOT / "build" / "checkov" / "bin" / "checkov"
_OPTIONS = ("--skip-download", "--framework", "cloudformation", "--quiet", "--compact", "--soft-fail")


def run_checkov(templates: Sequence[StackTemplate]) -> list[Finding]:
    """Return checkov's findings. Raises ConfigurationError when it does not run."""
    if not COMMAND.exists():
        raise ConfigurationError(f"{COMMAND}: checkov is not installed; run make setup-checkov.")
    file_options = [argument for template in templates for argument in ("--file", str(template.path))]
    completed = subprocess.run(
        [str(COMMAND), *_OPTIONS, "--output", "json", *file_options],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    try:
        report = json.loads(completed.stdout)
        failed = report.get("results", {}).get("failed_checks", [])
        unreadable = report.get("summary", report).get("parsing_errors", 0)
    except (ValueError, AttributeError):
        raise ConfigurationError(f"checkov failed: {completed.stderr.strip()[-500:]}") from None
    if unreadable:
        raise ConfigurationError(f"checkov could not read {unreadable} templates.")
    by_path = {template.path.resolve(): template for template in templates}
    return [
        Finding(
            stage=template.stage,
            construct=template.construct_of(item["resource"].rpartition(".")[2]),
            rule=f"checkov::{item['check_id']}",
            message=item["check_name"],
        )
        for item in failed
        for template in [by_path[Path(item["file_abs_path"]).resolve()]]
    ]


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
    """Return (construct, finding) of every cdk-nag finding of a row that silenced nothing in any stage."""
    return [
        (row.construct, finding)
        for row in rows
        for finding in row.findings
        if finding.startswith(tuple(f"{pack}::" for pack in PACKS))
        and not any(
            row.construct == construct and pattern_of(finding).fullmatch(silenced_id)
            for construct, silenced_id in silenced
        )
    ]


TABLE = {"account": ACCOUNT_EXCEPTIONS, "tenant": TENANT_EXCEPTIONS, "care_app": CARE_EXCEPTIONS}
"""All exceptions, by stage."""
_EVERY_ROW = "--every-row"


def main(assemblies: Sequence[str]) -> int:
    """Print findings without a row and rows without a finding; return the exit status. ``assemblies``:
    folders such as ``cdk.out``, and ``--every-row``."""
    folders = [Path(name) for name in assemblies if name != _EVERY_ROW]
    rows = [row for stack_rows in TABLE.values() for row in stack_rows]
    every = [template for folder in folders for template in templates_of(folder)]
    templates = [*{(each.region, json.dumps(each.body)): each for each in every}.values()]
    silenced: set[tuple[str, str]] = set()
    for folder in folders:
        require_packs(folder / REPORT)
        silenced |= read_silenced(folder / REPORT)
    findings = [*run_cfn_lint(templates), *run_checkov(templates)]
    unexplained = [finding for finding in findings if not any(explains(row, finding) for row in rows)]
    idle = [*rows_without_effect(rows, silenced), *_idle(rows, findings)] if _EVERY_ROW in assemblies else []
    for finding in unexplained:
        print(f"{finding.stage}/{finding.construct}: {finding.rule}: {finding.message}")
    for construct, rule in idle:
        print(f"{construct}: {rule}: this exception explains nothing; delete the row")
    resources = sum(len(template.body.get("Resources", {})) for template in templates)
    print(
        f"{len(every)} templates, {resources} resources of those that differ: {len(findings)} findings "
        f"of cfn-lint and checkov, {len(unexplained)} unexplained; {len(silenced)} of cdk-nag silenced; "
        f"{len(rows)} rows of exceptions, {len(idle)} findings in them without effect"
    )
    return 1 if unexplained or idle else 0


def require_packs(report: Path) -> None:
    """Raise ConfigurationError where the packs of cdk-nag did not run: then there is no report. A report
    without plugins is of templates in which they found nothing."""
    plugins = json.loads(report.read_text(encoding="utf-8"))["pluginReports"] if report.exists() else None
    missing = set(PACKS) - {plugin["pluginName"] for plugin in plugins or ()}
    if plugins is None or (plugins and missing):
        raise ConfigurationError(
            f"{report}: no report of {', '.join(sorted(missing))}: synthesize validated."
        )


def _idle(rows: Iterable[Acknowledgement], findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Return (construct, rule) of every rule of cfn-lint or checkov in a row that has no finding."""
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
