"""Metrics as lines of the function's log (EMF): no call of CloudWatch is made."""

from __future__ import annotations

from aws_lambda_powertools.metrics import MetricUnit, single_metric

from assistant.settings import deployed_names


def tell(name: str, value: float, *, service: str, unit: MetricUnit = MetricUnit.Count) -> None:
    """Say a metric's value, under the one dimension that a tenant's metrics have."""
    with single_metric(name=name, unit=unit, value=value, namespace=deployed_names.NAMESPACE) as metric:
        metric.add_dimension(name=deployed_names.DIMENSION, value=service)
