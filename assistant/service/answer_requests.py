"""``POST /v1/answers`` on raw ASGI: nothing stands between a token and the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from assistant.answering.asking import AnswerRequest
from assistant.answering.events import Problem
from assistant.answering.interruption import Cause
from assistant.bootstrap import ServedTenant
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError, InvalidRequestError
from assistant.domain.identity import Identity, Role
from assistant.service.admission import Admission
from assistant.service.answer_writing import (
    AnswerWriting,
    ProblemBeforeFirstEventError,
    StalledReaderError,
    StreamLimits,
    send_stream,
    send_whole,
)
from assistant.service.identity import require_role
from assistant.service.metrics import AnswerObserver
from assistant.service.outbox import Outbox
from assistant.service.problems import internal_problem, problem_of, send_problem
from assistant.service.request_body import ClientGoneError, parse_body, read_body
from assistant.service.wiring import Service

Result = TypeVar("Result")
_CANCEL_TIMEOUT_S = 1.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    identity: Identity
    request: AnswerRequest
    tenant: ServedTenant
    deadline: Deadline
    started_s: float


@dataclass(slots=True)
class AnswerRequests:
    """The endpoint as an ASGI application."""

    service: Service
    admissions: Mapping[str, Admission]
    limits: StreamLimits = field(default_factory=StreamLimits)
    _writings: set[AnswerWriting] = field(default_factory=set[AnswerWriting])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            asked = await self._read(scope, receive)
            await self._answer(asked, scope, receive, send)
        except ClientGoneError:
            return
        except AssistantError as error:
            await self._refuse(send, problem_of(error), retry_after_s=error.retry_after_s)
        except ProblemBeforeFirstEventError as error:
            await self._refuse(send, error.problem)
        except Exception:  # noqa: BLE001 - the edge
            _log.exception("answer_request_failed")
            await self._refuse(send, internal_problem())  # too late for a status: the server closes

    async def settle(self, *, within_s: float) -> None:
        """End the answers that are still written, at the process's end, and have them recorded."""
        for writing in self._writings:
            writing.prepared.cancel(Cause.DISCONNECTED)
        if self._writings:
            await asyncio.wait([writing.task for writing in self._writings], timeout=within_s)
        for tenant in self.service.tenants.values():
            await tenant.answer_question.settle(within_s=within_s)

    async def _refuse(self, send: Send, problem: Problem, *, retry_after_s: float | None = None) -> None:
        self.service.metrics.refused.labels(problem.code).inc()
        await send_problem(send, problem, retry_after_s=retry_after_s)

    async def _read(self, scope: Scope, receive: Receive) -> _Asked:
        started_s = self.service.clock.monotonic_s()
        headers = Headers(scope=scope)
        identity = await self.service.verifier.identify(headers.get("authorization"))
        require_role(identity, Role.AGENT)
        if "idempotency-key" in headers:
            raise InvalidRequestError(
                "The header Idempotency-Key is not supported, leave it out: each request is a new answer."
            )
        request = parse_body(await read_body(scope, receive), AnswerRequest)
        tenant = self.service.tenants[identity.tenant]
        limit_s = tenant.answering.tenant.limits.answer_deadline_s
        return _Asked(identity, request, tenant, Deadline(started_s + limit_s, self.service.clock), started_s)

    async def _answer(self, asked: _Asked, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_until_gone(receive))
        try:
            writing = await self._begin(asked, gone)
            gone.add_done_callback(
                lambda task: None if task.cancelled() else writing.prepared.cancel(Cause.DISCONNECTED)
            )
            deliver = send_stream if wants_stream(Headers(scope=scope).get("accept")) else send_whole
            await deliver(writing, send, limits=self.limits)
        except StalledReaderError:
            # returning without an end makes the server close; the answer itself goes on to its record
            _log.warning("reader_stalled", tenant=asked.identity.tenant)
            self.service.metrics.stalled.labels(asked.identity.tenant).inc()
        finally:
            gone.cancel()

    async def _begin(self, asked: _Asked, gone: asyncio.Task[None]) -> AnswerWriting:
        """Prepare the answer and start writing it. What it holds is given back when the writing ends."""
        name, agent = asked.identity.tenant, asked.identity.agent
        leave = self.admissions[name].enter(agent)
        try:
            prepared = await _unless_gone(
                asked.tenant.answer_question.prepare(
                    asked.request, identity=asked.identity, deadline=asked.deadline
                ),
                gone,
            )
        except BaseException:
            leave()
            raise
        observer = AnswerObserver(
            self.service.metrics, tenant=name, started_s=asked.started_s, clock=self.service.clock
        )
        writing = AnswerWriting(
            prepared,
            asked.tenant.answer_question.stream(prepared),
            observer=observer,
            outbox=Outbox(limit_bytes=self.limits.outbox_bytes),
        )
        self._hold(writing, leave)
        return writing

    def _hold(self, writing: AnswerWriting, leave: Callable[[], None]) -> None:
        active = self.service.metrics.active_streams.labels(writing.prepared.identity.tenant)

        def end(_task: asyncio.Task[None]) -> None:
            self._writings.discard(writing)
            self.service.running.remove(writing.prepared)
            active.dec()
            leave()

        self._writings.add(writing)
        self.service.running.add(writing.prepared)
        active.inc()
        writing.task.add_done_callback(end)


def wants_stream(accept: str | None) -> bool:
    """Say whether ``text/event-stream`` is accepted, and at least as gladly as JSON."""
    weights: dict[str, float] = {}
    for part in (accept or "").split(","):
        media_type, *parameters = [piece.strip() for piece in part.split(";")]
        quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        try:
            weights[media_type.lower()] = float(quality)
        except ValueError:
            weights[media_type.lower()] = 0.0
    stream = weights.get("text/event-stream", 0.0)
    return stream > 0.0 and stream >= weights.get("application/json", 0.0)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _unless_gone(work: Coroutine[Any, Any, Result], gone: asyncio.Task[None]) -> Result:
    """Return what ``work`` returns; end it and raise ClientGoneError when the client leaves before."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_TIMEOUT_S)
