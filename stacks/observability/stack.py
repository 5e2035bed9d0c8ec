"""What a tenant may cost a month, by its tag, and who hears when it is more."""

from __future__ import annotations

from hashlib import sha256

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_xray as xray
from constructs import Construct

from assistant.settings import deployed_names
from stacks.data.search import search_size
from stacks.observability import metrics as names
from stacks.observability.alarms import TenantAlarms
from stacks.observability.audit import AuditedStores, AuditTrail
from stacks.observability.dashboard import TenantDashboard
from stacks.observability.metrics import TenantMetrics
from stacks.outputs import (
    CorpusOutputs,
    DataOutputs,
    EdgeOutputs,
    IngestionOutputs,
    KeysOutputs,
    LearningOutputs,
    ModelsOutputs,
    NetworkOutputs,
    OrchestratorOutputs,
)
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack

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


# The observability stack: what is drawn, what alarms, what is spent, who touched what, and traces.


class ObservabilityStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
        data: DataOutputs,
        edge: EdgeOutputs,
        models: ModelsOutputs,
        ingestion: IngestionOutputs,
        orchestrator: OrchestratorOutputs,
        learning: LearningOutputs,
        corpus: CorpusOutputs,
    ) -> None:
        super().__init__(
            scope, construct_id, tenant=tenant, data_class="internal", description="observability"
        )
        del network
        self._metrics = TenantMetrics(
            tenant=tenant,
            data=data,
            edge=edge,
            models=models,
            ingestion=ingestion,
            orchestrator=orchestrator,
        )
        self._count_answers(orchestrator.log_group_name)
        namespace = self._metrics.own_namespace
        AuditTrail(
            self,
            "Audit",
            tenant=tenant,
            keys=keys,
            stores=AuditedStores.of(data, learning=learning, corpus=corpus),
            namespace=namespace,
        )
        self._watch(topic_arn=self._topic(keys).topic_arn)
        TenantBudget(self, "Budget", tenant=tenant)
        xray.CfnGroup(
            self,
            "Traces",
            group_name=_group_name(tenant.metrics_service),
            filter_expression=f'service("{_TRACED_AS}")',
        )

    def _watch(self, *, topic_arn: str) -> None:
        volume_gib = search_size(self.tenant).volume_gib
        alarms = TenantAlarms(
            self, "Alarms", metrics=self._metrics, topic_arn=topic_arn, volume_gib=volume_gib
        ).alarms
        TenantDashboard(self, "Dashboard", metrics=self._metrics, alarms=alarms)

    def _topic(self, keys: KeysOutputs) -> sns.Topic:
        topic = sns.Topic(
            self,
            "AlarmTopic",
            display_name=f"{self.tenant.config.display_name}: alarms",
            master_key=kms.Key.from_key_arn(self, "LogsKey", keys.logs_key_arn),
            enforce_ssl=True,
        )
        statement = iam.PolicyStatement(
            sid="AlarmsTell",
            actions=["sns:Publish"],
            resources=[topic.topic_arn],
            conditions={"StringEquals": {"aws:SourceAccount": self.account}},
        )
        statement.add_service_principal("cloudwatch.amazonaws.com")
        topic.add_to_resource_policy(statement)
        email = self.tenant.config.observability.alarm_email
        if email is not None:
            sns.CfnSubscription(
                self, "AlarmEmail", topic_arn=topic.topic_arn, protocol="email", endpoint=email
            )
        return topic

    def _count_answers(self, log_group_name: str) -> None:
        """Count what the service logs once an answer: ids, reasons and times, no text."""
        namespace = self._metrics.own_namespace
        event = f'$.event = "{deployed_names.ANSWER_ENDED}"'
        first_token = f"$.{deployed_names.FIRST_TOKEN_MS}"
        by_reason = logs.CfnMetricFilter.DimensionProperty(
            key="FinishReason", value=f"$.{deployed_names.FINISH_REASON}"
        )
        ended = logs.CfnMetricFilter.MetricTransformationProperty(
            metric_namespace=namespace, metric_name=names.ANSWERS, metric_value="1", dimensions=[by_reason]
        )
        begun = logs.CfnMetricFilter.MetricTransformationProperty(
            metric_namespace=namespace,
            metric_name=names.FIRST_TOKEN,
            metric_value=first_token,
            unit="Milliseconds",
        )
        failed = logs.CfnMetricFilter.MetricTransformationProperty(
            metric_namespace=namespace, metric_name=names.MODEL_FAILED, metric_value="1"
        )
        without_model = f"$.{deployed_names.MODEL_FAILED} IS TRUE"
        for name, pattern, transformation in (
            ("ModelFailures", f"{{ {event} && {without_model} }}", failed),
            ("AnswersEnded", f"{{ {event} }}", ended),
            ("FirstTokens", f"{{ {event} && {first_token} >= 0 }}", begun),
        ):
            logs.CfnMetricFilter(
                self,
                name,
                log_group_name=log_group_name,
                filter_pattern=pattern,
                metric_transformations=[transformation],
            )


_LONGEST_GROUP_NAME = 32
"""Characters: https://docs.aws.amazon.com/xray/latest/api/API_CreateGroup.html"""
_MARK = 8
"""Hex digits by which two long names with one beginning differ."""


def _group_name(whole: str) -> str:
    if len(whole) <= _LONGEST_GROUP_NAME:
        return whole
    mark = sha256(whole.encode()).hexdigest()[:_MARK]
    return f"{whole[: _LONGEST_GROUP_NAME - _MARK - 1]}-{mark}"


_TRACED_AS = "assistant-service"
"""The service's name in its spans. X-Ray is one an account: two tenants in one share the group's traces,
which carry ids and times, no text."""
