"""Where every tenant's budget is told of in an account and region."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.account_key import told_by_budgets


class BudgetTopic(sns.Topic):
    """Named ``<name_prefix>-budget``: tenants refer to it by that name."""

    def __init__(
        self, scope: Construct, construct_id: str, *, name_prefix: str, key: kms.IKey, email: str | None
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            topic_name=f"{name_prefix}-budget",
            display_name="Budgets of the assistant's tenants",
            master_key=key,
            enforce_ssl=True,
        )
        self.add_to_resource_policy(told_by_budgets(cdk.Stack.of(self), ["sns:Publish"], self.topic_arn))
        if email is not None:
            sns.CfnSubscription(self, "Email", topic_arn=self.topic_arn, protocol="email", endpoint=email)
