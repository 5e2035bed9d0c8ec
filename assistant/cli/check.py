"""``assistant check``, ``facts`` and ``reach``: checks CloudFormation templates."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import typer
from rich.table import Table

from assistant.cli.global_options import GlobalOptions
from assistant.cli.terminal import Terminal, plain, styled
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.settings.deployment import ModelsSection
from assistant.settings.images import ImageLock, load_images
from assistant.settings.model_artifacts import load_embedding_manifest, load_llm_manifest
from assistant.settings.tenant import TenantConfig, load_tenant
from template_checks.facts import ArtifactFact, Facts, ImageFact, load_facts
from template_checks.findings import Finding, Status
from template_checks.mistakes import Report, check
from template_checks.reachability import Report as Reachability
from template_checks.reachability import prove
from template_checks.reachability.tables import as_text, finding_as_text
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
    """Check and show. Ends the command with 1 unless every mistake is ruled out."""
    known, source = _known_facts(options, facts=facts, tenant=tenant)
    report = check(templates, facts=known)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(as_json(report, source), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        _show(Terminal(), report, source)
    if not report.is_clean:
        raise typer.Exit(1)


def print_facts(options: GlobalOptions, *, tenant: str) -> None:
    """Write the facts of a tenant of ours as the file that ``assistant check --facts`` reads."""
    sys.stdout.write(facts_of(options.tenants_dir / f"{tenant}.toml", root=Path.cwd()).as_toml())


def refuse_mistakes(templates: Path, *, tenant_file: Path, root: Path | None = None) -> None:
    """Raise DeploymentError with every mistake that a tenant's templates do not rule out."""
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
    return f"{finding.code}, {finding.status}: {place}: {finding.message} {finding.mend}"


def _known_facts(
    options: GlobalOptions, *, facts: Path | None, tenant: str | None
) -> tuple[Facts, str | None]:
    if facts is not None and tenant is not None:
        raise typer.BadParameter("Give either --facts FILE or --tenant T.")
    if tenant is not None:
        file = options.tenants_dir / f"{tenant}.toml"
        return facts_of(file, root=Path.cwd()), str(file)
    return (load_facts(facts), str(facts)) if facts is not None else (Facts(), None)


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
                "findings": [
                    {
                        "status": finding.status,
                        "code": finding.code,
                        "where": finding.where,
                        "property": finding.property,
                        "message": finding.message,
                        "mend": finding.mend,
                    }
                    for finding in verdict.findings
                ],
            }
            for verdict in report.verdicts
        ],
    }


def _show(terminal: Terminal, report: Report, facts: str | None) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("code", no_wrap=True)
    table.add_column("mistake", overflow="fold", max_width=76)
    table.add_column("verdict", no_wrap=True)
    table.add_column("", overflow="fold")
    for verdict in report.verdicts:
        looked_at = f"{verdict.looked_at} looked at" if verdict.status is Status.PASSED else verdict.reason
        table.add_row(
            verdict.mistake.code,
            plain(verdict.mistake.title),
            plain(verdict.status, style=_STYLES[verdict.status]),
            plain(looked_at),
        )
    terminal.out.print(table)
    for verdict in report.verdicts:
        for finding in verdict.findings:
            _show_finding(terminal, verdict.mistake.code, finding)
    _show_scope(terminal, report, facts)


def _show_finding(terminal: Terminal, code: str, finding: Finding) -> None:
    terminal.out.print()
    place = f"{finding.where} {finding.property}".strip()
    style = _STYLES[finding.status]
    terminal.out.print(styled((f"{code} {finding.code}: {finding.status}", style), (f"  {place}", "bold")))
    terminal.out.print(plain(f"  {finding.message}"))
    terminal.out.print(plain(f"  → {finding.mend}"))


def _show_scope(terminal: Terminal, report: Report, facts: str | None) -> None:
    """Say what was checked: a verdict is about these templates and facts, and no others."""
    counts = ", ".join(f"{report.count(status)} {status}" for status in Status)
    worlds = f", conditions in {report.worlds} ways" if report.worlds > 1 else ""
    terminal.out.print()
    terminal.out.print(plain(f"{counts}."))
    terminal.out.print(
        plain(
            f"Checked: {len(report.templates)} templates ({', '.join(report.templates)}) with "
            f"{report.resources} resources{worlds}; facts: {facts or 'none given'}."
        )
    )


# Facts of a tenant of ours: its file, the image lock and the manifests of its model artifacts.


def facts_of(tenant_file: Path, *, root: Path) -> Facts:
    """Return what no template of the tenant holds.

    ``root`` has ``images.lock.toml`` and ``model_artifacts/``. Raises ConfigurationError naming file and key.
    """
    tenant = load_tenant(tenant_file)
    if tenant.deployment is None or tenant.edge is None or tenant.models is None:
        raise ConfigurationError(
            f"{tenant_file}: facts are of a deployed tenant; it has no [deployment], [edge] and [models]."
        )
    edge = tenant.edge
    return Facts(
        account=tenant.deployment.account,
        region=tenant.deployment.region,
        zones=tenant.deployment.zones,
        consumer_cidrs=edge.consumer_cidrs,
        host_names=(edge.host_name,),
        answer_deadline_s=tenant.limits.answer_deadline_s,
        existing_endpoints=tuple(tenant.network.endpoints),
        # The company made it for the name that its clients dial; what ACM holds, only an account can show.
        certificates={edge.certificate_arn: (edge.host_name,)},
        images=_images(load_images(root / "images.lock.toml"), tenant),
        artifacts=_artifacts(tenant.models, root / "model_artifacts"),
    )


def _images(lock: ImageLock, tenant: TenantConfig) -> tuple[ImageFact, ...]:
    return tuple(
        ImageFact(
            repository=image.repository,
            accounts=lock.accounts(name),
            # `assistant images publish` takes the one that the tenant's tasks run on.
            architecture=tenant.tasks.architecture if image.is_own else None,
        )
        for name, image in lock.images.items()
    )


def _artifacts(models: ModelsSection, folder: Path) -> tuple[ArtifactFact, ...]:
    llm = load_llm_manifest(folder / "llm" / models.llm)
    embedding = load_embedding_manifest(folder / "embedding" / models.embedding)
    return (
        ArtifactFact(
            name=llm.name,
            uri=_folder(llm.name, llm.sha256),
            batch_size=llm.batch_size,
            sequence_length=llm.sequence_length,
            tensor_parallel=llm.tensor_parallel,
        ),
        ArtifactFact(name=embedding.name, uri=_folder(embedding.name, embedding.sha256)),
    )


def _folder(name: str, sha256: str | None) -> str:
    """Return the part of the S3 address that tells an artifact apart, with its hash once it is packaged."""
    return f"/{name}/{sha256}/" if sha256 else f"/{name}/"


# ``assistant reach``: what the templates of a tenant let reach what, and what is wrong with that.


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


def _prove(paths: Sequence[Path], facts: Facts) -> Reachability:
    templates = Templates.read(paths, parameters=facts.parameters, account=facts.account, region=facts.region)
    return prove(templates, facts=facts)


def _file(options: GlobalOptions, tenant: str) -> Path:
    return options.tenants_dir / f"{tenant}.toml"
