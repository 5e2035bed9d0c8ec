"""A tenant's metrics, AWS's and ours, for its dashboard and alarms, and every alarm. docs/runbook.md says
what each alarm means and what to do.

An alarm's first argument in ``TenantAlarms.add`` (``"search-red"``) is the anchor of its entry there, which
has its description, its severity and the log to look at (``stacks.tenant_stack.entries``). Constants below
such as ``KEY_REFUSED`` are metrics of filters over the trail (``stacks.observability.audit``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

from assistant.tenant import deployed_names
from assistant.tenant.deployed_names import SERVED_VARIANT
from stacks.options import option_stacks
from stacks.outputs import (
    DataOutputs,
    EdgeOutputs,
    IngestionOutputs,
    ModelsOutputs,
    OptionOutputs,
    OrchestratorOutputs,
)
from stacks.roles import allow_service
from stacks.search import search_size
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import described, endpoint_log_group, entries

ANSWERS = "Answers"
"""Metric that a filter counts in the service's log: answers, with the dimension ``FinishReason``."""
MODEL_FAILED = "ModelFailed"
"""Answers that a quote replaced because the model failed or timed out."""
FIRST_TOKEN = "FirstTokenMs"  # noqa: S105 - a token of text
KEY_REFUSED = "KeyRefused"
POLICY_CHANGED = "PolicyChanged"
STRANGER_READ = "StrangerRead"
TRUST_CHANGED = "TrustChanged"
DATA_COPIED = "DataCopied"
BREAK_GLASS = "BreakGlassUsed"


@dataclass(frozen=True, slots=True)
class MetricSource:
    """A publisher of metrics in CloudWatch. Call it with a name to get a metric:

    ``metrics.balancer("UnHealthyHostCount", "Maximum", minutes=5)``. Without a statistic and minutes the
    metric has those of the source.
    """

    namespace: str
    dimensions: Mapping[str, str]
    statistic: str = "Sum"
    minutes: int = 1
    """Period unless a call gives another."""

    def __call__(
        self, name: str, statistic: str | None = None, *, minutes: int | None = None
    ) -> cloudwatch.IMetric:
        return cloudwatch.Metric(
            namespace=self.namespace,
            metric_name=name,
            statistic=statistic or self.statistic,
            dimensions_map=dict(self.dimensions),
            period=cdk.Duration.minutes(minutes or self.minutes),
        )


