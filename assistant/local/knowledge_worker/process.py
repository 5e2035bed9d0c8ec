"""The ingestion worker's process: a worker a tenant, until a signal."""

from __future__ import annotations

import asyncio
import signal
import sys

import orjson

from assistant.knowledge.worker import IngestionWorker
from assistant.settings.process import WorkerSettings
from assistant.wiring.services import open_ingestion


async def work(settings: WorkerSettings) -> None:
    """Work for every tenant of the folder until SIGTERM or SIGINT.

    Prints the ready line on stdout once every index is open. Raises ConfigurationError, LocalRuntimeError.
    """
    async with open_ingestion(settings) as tenants:
        workers = [IngestionWorker(tenant) for tenant in tenants]
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, _stop_all, workers)
        for worker in workers:
            await worker.prepare()
        sys.stdout.write(orjson.dumps({"ready": True}).decode() + "\n")
        sys.stdout.flush()
        await asyncio.gather(*(worker.run() for worker in workers))


def _stop_all(workers: list[IngestionWorker]) -> None:
    for worker in workers:
        worker.stop()
