"""``python -m assistant.service``: the service process. ``ServiceSettings`` are read from the environment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from assistant.answer.adaptations import Adaptations
from assistant.domain.clock import Clock, SystemClock
from assistant.option import Place
from assistant.process.http import open_socket, run, self_signed_context, serve
from assistant.process.settings import ServiceSettings
from assistant.process.telemetry import configure_logging, configure_tracing
from assistant.service.answers import Answers
from assistant.service.app import Application, OtherOrigins, build_application
from assistant.service.health import ServiceMetrics, TaskMetrics, TenantReads, report_metrics
from assistant.service.identity import (
    CachedKeySet,
    Contexts,
    KeySet,
    KeySource,
    RevokedTokens,
    Service,
    TokenVerifier,
)
from assistant.service.opened import open_tenants
from assistant.service.running import AgentRates, RunningAnswers, admissions, watch_cancellations
from assistant.service.served import ServedTenant, ServedTenants
from assistant.service.streams import BytesInFlight, StreamLimits
from assistant.service.wire import ConsoleConfig, DeployedVersions
from assistant.stores.clients import open_key_source, open_revocation_sources
from assistant.tenant.tenant import TenantConfig
from assistant.text.caches import FORGET_EVERY_S, forget_regularly

RUNS = Place[Callable[[ServedTenant], Sequence[Coroutine[Any, Any, None]]]]("runs of a tenant")
"""Functions that options add: each returns coroutines that run beside a tenant's answers until they are
cancelled."""
CONTEXTS = Place[
    Callable[
        [ServiceSettings, Sequence[TenantConfig], Callable[[KeySource], KeySet], AsyncExitStack, Clock],
        Awaitable[Contexts],
    ]
]("contexts of questions")
"""The function by which an option opens the verifier of context tokens; without one, no question has a
context."""
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
        port = operations.getsockname()[1]
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
    """Build the application. At the end, settle the answers in progress and write their records.

    ``metrics`` are those that observe the tenants' live systems.
    """
    async with AsyncExitStack() as stack:
        service = await _service(settings, tenants, stack, metrics or ServiceMetrics())
        answers = Answers(service, limits or StreamLimits())
        await _load_first([tenant.answer_question.adaptations for tenant in tenants.values()])
        watches = [asyncio.create_task(watch_cancellations(tenants, service.running))]
        watches += [asyncio.create_task(tenants.run(name)) for name in tenants]
        watches += [asyncio.create_task(_watch(tenants, name)) for name in tenants]
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


async def _watch(tenants: ServedTenants, name: str) -> None:
    """Run what a tenant needs beside its answers; start it again when the tenant is served from another
    index."""
    while True:
        served = tenants[name]
        tasks = [
            asyncio.create_task(served.answering.index_watch.run()),
            asyncio.create_task(served.answer_question.adaptations.run()),
            *(asyncio.create_task(run) for runs in RUNS.joined() for run in runs(served)),
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
    """Return what all requests of the process share. Its sources of keys are closed with the stack."""
    clock = SystemClock()

    def cached(source: KeySource) -> CachedKeySet:
        keys = CachedKeySet(source, clock=clock)
        stack.push_async_callback(keys.close)
        return keys

    configs = [tenant.answering.tenant for tenant in tenants.values()]
    contexts = [await open_one(settings, configs, cached, stack, clock) for open_one in CONTEXTS.joined()]
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
        contexts=next(iter(contexts), None),
        verifier=verifier,
        running=RunningAnswers(),
        rates=AgentRates(clock=clock),
        admissions=admissions(tenants),
        bodies=BytesInFlight(memory_mib=settings.memory_mib),
        metrics=metrics,
        clock=clock,
        console=ConsoleConfig(
            issuer=settings.issuer,
            client_id=settings.console_client_id,
            scopes=("openid",),
            service=settings.console_name,
            hosts=tuple(origin for origin in settings.frame_ancestors if origin in settings.cors_origins),
            delivers=tuple(
                sorted(name for name, tenant in tenants.items() if tenant.answering.live.replies is not None)
            ),
            replies=tuple(sorted(name for name, each in tenants.items() if each.answering.writes_answers)),
            guards={name: each.answering.tenant.guard for name, each in tenants.items()},
            examples={name: each.answering.tenant.answers.examples for name, each in tenants.items()},
            unwritten=tuple(
                sorted(
                    name
                    for name, each in tenants.items()
                    if settings.models == "embedded"
                    and (each.answering.writer.model.recorded or not each.answering.writes_answers)
                )
            ),
        ),
        deployed=DeployedVersions.model_validate(settings, from_attributes=True),
    )


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
