"""Who a key or bucket of a tenant lets in, as policy conditions: the tenant's tag, the deployment, the few
named in the tenant file. No policy names a role of a later stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.tenant import DeployedTenant

TENANT_TAG = "aws:PrincipalTag/tenant"
"""Of the calling role; what services do on its behalf carries it too. ``TenantStage`` tags every role."""
DUTY_TAG = "aws:PrincipalTag/duty"
INBOX_TAG = "aws:PrincipalTag/inbox"
"""Folder of the inbox that a pusher's role may put into, and all that it may."""

Conditions = Mapping[str, Mapping[str, Any]]


class Duty(StrEnum):
    """What a role is for, where a store lets in one kind of role only: the value of its tag ``duty``."""

    CAPTURE_WRITER = "capture-writer"
    """SageMaker's execution role: puts captured calls, reads none."""
    REDACTOR = "redactor"
    """Reads and deletes raw captured calls, puts clean ones."""
    PUBLISHER = "publisher"
    """Puts model artifacts."""
    PUSHER = "pusher"
    """Puts raw files of another system into its own folder of the inbox. Tag ``inbox`` names the folder."""


def tag_duty(role: iam.Role, duty: Duty) -> None:
    cdk.Tags.of(role).add("duty", duty)


def of_tenant(tenant: DeployedTenant) -> Conditions:
    return {"StringEquals": {TENANT_TAG: tenant.name}}


def execution_role_arn(scope: Construct, *, tenant: DeployedTenant) -> str:
    """Return the ARN of the role with which CloudFormation deploys: ``cdk bootstrap`` makes it."""
    return _bootstrap_role(scope, tenant, "cfn-exec-role")


def deploy_role_arn(scope: Construct, *, tenant: DeployedTenant) -> str:
    """Return the ARN of the role with which the CDK command starts a deployment."""
    return _bootstrap_role(scope, tenant, "deploy-role")


def exempt_principals(scope: Construct, *, tenant: DeployedTenant) -> list[str]:
    """Return ARNs of those outside the tenant that its stores do not refuse: the deployment, and who the
    tenant file names as break-glass or as a declared reader."""
    return [
        execution_role_arn(scope, tenant=tenant),
        deploy_role_arn(scope, tenant=tenant),
        *tenant.place.break_glass,
        *tenant.config.observability.declared_principals,
    ]


def _bootstrap_role(scope: Construct, tenant: DeployedTenant, name: str) -> str:
    place = tenant.place
    return cdk.Stack.of(scope).format_arn(
        service="iam",
        region="",
        resource="role",
        resource_name=f"cdk-{place.bootstrap_qualifier}-{name}-{place.account}-{place.region}",
    )
