"""The observability stack: dashboard, alarms, budget, audit log, traces.

The dashboard of a tenant: answers, latencies, finish reasons, stores and cost on one page.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_xray as xray
from constructs import Construct

from assistant.tenant import deployed_names
from assistant.tenant.prices import load_prices
from stacks.observability.alarms import (
    ANSWERS,
    FIRST_TOKEN,
    MODEL_FAILED,
    MetricSource,
    TenantAlarms,
    TenantMetrics,
    alarm_topic,
)
from stacks.observability.audit import AuditLog
from stacks.outputs import KeysOutputs
from stacks.tenant_stack import TenantStack, entries, has_budgets
from template_checks.priced import EMBEDDING, LLM, PRICED_BY, priced

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
        trail = AuditLog(
            self,
            "Audit",
            keys=keys,
            data=metrics.data,
            job_buckets=job_buckets,
            namespace=metrics.own_namespace,
        )
        key, settings = kms.Key.from_key_arn(self, "LogsKey", keys.logs_key_arn), tenant.config.observability
        told = {"ticket": ("Alarm", settings.alarm_email), "page": ("Page", settings.page_email)}
        topics = {
            severity: alarm_topic(
                self,
                f"{name}Topic",
                key=key,
                display_name=f"{tenant.config.display_name}: {severity}s",
                email_id=f"{name}Email",
                email=email,
            ).topic_arn
            for severity, (name, email) in told.items()
        }
        alarms = TenantAlarms(
            self, "Alarms", metrics=metrics, trail_log_group=trail.log_group_name, topics=topics
        )
        add_dashboard(self, "Dashboard", metrics=metrics, alarms=alarms)
        if has_budgets(tenant):
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
"""Columns of a graph: a dashboard has 24."""


def add_dashboard(
    scope: Construct, construct_id: str, *, metrics: TenantMetrics, alarms: TenantAlarms
) -> None:
    """Create the tenant's page: its alarms, its graphs, and last the runbook's entry of each alarm, which the
    alarms' descriptions link to."""
    dashboard = cloudwatch.Dashboard(
        Construct(scope, construct_id),
        "Page",
        dashboard_name=metrics.tenant.full_name,
        default_interval=cdk.Duration.hours(3),
        period_override=cloudwatch.PeriodOverride.INHERIT,
    )
    dashboard.add_widgets(
        cloudwatch.AlarmStatusWidget(title="Alarms", width=24, height=4, alarms=list(alarms.alarms))
    )
    dashboard.add_widgets(*_answers(metrics))
    dashboard.add_widgets(*_models(metrics), *_knowledge(metrics))
    dashboard.add_widgets(*_stores(metrics))
    if metrics.tenant.callable_systems:
        dashboard.add_widgets(*_systems(metrics))
    dashboard.add_widgets(*_used(metrics))
    dashboard.add_widgets(*_link_and_cost(metrics, cost=_cost_a_question(metrics, cdk.Stage.of(scope))))
    for anchor in dict.fromkeys(alarms.anchors):
        entry = entries()[anchor]
        text = f"## {entry.title}\n{entry.happened}\n\n{entry.what_to_do}"
        dashboard.add_widgets(cloudwatch.TextWidget(markdown=text, width=24, height=4))


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
    endpoints = (embedding,) if llm is None else (llm, embedding)
    first_chunk = [] if llm is None else [metrics.endpoint(llm)("FirstChunkModelLatency", "p50")]
    return (
        _graph(
            "Concurrent calls an endpoint",
            [
                metrics.endpoint(endpoint_name)("ConcurrentRequestsPerModel", "Maximum")
                for endpoint_name in endpoints
            ],
        ),
        _graph(
            "Model latency (µs)",
            [
                *first_chunk,
                *(metrics.endpoint(endpoint_name)("ModelLatency", "p50") for endpoint_name in endpoints),
            ],
        ),
    )


def _knowledge(metrics: TenantMetrics) -> tuple[cloudwatch.IWidget, ...]:
    ingestion = metrics.ingestion
    ages = metrics.queues("ApproximateAgeOfOldestMessage", ingestion.queue_names)
    dead = metrics.queues("ApproximateNumberOfMessagesVisible", ingestion.dead_letter_queue_names)
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


