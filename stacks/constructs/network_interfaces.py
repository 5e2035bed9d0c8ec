"""What SageMaker does with a role to stand in the tenant's subnets: its network interfaces."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.outputs import NetworkOutputs, Workload


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
