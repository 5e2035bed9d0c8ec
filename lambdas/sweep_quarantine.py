"""Redacts raw captured calls that are overdue in the quarantine, by schedule."""

from __future__ import annotations

from aws_lambda_powertools.metrics import MetricUnit

from assistant.models.redaction import Redacting, open_redacting
from assistant.process.settings import RedactingSettings
from assistant.service.function import Event, FunctionEntry, emit_metric
from assistant.tenant import deployed_names


async def run(services: Redacting, _event: Event) -> None:
    """Redact the overdue objects, and emit the age of the oldest raw object that is left."""
    age_s, name = await services.sweep(), deployed_names.OLDEST_RAW_CAPTURE_AGE
    emit_metric(name, age_s, service=services.metrics_service, unit=MetricUnit.Seconds)


handle = FunctionEntry(RedactingSettings, open_redacting, run)
