"""``assistant reach`` and ``upgrades``, and what a deployment refuses in its templates."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import orjson
import typer

from assistant.cli.tenant_templates import facts_of, prove
from assistant.cli.terminal import GlobalOptions
from assistant.domain.errors import DeploymentError
from template_checks.facts import Facts, Finding, Status, finding_as_text
from template_checks.rules import check_rules
from template_checks.templates import Templates
from template_checks.upgrades import losses, read_pins, templates_by_stack_name, unpinned


def show_reachability(options: GlobalOptions, templates: Sequence[Path], *, tenant: str | None) -> None:
    """Print what the templates let reach what. Ends the command with 1 unless every path is intended."""
    tenant_file = None if tenant is None else options.tenants_dir / f"{tenant}.toml"
    facts = Facts() if tenant_file is None else facts_of(tenant_file, root=Path.cwd())
    report = prove(_read(templates, facts), facts=facts)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        sys.stdout.write(report.as_text())
    if report.status is not Status.PASSED:
        raise typer.Exit(1)


def show_losses(folder: Path, *, pins: Path) -> None:
    """Print what a deployment would replace or delete. Ends the command with 1 if there is anything."""
    pinned, stacks = read_pins(pins), templates_by_stack_name(folder)
    lines = [str(loss) for loss in losses(pinned, stacks)]
    lines += [f"{name} is stateful and not pinned" for name in unpinned(pinned, stacks)]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    if lines:
        raise typer.Exit(1)


def refuse_broken_rules(templates: Path, *, tenant_file: Path, root: Path | None = None) -> None:
    """Raise DeploymentError with everything in a tenant's templates that breaks a rule of an AWS service."""
    facts = facts_of(tenant_file, root=root or Path.cwd())
    _refuse("These rules of AWS services are broken", check_rules(_read([templates], facts), facts=facts))


def refuse_paths(templates: Path, *, tenant_file: Path, root: Path | None = None) -> None:
    """Raise DeploymentError with every unintended and every missing path of a tenant's templates.

    What no template contains (routes of an existing VPC) is not refused: no tenant could be deployed there.
    """
    facts = facts_of(tenant_file, root=root or Path.cwd())
    report = prove(_read([templates], facts), facts=facts)
    refused = [finding for finding in report.findings if finding.status is Status.REFUSED]
    _refuse("What these templates let reach what is refused", refused)


def _read(paths: Sequence[Path], facts: Facts) -> Templates:
    return Templates.read(paths, account=facts.account, region=facts.region)


def _refuse(what: str, findings: Sequence[Finding]) -> None:
    if findings:
        raise DeploymentError("\n".join([f"{what}:", *map(finding_as_text, findings)]))
