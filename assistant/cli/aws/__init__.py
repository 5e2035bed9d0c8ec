"""``assistant aws``: checks before the plain CDK commands, a probe after them, and what to publish before."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, cast

import httpx
import orjson
import typer
from typer import Argument, Option

from assistant.cli.aws import audit, receipt
from assistant.cli.aws.cdk import IMAGE_LOCK, CdkCommand, ImageLockFile
from assistant.cli.aws.cost import cost
from assistant.cli.aws.destroying import Destruction
from assistant.cli.aws.doctor import DeploymentChecks, checked, token_findings, tools
from assistant.cli.aws.power import PowerCommand
from assistant.cli.aws.restoring import Rehearsal
from assistant.cli.aws.templates import refuse_broken_rules, refuse_paths
from assistant.cli.aws.upgrading import OnlyPlan, StampedStore, WayBack, tables_of, upgrade_stores
from assistant.cli.tenant import refusals
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.option import Place
from assistant.stores.formats import refuse_format
from assistant.tenant.care_app import load_care_app
from assistant.tenant.deployed_names import ON, PAUSED, REINDEX_OUTPUT
from assistant.tenant.tenant import load_tenant, load_tenants
from assistant.terminal.account import (
    BUCKET_OUTPUT,
    PUBLISHER_OUTPUT,
    AccountChecks,
    AwsAccount,
    Deployed,
    Finding,
    Templates,
    failure,
    instance_changes,
)
from assistant.terminal.publishing import Registry, images_of, model_files, put_models, refuse_tags
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, instant, table
from template_checks import upgrades as upgrade_checks

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.add_typer(audit.app, name="audit")
app.add_typer(receipt.app, name="receipt")
app.command()(cost)
_TIMEOUT_S = 15.0
_WELL_KNOWN = "/.well-known/openid-configuration"
_MOST_PARAMETER_CHARACTERS = 8192
"""Of an advanced parameter: https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"""
SCHEMA_OUTPUT = "SchemaStamp"
PROBE_OUTPUT = "ProbeFunctionName"
_FIRST = ("Keys", "Network", "Data")
"""The stacks of a first deployment: endpoints, tasks and the schema function read the models bucket when they
start, so it must exist, with the model artifacts, before them."""
_SIGNS = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "unknown": "UNKNOWN"}
ShowPlan = Annotated[bool, Option("--plan", help="Show what would change; change nothing.")]
Require = Annotated[bool, Option("--require", help="Fail also where a check could not be asked.")]
FromStdin = Annotated[bool, Option("--token", help="Only say which claims an agent's token on stdin misses.")]
CdkArguments = Annotated[list[str] | None, Argument(metavar="[-- CDK ARGUMENTS]", help="Passed on to cdk.")]


@app.command()
def deploy(
    context: typer.Context,
    tenant: Tenant,
    images: ImageLockFile = IMAGE_LOCK,
    require: Require = False,
    cdk: CdkArguments = None,
) -> None:
    """Deploy a tenant: checks, images, parameters, cdk deploy, schema, probe."""
    _deployment(GlobalOptions.of(context), tenant, images).deploy(cdk or [], require=require)


@app.command()
def doctor(
    context: typer.Context,
    tenant: Tenant,
    images: ImageLockFile = IMAGE_LOCK,
    token: FromStdin = False,
    require: Require = False,
) -> None:
    """Ask machine, files, account and issuer for what a deployment needs; status 1 if anything fails."""
    options = GlobalOptions.of(context)
    if token:
        config = load_tenant(options.tenants_dir / f"{tenant}.toml")
        found = list(token_findings(sys.stdin.read().strip(), tenant=config, keys_of=published_keys))
    else:
        found = [each for part in _deployment(options, tenant, images).examinations() for each in part]
    if not options.writes(found):
        shown = [(_SIGNS[each.kind], each.check, each.said) for each in found]
        Terminal().out.print(table("", "check", "what to do", rows=shown))
    unknown = [each.check for each in found if each.kind == "unknown"]
    if unknown:
        Terminal().say(_unknown(unknown))
    if (require and unknown) or any(each.kind == "fail" for each in found):
        raise typer.Exit(1)


@app.command()
def diff(
    context: typer.Context, tenant: Tenant, images: ImageLockFile = IMAGE_LOCK, cdk: CdkArguments = None
) -> None:
    """Show what a deployment would change; fail if it would delete or replace stateful resources."""
    _deployment(GlobalOptions.of(context), tenant, images).diff(cdk or [])


@app.command()
def upgrade(
    context: typer.Context,
    tenant: Tenant,
    images: ImageLockFile = IMAGE_LOCK,
    plan: OnlyPlan = False,
    back: WayBack = False,
) -> None:
    """Move a tenant's stores to this release, before its deployment; --back gives them back after one."""
    options = GlobalOptions.of(context)
    deployment = _deployment(options, tenant, images)
    if not back:
        deployment.refuse_losses()
    deployment.deployed.aws.require()
    command = f"assistant aws upgrade --tenant {tenant}"
    upgrade_stores(deployment.stores(), options=options, command=command, plan=plan, back=back)


