"""A record of every connection in the tenant's subnets, accepted or refused: addresses, never content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.tenant_log_group import tenant_log_group
from stacks.tenant import DeployedTenant


class FlowLogs(Construct):
    """``watched`` is what is recorded by construct id: type (``VPC``, ``Subnet``) and id."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        logs_key_arn: str,
        watched: Mapping[str, tuple[str, str]],
    ) -> None:
        super().__init__(scope, construct_id)
        group = tenant_log_group(self, "Group", tenant=tenant, logs_key_arn=logs_key_arn)
        role = iam.CfnRole(
            self,
            "Role",
            assume_role_policy_document=_trust(self, account=tenant.place.account),
            description="Writes the flow logs of the tenant's network",
        )
        writes = iam.CfnManagedPolicy(
            self, "Writes", roles=[role.ref], policy_document=_writes(group.log_group_arn)
        )
        for name, (kind, resource_id) in watched.items():
            log = ec2.CfnFlowLog(
                self,
                name,
                resource_type=kind,
                resource_id=resource_id,
                traffic_type="ALL",
                max_aggregation_interval=60,
                log_destination_type="cloud-watch-logs",
                log_group_name=group.log_group_name,
                deliver_logs_permission_arn=role.attr_arn,
            )
            log.node.add_dependency(writes)


def _trust(scope: Construct, *, account: str) -> dict[str, Any]:
    logs = cdk.Stack.of(scope).format_arn(service="ec2", resource="vpc-flow-log", resource_name="*")
    return _document(
        {
            "Principal": {"Service": "vpc-flow-logs.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": account}, "ArnLike": {"aws:SourceArn": logs}},
        }
    )


def _writes(group_arn: str) -> dict[str, Any]:
    actions = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    return _document({"Action": actions, "Resource": group_arn})


def _document(statement: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}
