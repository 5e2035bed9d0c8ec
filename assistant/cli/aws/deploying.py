"""The deployment of one tenant, and the upgrade of its tables' formats.

Before ``cdk deploy``: checks, image digests, parameters. After it: the search schema and the probe. An
upgrade (``assistant aws upgrade``) is run before a deployment whose release writes another format of rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

import httpx

from assistant.cli.aws.doctor import DeploymentChecks, checked, support, tools, unreviewed
from assistant.cli.aws.templates import CdkCommand, refuse_broken_rules, refuse_paths
from assistant.cli.tenant import refusals
from assistant.domain.errors import DeploymentError
from assistant.stores.dynamodb_table import FORMAT_KEY, format_in, format_item, plain, typed
from assistant.stores.formats import StoreFormat, format_of, refuse_format
from assistant.stores.table import keyed
from assistant.tenant.care_app import load_care_app
from assistant.tenant.deployed_names import PAUSED, TABLES
from assistant.tenant.manifests import load_compatibility
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
from assistant.terminal.publishing import Registry, images_of, model_files, refuse_tags
from assistant.terminal.terminal import GlobalOptions, Terminal, table
from template_checks import upgrades as upgrade_checks

_TIMEOUT_S = 15.0
_WELL_KNOWN = "/.well-known/openid-configuration"
_MOST_PARAMETER_CHARACTERS = 8192
"""Of an advanced parameter: https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"""
SCHEMA_OUTPUT = "SchemaStamp"
"""Output of the ingestion stack (``stacks/ingestion.py``)."""
PROBE_OUTPUT = "ProbeFunctionName"
"""Output of the care side's stack ``Link``."""
_FIRST = ("Keys", "Network", "Data")
"""The stacks of a first deployment: endpoints, tasks and the schema function read the models bucket when they
start, so it must exist, with the model artifacts, before them."""
SIGNS = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "unknown": "UNKNOWN"}


def published_configuration(issuer: str) -> Mapping[str, Any]:
    """Return an issuer's published configuration (OpenID Connect Discovery 1.0). Raises DeploymentError."""
    with httpx.Client(timeout=_TIMEOUT_S) as client:
        configuration = _json(client, issuer.rstrip("/") + _WELL_KNOWN)
    if configuration.get("issuer") != issuer:
        raise DeploymentError(
            f"{issuer} calls itself {configuration.get('issuer')}. Write that into identity.issuer."
        )
    return configuration


