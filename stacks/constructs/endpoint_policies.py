"""The data perimeter: what may pass through the VPC's endpoints. Only principals of the tenant, only to what
is in its account, only the actions that its roles have; and what AWS keeps in accounts of its own.

After https://github.com/aws-samples/data-perimeter-policy-examples (``vpc_endpoint_policies``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk

from stacks.constructs.called_services import CalledService
from stacks.constructs.tenant_principals import TENANT_TAG
from stacks.tenant import DeployedTenant


def endpoint_policy(called: CalledService, *, tenant: DeployedTenant, pulls_images: bool) -> dict[str, Any]:
    """Return the policy document of a service's endpoint."""
    statements = [_tenants_own(called, tenant)]
    if called.service == "s3":
        statements += _buckets_of_aws(tenant, pulls_images=pulls_images)
    if called.service in ("ecr.api", "ecr.dkr"):
        statements += _images_of_aws(tenant)
    return {"Version": "2012-10-17", "Statement": statements}


def _tenants_own(called: CalledService, tenant: DeployedTenant) -> dict[str, Any]:
    return _allow("TenantToItsAccount", called.actions, _own(tenant, [tenant.place.account]))


def _buckets_of_aws(tenant: DeployedTenant, *, pulls_images: bool) -> list[dict[str, Any]]:
    """Signed by AWS's own principals, so the buckets alone can bound them."""
    region = tenant.place.region
    # "Setting up VPC endpoints for AWS CloudFormation": the region stands there without dashes.
    responses = f"cloudformation-custom-resource-response-{region.replace('-', '')}"
    statements = [_allow("AnswerOfCustomResource", ["s3:PutObject"], None, bucket=responses)]
    if pulls_images:
        layers = f"prod-{region}-starport-layer-bucket"
        statements.append(_allow("LayersOfImages", ["s3:GetObject"], None, bucket=layers))
    return statements


def _images_of_aws(tenant: DeployedTenant) -> list[dict[str, Any]]:
    """AWS publishes images in accounts of its own; those of the lock, and reading only."""
    publishers = sorted(
        {
            accounts[tenant.place.region]
            for name in tenant.images.images
            if tenant.place.region in (accounts := tenant.images.accounts(name))
        }
    )
    pulls = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    return [_allow("PullImagesOfAws", pulls, _own(tenant, publishers))] if publishers else []


def _own(tenant: DeployedTenant, resource_accounts: list[str]) -> Mapping[str, Any]:
    return {
        "StringEquals": {
            "aws:PrincipalAccount": tenant.place.account,
            TENANT_TAG: tenant.name,
            "aws:ResourceAccount": resource_accounts,
        }
    }


def _allow(
    sid: str, actions: Sequence[str], conditions: Mapping[str, Any] | None, *, bucket: str | None = None
) -> dict[str, Any]:
    statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": list(actions),
        "Resource": "*" if bucket is None else f"arn:{cdk.Aws.PARTITION}:s3:::{bucket}/*",
    }
    return statement if conditions is None else {**statement, "Condition": conditions}
