"""What a tenant may cost a month, by its tag, and who hears when it is more."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from constructs import Construct

from stacks.tenant import DeployedTenant

_MARKS = (("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100))
"""Percent of the month's amount."""


class TenantBudget(Construct):
    """Counts only once ``tenant`` is an active cost allocation tag (docs/from-nothing.md)."""

    def __init__(self, scope: Construct, construct_id: str, *, tenant: DeployedTenant) -> None:
        super().__init__(scope, construct_id)
        subscribers = [_subscriber("SNS", _topic_arn(self, tenant))]
        if tenant.config.observability.alarm_email is not None:
            subscribers.append(_subscriber("EMAIL", tenant.config.observability.alarm_email))
        budgets.CfnBudget(
            self,
            "Month",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(
                    amount=tenant.config.observability.budget_usd_per_month, unit="USD"
                ),
                # the form of a tag that a person defined: https://docs.aws.amazon.com/cost-management/
                # latest/userguide/budgets-create-filters.html
                cost_filters={"TagKeyValue": [f"user:tenant${tenant.name}"]},
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        comparison_operator="GREATER_THAN",
                        notification_type=kind,
                        threshold=percent,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=subscribers,
                )
                for kind, percent in _MARKS
            ],
        )


def _topic_arn(scope: Construct, tenant: DeployedTenant) -> str:
    """Return the ARN of the topic that the account stage made, or another that the tenant file names."""
    given = tenant.config.observability.budget_topic
    name = f"{tenant.place.name_prefix}-budget"
    return given or cdk.Stack.of(scope).format_arn(service="sns", resource=name)


def _subscriber(kind: str, address: str) -> budgets.CfnBudget.SubscriberProperty:
    return budgets.CfnBudget.SubscriberProperty(subscription_type=kind, address=address)
