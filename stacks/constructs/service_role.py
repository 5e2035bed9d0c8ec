"""A role that a service of AWS uses outside the tenant's VPC: a state machine, a schedule."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct


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
