"""The key of what an account's tenants share: images and word of their budgets. No patient's data."""

from __future__ import annotations

from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct


def account_key(scope: Construct, construct_id: str) -> kms.IKey:
    key = kms.Key(
        scope,
        construct_id,
        description="Images of the assistant and word of its budgets",
        enable_key_rotation=True,
        pending_window=cdk.Duration.days(30),
    )
    key.add_to_resource_policy(told_by_budgets(cdk.Stack.of(key), ["kms:Decrypt", "kms:GenerateDataKey*"]))
    return cast("kms.IKey", key)


def told_by_budgets(stack: cdk.Stack, actions: list[str], resource: str = "*") -> iam.PolicyStatement:
    """Return what AWS Budgets of this account may do with a topic or its key (there ``*`` is the key).

    https://docs.aws.amazon.com/cost-management/latest/userguide/budgets-sns-policy.html
    """
    budgets = stack.format_arn(
        service="budgets", region="", resource="*", arn_format=cdk.ArnFormat.NO_RESOURCE_NAME
    )
    statement = iam.PolicyStatement(
        sid="BudgetsTell",
        actions=actions,
        resources=[resource],
        conditions={
            "StringEquals": {"aws:SourceAccount": stack.account},
            "ArnLike": {"aws:SourceArn": budgets},
        },
    )
    statement.add_service_principal("budgets.amazonaws.com")
    return statement
