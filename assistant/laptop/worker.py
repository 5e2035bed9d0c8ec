"""The ingestion worker on a laptop, which reads uploads too, and runs the loops that options need beside it.

``site`` runs ``work`` as a task of the one process. ``python -m assistant.laptop.worker`` runs it as a
process of its own, with WorkerSettings from the environment; it writes the line {"ready": true} when every
index is open.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from itertools import chain
from typing import TYPE_CHECKING

import orjson
import structlog

from assistant.documents.worker import IngestionWorker, WorkerLimits
from assistant.domain.errors import AssistantError, DependencyError
from assistant.option import installed
from assistant.process.heaps import share_heaps
from assistant.process.settings import WorkerSettings
from assistant.process.telemetry import configure_logging, configure_tracing
from assistant.service.opened import open_ingestion, open_loops

if TYPE_CHECKING:
    from assistant.model_server.here import ModelsHere

_log = structlog.get_logger(__name__)


def main() -> None:
    share_heaps()
    os.umask(0o077)  # only the owner may read the files of the worker and its engines
    try:
        settings = WorkerSettings.read()
        configure_logging(settings.log_level)
        configure_tracing("ingesting-worker", otlp_endpoint=settings.otlp_endpoint)
        asyncio.run(_work_until_signal(settings))
    except AssistantError as error:
        sys.exit(error.message)


async def _work_until_signal(settings: WorkerSettings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await work(settings, stopping, on_ready=_write_ready_line)


def _write_ready_line(_: Sequence[str]) -> None:
    sys.stdout.write(orjson.dumps({"ready": True}).decode() + "\n")
    sys.stdout.flush()


async def work(
    settings: WorkerSettings,
    stopping: asyncio.Event,
    *,
    on_ready: Callable[[Sequence[str]], None],
    models: ModelsHere | None = None,
    limits: WorkerLimits | None = None,
) -> None:
    """Run a worker for each tenant of the folder, and the loops beside them, until ``stopping`` is set.

    Calls ``on_ready`` once when every index is open, with a sentence for each tenant that is left out.
    ``models``: those of this process, which the worker then uses. Raises ConfigurationError,
    LocalRuntimeError.
    """
    async with (
        open_ingestion(settings, models=models) as tenants,
        open_loops(settings) as loops,
        AsyncExitStack() as stack,
    ):
        loops_of_options = [await stack.enter_async_context(option.loops(settings)) for option in installed()]
        reasons: list[str] = []
        prepared = await prepare_each(
            [IngestionWorker(tenant, limits=limits) for tenant in tenants], settings, reasons
        )
        on_ready(reasons)
        await asyncio.gather(
            _stop_all(prepared, stopping),
            *(worker.run() for worker in prepared),
            *(loop.run(stopping) for loop in (*loops, *chain.from_iterable(loops_of_options))),
        )


async def prepare_each(
    workers: Sequence[IngestionWorker], settings: WorkerSettings, reasons: list[str] | None = None
) -> list[IngestionWorker]:
    """Return the workers whose tenant's index opens. Each other is logged, and a sentence on it is appended
    to ``reasons``.

    Raises DependencyError if there is only one worker, and its index does not open.
    """
    prepared: list[IngestionWorker] = []
    for worker in workers:
        try:
            await worker.prepare()
        except DependencyError as error:
            if len(workers) == 1:
                raise
            folder = settings.state_dir / "tenants" / worker.tenant / "index"
            reason = (
                f"{error.message} Nothing of {worker.tenant} is indexed. Run assistant tenant down, "
                f"mv {folder} {folder}.damaged, and start again: the worker writes it anew."
            )
            _log.warning("tenant_not_served", tenant=worker.tenant, reason=reason, at="opening")
            if reasons is not None:
                reasons.append(reason)
        else:
            prepared.append(worker)
    return prepared


async def _stop_all(workers: Sequence[IngestionWorker], stopping: asyncio.Event) -> None:
    """Wait for ``stopping``, then stop all workers."""
    await stopping.wait()
    for worker in workers:
        worker.stop()


if __name__ == "__main__":
    main()