@app.command()
def destroy(
    context: typer.Context,
    tenant: Tenant,
    plan: ShowPlan = False,
) -> None:
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
    )
    destruction.aws.require()
    planned = destruction.plan()
    if plan:
        if not options.writes(planned):
            Terminal().out.print(planned.as_text())
        return
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
    """Call the tenant's function until it is done; return its report. Raises DeploymentError."""
    if (function := aws.outputs(stack).get(REINDEX_OUTPUT)) is None:
        raise DeploymentError(
            f"{stack} has no {REINDEX_OUTPUT}: it is made with [embedding_next]. See docs/runbook.md#upgrade."
        )
    while True:
        given = {"FunctionName": function, "Payload": json.dumps({"do": do})}
        answer = aws.call("lambda", "invoke", **given)
        said = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise DeploymentError(
                f"{function} failed: {said.get('errorMessage')}. Run the same command again."
            )
        if (done := said.get("done")) is not None:
            return done
        terminal.step(f"{said['held']} of {said['of']} documents are in the next index")


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


def _deployment(options: GlobalOptions, tenant: str, images: Path) -> Deployment:
    file = options.tenants_dir / f"{tenant}.toml"
    return deployment_of(file, images=images, root=Path.cwd(), terminal=Terminal(steps=True))


# --- the deployment of one tenant -------------------------------------------------------------------------
def published_configuration(issuer: str) -> Mapping[str, Any]:
    """Return what an issuer says of itself (OpenID Connect Discovery 1.0). Raises DeploymentError."""
    with httpx.Client(timeout=_TIMEOUT_S) as client:
        configuration = _json(client, issuer.rstrip("/") + _WELL_KNOWN)
    if configuration.get("issuer") != issuer:
        raise DeploymentError(
            f"{issuer} calls itself {configuration.get('issuer')}. Write that into identity.issuer."
        )
    return configuration


def published_keys(issuer: str) -> str:
    """Return the issuer's public keys (JWKS, by OpenID Connect Discovery 1.0) as JSON.

    Without their certificates (``x5c`` and its kin), which nothing here reads: some issuers publish 1.5 KB of
    them a key. Raises DeploymentError, also for a set that no parameter holds.
    """
    configuration = published_configuration(issuer)
    with httpx.Client(timeout=_TIMEOUT_S) as client:
        address = str(configuration.get("jwks_uri", ""))
        if not address.startswith(f"{httpx.URL(issuer).scheme}://"):
            raise DeploymentError(
                f"{issuer} publishes its keys at {address!r}, which is not an address of the same scheme."
            )
        keys = _json(client, address)
    if not keys.get("keys"):
        raise DeploymentError(f"{address} holds no key.")
    try:
        listed = [{name: key[name] for name in key if not name.startswith("x5")} for key in keys["keys"]]
    except (TypeError, AttributeError):
        raise DeploymentError(f"{address} holds no key set (RFC 7517).") from None
    text = json.dumps({"keys": listed}, separators=(",", ":"))
    if len(text) > _MOST_PARAMETER_CHARACTERS:
        raise DeploymentError(
            f"{address} holds {len(text):,} characters of keys, and a parameter at most "
            f"{_MOST_PARAMETER_CHARACTERS:,}. Ask for fewer keys, or choose those that sign tokens."
        )
    return text


