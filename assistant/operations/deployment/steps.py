"""The steps of ``assistant deploy`` and ``assistant diff``.

Nothing here that ``npx cdk deploy`` would not do as well: the steps only ask before, and look afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.operations.deployment.account import AwsAccount
from assistant.operations.deployment.cdk_command import CdkCommand
from assistant.operations.terminal import Terminal
from assistant.settings import TenantConfig
from assistant.settings.care_app import load_care_app
from assistant.template_checks.upgrades import Loss, losses, pin, read_pins, templates_by_stack_name, unpinned

SCHEMA_OUTPUT = "SchemaStamp"
PROBE_OUTPUT = "ProbeFunctionName"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One tenant on its way to its account."""

    tenant: TenantConfig
    tenant_file: Path
    cdk: CdkCommand
    aws: AwsAccount
    terminal: Terminal
    prefix: str
    """Of the tenant's parameters: ``/assistant/pharmacy/``."""

    def deploy(self, extra: Sequence[str]) -> None:
        """Checks, images, parameters, deploy, schema, probe; the first that fails raises DeploymentError."""
        self.check()
        self._images()
        self.aws.require()
        self._parameters()
        self._refuse(self._losses_of_deployed())
        self.terminal.step("deploying")
        self.cdk.deploy(extra)
        self._schema()
        self._probe()

    def diff(self, extra: Sequence[str]) -> None:
        """Checks, the CDK's own difference, and what of it would be lost. Raises DeploymentError."""
        self.check()
        self.aws.require()
        self.cdk.diff(extra)
        self._refuse(self._losses_of_deployed())

    def check(self) -> None:
        """Synthesize with validation, check the templates, hold them against the pins."""
        from assistant.operations.checking import refuse_mistakes

        self.terminal.step("synthesizing and validating")
        self.cdk.synth()
        self.terminal.step("checking the templates")
        refuse_mistakes(self.cdk.stage, tenant_file=self.tenant_file)
        pins = self.cdk.root / "stacks" / "pins" / f"{self.tenant.name}.json"
        if pins.exists():
            pinned = read_pins(pins)
            self._refuse(losses(pinned, self._templates()))
            for name in unpinned(pinned, self._templates()):
                self.terminal.say(f"{name} is stateful and not pinned yet: make pin, and commit")

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
        power = f"{self.prefix}power"
        if self.aws.parameter(power) is None:
            self.aws.create_parameter(power, value="paused")
            self.terminal.say(f"made {power} = paused: no endpoint costs anything until you resume")
        identity = self.tenant.identity
        jwks = (identity.jwks_parameter if identity else None) or f"{self.prefix}jwks"
        if self.aws.parameter(jwks) is None:
            raise DeploymentError(
                f"The parameter {jwks} is not there. Put the issuer's public keys into it first: "
                f"aws ssm put-parameter --name {jwks} --type String --value file://jwks.json"
            )

    def _losses_of_deployed(self) -> list[Loss]:
        pins = self.cdk.root / "stacks" / "pins" / f"{self.tenant.name}.json"
        if not pins.exists():
            return []
        replacing = read_pins(pins).replacing
        deployed: dict[str, Mapping[str, Any]] = {}
        for stack in self._templates():
            template = self.aws.template(stack)
            if template is not None:
                deployed[stack] = template
        return losses(pin(deployed, replacing), self._templates())

    def _refuse(self, lost: Sequence[Loss]) -> None:
        if lost:
            listed = "\n  ".join(str(loss) for loss in lost)
            raise DeploymentError(f"This would take away what must stay:\n  {listed}")

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
        name = AwsAccount(account=care.account, region=care.region).outputs(stack).get(PROBE_OUTPUT)
        if name is None:
            self.terminal.say("no probe yet: deploy the care side, cdk deploy -c stage=care_app")
            return
        self.terminal.step(f"probe: {self.aws.invoke(name)}")

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
        prefix=f"/{place.name_prefix}/{tenant.name}/",
    )
