"""The steps of ``assistant deploy`` and ``assistant diff``.

Nothing here that ``npx cdk deploy`` would not do as well: the steps only ask before, and look afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.cli.deployment.account import AwsAccount
from assistant.cli.deployment.account_checks import AccountChecks
from assistant.cli.deployment.cdk_command import CdkCommand
from assistant.cli.deployment.issuer_keys import published_keys
from assistant.cli.deployment.model_files import model_files
from assistant.cli.deployment.model_instances import instance_changes
from assistant.cli.new_tenant import refusals
from assistant.cli.terminal import Terminal
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.settings.care_app import load_care_app
from assistant.settings.deployed_names import PAUSED
from assistant.settings.deployment import PlaceSection
from assistant.settings.tenant import TenantConfig, load_tenants
from template_checks.upgrades import (
    Loss,
    losses,
    pin,
    pins_file,
    read_pins,
    read_replacing,
    templates_by_stack_name,
    unpinned,
)

SCHEMA_OUTPUT = "SchemaStamp"
PROBE_OUTPUT = "ProbeFunctionName"
BUCKET_OUTPUT = "ModelsBucketName"
PUBLISHER_OUTPUT = "ArtifactPublisherArn"
_FIRST = ("Keys", "Network", "Data")
"""What a first deployment makes by itself: endpoints, tasks and the schema function read the models bucket
when they start, so it must be there, and filled, before they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One tenant on its way to its account."""

    tenant: TenantConfig
    tenant_file: Path
    cdk: CdkCommand
    aws: AwsAccount
    terminal: Terminal
    place: PlaceSection
    stack_prefix: str
    """Of the tenant's stacks: ``assistant-pharmacy-``."""

    def deploy(self, extra: Sequence[str]) -> None:
        """Placeholders, checks, images, account, parameters, deploy, schema, probe.

        The first that fails raises DeploymentError.

        So does a first deployment, after the part that artifacts can be put into.
        """
        self._refuse_made_up()
        self.check()
        self._images()
        self.aws.require()
        self._ask_account()
        self._parameters()
        deployed = self._deployed()
        self._hold_against(deployed)
        if f"{self.stack_prefix}Data" not in deployed:
            self._deploy_first_part(extra)
        self.terminal.step("deploying")
        self.cdk.deploy(extra)
        self._schema()
        self._probe()

    def diff(self, extra: Sequence[str]) -> None:
        """Checks, the CDK's own difference, and what of it would be lost. Raises DeploymentError."""
        self.check()
        self.aws.require()
        self.cdk.diff(extra)
        self._hold_against(self._deployed())

    def check(self) -> None:
        """Synthesize with validation, check the templates, hold them against the pins."""
        from assistant.cli.checking import refuse_mistakes
        from assistant.cli.reaching import refuse_paths

        self.terminal.step("synthesizing and validating")
        self.cdk.synth()
        self.terminal.step("checking the templates")
        refuse_mistakes(self.cdk.stage, tenant_file=self.tenant_file)
        refuse_paths(self.cdk.stage, tenant_file=self.tenant_file)
        if self._pins.exists():
            pinned = read_pins(self._pins)
            self._refuse(losses(pinned, self._templates()))
            for name in unpinned(pinned, self._templates()):
                self.terminal.say(f"{name} is stateful and not pinned yet: make pin, and commit")

    def _refuse_made_up(self) -> None:
        """Refuse a file whose values were made up, and one that clashes with another tenant's."""
        wrong = list(refusals(self.tenant, load_tenants(self.tenant_file.parent)))
        if wrong:
            raise DeploymentError("\n".join(wrong))

    def _ask_account(self) -> None:
        self.terminal.step("asking the account for zones, certificate, roles and quotas")
        checks = AccountChecks(
            aws=self.aws,
            tenant=self.tenant,
            place=self.place,
            tenant_file=self.tenant_file,
            templates=self._templates(),
        )
        found = list(checks.findings())
        for finding in found:
            if finding.kind == "remark":
                self.terminal.say(finding.said)
        if refused := [finding.said for finding in found if finding.kind == "refused"]:
            raise DeploymentError("\n".join(refused))

    def _images(self) -> None:
        asked = [
            f"{stack}: {name}: {parameter.get('Description', 'no description')}"
            for stack, template in self._templates().items()
            for name, parameter in template.get("Parameters", {}).items()
            if "Default" not in parameter
        ]
        if asked:
            raise DeploymentError("These have no value yet:\n  " + "\n  ".join(asked))

    def _parameters(self) -> None:
        power = self._power
        if self.aws.parameter(power) is None:
            self.aws.create_parameter(power, value=PAUSED)
            self.terminal.say(f"made {power} = {PAUSED}: no endpoint costs anything until you resume")
        identity = self.tenant.identity
        given = identity.jwks_parameter if identity else None
        jwks = given or self.place.parameter(self.tenant.name, "jwks")
        if self.aws.parameter(jwks) is None and identity is not None:
            try:
                keys = published_keys(identity.issuer)
            except DeploymentError as error:
                raise DeploymentError(
                    f"The parameter {jwks} is not there, and {error.message} Put the issuer's public keys "
                    f"into it: aws ssm put-parameter --name {jwks} --type String --value file://jwks.json"
                ) from None
            self.aws.create_parameter(jwks, value=keys)
            self.terminal.say(f"made {jwks} from the keys that {identity.issuer} publishes")

    @property
    def _pins(self) -> Path:
        return pins_file(self.cdk.root / "stacks" / "pins", self.tenant)

    @property
    def _power(self) -> str:
        return self.place.parameter(self.tenant.name, "power")

    def _deployed(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the templates of the tenant's stacks that stand."""
        found = {stack: self.aws.template(stack) for stack in self._templates()}
        return {stack: template for stack, template in found.items() if template is not None}

    def _hold_against(self, deployed: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse a change that what stands would not survive, and one that nobody could have reviewed."""
        if deployed:
            self._refuse(losses(pin(deployed, read_replacing(self._pins.parent)), self._templates()))
            self._refuse_instances(deployed)
        if self._pins.exists():
            return
        first = {f"{self.stack_prefix}{name}" for name in _FIRST}
        if deployed and not deployed.keys() <= first:
            raise DeploymentError(
                f"{self._pins} is not there, and {', '.join(deployed)} stand: a later change that replaces "
                "what they hold would pass every review. Run make pin, look at what it wrote, commit it."
            )
        self.terminal.say(
            f"{self.tenant.name} is not pinned yet: once all of it stands, make pin, and commit the file"
        )

    def _refuse(self, lost: Sequence[Loss]) -> None:
        if lost:
            listed = "\n  ".join(str(loss) for loss in lost)
            raise DeploymentError(f"This would take away what must stay:\n  {listed}")

    def _refuse_instances(self, deployed: Mapping[str, Mapping[str, Any]]) -> None:
        changes = instance_changes(deployed, self._templates())
        word = self.aws.parameter(self._power)
        if changes and word != PAUSED:
            listed = "\n  ".join(str(change) for change in changes)
            raise DeploymentError(
                f"SageMaker changes no instance of an endpoint that scales, and {self._power} says {word}. "
                "Pause the tenant, deploy, resume (docs/runbook.md, Another instance):\n  " + listed
            )

    def _deploy_first_part(self, extra: Sequence[str]) -> None:
        self.terminal.step(f"deploying {', '.join(_FIRST)}: the bucket of models comes first")
        self.cdk.deploy(extra, stacks=_FIRST)
        outputs = self.aws.outputs(f"{self.stack_prefix}Data")
        if BUCKET_OUTPUT not in outputs or self.tenant.models is None:
            raise DeploymentError(f"{self.stack_prefix}Data does not say {BUCKET_OUTPUT}: see what cdk said.")
        listed = "\n  ".join(
            f"s3://{outputs[BUCKET_OUTPUT]}/{each.prefix}: {', '.join(each.files)}"
            for each in model_files(self.tenant.models, folder=self.cdk.root / "model_artifacts")
        )
        who = outputs.get(PUBLISHER_OUTPUT)
        raise DeploymentError(
            f"{', '.join(_FIRST)} stand; the rest waits for the model artifacts, which it reads when it "
            "starts. Put these (model_artifacts/README.md"
            + (f"; by the role {PUBLISHER_OUTPUT} = {who}" if who else "")
            + f"), then run the same command again:\n  {listed}"
        )

    def _schema(self) -> None:
        applied = [
            value
            for stack in self._templates()
            for key, value in self.aws.outputs(stack).items()
            if key == SCHEMA_OUTPUT
        ]
        if not applied:
            raise DeploymentError("No stack says which search schema it applied: see the ingestion stack.")
        self.terminal.step(f"search schema: {applied[0]}")

    def _probe(self) -> None:
        file = self.cdk.root / "care_app" / f"{self.tenant.name}.toml"
        if not file.exists():
            self.terminal.say(f"no probe: there is no {file}, the care side's own file")
            return
        care = load_care_app(file, tenant=self.tenant).config.deployment
        if care.account != self.aws.account:
            self.terminal.say(f"the probe stands in account {care.account} and asks from there by itself")
            return
        stack = f"{care.name_prefix}-{self.tenant.name}-care-Link"
        care_side = AwsAccount(account=care.account, region=care.region)
        name = care_side.outputs(stack).get(PROBE_OUTPUT)
        if name is None:
            self.terminal.say("no probe yet: deploy the care side, cdk deploy -c stage=care_app")
            return
        self._judge(care_side.invoke(name))

    def _judge(self, probed: Mapping[str, Any]) -> None:
        """Take an answer with a source for working, and nothing else. Raises DeploymentError."""
        outcome, reason = probed.get("outcome"), probed.get("reason")
        match outcome:
            case "working":
                self.terminal.step("probe: an answer with a source came the whole way")
            case "paused":
                self.terminal.say("probe: the tenant is paused; resume it, and invoke the probe again")
            case "degraded":
                self.terminal.say(
                    f"probe: no answer with a source came ({reason}). no_evidence: bring documents "
                    "that answer the probe's question; everything else: docs/private-link.md, Alarms"
                )
            case _:
                raise DeploymentError(f"The probe failed ({reason}): docs/private-link.md, Alarms.")

    def _templates(self) -> Mapping[str, Mapping[str, Any]]:
        return templates_by_stack_name(self.cdk.stage)


def deployment_of(
    tenant: TenantConfig, *, tenants_dir: Path, images: Path, root: Path, terminal: Terminal
) -> Deployment:
    """Raises ConfigurationError when the tenant is only served locally."""
    place = tenant.deployment
    file = tenants_dir / f"{tenant.name}.toml"
    if place is None:
        raise ConfigurationError(f"{file}: there is no [deployment] section, so it is only served locally.")
    return Deployment(
        tenant=tenant,
        tenant_file=file,
        cdk=CdkCommand(root=root, tenant=tenant.name, tenants_dir=tenants_dir, images=images),
        aws=AwsAccount(account=place.account, region=place.region),
        terminal=terminal,
        place=place,
        stack_prefix=f"{place.name_prefix}-{tenant.name}-",
    )
