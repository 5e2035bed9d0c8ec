"""``python -m assistant.options.sources.task SOURCE [--yes] [--again]``: one run of a connector on AWS.

It is the scheduled task of ``stack.py`` beside it, with the options of ``assistant knowledge sync``. It
exits with 1 where the run stopped early or did not begin. Its metric ``SOURCE_READ`` is a line of its output
in CloudWatch's embedded format: 1 if everything was read, else 0.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack, nullcontext
from functools import partial

import structlog

from assistant.documents.receive import AddDocuments
from assistant.documents.sources import KnowledgeSources
from assistant.domain.clock import SystemClock
from assistant.domain.errors import AssistantError, NotFoundError
from assistant.options.sources.opened import open_connector
from assistant.options.sources.run import SOURCE_RUNS, StoredTarget, SyncSource, turn_of
from assistant.options.sources.section import connector_of
from assistant.options.sources.settings import SOURCE_DIMENSION, SOURCE_READ, SyncingSettings
from assistant.process.aws import StoredSecret
from assistant.process.telemetry import configure_logging
from assistant.service.health import embedded_line
from assistant.service.opened import tenant_in
from assistant.stores.clients import AwsClients
from assistant.stores.opened import AwsStores, knowledge_of

_LEAST_RUN_S = 3600.0
"""Time that a run may take at least, also if the source is read more often: Confluence reads all pages each
time."""
_ENDING_S = 900.0
"""Time for the last page of a run, before its lock ends."""
_log = structlog.get_logger(__name__)


async def sync(source: str, *options: str) -> bool:
    """Run the connector of a source, log its record, and return whether it read everything."""
    settings, clock, was_read = SyncingSettings.read(), SystemClock(), False
    configure_logging(settings.log_level)
    try:
        async with AsyncExitStack() as stack:
            run = await _run_of(source, settings, stack)
            record = await run(confirmed="--yes" in options, again="--again" in options)
        was_read = record.succeeded_at is not None and record.succeeded_at >= record.started_at
        _log.info("source_run_ended", **record.model_dump(mode="json", exclude={"cursor"}))
    except AssistantError as error:
        _log.error("source_not_run", source=source, code=error.code, reason=error.message)
    line = embedded_line(
        {SOURCE_READ: ("Count", float(was_read))},
        service=settings.metrics_service,
        now=clock.now(),
        dimensions={SOURCE_DIMENSION: source},
    )
    sys.stdout.buffer.write(line)
    return was_read


async def _run_of(source: str, settings: SyncingSettings, stack: AsyncExitStack) -> SyncSource:
    """Return a run that may take an hour, or until the next one is due if that is longer.

    Its lock lasts a little longer: so long the next run is refused if this one is killed. Clients are closed
    with ``stack``. Raises NotFoundError for a source without a connector, and errors of the tenant file.
    """
    clients, clock = AwsClients(settings, stack), SystemClock()
    stores = AwsStores(clients, settings, stack=stack)
    named = KnowledgeSources.of(await tenant_in(await clients.aws("s3"), settings)).named(source)
    connector = connector_of(named.entry)
    if connector is None:
        raise NotFoundError(f"The source {source} has no connector.")
    longest_s = max(_LEAST_RUN_S, 60.0 * connector.every_minutes)
    turn = await stores.of(turn_of(source, lasts_s=longest_s + _ENDING_S))

    async def password(name: str) -> str:
        secret = StoredSecret(await clients.aws("secretsmanager"), name=name.partition(":")[2])
        return (await secret()).decode()

    knowledge = await knowledge_of(stores)
    target = StoredTarget(named, knowledge, AddDocuments(knowledge, clock=clock), clock)
    return SyncSource(
        named,
        connect=partial(open_connector, connector, password),
        open_target=partial(nullcontext, target),
        runs=await stores.of(SOURCE_RUNS),
        turn=turn,
        clock=clock,
        longest_s=longest_s,
    )


if __name__ == "__main__":
    # The first process of a container ignores SIGTERM by default. Here it interrupts the run, which frees the
    # lock.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(0 if asyncio.run(sync(*sys.argv[1:])) else 1)