def published_keys(issuer: str) -> str:
    """Return the issuer's public keys (JWKS, by OpenID Connect Discovery 1.0) as JSON.

    Certificates (``x5c``, ``x5t``) are left out: nothing here reads them, and some issuers publish 1.5 KB of
    them a key. Raises DeploymentError, also where the keys are too long for a parameter of SSM.
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
    """Return the JSON object at an address. Raises DeploymentError."""
    try:
        answer = client.get(address).raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise DeploymentError(f"{address} cannot be read ({type(error).__name__}).") from None
    if not isinstance(answer, dict):
        raise DeploymentError(f"{address} holds no JSON object.")
    return cast("Mapping[str, Any]", answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The deployment of one tenant: ``npx cdk deploy``, with checks before it and a probe after it."""

    deployed: Deployed
    tenant_file: Path
    cdk: CdkCommand
    terminal: Terminal
    today: date
    """The day by which ends of support are judged."""

    def deploy(self, extra: Sequence[str], *, require: bool = False, accepted: Collection[str] = ()) -> None:
        """Check placeholders, templates, images and account; make parameters; deploy; check schema and probe.

        ``extra``: arguments of ``cdk deploy``. ``accepted``: names of losses that were reviewed, which are
        recorded. Raises DeploymentError at the first step that fails; with ``require`` also where a check
        could not be asked. A first deployment ends with DeploymentError on
        purpose after its first part (``_FIRST``), which makes the bucket: its text lists the model artifacts
        to put there before the command is run again.
        """
        self._refuse_faults(require=require)
        self._make_parameters()
        deployed = self._deployed()
        self._record(self._compare_with(deployed, accepted))
        for stamped in self.tables():
            advice = f"assistant aws upgrade --tenant {self.deployed.config.name}"
            refuse_format(stamped.found, store=stamped.name, place=stamped.place, command=advice)
        if self.deployed.stack("Data") not in deployed:
            self._deploy_first_part(extra)
        self.terminal.step("deploying")
        self.cdk.deploy(extra)
        self._check_schema()
        self._probe()

    def _refuse_faults(self, *, require: bool) -> None:
        """Print what the checks warn of. Raises DeploymentError for the first part of them with a failure."""
        for findings in self.examinations():
            for finding in findings:
                if finding.kind in ("warn", "unknown"):
                    self.terminal.say(f"{SIGNS[finding.kind]} {finding.check}: {finding.said}")
            if failed := [finding.said for finding in findings if finding.kind == "fail"]:
                raise DeploymentError("\n".join(failed))
            if require and (unknown := [finding.check for finding in findings if finding.kind == "unknown"]):
                advice = "Let the role ask (.github/deploy-roles.yaml), or leave out --require."
                raise DeploymentError(f"{not_asked(unknown)} {advice}")

    def diff(self, extra: Sequence[str], *, accepted: Collection[str] = ()) -> None:
        """Check the templates, print what a deployment would change (``cdk diff``), refuse losses. Raises
        DeploymentError."""
        self.check()
        self.deployed.aws.require()
        self.cdk.diff(extra)
        self._compare_with(self._deployed(), accepted)

    def refuse_losses(self, accepted: Collection[str]) -> None:
        """Raise DeploymentError where this release would delete or replace what holds data, unless a review
        accepted it by its name."""
        self.check()
        self.deployed.aws.require()
        self._compare_with(self._deployed(), accepted)

    def tables(self) -> list[StampedTable]:
        """Return the deployed tables with their format stamps; none before the first deployment. Raises
        DeploymentError."""
        return list(tables_of(self.deployed.aws, data_stack=self.deployed.stack("Data")))

    def check(self) -> None:
        """Synthesize, and check the templates for rules and paths. Raises DeploymentError."""
        self.terminal.step("synthesizing and validating")
        self.cdk.synth()
        self.terminal.step("checking the templates")
        refuse_broken_rules(self.cdk.stage, tenant_file=self.tenant_file)
        refuse_paths(self.cdk.stage, tenant_file=self.tenant_file)

    def examinations(self) -> Iterator[list[Finding]]:
        """Yield the findings of the checks before a deployment, in three parts: the tenant's files, its
        templates, the account. A part with a failure is the last one, since later checks use its values."""
        for check_part in (self._own_files, self._made_templates, self._account):
            findings = list(check_part())
            yield findings
            if any(finding.kind == "fail" for finding in findings):
                return

    def _own_files(self) -> Iterator[Finding]:
        files = load_tenants(self.tenant_file.parent)
        yield from checked("tenant file", lambda: map(failure, refusals(self.deployed.config, files)))
        yield from checked("neighbours", lambda: unreviewed(self.deployed.place, files.tenants.values()))
        yield from checked("tools", lambda: tools(self.cdk.root))

    def _made_templates(self) -> Iterator[Finding]:
        yield from checked("templates", self.check, otherwise="fail")
        yield from checked("image digests", self._check_images, otherwise="fail")
        yield from checked("support", self._support, otherwise="fail")

    def _support(self) -> Iterator[Finding]:
        table = load_compatibility(self.cdk.root / "model_artifacts" / "compatibility.toml")
        parts = table.ending(json.dumps(self._templates()), today=self.today)
        return support(parts, today=self.today, accepted=self.deployed.place.accepted_end_of_support)

    def _account(self) -> Iterator[Finding]:
        """Check credentials, then what the account, its registry and the issuer say. The templates must
        exist."""
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
        """Raise DeploymentError where the lock file lacks an image's digest, or names one by a tag.

        An image without a digest is a template parameter without a default.
        """
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
        """Make the SSM parameters that the stacks expect, unless they exist: the power state (``paused``),
        and the issuer's public keys. Raises DeploymentError where the issuer's keys cannot be read."""
        if self.deployed.aws.parameter(self._power) is None:
            self.deployed.aws.put_parameter(self._power, value=PAUSED, overwrite=False)
            self.terminal.say(
                f"created {self._power} = {PAUSED}: no endpoint costs anything until you resume"
            )
        identity = self.deployed.config.identity
        declared_parameter = identity.jwks_parameter if identity else None
        jwks = declared_parameter or self.deployed.place.parameter(self.deployed.config.name, "jwks")
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
    def _accepted(self) -> str:
        """Name of the parameter with the accepted losses, as JSON."""
        return self.deployed.place.parameter(self.deployed.config.name, "accepted")

    @property
    def _power(self) -> str:
        """Name of the parameter with the power state: ``on``, ``pausing``, ``paused``, ``resuming``."""
        return self.deployed.place.parameter(self.deployed.config.name, "power")

    def _templates(self) -> Templates:
        """Return the synthesized templates by stack name; ``check`` writes them first."""
        return upgrade_checks.templates_by_stack_name(self.cdk.stage)

    def _deployed(self) -> Templates:
        """Return the templates of the tenant's deployed stacks, also of those that this release lacks."""
        aws = self.deployed.aws
        names = sorted({each["StackName"] for each in aws.stacks(self.deployed.stack(""))})
        return {name: template for name in names if (template := aws.template(name)) is not None}

    def _compare_with(self, deployed: Templates, accepted: Collection[str]) -> list[str]:
        """Raise DeploymentError for a change that loses deployed state, unless it is among the accepted ones,
        now or by the record of a deployment that did not end; return those. What CloudFormation keeps of the
        deployed stacks is what the last deployment pinned (docs/decisions/0145)."""
        recorded = self._recorded()
        passing, refused = list[str](), list[str]()
        for loss in upgrade_checks.losses(upgrade_checks.pin(deployed), self._templates()):
            if loss.is_kept or loss.name in accepted or str(loss) in recorded:
                self.terminal.say(f"{SIGNS['warn']} {loss}")
                passing += [] if loss.is_kept else [str(loss)]
            else:
                refused.append(str(loss))
        if refused:
            listed = "\n  ".join(refused)
            raise DeploymentError(
                "This change would delete or replace stateful resources; --accept NAME lets a reviewed one "
                f"through:\n  {listed}"
            )
        self._refuse_instances(deployed)
        return passing

    def _recorded(self) -> list[str]:
        """Return the losses that were accepted when a deployment last began."""
        return json.loads(self.deployed.aws.parameter(self._accepted) or "[]")

    def _record(self, passing: list[str]) -> None:
        """Record the accepted losses beside what the account pins. One that has happened leaves the record
        with the next deployment; SSM's history of the parameter keeps who accepted it, and when."""
        if passing != self._recorded():
            self.deployed.aws.put_parameter(self._accepted, value=json.dumps(passing, indent=1))

    def _refuse_instances(self, deployed: Templates) -> None:
        """Raise DeploymentError where endpoints that run would get another instance type."""
        changes = instance_changes(deployed, self._templates())
        if changes and (power := self.deployed.aws.parameter(self._power)) != PAUSED:
            listed = "\n  ".join(changes)
            raise DeploymentError(
                f"SageMaker changes no instance of an endpoint that scales, and {self._power} says {power}. "
                "Pause the tenant, deploy, resume (docs/runbook.md, Another instance):\n  " + listed
            )

    def _deploy_first_part(self, extra: Sequence[str]) -> None:
        """Deploy ``_FIRST``, then always raise DeploymentError: with what to put into the bucket of
        models."""
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
        """Print the stamp of the search schema that the deployment applied."""
        outputs = (self.deployed.aws.outputs(stack) for stack in self._templates())
        applied = next((by_name[SCHEMA_OUTPUT] for by_name in outputs if SCHEMA_OUTPUT in by_name), None)
        if applied is None:
            raise DeploymentError("No stack says which search schema it applied: see the ingestion stack.")
        self.terminal.step(f"search schema: {applied}")

    def _probe(self) -> None:
        """Invoke the care side's probe, which asks the tenant a question over its private link. Only where
        the care side's file is here, is deployed, and is in the same account. Raises DeploymentError."""
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
        """Print the probe's result: ``{"outcome": "degraded", "reason": "no_evidence"}``.

        Raises DeploymentError for any outcome but ``working``, ``paused`` and ``degraded``.
        """
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


