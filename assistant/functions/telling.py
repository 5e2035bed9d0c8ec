"""Metrics as lines of the function's log (EMF): no call of CloudWatch is made."""

from __future__ import annotations

from aws_lambda_powertools.metrics import MetricUnit, single_metric

from assistant.settings import service_metrics


def tell(name: str, value: float, *, service: str, unit: MetricUnit = MetricUnit.Count) -> None:
    """Say a metric's value, under the one dimension that a tenant's metrics have."""
    with single_metric(name=name, unit=unit, value=value, namespace=service_metrics.NAMESPACE) as metric:
        metric.add_dimension(name=service_metrics.DIMENSION, value=service)