def _used(metrics: TenantMetrics) -> tuple[cloudwatch.IWidget, ...]:
    def hourly(*names: str) -> list[cloudwatch.IMetric]:
        return [metrics.service(name, "Sum", minutes=60) for name in names]

    answers = hourly(deployed_names.QUOTED_ANSWERS, deployed_names.WRITTEN_ANSWERS)
    return (
        _graph("Answers an hour", answers, stacked=True),
        _graph("Tokens an hour", hourly(deployed_names.PROMPT_TOKENS, deployed_names.COMPLETION_TOKENS)),
        _graph("Texts embedded an hour", hourly(deployed_names.EMBEDDED_TEXTS)),
        _graph("Seconds of answers an hour", hourly(deployed_names.ANSWER_SECONDS)),
    )


def _cost_a_question(metrics: TenantMetrics, stage: cdk.Stage | None) -> cloudwatch.IMetric:
    """Return USD a question of an hour: all that stands, by the price file, and what the answers used.

    An endpoint counts with its first instances in the hours in which it publishes metrics.
    """
    prices = load_prices().of_tenant(metrics.tenant.config)
    hourly = defaultdict[str, float](float)
    for line in priced(_templates(stage)):
        hourly[line.part] += line.amount * prices.of(line.kind, line.name).usd_per_hour
    llm, embedding = hourly.pop(LLM, 0.0), hourly.pop(EMBEDDING, 0.0)
    quoted, written = (prices.usd_of_use(written=written) for written in (False, True))
    models, answers = metrics.models, metrics.service
    endpoint = models.llm_endpoint_name
    return cloudwatch.MathExpression(
        expression=(
            f"({sum(hourly.values()):.4f}"
            + (f" + IF(FILL(llm, -1) > -1, {llm:.4f}, 0)" if endpoint is not None else "")
            + f" + IF(FILL(embedding, -1) > -1, {embedding:.4f}, 0)"
            f" + {quoted:.6f} * FILL(quoted, 0) + {written:.6f} * FILL(written, 0))"
            " / (FILL(quoted, 0) + FILL(written, 0))"
        ),
        using_metrics={
            **(
                {} if endpoint is None else {"llm": metrics.instances(endpoint)("CPUUtilization", minutes=60)}
            ),
            "embedding": metrics.instances(models.embedding_endpoint_name)("CPUUtilization", minutes=60),
            "quoted": answers(deployed_names.QUOTED_ANSWERS, "Sum", minutes=60),
            "written": answers(deployed_names.WRITTEN_ANSWERS, "Sum", minutes=60),
        },
        label=f"USD a question, prices of {prices.date}",
        period=cdk.Duration.minutes(60),
    )


def _templates(stage: cdk.Stage | None) -> Iterator[dict[str, Any]]:
    """Yield, before the stage is synthesized, its templates' resources that ``priced`` reads."""
    kinds: dict[type[cdk.CfnResource], str] = {}  # of each class: asking each of 270 resources takes 0.2 s
    for stack in (child for child in (stage.node.children if stage else ()) if isinstance(child, cdk.Stack)):
        bodies: dict[str, dict[str, Any]] = {}
        for made in (child for child in stack.node.find_all() if isinstance(child, cdk.CfnResource)):
            kind = kinds.get(type(made)) or kinds.setdefault(type(made), made.cfn_resource_type)
            if kind in PRICED_BY:
                # CDK's protected way to the properties as the template will have them.
                own = stack.resolve(made._cfn_properties)  # pyright: ignore[reportPrivateUsage]
                own = made._render_properties(own)  # pyright: ignore[reportPrivateUsage]
                bodies[stack.get_logical_id(made)] = {"Type": kind, "Properties": own}
        yield {"Resources": bodies}


def _link_and_cost(metrics: TenantMetrics, *, cost: cloudwatch.IMetric) -> tuple[cloudwatch.IWidget, ...]:
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
            f"{tenant.config.observability.budget_usd_per_month} USD a month and by forecast. What a "
            "month costs, on and paused: docs/cost.md, `assistant aws cost`.",
        ),
        _graph("Cost a question (USD)", [cost]),
    )


def _graph(title: str, metrics: Sequence[cloudwatch.IMetric], *, stacked: bool = False) -> cloudwatch.IWidget:
    return cloudwatch.GraphWidget(title=title, left=list(metrics), stacked=stacked, width=_HALF, height=6)