def published_by(full_name: str, **dimensions: str) -> MetricSource:
    """Return the source of what tasks and functions of a tenant publish."""
    return MetricSource(deployed_names.NAMESPACE, {deployed_names.DIMENSION: full_name, **dimensions})


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantMetrics:
    """The sources of a tenant's metrics, made of the names that the stacks output. The dashboard uses them
    too."""

    tenant: DeployedTenant
    data: DataOutputs
    edge: EdgeOutputs
    models: ModelsOutputs
    ingestion: IngestionOutputs
    orchestrator: OrchestratorOutputs
    options: Sequence[OptionOutputs]

    @property
    def log_groups(self) -> Mapping[str, str]:
        """Name of each log group, by the name in the runbook's entries (``**Query of `orchestrator`.**``).

        ``TenantAlarms`` adds the trail's. Without an LLM endpoint ``llm`` is the service's log.
        """
        models, llm = self.models, self.models.llm_endpoint_name
        return {
            "orchestrator": self.orchestrator.log_group_name,
            "search": self.data.search_log_group,
            "power": self.tenant.power_log_group,
            "embedding": endpoint_log_group(models.embedding_endpoint_name),
            "llm": self.orchestrator.log_group_name if llm is None else endpoint_log_group(llm),
            **self.ingestion.log_groups,
            **{name: group for option in self.options for name, group in option.log_groups.items()},
        }

    @property
    def own_namespace(self) -> str:
        """Namespace of what metric filters count in the tenant's logs."""
        return f"{deployed_names.NAMESPACE}/{self.tenant.full_name}"

    @property
    def balancer(self) -> MetricSource:
        """The tasks behind the ALB:
        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/
        load-balancer-cloudwatch-metrics.html"""
        edge = self.edge
        balancer, group = edge.load_balancer_full_name, edge.target_group_full_name
        return MetricSource("AWS/ApplicationELB", {"LoadBalancer": balancer, "TargetGroup": group})

    @property
    def service(self) -> MetricSource:
        """What the service and the functions publish themselves."""
        return published_by(self.tenant.full_name)

    def system(self, system: str) -> MetricSource:
        """The calls of one live system: no data while nobody calls it."""
        return published_by(self.tenant.full_name, **{deployed_names.SYSTEM_DIMENSION: system})

    @property
    def counted(self) -> MetricSource:
        """What metric filters count in logs."""
        return MetricSource(self.own_namespace, {}, minutes=5)

    @property
    def tasks(self) -> MetricSource:
        service = self.orchestrator
        names = {"ClusterName": service.cluster_name, "ServiceName": service.service_name}
        return MetricSource("AWS/ECS", names, "Average")

    def endpoint(self, endpoint: str) -> MetricSource:
        """Invocations: https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html"""
        return MetricSource("AWS/SageMaker", {"EndpointName": endpoint, "VariantName": SERVED_VARIANT})

    def instances(self, endpoint: str) -> MetricSource:
        """An endpoint's instances; they have no data while the endpoint is paused."""
        names = {"EndpointName": endpoint, "VariantName": SERVED_VARIANT}
        return MetricSource("/aws/sagemaker/Endpoints", names, "Average")

    @property
    def search(self) -> MetricSource:
        """https://docs.aws.amazon.com/opensearch-service/latest/developerguide/managedomains-cloudwatchmetrics.html"""
        names = {"DomainName": self.data.domain_name, "ClientId": self.tenant.place.account}
        return MetricSource("AWS/ES", names, "Maximum")

    def while_on(
        self, watched: cloudwatch.IMetric, endpoint: str, *, label: str, minutes: int
    ) -> cloudwatch.IMetric:
        """Return ``watched`` with data only in periods in which an endpoint's instances have data: none while
        paused.

        ``running > -1`` holds for every value of the CPU metric; without a value the expression has none.
        """
        running = self.instances(endpoint)("CPUUtilization", minutes=minutes)
        return cloudwatch.MathExpression(
            expression="IF(running > -1, watched)",
            using_metrics={"running": running, "watched": watched},
            label=label,
            period=cdk.Duration.minutes(minutes),
        )

    def or_zero(self, run: cloudwatch.IMetric, *, label: str) -> cloudwatch.IMetric:
        """Return the hourly metric ``run`` with 0 in an hour without data, for an alarm on runs that did not
        happen.

        The zeros begin with the first hour in which the balancer watches tasks. So an alarm on N hours is
        quiet for the first N hours of a new tenant, and afterwards is raised even if no run ever happened.
        """
        period = cdk.Duration.minutes(60)
        # SUM adds the metrics that have data; `none` is always 0.
        return cloudwatch.MathExpression(
            expression="SUM([run, none])",
            using_metrics={
                "run": run,
                "none": cloudwatch.MathExpression(
                    expression="0 * serving",
                    using_metrics={"serving": self.balancer("HealthyHostCount", "Maximum", minutes=60)},
                    period=period,
                ),
            },
            label=label,
            period=period,
        )

    def queues(self, name: str, queues: Sequence[str]) -> dict[str, cloudwatch.IMetric]:
        """Return the maximum of a metric for each queue, by an id for expressions (``queue0``)."""
        return {
            f"queue{number}": MetricSource("AWS/SQS", {"QueueName": queue}, minutes=5)(name, "Maximum")
            for number, queue in enumerate(queues)
        }

    def functions(self, name: str, *, but: str = "") -> dict[str, cloudwatch.IMetric]:
        """Return a metric of each function, by an id for expressions (``function0errors``). ``but``: the name
        of a function to leave out."""
        of_options = (function for option in self.options for function in option.function_names)
        functions = (*self.ingestion.function_names, *of_options)
        return {
            f"function{number}{name.lower()}": _function(function)(name, minutes=5)
            for number, function in enumerate(functions)
            if function != but
        }

    def tables(self, name: str) -> dict[str, cloudwatch.IMetric]:
        """Return a metric of each table, by an id for expressions."""
        tables = {
            "records": self.data.records_table,
            "events": self.data.events_table,
            "states": self.data.states_table,
            "desk": self.data.desk_table,
        }
        return {
            f"{role}{name.lower()}": MetricSource("AWS/DynamoDB", {"TableName": table})(name, minutes=5)
            for role, table in tables.items()
        }

    def machine(self, name: str, arn: str) -> cloudwatch.IMetric:
        return MetricSource("AWS/States", {"StateMachineArn": arn})(name, minutes=5)


