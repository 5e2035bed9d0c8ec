"""``python -m assistant.service``: the service process. ``ServiceSettings`` are read from the environment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from assistant.answer.adaptations import Adaptations
from assistant.domain.clock import SystemClock
from assistant.option import installed
from assistant.process.http import open_socket, run, self_signed_context, serve
from assistant.process.settings import ServiceSettings
from assistant.process.telemetry import configure_logging, configure_tracing
from assistant.service.answers import Answers
from assistant.service.app import Application, OtherOrigins, build_application
from assistant.service.health import ServiceMetrics, TaskMetrics, TenantReads, report_metrics
from assistant.service.identity import (
    CachedKeySet,
    KeySource,
    RevokedTokens,
    Service,
    TokenVerifier,
)
from assistant.service.opened import open_tenants
from assistant.service.running import AgentRates, RunningAnswers, admissions, watch_cancellations
from assistant.service.served import ServedTenants
from assistant.service.streams import BytesInFlight, StreamLimits
from assistant.service.wire import ConsoleConfig, DeployedVersions
from assistant.stores.clients import open_key_source, open_revocation_sources
from assistant.text.caches import FORGET_EVERY_S, forget_regularly

_RESUME_S = 5.0
"""Wait at shutdown for answers that lost their reader, who may come back and read them from their records."""
_CANCEL_AGAIN_S = 0.2
"""See ``_cancel``."""
_FIRST_LOAD_S = 3.0
"""Longest wait at the start for what reviewers changed."""
_RECORD_S = 3.0
"""Wait at shutdown, once until the cancelled answers have ended, and once until their records are written."""
AFTER_DRAIN_S = _RESUME_S + 2 * _RECORD_S
"""Longest shutdown after the drain (100 s by default). ECS kills a container after 120 s."""


async def main() -> None:
    """Serve all tenants until SIGTERM or SIGINT; then drain, and write the records of open answers."""
    settings = ServiceSettings.read()
    configure_logging(settings.log_level)
    configure_tracing("assistant-service", otlp_endpoint=settings.otlp_endpoint)
    listener = open_socket(settings.host, settings.port)
    operations, port = None, settings.operations_port
    if port is not None:
        operations = open_socket(settings.operations_host, port)
        port = operations.getsockname()[1]  # the kernel's choice where the settings say 0
    metrics = ServiceMetrics()
    async with (
        open_tenants(settings, observe=partial(TenantReads, metrics.live)) as tenants,
        open_application(settings, tenants, metrics=metrics, operations_port=port) as application,
    ):
        service = application.answers.service
        reported = _task_metrics(settings, service)
        async with report_metrics(reported, interval_s=settings.metrics_interval_s):
            await serve(
                application,
                listener,
                shutdown_timeout_s=settings.drain_timeout_s,
                on_stopping=service.begin_draining,
                tls=None if settings.tls == "off" else self_signed_context(),
                operations=operations,
                most_connections=settings.connections,
            )


@asynccontextmanager
async def open_application(
    settings: ServiceSettings,
    tenants: ServedTenants,
    *,
    metrics: ServiceMetrics | None = None,
    limits: StreamLimits | None = None,
    operations_port: int | None = None,
) -> AsyncGenerator[Application]:
    """Build the application of these tenants, and run their tasks inside the block. At the end, settle the
    answers in progress, write their records, and cancel the tasks.

    ``metrics``: those that observe the tenants' live systems, given to ``open_tenants`` too.
    ``operations_port``: the port of the operators' listener, None without one.
    """
    async with AsyncExitStack() as stack:
        service = await _service(settings, tenants, stack, metrics or ServiceMetrics())
        answers = Answers(service, limits or StreamLimits())
        await _load_first([tenant.answer_question.adaptations for tenant in tenants.values()])
        watches = [asyncio.create_task(watch_cancellations(tenants, service.running))]
        # For each tenant: ``run`` replaces what serves it when another index is live; ``_run_beside`` then
        # starts the tasks beside its answers again.
        watches += [asyncio.create_task(tenants.run(name)) for name in tenants]
        watches += [asyncio.create_task(_run_beside(tenants, name)) for name in tenants]
        watches.append(asyncio.create_task(forget_regularly(FORGET_EVERY_S)))
        try:
            yield build_application(
                service,
                answers,
                operations_port=operations_port,
                origins=OtherOrigins(framing=settings.frame_ancestors, calling=settings.cors_origins),
            )
        finally:
            await answers.settle(within_s=_RESUME_S, record_within_s=_RECORD_S)
            await _cancel(watches)


async def _run_beside(tenants: ServedTenants, name: str) -> None:
    """Run a tenant's tasks beside its answers until cancelled; start them again when the tenant is served
    from another index. The tasks watch the index, load what reviewers change, and do what
    options add (``Option.runs``)."""
    while True:
        served = tenants[name]
        tasks = [
            asyncio.create_task(served.answering.index_watch.run()),
            asyncio.create_task(served.answer_question.adaptations.run()),
            *(asyncio.create_task(run) for option in installed() for run in option.runs(served)),
        ]
        try:
            await tenants.changed(name, served)
        finally:
            await _cancel(tasks)


async def _load_first(adaptations: Sequence[Adaptations]) -> None:
    """Load what reviewers changed at the desk before the first question; go on without it after three
    seconds."""
    loading = [asyncio.create_task(adaptation.refresh()) for adaptation in adaptations]
    if loading:
        _, late = await asyncio.wait(loading, timeout=_FIRST_LOAD_S)
        await _cancel(list(late))


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel the tasks, again every ``_CANCEL_AGAIN_S`` until they have ended: ``wait_for`` of Python 3.11
    loses a cancellation that arrives together with its result."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)


async def _service(
    settings: ServiceSettings, tenants: ServedTenants, stack: AsyncExitStack, metrics: ServiceMetrics
) -> Service:
    """Return what all requests of the process share. What it opens is closed with the stack."""
    clock = SystemClock()

    def cached(source: KeySource) -> CachedKeySet:
        """Return the keys of a source, which are read again when they are old (``CachedKeySet``)."""
        keys = CachedKeySet(source, clock=clock)
        stack.push_async_callback(keys.close)
        return keys

    configs = [tenant.answering.tenant for tenant in tenants.values()]
    contexts = [await option.contexts(settings, configs, cached, stack, clock) for option in installed()]
    revocations = await stack.enter_async_context(open_revocation_sources(settings, configs))
    revoked = {name: RevokedTokens(source, clock=clock) for name, source in revocations.items()}
    verifier = TokenVerifier(
        cached(await stack.enter_async_context(open_key_source(settings))),
        issuer=settings.issuer,
        audience=settings.audience,
        tenants=tenants,
        clock=clock,
        refused=tenants.refused,
        revoked=revoked,
    )
    return Service(
        tenants=tenants,
        contexts=next(filter(None, contexts), None),
        verifier=verifier,
        running=RunningAnswers(),
        rates=AgentRates(clock=clock),
        admissions=admissions(tenants),
        bodies=BytesInFlight(memory_mib=settings.memory_mib),
        metrics=metrics,
        clock=clock,
        console=_console(settings, tenants),
        deployed=DeployedVersions.model_validate(settings, from_attributes=True),
    )


def _console(settings: ServiceSettings, tenants: ServedTenants) -> ConsoleConfig:
    """Return the content of ``config.json``, which the console's page reads at its start. Its lists of
    tenants have their names, sorted."""
    answering = {name: tenant.answering for name, tenant in tenants.items()}
    writing = [name for name, services in answering.items() if services.writes_answers]
    # A recording that plays in place of a model writes answers, but is no live model.
    recorded = [name for name, services in answering.items() if services.writer.model.recorded]
    on_this_machine = settings.models == "embedded"  # where the page can say how to add a model
    unwritten = [name for name in answering if on_this_machine and (name in recorded or name not in writing)]
    config = ConsoleConfig(
        issuer=settings.issuer,
        client_id=settings.console_client_id,
        scopes=("openid",),
        service=settings.console_name,
        # A page that holds the console in a frame and talks to it needs both permissions.
        hosts=tuple(origin for origin in settings.frame_ancestors if origin in settings.cors_origins),
        examples={name: services.tenant.answers.examples for name, services in answering.items()},
        unwritten=tuple(sorted(unwritten)),
        checks=tuple(sorted(name for name, services in answering.items() if services.checks_sentences)),
        originals=settings.originals,
    )
    for option in installed():
        config = option.console(config, tenants)
    return config


def _task_metrics(settings: ServiceSettings, service: Service) -> TaskMetrics | None:
    """Return the metrics that the process reports; None where the settings name no service for them."""
    if settings.metrics_service is None:
        return None
    return TaskMetrics(
        service=settings.metrics_service,
        active=lambda: len(service.running) + len(service.awaited),
        failures=service.metrics.internal_error_count,
        live=service.metrics.live,
        clock=service.clock,
    )


if __name__ == "__main__":
    run(main())
