"""``assistant aws``: checks before the plain CDK commands, a probe after them, and what to publish before."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from typer import Argument, Option

from assistant.cli.aws.cost import cost
from assistant.cli.aws.deploying import (
    SIGNS,
    Deployment,
    deployment_of,
    not_asked,
    published_keys,
    upgrade_tables,
)
from assistant.cli.aws.destroying import Destruction, run_cdk
from assistant.cli.aws.doctor import checked, token_findings, writer_findings
from assistant.cli.aws.power import PowerCommand
from assistant.cli.aws.proving import prove
from assistant.cli.aws.restoring import Rehearsal
from assistant.cli.aws.templates import DEPLOY_LIMIT_S, cdk_call
from assistant.cli.aws.verifying import audit, receipt
from assistant.domain.clock import SystemClock
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.tenant.deployed_names import ON, PAUSED, REINDEX_OUTPUT
from assistant.tenant.tenant import load_tenant
from assistant.terminal.account import AwsAccount, Deployed
from assistant.terminal.publishing import put_models
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, instant, table

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.add_typer(audit, name="audit")
app.add_typer(receipt, name="receipt")
app.command()(cost)
app.command()(prove)
ShowPlan = Annotated[bool, Option("--plan", help="Show what would change; change nothing.")]
Require = Annotated[bool, Option("--require", help="Fail also where a check could not be asked.")]
Accept = Annotated[
    list[str] | None,
    Option("--accept", metavar="NAME", help="Let this reviewed loss through; repeatable."),
]
FromStdin = Annotated[bool, Option("--token", help="Only say which claims an agent's token on stdin misses.")]
CdkArguments = Annotated[list[str] | None, Argument(metavar="[-- CDK ARGUMENTS]", help="Passed on to cdk.")]


@app.command()
def deploy(
    context: typer.Context,
    tenant: Tenant,
    require: Require = False,
    accept: Accept = None,
    cdk: CdkArguments = None,
) -> None:
    """Deploy a tenant: checks, images, parameters, cdk deploy, schema, probe."""
    deployment = _deployment(GlobalOptions.of(context), tenant)
    deployment.deploy(cdk or [], require=require, accepted=accept or ())


@app.command()
def doctor(
    context: typer.Context,
    tenant: Tenant,
    token: FromStdin = False,
    require: Require = False,
) -> None:
    """Ask machine, files, account and issuer for what a deployment needs; status 1 if anything fails."""
    options = GlobalOptions.of(context)
    if token:
        config = load_tenant(options.tenants_dir / f"{tenant}.toml")
        found = list(token_findings(sys.stdin.read().strip(), tenant=config, keys_of=published_keys))
    else:
        deployment = _deployment(options, tenant)
        found = [each for part in deployment.examinations() for each in part]
        if not any(each.kind == "fail" for each in found):
            asked = partial(writer_findings, deployment.deployed, root=deployment.cdk.root)
            found += checked("sentence check", asked)
    if not options.writes(found):
        shown = [(SIGNS[each.kind], each.check, each.said) for each in found]
        Terminal().out.print(table("", "check", "what to do", rows=shown))
    unknown = [each.check for each in found if each.kind == "unknown"]
    if unknown:
        Terminal().say(not_asked(unknown))
    if (require and unknown) or any(each.kind == "fail" for each in found):
        raise typer.Exit(1)


@app.command()
def diff(context: typer.Context, tenant: Tenant, accept: Accept = None, cdk: CdkArguments = None) -> None:
    """Show what a deployment would change; fail if it would delete or replace stateful resources."""
    _deployment(GlobalOptions.of(context), tenant).diff(cdk or [], accepted=accept or ())


@app.command()
def upgrade(
    context: typer.Context,
    tenant: Tenant,
    plan: Annotated[bool, Option("--plan", help="Show what would move; change nothing.")] = False,
    back: Annotated[bool, Option("--back", help="Give the stores back to the release before.")] = False,
    accept: Accept = None,
) -> None:
    """Move a tenant's stores to this release, before its deployment; --back gives them back after one."""
    options = GlobalOptions.of(context)
    deployment = _deployment(options, tenant)
    if not back:
        deployment.refuse_losses(accept or ())
    deployment.deployed.aws.require()
    command = f"assistant aws upgrade --tenant {tenant}"
    upgrade_tables(deployment.tables(), options=options, command=command, plan=plan, back=back)


