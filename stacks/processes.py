"""Addresses of container images, from ``images.lock.toml``: by digest, never looked up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import tomlkit
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.settings.images import DIGEST_PATTERN, LockedImage
from assistant.settings.process import ProcessSettings
from assistant.settings.tenant import WHERE_IT_STANDS
from stacks.tenant import ROOT, DeployedTenant

TASK_IMAGES = ("orchestrator", "otel_collector")
"""Names of the images of one task: the service, and the collector of traces beside it."""
UNLOCKED = "unlocked"
REVIEW = "review"
"""``-c unlocked=review``: make the templates of a ``hipaa`` tenant though digests are missing. They are to be
looked at and judged; each missing digest is a parameter without default, so no deployment of them begins."""


def refuse_unlocked(stage: cdk.Stage, tenant: DeployedTenant) -> None:
    """Raise ConfigurationError, with the commands, when a ``hipaa`` tenant runs an image that only a tag
    names: whoever may push to its registry, AWS's too, decides what that is tomorrow."""
    given = stage.node.try_get_context(UNLOCKED)
    if given not in (None, "", REVIEW):
        raise ConfigurationError(f'-c {UNLOCKED}={given}: there is no such word; allowed: "{REVIEW}".')
    names = dict.fromkeys((*TASK_IMAGES, tenant.llm.image, tenant.embedding.image))
    missing = [name for name in names if tenant.images.image(name).digest is None]
    if not missing or given == REVIEW or not tenant.is_hipaa:
        return
    commands = "\n  ".join(_locked_by(name, tenant) for name in missing)
    raise ConfigurationError(
        f"{tenant.name}: the profile hipaa runs images by digest alone, and images.lock.toml has none of "
        f"{', '.join(missing)}. Lock them, and commit the file:\n  {commands}\n"
        f"(-c {UNLOCKED}={REVIEW} makes templates to look at, which cannot be deployed.)"
    )


def _locked_by(name: str, tenant: DeployedTenant) -> str:
    place = tenant.place
    if tenant.images.image(name).is_own:
        return f"assistant images publish --image {name} --to {place.account}/{place.region}"
    return f"assistant images lock {name} --region {place.region}"


def image_uri(scope: Construct, tenant: DeployedTenant, name: str) -> str:
    """Return the full address of an image of ``images.lock.toml`` in the tenant's region.

    A digest that is missing is asked for by a parameter of the stack without default, so that synth and
    review need no image, and a deployment stops at once and names it: of an own image that was never built,
    and of any image of a ``hipaa`` tenant. AWS's own else go by their tag. Raises ConfigurationError where
    the region does not have the image.
    """
    image = tenant.images.image(name)
    host = f"{_account(tenant, name)}.dkr.ecr.{tenant.place.region}.{cdk.Aws.URL_SUFFIX}"
    if image.digest is not None:
        return f"{host}/{image.repository}@{image.digest}"
    if not image.is_own and not tenant.is_hipaa:
        return f"{host}/{image.repository}:{image.tag}"
    return f"{host}/{image.repository}@{_asked_for(scope, name, image, tenant).value_as_string}"


def image_repository_arn(scope: Construct, tenant: DeployedTenant, name: str) -> str:
    """Return the ARN of an image's repository, which who pulls it may read."""
    return cdk.Stack.of(scope).format_arn(
        service="ecr",
        account=_account(tenant, name),
        region=tenant.place.region,
        resource="repository",
        resource_name=tenant.images.image(name).repository,
    )


def image_stamp(tenant: DeployedTenant, name: str) -> str:
    """Return what changes when the image does: its digest, or its tag while that is not known."""
    image = tenant.images.image(name)
    return image.digest or image.tag


def _account(tenant: DeployedTenant, name: str) -> str:
    return tenant.images.account(name, region=tenant.place.region, own=tenant.place.account)


def _asked_for(scope: Construct, name: str, image: LockedImage, tenant: DeployedTenant) -> cdk.CfnParameter:
    stack = cdk.Stack.of(scope)
    parameter_id = "".join(part.capitalize() for part in name.split("_")) + "ImageDigest"
    there = stack.node.try_find_child(parameter_id)
    if isinstance(there, cdk.CfnParameter):
        return there
    locked_by = _locked_by(name, tenant)
    return cdk.CfnParameter(
        stack,
        parameter_id,
        type="String",
        allowed_pattern=DIGEST_PATTERN,
        description=f"Digest of {image.repository}; "
        f"`{locked_by}` writes it to images.lock.toml, then this is not asked for.",
        constraint_description=f"is sha256: and 64 hexadecimal digits. Run: {locked_by}",
    )


# The environment of a container or function, by the class that reads it.


def process_environment(settings: type[ProcessSettings], given: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables by which a process reads what is ``given`` by field; absent ones are left out.

    What only the deployment knows passes as it is; everything else is validated as the process will.
    Raises ConfigurationError naming every wrong variable.
    """
    there = {name: value for name, value in given.items() if value is not None}
    known_later = {name for name, value in there.items() if cdk.Token.is_unresolved(value)}
    return settings.variables(there, known_later=known_later)


# The tenant file as the deployment means it, where containers and functions read it at their start.


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