def _function(name: str) -> MetricSource:
    return MetricSource("AWS/Lambda", {"FunctionName": name})


_MAX_SUMMED = 10
"""Metrics in the expression of one alarm: a quota of CloudWatch."""
RAW_CAPTURE_LATE_S = 2400
"""Raw capture must be deleted within the hour: this leaves a third of it to fix the cause."""
MOST_HOURS = 168
"""Hours that an alarm may look back: a quota of CloudWatch."""
_AUDIT_LATE_HOURS = 6
"""Hours in a row without a successful run of the function that closes days of audit records."""
_FREE_SHARE = 0.2
"""Share of a data node's volume that must be free. OpenSearch blocks writes below a fifth or 20 GiB,
whichever is less."""


def alarm_topic(
    scope: Construct, construct_id: str, *, key: kms.IKey, display_name: str, email_id: str, email: str | None
) -> sns.Topic:
    """Create an encrypted topic that the account's alarms may publish to, with its subscriber.

    ``email_id`` is the subscription's construct id. The statement for CloudWatch is needed because the policy
    of ``enforce_ssl`` replaces the default one, which lets alarms publish.
    """
    topic = sns.Topic(scope, construct_id, display_name=display_name, master_key=key, enforce_ssl=True)
    account = {"StringEquals": {"aws:SourceAccount": cdk.Stack.of(scope).account}}
    topic.add_to_resource_policy(
        allow_service("cloudwatch", "sns:Publish", topic.topic_arn, sid="AlarmsTell", conditions=account)
    )
    if email is not None:
        sns.CfnSubscription(scope, email_id, topic_arn=topic.topic_arn, protocol="email", endpoint=email)
    return topic


