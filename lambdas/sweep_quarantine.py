"""Redacts raw captured calls that are overdue in the quarantine, by schedule."""

from __future__ import annotations

from aws_lambda_powertools.metrics import MetricUnit

from assistant.aws.lambda_entry import Event, FunctionEntry, emit_metric
from assistant.settings import deployed_names
from assistant.settings.process import RedactingSettings
from assistant.wiring.services import Redacting, open_redacting


async def run(services: Redacting, _event: Event) -> None:
    """Redact the overdue objects, and emit the age of the oldest raw object that is left."""
    age_s, name = await services.sweep(), deployed_names.OLDEST_RAW_CAPTURE_AGE
    emit_metric(name, age_s, service=services.metrics_service, unit=MetricUnit.Seconds)


handle = FunctionEntry(RedactingSettings, open_redacting, run)
