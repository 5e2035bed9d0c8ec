"""Whether the service can answer: keys, and for each tenant records, index and models that fit together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from assistant.api.auth import Service
from assistant.api.wire import Readiness, ReadinessCheck
from assistant.domain.errors import AssistantError
from assistant.wiring.services import ServedTenant

_CHECK_TIMEOUT_S = 5.0
_FRESH_S = 1.0


class ReadinessProbe:
    """Runs the checks for whoever asks: one round at a time, and at most one a second."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._round: asyncio.Task[Readiness] | None = None
        self._begun_s = float("-inf")

    async def latest(self) -> Readiness:
        """Return the state of every dependency, up to a second old."""
        now_s = self._service.clock.monotonic_s()
        is_old = self._round is None or (self._round.done() and now_s - self._begun_s >= _FRESH_S)
        if self._round is None or is_old:
            self._begun_s = now_s
            self._round = asyncio.create_task(check_readiness(self._service))
        return await asyncio.shield(self._round)


async def check_readiness(service: Service) -> Readiness:
    """Run all checks at once, each within 5 s."""
    running = [_check("keys", None, lambda: _keys(service))]
    for name, tenant in service.tenants.items():
        running += [
            _check("records", name, lambda tenant=tenant: _records(tenant)),
            _check("index", name, lambda tenant=tenant: _index(tenant)),
            _check("models", name, lambda tenant=tenant: _models(tenant)),
        ]
    checks = await asyncio.gather(*running)
    return Readiness(
        ready=all(check.ok for check in checks),
        checked_at=service.clock.now(),
        checks=tuple(checks),
        deployed=service.deployed,
    )


async def _check(name: str, tenant: str | None, work: Callable[[], Awaitable[str]]) -> ReadinessCheck:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            return ReadinessCheck(name=name, tenant=tenant, ok=True, detail=await work())
    except TimeoutError:
        detail = f"no answer within {_CHECK_TIMEOUT_S:.0f} s"
    except (AssistantError, _MismatchError) as error:
        detail = str(error)
    return ReadinessCheck(name=name, tenant=tenant, ok=False, detail=detail)


class _MismatchError(Exception):
    """Two parts that do not fit together."""


async def _keys(service: Service) -> str:
    await service.keys.check()
    return "loaded"


async def _records(tenant: ServedTenant) -> str:
    await tenant.answering.records.get_answer("readiness")
    return "readable"


async def _index(tenant: ServedTenant) -> str:
    info = await tenant.answering.search.info()
    model = tenant.embedding_model
    if (info.embedding_model, info.dimensions) != (model.model, model.dimensions):
        raise _MismatchError(
            f"index {info.index_version} was built with {info.embedding_model} "
            f"({info.dimensions} dimensions), the endpoint serves {model.model} ({model.dimensions})"
        )
    await tenant.answering.index_watch.require_whole()
    return f"{info.index_version}: {info.document_count} documents, {info.passage_count} passages"


async def _models(tenant: ServedTenant) -> str:
    if not tenant.answering.writes_answers:  # the generation model is never asked, and may not be there
        return "answers are quoted; no model writes"
    served, config = tenant.answering.model, tenant.answering.tenant
    if served.model_id != config.generation.model:
        raise _MismatchError(f"the tenant names {config.generation.model}, the artifact {served.model_id}")
    return f"{served.model_id} {(served.digest or 'unknown')[:12]}"