def _json(client: httpx.Client, address: str) -> Mapping[str, Any]:
    try:
        answer = client.get(address).raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise DeploymentError(f"{address} cannot be read ({type(error).__name__}).") from None
    if not isinstance(answer, dict):
        raise DeploymentError(f"{address} holds no JSON object.")
    return cast("Mapping[str, Any]", answer)


BEFORE_DEPLOYMENT = Place[Callable[[Deployed], None]]("before a deployment")
"""What raises DeploymentError where a tenant must not be deployed now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The deployment of one tenant: ``npx cdk deploy``, with checks before it and a probe after it."""

    deployed: Deployed
    tenant_file: Path
    cdk: CdkCommand
    terminal: Terminal

    def deploy(self, extra: Sequence[str], *, require: bool = False) -> None:
        """Check placeholders, templates, images and account; make parameters; deploy; check schema and probe.

        Raises DeploymentError at the first step that fails, with ``require`` also where a check could not be
        asked, and after the first part of a first deployment, which makes the bucket that the model artifacts
        are put into.
        """
        self._refuse_faults(require=require)
        for refuse in BEFORE_DEPLOYMENT.joined():
            refuse(self.deployed)
        self._make_parameters()
        deployed = self._deployed()
        self._compare_with(deployed)
        for store in self.stores():
            advice = f"assistant aws upgrade --tenant {self.deployed.config.name}"
            refuse_format(store.found, store=store.name, place=store.place, command=advice)
        if self.deployed.stack("Data") not in deployed:
            self._deploy_first_part(extra)
        self.terminal.step("deploying")
        self.cdk.deploy(extra)
        self._check_schema()
        self._probe()

    def _refuse_faults(self, *, require: bool) -> None:
        for found in self.examinations():
            for finding in found:
                if finding.kind in ("warn", "unknown"):
                    self.terminal.say(f"{_SIGNS[finding.kind]} {finding.check}: {finding.said}")
            if failed := [finding.said for finding in found if finding.kind == "fail"]:
                raise DeploymentError("\n".join(failed))
            if require and (unknown := [finding.check for finding in found if finding.kind == "unknown"]):
                advice = "Let the role ask (.github/deploy-roles.yaml), or leave out --require."
                raise DeploymentError(f"{_unknown(unknown)} {advice}")

    def diff(self, extra: Sequence[str]) -> None:
        """Check the templates, show the CDK's difference, refuse losses. Raises DeploymentError."""
        self.check()
        self.deployed.aws.require()
        self.cdk.diff(extra)
        self._compare_with(self._deployed())

    def refuse_losses(self) -> None:
        """Raise DeploymentError where this release would delete or replace what holds data."""
        self.check()
        self.deployed.aws.require()
        self._compare_with(self._deployed())

    def stores(self) -> list[StampedStore]:
        """Return the tables that have a format. Raises DeploymentError."""
        return list(tables_of(self.deployed.aws, data_stack=self.deployed.stack("Data")))

    def check(self) -> None:
        """Synthesize, check the templates for rules and paths, and compare them with the pins."""
        self.terminal.step("synthesizing and validating")
        self.cdk.synth()
        self.terminal.step("checking the templates")
        refuse_broken_rules(self.cdk.stage, tenant_file=self.tenant_file)
        refuse_paths(self.cdk.stage, tenant_file=self.tenant_file)
        if self._pins.exists():
            pinned = upgrade_checks.read_pins(self._pins)
            _refuse_losses(upgrade_checks.losses(pinned, self._templates()))
            for name in upgrade_checks.unpinned(pinned, self._templates()):
                self.terminal.say(f"{name} is stateful and not pinned yet: run make pin and commit the file")

    def examinations(self) -> Iterator[list[Finding]]:
        """Yield what the checks before a deployment found, a part of them at a time.

        A part that has failed is the last one: the next would ask with values that are wrong.
        """
        for part in (self._own_files, self._made_templates, self._account):
            found = list(part())
            yield found
            if any(finding.kind == "fail" for finding in found):
                return

    def _own_files(self) -> Iterator[Finding]:
        wrong = refusals(self.deployed.config, load_tenants(self.tenant_file.parent))
        yield from checked("tenant file", lambda: map(failure, wrong))
        yield from checked("tools", lambda: tools(self.cdk.root))

    def _made_templates(self) -> Iterator[Finding]:
        yield from checked("templates", self.check, otherwise="fail")
        yield from checked("image digests", self._check_images, otherwise="fail")

    def _account(self) -> Iterator[Finding]:
        yield from checked("credentials", self.deployed.aws.require, otherwise="fail")
        self.terminal.step("asking the account, its registry and the issuer")
        account = AccountChecks(
            aws=self.deployed.aws,
            tenant=self.deployed.config,
            place=self.deployed.place,
            tenant_file=self.tenant_file,
            templates=self._templates(),
        )
        checks = DeploymentChecks(
            account=account,
            stage=self.cdk.stage,
            root=self.cdk.root,
            configuration_of=published_configuration,
        )
        for name, check in checks.checks().items():
            yield from checked(name, check)

    def _check_images(self) -> None:
        missing = [
            f"{stack}: {name}: {parameter.get('Description', 'no description')}"
            for stack, template in self._templates().items()
            for name, parameter in template.get("Parameters", {}).items()
            if "Default" not in parameter
        ]
        if missing:
            raise DeploymentError("These parameters have no value yet:\n  " + "\n  ".join(missing))
        registry = Registry(account=self.deployed.aws.account, region=self.deployed.aws.region)
        refuse_tags(images_of(self._templates(), url_suffix=registry.url_suffix))

    def _make_parameters(self) -> None:
        if self.deployed.aws.parameter(self._power) is None:
            self.deployed.aws.put_parameter(self._power, value=PAUSED, overwrite=False)
            self.terminal.say(
                f"created {self._power} = {PAUSED}: no endpoint costs anything until you resume"
            )
        identity = self.deployed.config.identity
        given = identity.jwks_parameter if identity else None
        jwks = given or self.deployed.place.parameter(self.deployed.config.name, "jwks")
        if identity is not None and self.deployed.aws.parameter(jwks) is None:
            try:
                keys = published_keys(identity.issuer)
            except DeploymentError as error:
                raise DeploymentError(
                    f"The parameter {jwks} is missing, and {error.message} Put the issuer's public keys "
                    f"into it: aws ssm put-parameter --name {jwks} --type String --tier "
                    "Intelligent-Tiering --value file://jwks.json"
                ) from None
            self.deployed.aws.put_parameter(jwks, value=keys, overwrite=False)
            self.terminal.say(f"created {jwks} from the keys that {identity.issuer} publishes")

    @property
    def _pins(self) -> Path:
        return self.cdk.root / "stacks" / "pins" / f"{self.deployed.config.name}.json"

    @property
    def _power(self) -> str:
        return self.deployed.place.parameter(self.deployed.config.name, "power")

    def _templates(self) -> Templates:
        return upgrade_checks.templates_by_stack_name(self.cdk.stage)

    def _deployed(self) -> Templates:
        """Return the templates of the tenant's deployed stacks."""
        templates = {stack: self.deployed.aws.template(stack) for stack in self._templates()}
        return {stack: template for stack, template in templates.items() if template is not None}

    def _compare_with(self, deployed: Templates) -> None:
        """Refuse a change that deletes or replaces deployed state, and one without pins to review."""
        if deployed:
            standing = upgrade_checks.pin(deployed, upgrade_checks.read_replacing(self._pins.parent))
            _refuse_losses(upgrade_checks.losses(standing, self._templates()))
            self._refuse_instances(deployed)
        if self._pins.exists():
            return
        first = {self.deployed.stack(name) for name in _FIRST}
        if deployed and not deployed.keys() <= first:
            raise DeploymentError(
                f"{self._pins} is missing, and these stacks are deployed: {', '.join(deployed)}. Without it "
                "no check refuses a change that replaces their data. Run make pin, review the file, commit."
            )
        self.terminal.say(
            f"{self.deployed.config.name} is not pinned yet: once all stacks are deployed, run make pin"
        )

    def _refuse_instances(self, deployed: Templates) -> None:
        changes = instance_changes(deployed, self._templates())
        word = self.deployed.aws.parameter(self._power)
        if changes and word != PAUSED:
            listed = "\n  ".join(changes)
            raise DeploymentError(
                f"SageMaker changes no instance of an endpoint that scales, and {self._power} says {word}. "
                "Pause the tenant, deploy, resume (docs/runbook.md, Another instance):\n  " + listed
            )

    def _deploy_first_part(self, extra: Sequence[str]) -> None:
        self.terminal.step(f"deploying {', '.join(_FIRST)}: the bucket of models comes first")
        self.cdk.deploy(extra, stacks=_FIRST)
        outputs = self.deployed.aws.outputs(self.deployed.stack("Data"))
        models = self.deployed.config.models
        if BUCKET_OUTPUT not in outputs or models is None:
            raise DeploymentError(
                f"{self.deployed.stack('Data')} does not say {BUCKET_OUTPUT}: see the output of cdk."
            )
        listed = "\n  ".join(
            f"s3://{outputs[BUCKET_OUTPUT]}/{model_file.prefix}: {', '.join(model_file.files)}"
            for model_file in model_files(models, folder=self.cdk.root / "model_artifacts")
        )
        role = outputs.get(PUBLISHER_OUTPUT)
        by_role = f"; by the role {PUBLISHER_OUTPUT} = {role}" if role else ""
        raise DeploymentError(
            f"{', '.join(_FIRST)} stand; the rest waits for the model artifacts, which it reads when it "
            f"starts. Put these (model_artifacts/README.md{by_role}), then run the same command again:\n"
            f"  {listed}"
        )

    def _check_schema(self) -> None:
        outputs = (self.deployed.aws.outputs(stack) for stack in self._templates())
        applied = next((found[SCHEMA_OUTPUT] for found in outputs if SCHEMA_OUTPUT in found), None)
        if applied is None:
            raise DeploymentError("No stack says which search schema it applied: see the ingestion stack.")
        self.terminal.step(f"search schema: {applied}")

    def _probe(self) -> None:
        file = self.cdk.root / "care_app" / f"{self.deployed.config.name}.toml"
        if not file.exists():
            self.terminal.say(f"no probe: there is no {file}, the care side's own file")
            return
        care = load_care_app(file, tenant=self.deployed.config).config.deployment
        if care.account != self.deployed.aws.account:
            self.terminal.say(f"the probe runs in account {care.account} and asks from there by itself")
            return
        stack = f"{care.name_prefix}-{self.deployed.config.name}-care-Link"
        care_side = AwsAccount(account=care.account, region=care.region)
        name = care_side.outputs(stack).get(PROBE_OUTPUT)
        if name is None:
            self.terminal.say("no probe yet: deploy the care side, cdk deploy -c stage=care_app")
            return
        self._judge(care_side.invoke(name))

    def _judge(self, probed: Mapping[str, Any]) -> None:
        """Accept a probe's answer with a source, or a pause. Raises DeploymentError for any other failure."""
        outcome, reason = probed.get("outcome"), probed.get("reason")
        match outcome:
            case "working":
                self.terminal.step("probe: it got an answer with a source")
            case "paused":
                self.terminal.say("probe: the tenant is paused; resume it, and invoke the probe again")
            case "degraded":
                self.terminal.say(
                    f"probe: no answer with a source came ({reason}). no_evidence: bring documents "
                    "that answer the probe's question; everything else: docs/private-link.md, Alarms"
                )
            case _:
                raise DeploymentError(f"The probe failed ({reason}): docs/private-link.md, Alarms.")


def _unknown(checks: Sequence[str]) -> str:
    return f"{len(checks)} checks could not be asked, and none is a pass: {', '.join(checks)}."


def _refuse_losses(lost: Sequence[upgrade_checks.Loss]) -> None:
    if lost:
        listed = "\n  ".join(str(loss) for loss in lost)
        raise DeploymentError(f"This change would delete or replace stateful resources:\n  {listed}")


def deployment_of(file: Path, *, images: Path, root: Path, terminal: Terminal) -> Deployment:
    """Return the deployment of a file's tenant. Raises ConfigurationError when it is only served locally."""
    tenant = load_tenant(file)
    return Deployment(
        deployed=Deployed.of(tenant, file),
        tenant_file=file,
        cdk=CdkCommand(root=root, tenant=tenant.name, tenants_dir=file.parent, images=images),
        terminal=terminal,
    )
