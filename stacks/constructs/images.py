"""Addresses of container images, from ``images.lock.toml``: by digest, never looked up."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from assistant.settings.images import DIGEST_PATTERN, LockedImage
from stacks.tenant import DeployedTenant


def image_uri(scope: Construct, tenant: DeployedTenant, name: str) -> str:
    """Return the full address of an image of ``images.lock.toml`` in the tenant's region.

    An own image that was never built has no digest yet: its place is taken by a parameter of the stack
    without default, so that synth and review need no image, and a deployment stops at once and names it.
    Raises ConfigurationError where the region does not have the image.
    """
    image = tenant.images.image(name)
    host = f"{_account(tenant, name)}.dkr.ecr.{tenant.place.region}.{cdk.Aws.URL_SUFFIX}"
    if image.digest is not None:
        return f"{host}/{image.repository}@{image.digest}"
    if not image.is_own:
        return f"{host}/{image.repository}:{image.tag}"
    return f"{host}/{image.repository}@{_asked_for(scope, name, image).value_as_string}"


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


def _asked_for(scope: Construct, name: str, image: LockedImage) -> cdk.CfnParameter:
    stack = cdk.Stack.of(scope)
    parameter_id = "".join(part.capitalize() for part in name.split("_")) + "ImageDigest"
    there = stack.node.try_find_child(parameter_id)
    if isinstance(there, cdk.CfnParameter):
        return there
    publish = f"assistant images publish --image {name} --to ACCOUNT/REGION"
    return cdk.CfnParameter(
        stack,
        parameter_id,
        type="String",
        allowed_pattern=DIGEST_PATTERN,
        description=f"Digest of {image.repository}; "
        f"`{publish}` writes it to images.lock.toml, then this is not asked for.",
        constraint_description=f"is sha256: and 64 hexadecimal digits. Run: {publish}",
    )
