"""Replaces raw captured calls in the quarantine by redacted copies in the capture bucket."""

from __future__ import annotations

from assistant.models.redaction import Redacting, open_redacting
from assistant.process.settings import RedactingSettings
from assistant.service.function import BatchFailures, Event, FunctionEntry, for_each_message, object_key


async def run(services: Redacting, event: Event) -> BatchFailures:
    """Redact each object. Return the messages whose objects failed: SQS delivers them again."""

    async def redact(body: str, _attempt: int) -> None:
        await services.redact(object_key(body))

    return await for_each_message(event, redact)


handle = FunctionEntry(RedactingSettings, open_redacting, run)
