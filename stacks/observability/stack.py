"""The observability stack: dashboard, alarms, budget, audit trail, traces.

The dashboard of a tenant: answers, latencies, finish reasons, stores and cost on one page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_xray as xray
from constructs import Construct

from assistant.settings import deployed_names
from stacks.observability.alarms import (
    ANSWERS,
    FIRST_TOKEN,
    MODEL_FAILED,
    MetricSource,
    TenantAlarms,
    TenantMetrics,
    alarm_topic,
)
from stacks.observability.audit import AuditTrail
from stacks.outputs import KeysOutputs
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
        self, scope: Construct, *, keys: KeysOutputs, job_buckets: Sequence[str], metrics: TenantMetrics
    ) -> None:
        tenant = metrics.tenant
        super().__init__(scope, "Observability", tenant=tenant, data_class="internal")
        self._count_answers(metrics.orchestrator.log_group_name, namespace=metrics.own_namespace)
        AuditTrail(
            self,
            "Audit",
            keys=keys,
            data=metrics.data,
            job_buckets=job_buckets,
            namespace=metrics.own_namespace,
        )
        topic = alarm_topic(
            self,
            "AlarmTopic",
            key=kms.Key.from_key_arn(self, "LogsKey", keys.logs_key_arn),
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
        failed = metric(metric_namespace=namespace, metric_name=MODEL_FAILED, metric_value="1")
        ended = metric(
            metric_namespace=namespace, metric_name=ANSWERS, metric_value="1", dimensions=[by_reason]
        )
        timed = metric(
            metric_namespace=namespace, metric_name=FIRST_TOKEN, metric_value=first_token, unit="Milliseconds"
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


_FINISH_REASONS = ("stop", "length", "no_evidence", "refused", "sources_only", "disconnected")
"""Without error codes, which are in the log."""
_HALF = 12
"""Of the 24 columns of a dashboard."""


def add_dashboard(
    scope: Construct, construct_id: str, *, metrics: TenantMetrics, alarms: Sequence[cloudwatch.IAlarm]
) -> None:
    dashboard = cloudwatch.Dashboard(
        Construct(scope, construct_id),
        "Page",
        default_interval=cdk.Duration.hours(3),
        period_override=cloudwatch.PeriodOverride.INHERIT,
    )
    dashboard.add_widgets(
        cloudwatch.AlarmStatusWidget(title="Alarms", width=24, height=4, alarms=list(alarms))
    )
    dashboard.add_widgets(*_answers(metrics))
    dashboard.add_widgets(*_models(metrics), *_knowledge(metrics))
    dashboard.add_widgets(*_stores(metrics))
    if metrics.tenant.callable_systems:
        dashboard.add_widgets(*_systems(metrics))
    dashboard.add_widgets(*_link_and_cost(metrics))


def _answers(metrics: TenantMetrics) -> tuple[cloudwatch.IWidget, ...]:
    ended = [
        replace(metrics.counted, dimensions={"FinishReason": reason})(ANSWERS) for reason in _FINISH_REASONS
    ]
    return (
        _graph("Streams a task", [metrics.service(deployed_names.ACTIVE_STREAMS, "Average")]),
        _graph("First token (ms)", [metrics.counted(FIRST_TOKEN, s) for s in ("p50", "p95")]),
        _graph("Answers by finish reason", ended, stacked=True),
        _graph(
            "Answered by status",
            [metrics.balancer(f"HTTPCode_Target_{kind}_Count", "Sum") for kind in ("2XX", "4XX", "5XX")],
        ),
    )


def _models(metrics: TenantMetrics) -> tuple[cloudwatch.IWidget, ...]:
    models = metrics.models
    llm, embedding = models.llm_endpoint_name, models.embedding_endpoint_name
    both = (llm, embedding)
    first_chunk = metrics.endpoint(llm)("FirstChunkModelLatency", "p50")
    return (
        _graph(
            "Concurrent calls an endpoint",
            [
                metrics.endpoint(endpoint_name)("ConcurrentRequestsPerModel", "Maximum")
                for endpoint_name in both
            ],
        ),
        _graph(
            "Model latency (µs)",
            [
                first_chunk,
                *(metrics.endpoint(endpoint_name)("ModelLatency", "p50") for endpoint_name in both),
            ],
        ),
    )


def _knowledge(metrics: TenantMetrics) -> tuple[cloudwatch.IWidget, ...]:
    ingestion = metrics.ingestion
    ages = metrics.queues("ApproximateAgeOfOldestMessage", "Maximum", ingestion.queue_names)
    dead = metrics.queues("ApproximateNumberOfMessagesVisible", "Maximum", ingestion.dead_letter_queue_names)
    return (
        _graph("Oldest message a queue (s)", list(ages.values())),
        _graph("Dead letters", list(dead.values())),
    )


def _stores(metrics: TenantMetrics) -> tuple[cloudwatch.IWidget, ...]:
    return (
        _graph(
            "Search: memory and processor (%)",
            [metrics.search("JVMMemoryPressure"), metrics.search("CPUUtilization")],
        ),
        _graph("Search: free space (MiB)", [metrics.search("FreeStorageSpace", "Minimum")]),
        _graph("Search latency (ms)", [metrics.search("SearchLatency", "Average")]),
        _graph(
            "Tasks: processor and memory (%)",
            [metrics.tasks("CPUUtilization"), metrics.tasks("MemoryUtilization")],
        ),
    )


def _systems(metrics: TenantMetrics) -> Iterator[cloudwatch.IWidget]:
    """Yield two graphs for each live system, and one of the sources of documents."""
    counts = (
        deployed_names.LIVE_READS,
        deployed_names.LIVE_READS_FAILED,
        deployed_names.LIVE_READS_INVALID,
        deployed_names.LIVE_READS_NOT_ALLOWED,
        deployed_names.LIVE_CIRCUIT_OPEN,
    )
    for entry in metrics.tenant.callable_systems:
        name, time = entry.name, deployed_names.LIVE_READ_TIME
        yield _graph(f"System {name}: calls", [metrics.system(name)(count, minutes=5) for count in counts])
        times = [metrics.system(name)(time, statistic, minutes=5) for statistic in ("p50", "p95")]
        yield _graph(f"System {name}: time (ms)", times)
    left_out = metrics.service(deployed_names.SOURCES_LEFT_OUT, "Sum", minutes=5)
    yield _graph("Searches of a source that failed or were late", [left_out])


def _link_and_cost(metrics: TenantMetrics) -> tuple[cloudwatch.IWidget, ...]:
    tenant = metrics.tenant
    service = {"Service Id": metrics.edge.endpoint_service_id}
    link = MetricSource("AWS/PrivateLinkServices", service, "Maximum")
    return (
        _graph("Private link: connections", [link("ActiveConnections")]),
        cloudwatch.TextWidget(
            width=_HALF,
            height=6,
            markdown="### Cost\n\nCloudWatch has no cost by tag. Cost Explorer has, by `tenant` = "
            f"`{tenant.name}`; the budget tells at 80 % of "
            f"{tenant.config.observability.budget_usd_per_month} USD a month and by forecast. What an "
            "hour costs, on and paused: docs/from-nothing.md.",
        ),
    )


def _graph(title: str, metrics: Sequence[cloudwatch.IMetric], *, stacked: bool = False) -> cloudwatch.IWidget:
    return cloudwatch.GraphWidget(title=title, left=list(metrics), stacked=stacked, width=_HALF, height=6)