class TenantAlarms(Construct):
    """All alarms of a tenant. Options join in ``ALARMS`` with functions that call ``add``."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        metrics: TenantMetrics,
        trail_log_group: str,
        topics: Mapping[str, str],
    ) -> None:
        """``topics``: ARN of a topic by severity (``page``, ``ticket``). ``trail_log_group``: its name."""
        super().__init__(scope, construct_id)
        self.metrics = metrics
        self._topics = topics
        self._log_groups = {**metrics.log_groups, "trail": trail_log_group}
        self.anchors: list[str] = []
        """Anchors of the runbook's entries for which the tenant has an alarm; filled by ``add``."""
        self.alarms: list[cloudwatch.Alarm] = [
            *self._answers(),
            *self._models(),
            *self._knowledge(),
            *(alarm for option in option_stacks() for alarm in option.alarms(self)),
            *self._search(),
            *self._tables(),
            *self._recovery(),
            *self._security(),
            *self._power(),
        ]

    def add(
        self,
        anchor: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        *,
        periods: int = 1,
        below: bool = False,
        silent: bool = False,
        part: str = "",
    ) -> cloudwatch.Alarm:
        """Create the alarm of the runbook entry ``anchor``: at ``threshold`` or more (with ``below``: under
        it) in ``periods`` periods in a row.

        Missing data raise it only with ``silent``, because a paused endpoint and an unused store publish
        nothing. ``part`` ends the construct id of a further alarm of one entry (``DeadLetters2``). Raises
        KeyError without an entry.
        """
        comparison, missing = cloudwatch.ComparisonOperator, cloudwatch.TreatMissingData
        entry = entries()[anchor]
        self.anchors.append(anchor)
        alarm = cloudwatch.Alarm(
            self,
            "".join(word.capitalize() for word in anchor.split("-")) + part,
            alarm_description=described(self, anchor, log_group=self._log_groups[entry.log_group]),
            metric=metric,
            threshold=threshold,
            evaluation_periods=periods,
            comparison_operator=comparison.LESS_THAN_THRESHOLD
            if below
            else comparison.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=missing.BREACHING if silent else missing.NOT_BREACHING,
        )
        resource = cast("cloudwatch.CfnAlarm", alarm.node.default_child)
        resource.alarm_actions = resource.ok_actions = [self._topics[entry.severity]]
        return alarm

    def _alarms_of_sum(
        self, anchor: str, metrics: dict[str, cloudwatch.IMetric], threshold: float
    ) -> Iterator[cloudwatch.Alarm]:
        """Yield an alarm on the sum of every ten metrics, CloudWatch's limit for one expression."""
        ids = list(metrics)
        for start in range(0, len(ids), _MAX_SUMMED):
            summed = {name: metrics[name] for name in ids[start : start + _MAX_SUMMED]}
            part = str(start // _MAX_SUMMED + 1) if start else ""
            yield self.add(anchor, _sum(anchor, summed, minutes=5), threshold, part=part)

    def _answers(self) -> Iterator[cloudwatch.Alarm]:
        metrics, limits = self.metrics, self.metrics.tenant.config.limits
        failed = metrics.balancer("HTTPCode_Target_5XX_Count", "Sum", minutes=5)
        models = metrics.models
        endpoint = models.llm_endpoint_name or models.embedding_endpoint_name
        failing = metrics.while_on(failed, endpoint, label="5xx while on", minutes=5)
        yield self.add("answers-failing", failing, 5)
        yield self.add("tasks-unhealthy", metrics.balancer("UnHealthyHostCount", "Maximum"), 1, periods=5)
        healthy = metrics.balancer("HealthyHostCount", "Minimum")
        yield self.add("no-healthy-task", healthy, 1, periods=2, below=True)
        first_token = metrics.counted(FIRST_TOKEN, "p50")
        yield self.add("first-token-slow", first_token, limits.first_token_timeout_s * 1000 / 2, periods=2)
        without = metrics.counted(MODEL_FAILED, minutes=15)
        yield self.add("answers-without-a-model", without, 5)
        unexpected = metrics.service(deployed_names.INTERNAL_ERRORS, "Sum", minutes=5)
        yield self.add("unexpected-failures", unexpected, 1)
        streams = metrics.service(deployed_names.ACTIVE_STREAMS, "Average", minutes=5)
        yield self.add("streams-near-their-limit", streams, limits.streams * 0.8, periods=2)

    def _models(self) -> Iterator[cloudwatch.Alarm]:
        metrics, models = self.metrics, self.metrics.models
        llm, embedding = models.llm_endpoint_name, models.embedding_endpoint_name
        if llm is not None:
            yield self.add("llm-failing", metrics.endpoint(llm)("Invocation5XXErrors", minutes=5), 5)
            yield self.add("llm-overloaded", metrics.endpoint(llm)("Invocation4XXErrors", minutes=5), 20)
        failed = metrics.endpoint(embedding)("Invocation5XXErrors", minutes=5)
        yield self.add("embedding-failing", failed, 5)

    def _knowledge(self) -> Iterator[cloudwatch.Alarm]:
        metrics, ingestion = self.metrics, self.metrics.ingestion
        ages = metrics.queues("ApproximateAgeOfOldestMessage", ingestion.queue_names)
        if ages:
            oldest = cloudwatch.MathExpression(
                expression=f"IF(running > -1, MAX([{', '.join(ages)}]))",
                using_metrics={
                    **ages,
                    "running": metrics.instances(metrics.models.embedding_endpoint_name)(
                        "CPUUtilization", minutes=5
                    ),
                },
                label="Oldest document while on",
            )
            yield self.add("documents-waiting", oldest, 1800, periods=2)
        dead = metrics.queues("ApproximateNumberOfMessagesVisible", ingestion.dead_letter_queue_names)
        yield from self._alarms_of_sum("dead-letters", dead, 1)
        errors = metrics.functions("Errors", but=ingestion.parser_function)
        failed = {**errors, **metrics.functions("Throttles")}
        yield from self._alarms_of_sum("functions-failing", failed, 3)
        yield from self._postponed()

    def _postponed(self) -> Iterator[cloudwatch.Alarm]:
        """Yield alarms on postponed documents and captures. They use the functions' own metrics, because the
        age of a queue's oldest message starts again when a message is put back, and the quarantine bucket has
        no age."""
        metrics = self.metrics
        postponed = metrics.service(deployed_names.DOCUMENTS_POSTPONED, "Sum", minutes=15)
        while_on = metrics.while_on(
            postponed, metrics.models.embedding_endpoint_name, label="Postponed while on", minutes=15
        )
        yield self.add("documents-postponed", while_on, 1, periods=4)
        if metrics.tenant.models.capture == "quarantine":
            age = metrics.service(deployed_names.OLDEST_RAW_CAPTURE_AGE, "Maximum", minutes=5)
            yield self.add("raw-capture-late", age, RAW_CAPTURE_LATE_S)

    def _search(self) -> Iterator[cloudwatch.Alarm]:
        search = self.metrics.search
        yield self.add("search-red", search("ClusterStatus.red"), 1)
        yield self.add("search-yellow", search("ClusterStatus.yellow"), 1, periods=30)
        free_mib = search_size(self.metrics.tenant).volume_gib * 1024 * _FREE_SHARE
        yield self.add("search-full", search("FreeStorageSpace", "Minimum"), free_mib, below=True)
        yield self.add("search-memory", search("JVMMemoryPressure", minutes=5), 92, periods=3)
        yield self.add("search-writes-blocked", search("ClusterIndexWritesBlocked", minutes=5), 1)
        keys = {"lost": search("KMSKeyError"), "closed": search("KMSKeyInaccessible")}
        yield self.add("search-key-lost", _sum("Key lost", keys, minutes=1), 1)
        yield self.add("search-snapshot-failed", search("AutomatedSnapshotFailure"), 1)

    def _tables(self) -> Iterator[cloudwatch.Alarm]:
        metrics = self.metrics
        throttled = {**metrics.tables("ReadThrottleEvents"), **metrics.tables("WriteThrottleEvents")}
        yield self.add("tables-throttled", _sum("Throttled calls", throttled, minutes=5), 1)

    def _recovery(self) -> Iterator[cloudwatch.Alarm]:
        """https://docs.aws.amazon.com/aws-backup/latest/devguide/cloudwatch.html"""
        if vault := self.metrics.data.recovery_vault:
            jobs = MetricSource("AWS/Backup", {"BackupVaultName": vault}, minutes=60)
            ends = ("Failed", "Aborted", "Expired")
            failed = {end.lower(): jobs(f"NumberOfBackupJobs{end}") for end in ends}
            if self.metrics.tenant.place.recovery_copies:
                failed["copies"] = jobs("NumberOfCopyJobsFailed")
            yield self.add("recovery-point-missing", _sum("Failed copies", failed, minutes=60), 1)

    def _security(self) -> Iterator[cloudwatch.Alarm]:
        counted = self.metrics.counted
        yield self.add("key-refused", counted(KEY_REFUSED), 1)
        yield self.add("policy-changed", counted(POLICY_CHANGED), 1)
        yield self.add("trust-changed", counted(TRUST_CHANGED), 1)
        yield self.add("data-copied", counted(DATA_COPIED), 1)
        yield self.add("stranger-read", counted(STRANGER_READ), 1)
        closed = self.metrics.service(deployed_names.AUDIT_CLOSED, "Maximum", minutes=60)
        hourly = self.metrics.or_zero(closed, label="Audit closed")
        yield self.add("audit-not-closed", hourly, 1, periods=_AUDIT_LATE_HOURS, below=True)
        lines = MetricSource("AWS/Logs", {"LogGroupName": self._log_groups["trail"]}, minutes=60)
        hourly = self.metrics.or_zero(lines("IncomingLogEvents"), label="Events of CloudTrail")
        yield self.add("audit-silent", hourly, 1, periods=_AUDIT_LATE_HOURS, below=True)
        if self.metrics.tenant.place.break_glass:
            yield self.add("break-glass-used", counted(BREAK_GLASS), 1)
        dimensions = {"CertificateArn": self.metrics.tenant.edge.certificate_arn}
        days = MetricSource("AWS/CertificateManager", dimensions, "Minimum", minutes=1440)("DaysToExpiry")
        # ACM renews 45 days before the end, or more. The metric ends with the certificate.
        yield self.add("certificate-ends", days, 30, below=True, silent=True)

    def _power(self) -> Iterator[cloudwatch.Alarm]:
        metrics, models = self.metrics, self.metrics.models
        failed = {
            f"{verb}{name.lower()}": metrics.machine(name, arn)
            for verb, arn in (("pause", models.pause_machine_arn), ("resume", models.resume_machine_arn))
            for name in ("ExecutionsFailed", "ExecutionsTimedOut")
        }
        yield self.add("power-switch-failed", _sum("Failed switches", failed, minutes=5), 1)
        missed = metrics.queues("ApproximateNumberOfMessagesVisible", [metrics.data.missed_starts_queue])
        yield from self._alarms_of_sum("a-start-was-missed", missed, 1)


def _sum(label: str, metrics: dict[str, cloudwatch.IMetric], *, minutes: int) -> cloudwatch.MathExpression:
    """Return the sum of the metrics that have data."""
    return cloudwatch.MathExpression(
        expression=f"SUM([{', '.join(metrics)}])",
        using_metrics=metrics,
        label=label,
        period=cdk.Duration.minutes(minutes),
    )
