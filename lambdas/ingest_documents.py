"""Parses, embeds and indexes the documents whose ids are in a queue."""

from __future__ import annotations

from assistant.documents.worker import PAUSED_DELAY_S
from assistant.process.settings import IngestingSettings
from assistant.service.function import BatchFailures, Event, FunctionEntry, emit_metric, queue_batch
from assistant.service.opened import Ingesting, open_ingesting
from assistant.tenant import deployed_names


async def run(services: Ingesting, event: Event) -> BatchFailures:
    """Process the batch. Return only invalid messages as failures: they become dead letters.

    Documents that must wait for an endpoint are sent to the queue again as new messages.
    """
    batch = queue_batch(event)
    batches = services.batches_of(batch.queue_name)
    await batches.put_back(batch.invalid_receipts)
    if not batch.messages:
        return batch.failures
    if await services.power.read():
        postponed = await batches.postpone(batch.messages, delay_s=PAUSED_DELAY_S)
    else:
        postponed = await batches.handle(batch.messages)
    if postponed:
        emit_metric(deployed_names.DOCUMENTS_POSTPONED, postponed, service=services.metrics_service)
    return batch.failures


handle = FunctionEntry(IngestingSettings, open_ingesting, run)