def not_asked(checks: Sequence[str]) -> str:
    """Return the sentence on checks that could not be asked, by their names."""
    return f"{len(checks)} checks could not be asked, and none is a pass: {', '.join(checks)}."


def deployment_of(file: Path, *, root: Path, terminal: Terminal, today: date) -> Deployment:
    """Return the deployment of a file's tenant. Raises ConfigurationError when it is only served locally."""
    tenant = load_tenant(file)
    return Deployment(
        deployed=Deployed.of(tenant, file),
        tenant_file=file,
        cdk=CdkCommand(root=root, tenant=tenant.name, tenants_dir=file.parent),
        terminal=terminal,
        today=today,
    )


# --- upgrade ----------------------------------------------------------------------------------------------
# A stamp is one item of a table that says which releases may use it. An upgrade writes only stamps: a table
# may hold rows of both formats (``assistant/stores/formats.py``). So it may be killed at any moment and run
# again.
@dataclass(frozen=True, slots=True)
class StampedTable:
    """A table that has a stamp."""

    aws: AwsAccount
    name: str
    """Its role: ``records``."""
    place: str
    """Its name in the account."""
    found: StoreFormat
    rows: int
    """By DynamoDB's own count, which is some hours old."""

    def target(self, *, back: bool) -> StoreFormat:
        """Return the format that the stamp shall say: this release's. With ``back``, before an older release
        is deployed again: the oldest format whose release reads the rows."""
        oldest = self.found.readable_from
        return StoreFormat(oldest, oldest) if back else format_of(self.name)

    def stamp(self, to: StoreFormat) -> None:
        """Write the stamp of a format; safe to repeat."""
        self.aws.call("dynamodb", "put_item", TableName=self.place, Item=typed(format_item(to)))


