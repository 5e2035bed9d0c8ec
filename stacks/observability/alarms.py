"""An alarm with a runbook entry, silent for want of data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from assistant.settings import deployed_names
from stacks.observability import metrics as names
from stacks.observability.metrics import TenantMetrics
from stacks.runbook import described


class RunbookAlarm(cloudwatch.Alarm):
    """Breaches at ``threshold`` or more (or at less, with ``below``) in ``periods`` periods in a row.

    Missing data never breach: an endpoint that is paused, and a store that nobody asks, tell nothing.
    ``part`` tells alarms of one entry apart.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        anchor: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        periods: int = 1,
        below: bool = False,
        part: str = "",
    ) -> None:
        comparison = cloudwatch.ComparisonOperator
        super().__init__(
            scope,
            "".join(word.capitalize() for word in anchor.split("-")) + part,
            alarm_description=described(anchor),
            metric=metric,
            threshold=threshold,
            evaluation_periods=periods,
            comparison_operator=comparison.LESS_THAN_THRESHOLD
            if below
            else comparison.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def tell(self, topic_arn: str) -> None:
        """Tell the topic when it goes off, and when it is over."""
        resource = cast("cloudwatch.CfnAlarm", self.node.default_child)
        resource.alarm_actions = [topic_arn]
        resource.ok_actions = [topic_arn]


def sum_of(name: str, metrics: dict[str, cloudwatch.IMetric], *, minutes: int) -> cloudwatch.MathExpression:
    """Return the sum of metrics, those without data left out."""
    return cloudwatch.MathExpression(
        expression=f"SUM([{', '.join(metrics)}])",
        using_metrics=metrics,
        label=name,
        period=cdk.Duration.minutes(minutes),
    )


# Every alarm of a tenant. What each means and what to do stands in ``stacks.runbook``.


_MOST_SUMMED = 10
"""Metrics of one alarm, CloudWatch quotas."""
_RAW_CAPTURE_LATE_S = 2400
"""Raw capture is to be gone within the hour: so much of it is left to mend what keeps it."""
_FREE_SHARE = 0.2
"""Of a data node's volume. OpenSearch blocks writes below a fifth or 20 GiB, whichever is less."""


class TenantAlarms(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        metrics: TenantMetrics,
        topic_arn: str,
        volume_gib: int,
    ) -> None:
        super().__init__(scope, construct_id)
        self._metrics = metrics
        self._volume_gib = volume_gib
        self.alarms: list[RunbookAlarm] = []
        for alarm in (*self._answers(), *self._models(), *self._knowledge(), *self._search()):
            self.alarms.append(alarm)
        for alarm in (*self._tables(), *self._security(), *self._power()):
            self.alarms.append(alarm)
        for alarm in self.alarms:
            alarm.tell(topic_arn)

    def _alarm(
        self,
        anchor: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        *,
        periods: int = 1,
        below: bool = False,
    ) -> RunbookAlarm:
        return RunbookAlarm(
            self, anchor=anchor, metric=metric, threshold=threshold, periods=periods, below=below
        )

    def _alarms_of_sum(
        self, anchor: str, metrics: dict[str, cloudwatch.IMetric], threshold: float
    ) -> Iterator[RunbookAlarm]:
        """Yield an alarm for every ten metrics: CloudWatch sums no more in one."""
        names = list(metrics)
        for start in range(0, len(names), _MOST_SUMMED):
            some = {name: metrics[name] for name in names[start : start + _MOST_SUMMED]}
            part = str(start // _MOST_SUMMED + 1) if start else ""
            yield RunbookAlarm(
                self,
                anchor=anchor,
                metric=sum_of(anchor, some, minutes=5),
                threshold=threshold,
                part=part,
            )

    def _answers(self) -> Iterator[RunbookAlarm]:
        metrics, limits = self._metrics, self._metrics.tenant.config.limits
        failed = metrics.balancer("HTTPCode_Target_5XX_Count", "Sum", minutes=5)
        llm = metrics.models.llm_endpoint_name
        failing = metrics.while_on(failed, llm, label="5xx while on", minutes=5)
        yield self._alarm("answers-failing", failing, 5)
        yield self._alarm("tasks-unhealthy", metrics.balancer("UnHealthyHostCount", "Maximum"), 1, periods=5)
        healthy = metrics.balancer("HealthyHostCount", "Minimum")
        yield self._alarm("no-healthy-task", healthy, 1, periods=2, below=True)
        first_token = metrics.counted(names.FIRST_TOKEN, "p50")
        yield self._alarm("first-token-slow", first_token, limits.first_token_timeout_s * 1000 / 2, periods=2)
        without = metrics.counted(names.MODEL_FAILED, minutes=15)
        yield self._alarm("answers-without-a-model", without, 5)
        unexpected = metrics.service(deployed_names.INTERNAL_ERRORS, "Sum", minutes=5)
        yield self._alarm("unexpected-failures", unexpected, 1)
        streams = metrics.service(deployed_names.ACTIVE_STREAMS, "Average", minutes=5)
        yield self._alarm("streams-near-their-limit", streams, limits.streams * 0.8, periods=2)

    def _models(self) -> Iterator[RunbookAlarm]:
        metrics, models = self._metrics, self._metrics.models
        llm, embedding = models.llm_endpoint_name, models.embedding_endpoint_name
        yield self._alarm("llm-failing", metrics.endpoint(llm, "Invocation5XXErrors", "Sum", minutes=5), 5)
        yield self._alarm(
            "llm-overloaded", metrics.endpoint(llm, "Invocation4XXErrors", "Sum", minutes=5), 20
        )
        failed = metrics.endpoint(embedding, "Invocation5XXErrors", "Sum", minutes=5)
        yield self._alarm("embedding-failing", failed, 5)

    def _knowledge(self) -> Iterator[RunbookAlarm]:
        metrics, ingestion = self._metrics, self._metrics.ingestion
        ages = metrics.queues("ApproximateAgeOfOldestMessage", "Maximum", ingestion.queue_names)
        if ages:
            oldest = cloudwatch.MathExpression(
                expression=f"IF(running > -1, MAX([{', '.join(ages)}]))",
                using_metrics={
                    **ages,
                    "running": metrics.instances(
                        metrics.models.embedding_endpoint_name, "CPUUtilization", minutes=5
                    ),
                },
                label="Oldest document while on",
            )
            yield self._alarm("documents-waiting", oldest, 1800, periods=2)
        dead = metrics.queues(
            "ApproximateNumberOfMessagesVisible", "Maximum", ingestion.dead_letter_queue_names
        )
        yield from self._alarms_of_sum("dead-letters", dead, 1)
        failed = {**metrics.functions("Errors"), **metrics.functions("Throttles")}
        yield from self._alarms_of_sum("functions-failing", failed, 3)
        yield from self._waiting()

    def _waiting(self) -> Iterator[RunbookAlarm]:
        """What functions put off, by the metrics that they tell themselves: a queue's age starts anew with
        each message that is put back, and the quarantine has none."""
        metrics = self._metrics
        postponed = metrics.service(deployed_names.DOCUMENTS_POSTPONED, "Sum", minutes=15)
        while_on = metrics.while_on(
            postponed, metrics.models.embedding_endpoint_name, label="Postponed while on", minutes=15
        )
        yield self._alarm("documents-postponed", while_on, 1, periods=4)
        if metrics.tenant.models.capture == "quarantine":
            age = metrics.service(deployed_names.OLDEST_RAW_CAPTURE_AGE, "Maximum", minutes=5)
            yield self._alarm("raw-capture-late", age, _RAW_CAPTURE_LATE_S)

    def _search(self) -> Iterator[RunbookAlarm]:
        search = self._metrics.search
        yield self._alarm("search-red", search("ClusterStatus.red"), 1)
        yield self._alarm("search-yellow", search("ClusterStatus.yellow"), 1, periods=30)
        free_mib = self._volume_gib * 1024 * _FREE_SHARE
        yield self._alarm("search-full", search("FreeStorageSpace", "Minimum"), free_mib, below=True)
        yield self._alarm("search-memory", search("JVMMemoryPressure", minutes=5), 92, periods=3)
        yield self._alarm("search-writes-blocked", search("ClusterIndexWritesBlocked", minutes=5), 1)
        keys = {"lost": search("KMSKeyError"), "closed": search("KMSKeyInaccessible")}
        yield self._alarm("search-key-lost", sum_of("Key lost", keys, minutes=1), 1)
        yield self._alarm("search-snapshot-failed", search("AutomatedSnapshotFailure"), 1)

    def _tables(self) -> Iterator[RunbookAlarm]:
        metrics = self._metrics
        throttled = {**metrics.tables("ReadThrottleEvents"), **metrics.tables("WriteThrottleEvents")}
        yield self._alarm("tables-throttled", sum_of("Throttled calls", throttled, minutes=5), 1)

    def _security(self) -> Iterator[RunbookAlarm]:
        counted = self._metrics.counted
        yield self._alarm("key-refused", counted(names.KEY_REFUSED), 1)
        yield self._alarm("policy-changed", counted(names.POLICY_CHANGED), 1)
        yield self._alarm("trust-changed", counted(names.TRUST_CHANGED), 1)
        yield self._alarm("data-copied", counted(names.DATA_COPIED), 1)
        yield self._alarm("stranger-read", counted(names.STRANGER_READ), 1)
        if self._metrics.tenant.place.break_glass:
            yield self._alarm("break-glass-used", counted(names.BREAK_GLASS), 1)

    def _power(self) -> Iterator[RunbookAlarm]:
        metrics, models = self._metrics, self._metrics.models
        failed = {
            f"{verb}{name.lower()}": metrics.machine(name, arn)
            for verb, arn in (("pause", models.pause_machine_arn), ("resume", models.resume_machine_arn))
            for name in ("ExecutionsFailed", "ExecutionsTimedOut")
        }
        yield self._alarm("power-switch-failed", sum_of("Failed switches", failed, minutes=5), 1)
