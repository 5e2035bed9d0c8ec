"""``assistant aws audit``: verify the chains of audit records and the digests of their days."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Annotated

import typer
from typer import Option

from assistant.domain.audit import day_of
from assistant.process.settings import AuditSettings
from assistant.stores.audit import DIGESTS, AuditReport, VerifyAudit
from assistant.stores.records import RECORDS
from assistant.tenant.deployed_names import AUDIT_OUTPUT
from assistant.terminal.account import Deployed
from assistant.terminal.terminal import From, GlobalOptions, Tenant, Terminal, To, table, window_of

app = typer.Typer(no_args_is_help=True, help="Verify the chains of audit records.")
Local = Annotated[bool, Option("--local", help="Verify the stores of this machine instead.")]


@app.callback()
def group() -> None:
    """Verify that no audit record was removed, changed or added by hand."""


@app.command()
def verify(
    context: typer.Context, tenant: Tenant, since: From = None, until: To = None, local: Local = False
) -> None:
    """Check records and digests of whole days (UTC) against each other; status 1 where anything is wrong.

    A deployment's days are those whose digests have not expired.
    """
    options, terminal = GlobalOptions.of(context), Terminal()
    begin, end = window_of(since, until)
    days = day_of(begin), day_of(end - timedelta(microseconds=1))

    async def run() -> AuditReport:
        if local:
            async with options.stores(tenant) as stores:
                records, digests = stores.get(RECORDS), stores.get(DIGESTS)
                return await VerifyAudit(records, digests).run(*days)
        from assistant.stores.opened import open_audit

        settings = audit_of(Deployed.named(options, tenant))
        async with open_audit(settings) as audit:
            kept = day_of(await audit.digests.now()) - timedelta(days=settings.kept_days - 1)
            return await VerifyAudit(audit.records, audit.digests).run(max(days[0], kept), days[1])

    report = asyncio.run(run())
    if not options.writes(report):
        rows = [(str(each.day), each.fault, each.said) for each in report.findings]
        if rows:
            terminal.out.print(table("day (UTC)", "fault", "what was found, and what to do", rows=rows))
        loose = f"{report.unchained} unchained, before {report.chained_from or 'chains began'}"
        terminal.warn(
            f"{len(rows)} findings. {report.since} to {report.until}: {report.days} days with a digest, "
            f"{report.writers} chains, {report.records} records in them; {loose}."
        )
    if report.findings:
        raise typer.Exit(1)


def audit_of(deployed: Deployed) -> AuditSettings:
    """Return where a deployment's audit is. Raises DeploymentError."""
    lacks = f"output {AUDIT_OUTPUT}: take this release"
    return AuditSettings.read(**json.loads(deployed.output("Ingestion", AUDIT_OUTPUT, lacks=lacks)))