def tables_of(aws: AwsAccount, *, data_stack: str) -> Iterator[StampedTable]:
    """Yield the tables of a tenant's data stack; none before its first deployment. Raises DeploymentError."""
    if aws.template(data_stack) is None:
        return
    names = aws.resources(data_stack)
    for role in (definition.role for definition in TABLES):
        if (name := names.get(f"{role.title()}Table")) is not None:
            key = typed(keyed(FORMAT_KEY))
            response = aws.call("dynamodb", "get_item", TableName=name, Key=key, ConsistentRead=True)
            count = int(aws.call("dynamodb", "describe_table", TableName=name)["Table"].get("ItemCount", 0))
            found_format = format_in(plain(response["Item"]) if "Item" in response else None)
            yield StampedTable(aws, role, name, found_format, count)


def upgrade_tables(
    tables: Sequence[StampedTable], *, options: GlobalOptions, command: str, plan: bool, back: bool
) -> None:
    """Write the stamps that differ from their target, and print a row for each table. With ``plan`` write
    none.

    ``command`` is named in the error's text. Raises ConfigurationError before anything changes where a newer
    release wrote a table.
    """
    for stamped in tables:
        refuse_format(stamped.found, store=stamped.name, place=stamped.place, command=command)
    if not plan:
        for stamped in tables:
            if stamped.found != stamped.target(back=back):
                stamped.stamp(stamped.target(back=back))
    states: list[dict[str, Any]] = [
        {
            "store": stamped.name,
            "place": stamped.place,
            "format": stamped.found.number,
            "needed": stamped.target(back=back).number,
            "rows": stamped.rows,
            "back_to": stamped.found.readable_from,
        }
        for stamped in tables
    ]
    if not options.writes(states):
        verb = "would move to" if plan else "moved to"
        rows = [
            (
                state["store"],
                state["place"],
                f"format {state['format']}",
                "stays" if state["format"] == state["needed"] else f"{verb} format {state['needed']}",
                f"{state['rows']:,}",
                f"format {state['back_to']}",
            )
            for state in states
        ]
        Terminal().out.print(table("store", "place", "found", "", "rows", "way back to", rows=rows))
