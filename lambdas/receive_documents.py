"""Turns new raw files of the inbox bucket into documents, and enqueues their ids."""

from __future__ import annotations

from assistant.process.settings import UPLOADS_PREFIX, ReceivingSettings
from assistant.service.function import (
    BatchFailures,
    Event,
    FunctionEntry,
    created_object,
    emit_metric,
    for_each_message,
)
from assistant.service.opened import Receiving, open_receiving
from assistant.tenant import deployed_names


async def run(services: Receiving, event: Event) -> BatchFailures:
    """Read each file. Return the messages of files that could not be processed: SQS delivers them again."""

    async def receive(body: str, attempt: int) -> None:
        key, version = created_object(body)
        if key.endswith("/"):  # a folder that was created in the console
            return
        if refused := await _refused(services, key, version, attempt):
            emit_metric(deployed_names.RAW_FILES_REFUSED, refused, service=services.metrics_service)

    return await for_each_message(event, receive)


async def _refused(services: Receiving, key: str, version: str, attempt: int) -> int:
    """Add what is in the file, and return how much of it was refused."""
    if not key.startswith(UPLOADS_PREFIX):
        return (await services.receive(key, version)).refused
    *_, person, upload_id, name = key.split("/")
    if name != "content":
        return 0
    result = await services.receive_upload(f"{person}/{upload_id}", attempt=attempt)
    return 0 if result is None else result.refused


handle = FunctionEntry(ReceivingSettings, open_receiving, run)
