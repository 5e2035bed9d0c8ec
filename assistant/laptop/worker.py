"""The ingestion worker on a laptop, which reads uploads too, and runs what options need beside it.

It is tasks of the one process, or a process of its own: ``python -m assistant.laptop.worker``.

WorkerSettings reads its configuration from the environment.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import chain
from typing import TYPE_CHECKING

import orjson
import structlog

from assistant.documents.worker import IngestionWorker, WorkerLimits
from assistant.domain.errors import AssistantError, DependencyError
from assistant.models.redaction import LocalCapture
from assistant.option import Place
from assistant.process.settings import WorkerSettings
from assistant.process.telemetry import configure_logging, configure_tracing
from assistant.service.opened import Loop, open_ingestion, open_loops

if TYPE_CHECKING:
    from assistant.model_server.here import ModelsHere

LOOPS = Place[Callable[[WorkerSettings], AbstractAsyncContextManager[Sequence[Loop]]]]("runs of a machine")
_log = structlog.get_logger(__name__)


def main() -> None:
    os.umask(0o077)  # only the owner may read the files of the worker and its engines
    try:
        settings = WorkerSettings.read()
        configure_logging(settings.log_level)
        configure_tracing("ingesting-worker", otlp_endpoint=settings.otlp_endpoint)
        asyncio.run(_until_a_signal(settings))
    except AssistantError as error:
        sys.exit(error.message)


async def _until_a_signal(settings: WorkerSettings) -> None:
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
    """Run a worker per tenant of the folder, and what options run beside, until ``stopping`` is set.

    Calls ``on_ready`` when every index is open, with why tenants are left out. Raises ConfigurationError,
    LocalRuntimeError.
    """
    async with (
        open_ingestion(settings, models=models) as tenants,
        open_loops(settings) as loops,
        AsyncExitStack() as stack,
    ):
        of_options = [await stack.enter_async_context(opens(settings)) for opens in LOOPS.joined()]
        reasons: list[str] = []
        prepared = await prepare_each(
            [IngestionWorker(each, limits=limits) for each in tenants], settings, reasons
        )
        # Without captured calls it lists one folder that is not there.
        captures = [LocalCapture.of(settings)] if settings.stores == "embedded" else []
        on_ready(reasons)
        await asyncio.gather(
            _stop_all(prepared, stopping),
            *(worker.run() for worker in prepared),
            *(loop.run(stopping) for loop in (*loops, *captures, *chain.from_iterable(of_options))),
        )


async def prepare_each(
    workers: Sequence[IngestionWorker], settings: WorkerSettings, reasons: list[str] | None = None
) -> list[IngestionWorker]:
    """Return the workers whose tenant's index opens. The others are logged, and ``reasons`` gets why; the
    error of the only one is raised."""
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
    await stopping.wait()
    for worker in workers:
        worker.stop()


if __name__ == "__main__":
    main()
