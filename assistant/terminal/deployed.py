"""A tenant in its AWS account: the outputs of its stacks, and the publisher of its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.domain.errors import DeploymentError
from assistant.tenant.deployment import PlaceSection
from assistant.tenant.tenant import TenantConfig, load_tenant
from assistant.terminal.account import AwsAccount, place_of
from assistant.terminal.terminal import GlobalOptions

BUCKET_OUTPUT, PUBLISHER_OUTPUT = "ModelsBucketName", "ArtifactPublisherArn"
"""Outputs of a tenant's data stack."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """Its account is asked by the credentials of whoever runs the command."""

    config: TenantConfig
    place: PlaceSection

    @classmethod
    def of(cls, config: TenantConfig, file: Path) -> Deployed:
        """Raises ConfigurationError when the tenant is only served locally."""
        return cls(config, place_of(config, file))

    @classmethod
    def named(cls, options: GlobalOptions, tenant: str) -> Deployed:
        """Raises ConfigurationError as ``of``, and for a file that is wrong."""
        file = options.tenants_dir / f"{tenant}.toml"
        return cls.of(load_tenant(file), file)

    @property
    def aws(self) -> AwsAccount:
        return AwsAccount(account=self.place.account, region=self.place.region)

    def stack(self, name: str) -> str:
        """Return the full name of a stack of the tenant's stage (``Data``)."""
        return f"{self.place.name_prefix}-{self.config.name}-{name}"

    def outputs(self, stack: str) -> Mapping[str, str]:
        """Return a stack's outputs; empty where there is none.

        Raises DeploymentError, also where the credentials are another account's.
        """
        self.aws.require()
        return self.aws.outputs(self.stack(stack))

    def output(self, stack: str, name: str, *, lacks: str) -> str:
        """Return one output of a stack. ``lacks``: what is missing without it, and what to do before the next
        deployment. Raises DeploymentError."""
        value = self.outputs(stack).get(name)
        if value is None:
            raise DeploymentError(f"{self.stack(stack)} has no {lacks}, and deploy.")
        return value

    def models_bucket(self) -> str:
        """Raises DeploymentError."""
        return self.output("Data", BUCKET_OUTPUT, lacks="bucket of models: it is the first to be made")

    def publisher(self) -> Any:
        """Return an S3 client by the role that puts models, for an hour at most. Raises DeploymentError."""
        lacks = "publisher's role: name a role in deployment.artifact_publishers"
        return self.aws.as_role(self.output("Data", PUBLISHER_OUTPUT, lacks=lacks)).client("s3")
