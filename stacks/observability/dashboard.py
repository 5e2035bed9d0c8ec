"""The dashboard of a tenant: answers, latencies, finish reasons, stores and cost on one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from assistant.settings import deployed_names
from stacks.observability import metrics as names
from stacks.observability.metrics import TenantMetrics, metric

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
    ended = [metrics.counted(names.ANSWERS, FinishReason=reason) for reason in _FINISH_REASONS]
    return (
        _graph("Streams a task", [metrics.service(deployed_names.ACTIVE_STREAMS, "Average")]),
        _graph("First token (ms)", [metrics.counted(names.FIRST_TOKEN, s) for s in ("p50", "p95")]),
        _graph("Answers by finish reason", ended, stacked=True),
        _graph(
            "Answered by status",
            [metrics.balancer(f"HTTPCode_Target_{kind}_Count", "Sum") for kind in ("2XX", "4XX", "5XX")],
        ),
    )


def _models(metrics: TenantMetrics) -> tuple[cloudwatch.IWidget, ...]:
    models = metrics.earlier.models
    llm, embedding = models.llm_endpoint_name, models.embedding_endpoint_name
    both = (llm, embedding)
    first_chunk = metrics.endpoint(llm, "FirstChunkModelLatency", "p50")
    return (
        _graph(
            "Concurrent calls an endpoint",
            [metrics.endpoint(one, "ConcurrentRequestsPerModel", "Maximum") for one in both],
        ),
        _graph(
            "Model latency (µs)",
            [first_chunk, *(metrics.endpoint(one, "ModelLatency", "p50") for one in both)],
        ),
    )


def _knowledge(metrics: TenantMetrics) -> tuple[cloudwatch.IWidget, ...]:
    ingestion = metrics.earlier.ingestion
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
        yield _graph(f"System {name}: calls", [metrics.system(name, count, "Sum") for count in counts])
        times = [metrics.system(name, time, statistic) for statistic in ("p50", "p95")]
        yield _graph(f"System {name}: time (ms)", times)
    left_out = metrics.service(deployed_names.SOURCES_LEFT_OUT, "Sum", minutes=5)
    yield _graph("Searches of a source that failed or were late", [left_out])


def _link_and_cost(metrics: TenantMetrics) -> tuple[cloudwatch.IWidget, ...]:
    tenant = metrics.tenant
    service = {"Service Id": metrics.earlier.edge.endpoint_service_id}
    return (
        _graph(
            "Private link: connections",
            [metric("AWS/PrivateLinkServices", "ActiveConnections", "Maximum", service)],
        ),
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
