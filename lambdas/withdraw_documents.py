"""Removes withdrawn documents from the index and the document store."""

from __future__ import annotations

from assistant.process.settings import RemovingSettings
from assistant.service.function import BatchFailures, Event, FunctionEntry, queue_batch
from assistant.service.opened import Removing, open_removing


async def run(services: Removing, event: Event) -> BatchFailures:
    """Remove the documents. Return only invalid messages as failures.

    Documents that must wait for the search domain are sent to the queue again as new messages.
    """
    batch = queue_batch(event)
    await services.batches.put_back(batch.invalid_receipts)
    if batch.messages:
        await services.batches.handle(batch.messages)
    return batch.failures


handle = FunctionEntry(RemovingSettings, open_removing, run)
