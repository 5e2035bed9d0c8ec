"""What a probe found, as one line of CloudWatch's embedded metric format: log and figures in one."""

from __future__ import annotations

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from assistant.probe.outcome import Outcome, ProbeResult
from assistant.settings.deployed_names import NAMESPACE
from assistant.settings.functions import (
    PROBE_DEGRADED,
    PROBE_DIMENSION,
    PROBE_DURATION,
    PROBE_FAILED,
    PROBE_PAUSED,
)

_COUNTED = {
    PROBE_FAILED: Outcome.FAILED,
    PROBE_DEGRADED: Outcome.DEGRADED,
    PROBE_PAUSED: Outcome.PAUSED,
}


def tell(result: ProbeResult, *, tenant: str) -> None:
    """Write the line to stdout, where Lambda takes it from: no endpoint of the VPC is needed."""
    metrics = EphemeralMetrics(namespace=NAMESPACE)
    metrics.add_dimension(PROBE_DIMENSION, tenant)
    for name, outcome in _COUNTED.items():
        metrics.add_metric(name, unit=MetricUnit.Count, value=float(result.outcome is outcome))
    metrics.add_metric(PROBE_DURATION, unit=MetricUnit.Milliseconds, value=result.duration_ms)
    metrics.add_metadata("outcome", result.outcome.value)
    metrics.add_metadata("reason", result.reason)
    metrics.flush_metrics()
