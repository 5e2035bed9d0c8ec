"""The observability stack: dashboard, alarms, budget, audit trail, traces."""

from __future__ import annotations

from hashlib import sha256

from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_xray as xray
from constructs import Construct

from assistant.settings import deployed_names
from stacks.observability import metrics as names
from stacks.observability.alarms import TenantAlarms, alarm_topic
from stacks.observability.audit import AuditTrail
from stacks.observability.dashboard import add_dashboard
from stacks.observability.metrics import TenantMetrics
from stacks.outputs import EarlierOutputs
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack

_BUDGET_NOTIFICATIONS = (("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100))
"""Percent of the month's amount."""
_MAX_GROUP_NAME = 32
"""Characters: https://docs.aws.amazon.com/xray/latest/api/API_CreateGroup.html"""
_DIGEST = 8
"""Hex digits that distinguish two long names with the same beginning."""
_TRACED_SERVICE = "assistant-service"
"""The service's name in its spans. X-Ray belongs to the account: two tenants in one share the group's traces,
which contain ids and times, no text."""


class ObservabilityStack(TenantStack):
    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, earlier: EarlierOutputs
    ) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="internal")
        metrics = TenantMetrics(tenant=tenant, earlier=earlier)
        self._count_answers(earlier.orchestrator.log_group_name, namespace=metrics.own_namespace)
        AuditTrail(self, "Audit", tenant=tenant, earlier=earlier, namespace=metrics.own_namespace)
        topic = alarm_topic(
            self,
            "AlarmTopic",
            key=kms.Key.from_key_arn(self, "LogsKey", earlier.keys.logs_key_arn),
            display_name=f"{tenant.config.display_name}: alarms",
            email_id="AlarmEmail",
            email=tenant.config.observability.alarm_email,
        )
        alarms = TenantAlarms(self, "Alarms", metrics=metrics, topic_arn=topic.topic_arn).alarms
        add_dashboard(self, "Dashboard", metrics=metrics, alarms=alarms)
        self._add_budget()
        xray.CfnGroup(
            self,
            "Traces",
            group_name=_group_name(tenant.full_name),
            filter_expression=f'service("{_TRACED_SERVICE}")',
        )

    def _count_answers(self, log_group_name: str, *, namespace: str) -> None:
        """Count the event that the service logs once per answer: ids, reasons and times, no text."""
        event = f'$.event = "{deployed_names.ANSWER_ENDED}"'
        first_token = f"$.{deployed_names.FIRST_TOKEN_MS}"
        kinds = logs.CfnMetricFilter
        by_reason = kinds.DimensionProperty(key="FinishReason", value=f"$.{deployed_names.FINISH_REASON}")
        metric = kinds.MetricTransformationProperty
        failed = metric(metric_namespace=namespace, metric_name=names.MODEL_FAILED, metric_value="1")
        ended = metric(
            metric_namespace=namespace, metric_name=names.ANSWERS, metric_value="1", dimensions=[by_reason]
        )
        timed = metric(
            metric_namespace=namespace,
            metric_name=names.FIRST_TOKEN,
            metric_value=first_token,
            unit="Milliseconds",
        )
        for name, pattern, counted in (
            ("ModelFailures", f"{event} && $.{deployed_names.MODEL_FAILED} IS TRUE", failed),
            ("AnswersEnded", event, ended),
            ("FirstTokens", f"{event} && {first_token} >= 0", timed),
        ):
            kinds(
                self,
                name,
                log_group_name=log_group_name,
                filter_pattern=f"{{ {pattern} }}",
                metric_transformations=[counted],
            )

    def _add_budget(self) -> None:
        """Limit the tenant's cost per month, by its tag. It counts only once ``tenant`` is an active cost
        allocation tag (docs/from-nothing.md)."""
        tenant, settings = self.tenant, self.tenant.config.observability
        kinds = budgets.CfnBudget
        # The account stage created this topic, or the tenant file names another.
        topic = settings.budget_topic or self.format_arn(
            service="sns", resource=f"{tenant.place.name_prefix}-budget"
        )
        subscribers = [kinds.SubscriberProperty(subscription_type="SNS", address=topic)]
        if settings.alarm_email is not None:
            subscribers.append(
                kinds.SubscriberProperty(subscription_type="EMAIL", address=settings.alarm_email)
            )
        kinds(
            Construct(self, "Budget"),
            "Month",
            budget=kinds.BudgetDataProperty(
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=kinds.SpendProperty(amount=settings.budget_usd_per_month, unit="USD"),
                # The form of a user-defined tag: https://docs.aws.amazon.com/cost-management/
                # latest/userguide/budgets-create-filters.html
                cost_filters={"TagKeyValue": [f"user:tenant${tenant.name}"]},
            ),
            notifications_with_subscribers=[
                kinds.NotificationWithSubscribersProperty(
                    notification=kinds.NotificationProperty(
                        comparison_operator="GREATER_THAN",
                        notification_type=kind,
                        threshold=percent,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=subscribers,
                )
                for kind, percent in _BUDGET_NOTIFICATIONS
            ],
        )


def _group_name(name: str) -> str:
    if len(name) <= _MAX_GROUP_NAME:
        return name
    digest = sha256(name.encode()).hexdigest()[:_DIGEST]
    return f"{name[: _MAX_GROUP_NAME - _DIGEST - 1]}-{digest}"
