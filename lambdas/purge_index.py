"""Purges deleted passages from the search domain's disks, resumes interrupted withdrawals, and gives up
documents that were never queued, by schedule."""

from __future__ import annotations

from assistant.documents.withdraw import resume_withdrawals
from assistant.documents.worker import UNQUEUED_AFTER, give_up_unqueued
from assistant.process.settings import RemovingSettings
from assistant.service.function import Event, FunctionEntry
from assistant.service.opened import Removing, open_removing


async def run(services: Removing, _event: Event) -> None:
    """OpenSearch retains deletes for 30 s: the next run purges what this run could not."""
    await resume_withdrawals(services.ingestion.stores)
    await give_up_unqueued(services.ingestion, after=UNQUEUED_AFTER)
    await services.ingestion.index.optimize()


handle = FunctionEntry(RemovingSettings, open_removing, run)