@app.command()
def destroy(context: typer.Context, tenant: Tenant, plan: ShowPlan = False) -> None:
    """Take a tenant out of its account, with its data: what a lock keeps stays, and is listed.

    The tenant's name is asked for. Run it again after any failure; status 1 where something stays that
    nothing explains.
    """
    options, terminal = GlobalOptions.of(context), Terminal(steps=True)
    deployed = Deployed.named(options, tenant)
    destruction = Destruction(
        aws=deployed.aws,
        full_name=f"{deployed.place.name_prefix}-{tenant}",
        tenant=tenant,
        parameters=deployed.place.parameter(tenant, ""),
        terminal=terminal,
        cdk=partial(run_cdk, Path.cwd(), limit_s=DEPLOY_LIMIT_S),
    )
    destruction.aws.require()
    planned = destruction.plan()
    if plan:
        if not options.writes(planned):
            Terminal().out.print(planned.as_text())
        return
    cdk_call(Path.cwd(), ())  # a folder without the CDK is refused before anything changes
    terminal.say(planned.as_text())
    if typer.prompt(f"Everything of {tenant} is deleted. Type its name to go on", err=True) != tenant:
        raise ConfigurationError(f"That is not {tenant}: nothing was changed.")
    ended = destruction.run()
    if not options.writes(ended):
        Terminal().out.print(ended.as_text())
    if ended.orphans:
        raise typer.Exit(1)


@app.command()
def resume(context: typer.Context, tenant: Tenant, plan: ShowPlan = False) -> None:
    """Start a tenant's endpoints, and wait until questions are answered. They cost from then on."""
    _switch(GlobalOptions.of(context), tenant, ON, only_plan=plan)


@app.command()
def pause(context: typer.Context, tenant: Tenant, plan: ShowPlan = False) -> None:
    """End a tenant's work and remove its endpoints; documents wait, questions get 503."""
    _switch(GlobalOptions.of(context), tenant, PAUSED, only_plan=plan)


@app.command()
def reindex(
    context: typer.Context,
    tenant: Tenant,
    back: Annotated[bool, Option("--back", help="Make the version before live again.")] = False,
    drop_old: Annotated[bool, Option("--drop-old", help="Delete the versions that are not live.")] = False,
) -> None:
    """Fill the index of [embedding_next] beside the live one, and switch to it; a killed run goes on."""
    if back and drop_old:
        raise typer.BadParameter("Give --back or --drop-old, not both.")
    options = GlobalOptions.of(context)
    deployed = Deployed.named(options, tenant)
    do = "back" if back else "drop-old" if drop_old else "next"
    deployed.aws.require()
    done = reindex_by_function(
        deployed.aws, stack=deployed.stack("Ingestion"), do=do, terminal=Terminal(steps=True)
    )
    if not options.writes(done):
        Terminal().out.print(json.dumps(done, indent=2))


def reindex_by_function(aws: AwsAccount, *, stack: str, do: str, terminal: Terminal) -> Mapping[str, Any]:
    """Call the tenant's function until it is done; return its report. Raises DeploymentError; after it the
    same command goes on."""
    if (function := aws.outputs(stack).get(REINDEX_OUTPUT)) is None:
        raise DeploymentError(
            f"{stack} has no {REINDEX_OUTPUT}: it is made with [embedding_next]. See docs/runbook.md#upgrade."
        )
    while True:
        progress = aws.invoke(function, {"do": do})
        if (done := progress.get("done")) is not None:
            return done
        terminal.step(f"{progress['held']} of {progress['of']} documents are in the next index")


def _switch(options: GlobalOptions, tenant: str, wanted: str, *, only_plan: bool) -> None:
    deployed = Deployed.named(options, tenant)
    command = PowerCommand(
        aws=deployed.aws,
        tenant=tenant,
        stack=deployed.stack("Models"),
        parameter=deployed.place.parameter(tenant, "power"),
        terminal=Terminal(steps=True),
    )
    command.aws.require()
    change = command.plan(wanted)
    if not only_plan:
        command.run(change)
    if not options.writes(change):
        Terminal().out.print(change.as_text())


@app.command()
def restore(
    context: typer.Context,
    tenant: Tenant,
    rehearse: Annotated[bool, Option("--rehearse", help="Remove what was restored, once compared.")],
    at: Annotated[datetime | None, Option("--at", parser=instant, metavar="AT", help="Moment, UTC.")] = None,
) -> None:
    """Rehearse a restore: tables and documents beside the live ones, compared, timed and removed again.

    The moment is the latest that DynamoDB restores, or that of a rehearsal that was killed. Run it again
    after any end: it goes on, and only then are the copies gone. Status 1 where anything is not as it was.
    """
    del rehearse  # there is nothing else yet: docs/runbook.md says how to restore
    options = GlobalOptions.of(context)
    report = Rehearsal(Deployed.named(options, tenant), options, Terminal(steps=True)).run(at)
    if not options.writes(report):
        Terminal().out.print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    if report.findings:
        raise typer.Exit(1)


@app.command()
def put_artifacts(context: typer.Context, tenant: Tenant) -> None:
    """Upload the models of the Python packages to a tenant's models bucket, as its publisher."""
    file = GlobalOptions.of(context).tenants_dir / f"{tenant}.toml"
    put_models(load_tenant(file), tenant_file=file, root=Path.cwd(), terminal=Terminal(steps=True))


def _deployment(options: GlobalOptions, tenant: str) -> Deployment:
    file = options.tenants_dir / f"{tenant}.toml"
    today = SystemClock().now().date()
    return deployment_of(file, root=Path.cwd(), terminal=Terminal(steps=True), today=today)
