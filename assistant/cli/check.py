"""``assistant check``, ``facts`` and ``reach``: checks CloudFormation templates."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import typer
from rich.text import Text

from assistant.cli.global_options import GlobalOptions
from assistant.cli.tenant_templates import facts_of, load_facts, prove, with_instances
from assistant.cli.terminal import Terminal, plain, styled, table
from assistant.domain.errors import DeploymentError
from template_checks.facts import Facts
from template_checks.findings import Finding, Status
from template_checks.mistakes import Report, check
from template_checks.reachability import Report as Reachability
from template_checks.reachability import finding_as_text
from template_checks.templates import Templates

_STYLES = {
    Status.REFUSED: "bold red",
    Status.NOT_PROVEN: "yellow",
    Status.PASSED: "green",
    Status.NOT_APPLICABLE: "dim",
}


def check_templates(
    options: GlobalOptions, templates: Sequence[Path], *, facts: Path | None, tenant: str | None
) -> None:
    """Print the verdict on each mistake. Ends the command with 1 unless every mistake is ruled out."""
    known, source = _known_facts(options, facts=facts, tenant=tenant)
    report = check(templates, facts=known)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(as_json(report, source), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        _show(Terminal(), report, source)
    if not report.is_clean:
        raise typer.Exit(1)


def print_facts(options: GlobalOptions, *, tenant: str) -> None:
    """Print a tenant's facts as the file that ``assistant check --facts`` reads."""
    facts = facts_of(_file(options, tenant), root=Path.cwd())
    sys.stdout.write(facts.model_copy(update={"instances": {}}).as_toml())


def refuse_mistakes(templates: Path, *, tenant_file: Path, root: Path | None = None) -> None:
    """Raise DeploymentError with every mistake that is not ruled out in a tenant's templates."""
    report = check([templates], facts=facts_of(tenant_file, root=root or Path.cwd()))
    if not report.is_clean:
        lines = [
            f"{verdict.mistake.code} {_line(finding)}"
            for verdict in report.verdicts
            for finding in verdict.findings
        ]
        raise DeploymentError("These mistakes are not ruled out:\n  " + "\n  ".join(lines))


def _line(finding: Finding) -> str:
    place = f"{finding.where} {finding.property}"
    return f"{finding.code}, {finding.status}: {place}: {finding.message} {finding.fix}"


def _known_facts(
    options: GlobalOptions, *, facts: Path | None, tenant: str | None
) -> tuple[Facts, str | None]:
    if facts is not None and tenant is not None:
        raise typer.BadParameter("Give either --facts FILE or --tenant T.")
    if tenant is not None:
        file = _file(options, tenant)
        return facts_of(file, root=Path.cwd()), str(file)
    if facts is not None:
        return load_facts(facts), str(facts)
    return with_instances(Facts()), None


def as_json(report: Report, facts: str | None) -> dict[str, Any]:
    """Return the report as ``--json`` prints it."""
    return {
        "templates": list(report.templates),
        "resources": report.resources,
        "worlds": report.worlds,
        "facts": facts,
        "clean": report.is_clean,
        "mistakes": [
            {
                "number": verdict.mistake.number,
                "code": verdict.mistake.code,
                "title": verdict.mistake.title,
                "status": verdict.status,
                "looked_at": verdict.looked_at,
                "reason": verdict.reason,
                "findings": [asdict(finding) for finding in verdict.findings],
            }
            for verdict in report.verdicts
        ],
    }


def _show(terminal: Terminal, report: Report, facts: str | None) -> None:
    rows: list[tuple[str | Text, ...]] = []
    for verdict in report.verdicts:
        looked_at = f"{verdict.looked_at} looked at" if verdict.status is Status.PASSED else verdict.reason
        status = plain(verdict.status, style=_STYLES[verdict.status])
        rows.append((verdict.mistake.code, plain(verdict.mistake.title), status, plain(looked_at)))
    shown = table("code", "mistake", "verdict", "", rows=rows)
    shown.columns[1].max_width = 76
    terminal.out.print(shown)
    for verdict in report.verdicts:
        for finding in verdict.findings:
            _show_finding(terminal, verdict.mistake.code, finding)
    _show_scope(terminal, report, facts)


def _show_finding(terminal: Terminal, code: str, finding: Finding) -> None:
    place = f"{finding.where} {finding.property}".strip()
    what = (f"\n{code} {finding.code}: {finding.status}", _STYLES[finding.status])
    terminal.out.print(styled(what, (f"  {place}", "bold")))
    terminal.out.print(plain(f"  {finding.message}\n  → {finding.fix}"))


def _show_scope(terminal: Terminal, report: Report, facts: str | None) -> None:
    """Print the counts, and which templates and facts were checked."""
    counts = ", ".join(f"{report.count(status)} {status}" for status in Status)
    worlds = f", conditions in {report.worlds} ways" if report.worlds > 1 else ""
    scope = f"{len(report.templates)} templates ({', '.join(report.templates)})"
    checked = f"Checked: {scope} with {report.resources} resources{worlds}; facts: {facts or 'none given'}."
    terminal.out.print(plain(f"\n{counts}.\n{checked}"))


def show_reachability(options: GlobalOptions, templates: Sequence[Path], *, tenant: str | None) -> None:
    """Print what the templates let reach what. Ends the command with 1 unless every path is intended."""
    facts = Facts() if tenant is None else facts_of(_file(options, tenant), root=Path.cwd())
    report = _prove(templates, facts)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        sys.stdout.write(report.as_text())
    if report.status is not Status.PASSED:
        raise typer.Exit(1)


def refuse_paths(templates: Path, *, tenant_file: Path, root: Path | None = None) -> None:
    """Raise DeploymentError with every unintended and every missing path of a tenant's templates.

    What no template contains (routes of an existing VPC) is not refused: no tenant could be deployed there.
    """
    report = _prove([templates], facts_of(tenant_file, root=root or Path.cwd()))
    refused = [finding_as_text(finding) for finding in report.findings if finding.status is Status.REFUSED]
    if refused:
        raise DeploymentError("What these templates let reach what is refused:\n" + "\n".join(refused))


def _prove(paths: Sequence[Path], facts: Facts) -> Reachability:
    templates = Templates.read(paths, parameters=facts.parameters, account=facts.account, region=facts.region)
    return prove(templates, facts=facts)


def _file(options: GlobalOptions, tenant: str) -> Path:
    return options.tenants_dir / f"{tenant}.toml"
