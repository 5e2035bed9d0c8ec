"""Who a key or bucket of a tenant lets in, as policy conditions: the tenant's tag, the deployment, the few
named in the tenant file. No policy names a role of a later stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.outputs import NetworkOutputs, Workload
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


# Roles of what runs inside the tenant's VPC. The VPC's endpoints are derived from what they may call.


class WorkloadRole(iam.Role):
    """A role whose holder has only the VPC's endpoints to reach AWS through.

    Path and boundary come from the stage. ``through`` names services that its platform calls on its behalf
    and no policy shows (``ecr.dkr`` for a task that pulls an image).
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        assumed_by: str,
        description: str,
        through: Sequence[str] = (),
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            assumed_by=cast("iam.IPrincipal", iam.ServicePrincipal(assumed_by)),
            description=description,
        )
        self.platform = assumed_by
        """The service that runs the holder; its own calls with the role go over its own network."""
        self.through = tuple(through)


# A role that a service of AWS uses outside the tenant's VPC: a state machine, a schedule.


class ServiceRole(Construct):
    """``rights`` must be there before what uses the role is made."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        service: str,
        description: str,
        statements: Sequence[iam.PolicyStatement],
    ) -> None:
        super().__init__(scope, construct_id)
        role = iam.CfnRole(
            self,
            "Role",
            description=description,
            assume_role_policy_document={
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Action": "sts:AssumeRole",
                        "Principal": {"Service": service},
                        "Condition": {"StringEquals": {"aws:SourceAccount": cdk.Stack.of(self).account}},
                    }
                ],
            },
        )
        self.arn = role.attr_arn
        self.rights = iam.CfnManagedPolicy(
            self,
            "Rights",
            description=description,
            roles=[role.ref],
            policy_document=iam.PolicyDocument(statements=list(statements)),
        )


# What SageMaker does with a role to stand in the tenant's subnets: its network interfaces.


def interface_statements(
    scope: Construct, *, network: NetworkOutputs, workload: Workload
) -> list[iam.PolicyStatement]:
    """Return the rights to make and remove interfaces in these subnets, in the workload's group alone."""
    stack = cdk.Stack.of(scope)
    subnets = [
        stack.format_arn(service="ec2", resource="subnet", resource_name=name) for name in network.subnet_ids
    ]
    group = network.security_group_ids[workload]
    interface = stack.format_arn(service="ec2", resource="network-interface", resource_name="*")
    return [
        iam.PolicyStatement(
            actions=["ec2:CreateNetworkInterface"],
            resources=[
                interface,
                *subnets,
                stack.format_arn(service="ec2", resource="security-group", resource_name=group),
            ],
        ),
        # An interface's id is not known before it is made; its subnet bounds which ones. Taking a permission
        # away is no action that a subnet bounds.
        iam.PolicyStatement(
            actions=["ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface"],
            resources=[interface],
            conditions={"StringEquals": {"ec2:Subnet": subnets}},
        ),
        iam.PolicyStatement(actions=["ec2:DeleteNetworkInterfacePermission"], resources=[interface]),
        # Describe actions of EC2 know no resources.
        iam.PolicyStatement(
            actions=[
                "ec2:DescribeDhcpOptions",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
            ],
            resources=["*"],
        ),
    ]
