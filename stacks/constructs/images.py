"""Addresses of container images, from ``images.lock.toml``: by digest, never looked up."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.settings.images import DIGEST_PATTERN, LockedImage
from stacks.tenant import DeployedTenant

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
