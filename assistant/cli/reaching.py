"""``assistant reach``: what the templates of a tenant let reach what, and what is wrong with that."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import orjson
import typer

from assistant.cli.checking import facts_of
from assistant.cli.global_options import GlobalOptions
from assistant.domain.errors import DeploymentError
from template_checks.facts import Facts
from template_checks.findings import Status
from template_checks.reachability import Report, prove
from template_checks.reachability.tables import as_text, finding_as_text
from template_checks.templates import Templates


def show_reachability(options: GlobalOptions, templates: Sequence[Path], *, tenant: str | None) -> None:
    """Prove and show. Ends the command with 1 unless all is as it should be."""
    facts = Facts() if tenant is None else facts_of(_file(options, tenant), root=Path.cwd())
    report = _prove(templates, facts)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        sys.stdout.write(as_text(report))
    if report.status is not Status.PASSED:
        raise typer.Exit(1)


def refuse_paths(templates: Path, *, tenant_file: Path, root: Path | None = None) -> None:
    """Raise DeploymentError with every path of a tenant's templates that should not be, or should and is not.

    What no template tells (routes of an existing VPC) refuses nothing: nobody could deploy there.
    """
    report = _prove([templates], facts_of(tenant_file, root=root or Path.cwd()))
    refused = [finding_as_text(finding) for finding in report.findings if finding.status is Status.REFUSED]
    if refused:
        raise DeploymentError("What these templates let reach what is refused:\n" + "\n".join(refused))


def _prove(paths: Sequence[Path], facts: Facts) -> Report:
    templates = Templates.read(paths, parameters=facts.parameters, account=facts.account, region=facts.region)
    return prove(templates, facts=facts)


def _file(options: GlobalOptions, tenant: str) -> Path:
    return options.tenants_dir / f"{tenant}.toml"
