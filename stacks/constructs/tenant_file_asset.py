"""The tenant file as the deployment means it, where containers and functions read it at their start."""

from __future__ import annotations

import hashlib
from pathlib import Path

import tomlkit
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from assistant.settings.tenant import WHERE_IT_STANDS
from stacks.tenant import ROOT, DeployedTenant

_FOLDER = ROOT / "build" / "tenant-files"


class TenantFileAsset(Construct):
    """The effective file, without the sections that only a deployment reads: no account, no network.

    It is an object of the bootstrap bucket, named by the hash of its content.
    """

    def __init__(self, scope: Construct, construct_id: str, *, tenant: DeployedTenant) -> None:
        super().__init__(scope, construct_id)
        content = effective_tenant_file(tenant)
        digest = hashlib.sha256(content.encode()).hexdigest()
        path = _written(Path(f"{tenant.name}-{digest[:16]}.toml"), content)
        self._asset = assets.Asset(self, "File", path=str(path), asset_hash=digest)
        self.uri = self._asset.s3_object_url
        """``s3://bucket/key.toml``, known at deploy time: a value for ``tenant_file_s3``."""

    def grant_read(self, role: iam.Role) -> None:
        """Let a role read this one object."""
        role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["s3:GetObject"],
                resources=[self._asset.bucket.arn_for_objects(self._asset.s3_object_key)],
            )
        )


def effective_tenant_file(tenant: DeployedTenant) -> str:
    """Return the file's text: every value that shapes an answer, defaults written out, in the order of the
    settings class."""
    data = tenant.config.model_dump(mode="json", exclude=set(WHERE_IT_STANDS), exclude_none=True)
    return tomlkit.dumps(data)


def _written(name: Path, content: str) -> Path:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    path = _FOLDER / name
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        path.write_text(content, encoding="utf-8")
    return path
