"""``python -m assistant.service``: settings from the environment, see ServiceSettings."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from assistant.bootstrap import ServedTenant, open_tenants
from assistant.domain.clock import SystemClock
from assistant.http_process import open_socket, run, serve
from assistant.service.admission import Admission
from assistant.service.answer_requests import AnswerRequests
from assistant.service.answer_writing import StreamLimits
from assistant.service.application import Application, build_application
from assistant.service.identity import TokenVerifier
from assistant.service.keys import JwksKeySet
from assistant.service.metrics import ServiceMetrics
from assistant.service.running_answers import RunningAnswers
from assistant.service.wire import ConsoleConfig
from assistant.service.wiring import Service
from assistant.settings import ServiceSettings
from assistant.telemetry import configure_logging, configure_tracing

_SETTLE_S = 5.0
"""For the records of answers that the end of the process cut off."""


async def main() -> None:
    settings = ServiceSettings.read()
    configure_logging(settings.log_level)
    configure_tracing("assistant-service", otlp_endpoint=settings.otlp_endpoint)
    listener = open_socket(settings.host, settings.port)
    async with open_tenants(settings) as tenants, open_application(settings, tenants) as application:
        await serve(application, listener, shutdown_timeout_s=settings.drain_timeout_s)


@asynccontextmanager
async def open_application(
    settings: ServiceSettings, tenants: Mapping[str, ServedTenant], *, limits: StreamLimits | None = None
) -> AsyncGenerator[Application]:
    """Put the application together; on leaving, end what is still written and have it recorded."""
    clock = SystemClock()
    keys = JwksKeySet(settings.jwks_url, clock=clock)
    verifier = TokenVerifier(
        keys, issuer=settings.issuer, audience=settings.audience, tenants=tenants, clock=clock
    )
    service = Service(
        tenants=tenants,
        keys=keys,
        verifier=verifier,
        running=RunningAnswers(),
        metrics=ServiceMetrics(),
        clock=clock,
        console=ConsoleConfig(
            issuer=settings.issuer,
            client_id=settings.console_client_id,
            scopes=("openid",),
            service=settings.console_name,
        ),
    )
    answers = AnswerRequests(service, _admissions(tenants), limits or StreamLimits())
    try:
        yield build_application(service, answers)
    finally:
        await answers.settle(within_s=_SETTLE_S)
        await keys.close()


def _admissions(tenants: Mapping[str, ServedTenant]) -> dict[str, Admission]:
    limits = {name: tenant.answering.tenant.limits for name, tenant in tenants.items()}
    return {
        name: Admission(streams=limit.streams, streams_per_agent=limit.streams_per_agent)
        for name, limit in limits.items()
    }


if __name__ == "__main__":
    run(main())
