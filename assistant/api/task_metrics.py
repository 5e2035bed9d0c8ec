"""What a task tells CloudWatch of itself: one line of JSON now and then, in the embedded metric format.

CloudWatch Logs makes metrics of such lines wherever they come from; the task needs no right for it and no
agent. https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import orjson

from assistant.api.auth import Service
from assistant.domain.clock import Clock
from assistant.settings import deployed_names
from assistant.settings.process import ServiceSettings

_SAMPLE_S = 1.0


class TaskMetrics:
    """Counts answers in progress second by second and tells all counts of an interval in one line.

    Every task tells as often as every other, whether it has work or not, so the average of all samples is
    that of a task. A line has at most 60 samples; the format allows 100.
    """

    def __init__(
        self, *, service: str, active: Callable[[], int], failures: Callable[[], int], clock: Clock
    ) -> None:
        self._service = service
        self._active = active
        self._failures = failures
        self._clock = clock
        self._samples: list[int] = []
        self._told_failures = failures()

    def sample(self) -> None:
        self._samples.append(self._active())

    def line(self) -> bytes | None:
        """Return the line of what was seen since the last one; None when nothing was sampled."""
        if not self._samples:
            return None
        samples, self._samples = self._samples, []
        failures = self._failures()
        new_failures, self._told_failures = failures - self._told_failures, failures
        return orjson.dumps(
            {
                "_aws": {
                    "Timestamp": int(self._clock.now().timestamp() * 1000),
                    "CloudWatchMetrics": [_METRICS],
                },
                deployed_names.DIMENSION: self._service,
                deployed_names.ACTIVE_STREAMS: samples,
                deployed_names.INTERNAL_ERRORS: new_failures,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


_METRICS = {
    "Namespace": deployed_names.NAMESPACE,
    "Dimensions": [[deployed_names.DIMENSION]],
    "Metrics": [
        {"Name": deployed_names.ACTIVE_STREAMS, "Unit": "Count"},
        {"Name": deployed_names.INTERNAL_ERRORS, "Unit": "Count"},
    ],
}


@asynccontextmanager
async def telling_metrics(settings: ServiceSettings, service: Service) -> AsyncGenerator[None]:
    """Tell the process's metrics on stdout inside the block, and what is left at its end; nothing without
    ``metrics_service``."""
    if settings.metrics_service is None:
        yield
        return
    metrics = TaskMetrics(
        service=settings.metrics_service,
        active=lambda: len(service.running) + len(service.followers),
        failures=service.metrics.internal_error_count,
        clock=service.clock,
    )
    telling = asyncio.create_task(_tell(metrics, samples_in_line=settings.metrics_interval_s))
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling])
        _write(metrics.line())


async def _tell(metrics: TaskMetrics, *, samples_in_line: int) -> None:
    while True:
        for _ in range(samples_in_line):
            await asyncio.sleep(_SAMPLE_S)
            metrics.sample()
        _write(metrics.line())


def _write(line: bytes | None) -> None:
    if line is not None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
