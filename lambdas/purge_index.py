"""Purges deleted passages from the search domain's disks and resumes interrupted withdrawals, by schedule."""

from __future__ import annotations

from assistant.aws.lambda_entry import Event, FunctionEntry
from assistant.knowledge.withdrawal import resume_withdrawals
from assistant.settings.process import RemovingSettings
from assistant.wiring.services import Removing, open_removing


async def run(services: Removing, _event: Event) -> None:
    """OpenSearch retains deletes for 30 s: the next run purges what this run could not."""
    await resume_withdrawals(services.ingestion.stores)
    await services.ingestion.index.optimize()


handle = FunctionEntry(RemovingSettings, open_removing, run)
