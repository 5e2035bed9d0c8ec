"""The metrics of one tenant, AWS's and ours, for the dashboard and the alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from assistant.settings import deployed_names
from stacks.models.endpoint import VARIANT
from stacks.outputs import EarlierOutputs
from stacks.tenant import DeployedTenant

ANSWERS = "Answers"
"""Metric of the tenant's own namespace: answers by ``FinishReason``, counted in the service's log."""
MODEL_FAILED = "ModelFailed"
"""Answers that a quote replaced because the model failed or timed out."""
FIRST_TOKEN = "FirstTokenMs"  # noqa: S105 - a token of text
KEY_REFUSED = "KeyRefused"
POLICY_CHANGED = "PolicyChanged"
STRANGER_READ = "StrangerRead"
TRUST_CHANGED = "TrustChanged"
DATA_COPIED = "DataCopied"
BREAK_GLASS = "BreakGlassUsed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantMetrics:
    tenant: DeployedTenant
    earlier: EarlierOutputs

    @property
    def own_namespace(self) -> str:
        """Namespace of what metric filters count in the tenant's logs."""
        return f"{deployed_names.NAMESPACE}/{self.tenant.full_name}"

    def balancer(self, name: str, statistic: str, *, minutes: int = 1) -> cloudwatch.IMetric:
        """Return a metric of the tasks behind the ALB:
        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/
        load-balancer-cloudwatch-metrics.html"""
        dimensions = {
            "LoadBalancer": self.earlier.edge.load_balancer_full_name,
            "TargetGroup": self.earlier.edge.target_group_full_name,
        }
        return metric("AWS/ApplicationELB", name, statistic, dimensions, minutes=minutes)

    def service(self, name: str, statistic: str, *, minutes: int = 1) -> cloudwatch.IMetric:
        dimensions = {deployed_names.DIMENSION: self.tenant.full_name}
        return metric(deployed_names.NAMESPACE, name, statistic, dimensions, minutes=minutes)

    def system(self, system: str, name: str, statistic: str, *, minutes: int = 5) -> cloudwatch.IMetric:
        """Return a metric of the calls of one live system: no data while nobody calls it."""
        dimensions = {
            deployed_names.DIMENSION: self.tenant.full_name,
            deployed_names.SYSTEM_DIMENSION: system,
        }
        return metric(deployed_names.NAMESPACE, name, statistic, dimensions, minutes=minutes)

    def counted(
        self, name: str, statistic: str = "Sum", *, minutes: int = 5, **dimensions: str
    ) -> cloudwatch.IMetric:
        return metric(self.own_namespace, name, statistic, dimensions, minutes=minutes)

    def tasks(self, name: str, statistic: str = "Average") -> cloudwatch.IMetric:
        dimensions = {
            "ClusterName": self.earlier.orchestrator.cluster_name,
            "ServiceName": self.earlier.orchestrator.service_name,
        }
        return metric("AWS/ECS", name, statistic, dimensions)

    def endpoint(self, endpoint: str, name: str, statistic: str, *, minutes: int = 1) -> cloudwatch.IMetric:
        """Return a metric of invocations:
        https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html"""
        dimensions = {"EndpointName": endpoint, "VariantName": VARIANT}
        return metric("AWS/SageMaker", name, statistic, dimensions, minutes=minutes)

    def instances(
        self, endpoint: str, name: str, statistic: str = "Average", *, minutes: int = 1
    ) -> cloudwatch.IMetric:
        """Return a metric of an endpoint's instances; it has no data while the endpoint is paused."""
        dimensions = {"EndpointName": endpoint, "VariantName": VARIANT}
        return metric("/aws/sagemaker/Endpoints", name, statistic, dimensions, minutes=minutes)

    def while_on(
        self, watched: cloudwatch.IMetric, endpoint: str, *, label: str, minutes: int
    ) -> cloudwatch.IMetric:
        """Return a metric that has data only while an endpoint's instances have data: none while paused."""
        running = self.instances(endpoint, "CPUUtilization", minutes=minutes)
        return cloudwatch.MathExpression(
            expression="IF(running > -1, watched)",
            using_metrics={"running": running, "watched": watched},
            label=label,
            period=cdk.Duration.minutes(minutes),
        )

    def queues(self, name: str, statistic: str, queues: Sequence[str]) -> dict[str, cloudwatch.IMetric]:
        """Return one metric per queue, by its id in an expression."""
        return {
            f"queue{number}": metric("AWS/SQS", name, statistic, {"QueueName": queue}, minutes=5)
            for number, queue in enumerate(queues)
        }

    def functions(self, name: str, statistic: str = "Sum") -> dict[str, cloudwatch.IMetric]:
        functions = (*self.earlier.ingestion.function_names, *self.earlier.learning.function_names)
        return {
            f"function{number}{name.lower()}": metric(
                "AWS/Lambda", name, statistic, {"FunctionName": function}, minutes=5
            )
            for number, function in enumerate(functions)
        }

    def learner(self, name: str) -> cloudwatch.IMetric:
        """Return a metric of the function that learns rankings, which a tenant file may switch off."""
        *_, learner = self.earlier.learning.function_names
        return metric("AWS/Lambda", name, "Sum", {"FunctionName": learner}, minutes=60)

    def search(self, name: str, statistic: str = "Maximum", *, minutes: int = 1) -> cloudwatch.IMetric:
        """https://docs.aws.amazon.com/opensearch-service/latest/developerguide/managedomains-cloudwatchmetrics.html"""
        dimensions = {"DomainName": self.earlier.data.domain_name, "ClientId": self.tenant.place.account}
        return metric("AWS/ES", name, statistic, dimensions, minutes=minutes)

    def tables(self, name: str, statistic: str = "Sum") -> dict[str, cloudwatch.IMetric]:
        tables = {
            "records": self.earlier.data.records_table,
            "events": self.earlier.data.events_table,
            "states": self.earlier.data.states_table,
            "desk": self.earlier.data.desk_table,
        }
        return {
            f"{role}{name.lower()}": metric("AWS/DynamoDB", name, statistic, {"TableName": table}, minutes=5)
            for role, table in tables.items()
        }

    def machine(self, name: str, arn: str) -> cloudwatch.IMetric:
        return metric("AWS/States", name, "Sum", {"StateMachineArn": arn}, minutes=5)


def metric(
    namespace: str, name: str, statistic: str, dimensions: Mapping[str, str], *, minutes: int = 1
) -> cloudwatch.IMetric:
    return cloudwatch.Metric(
        namespace=namespace,
        metric_name=name,
        statistic=statistic,
        dimensions_map=dict(dimensions),
        period=cdk.Duration.minutes(minutes),
    )
