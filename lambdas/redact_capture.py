"""Replaces raw captured calls in the quarantine by redacted copies in the capture bucket."""

from __future__ import annotations

from assistant.models.redaction import Redacting, open_redacting
from assistant.process.settings import RedactingSettings
from assistant.service.function import BatchFailures, Event, FunctionEntry, created_object, for_each_message


async def run(services: Redacting, event: Event) -> BatchFailures:
    """Redact each object. Return the messages whose objects failed: SQS delivers them again."""

    async def redact(body: str, _attempt: int) -> None:
        key, _version = created_object(body)
        await services.redact(key)

    return await for_each_message(event, redact)


handle = FunctionEntry(RedactingSettings, open_redacting, run)
