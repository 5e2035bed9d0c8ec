"""``POST /v1/answers`` and ``GET /v1/answers/{id}/events``, on raw ASGI: a token goes right to the socket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from assistant.answering.events import Problem
from assistant.answering.interruption import Cause
from assistant.answering.prepare import AnswerRequest
from assistant.api.answer_exchange import AnswerExchange
from assistant.api.answer_starting import Asked
from assistant.api.answer_writing import StreamLimits
from assistant.api.delivery import ProblemBeforeFirstEventError, send_stream, send_whole
from assistant.api.identity import require_role
from assistant.api.problems import internal_problem, log_failure, problem_of, send_problem
from assistant.api.reader_watch import StalledReaderError
from assistant.api.request_body import ClientGoneError, parse_body, read_body
from assistant.api.wiring import Service
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError, InvalidRequestError
from assistant.domain.identity import Identity, Role

EVENTS_PATH = re.compile(r"/v1/answers/([A-Za-z0-9_-]{1,64})/events")


_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_log = structlog.get_logger(__name__)


class SendRefusal(Protocol):
    """How an endpoint answers with a problem."""

    async def __call__(self, send: Send, problem: Problem, *, retry_after_s: float | None = None) -> None: ...


@dataclass(slots=True)
class AnswerRequests:
    """The two streaming endpoints, as ASGI applications."""

    service: Service
    exchange: AnswerExchange
    limits: StreamLimits = field(default_factory=StreamLimits)

    async def ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``POST /v1/answers``."""

        async def work() -> None:
            headers = Headers(scope=scope)
            identity = await self.identify(headers)
            request = parse_body(await read_body(scope, receive), AnswerRequest)
            asked = self.asked(request, identity, key=idempotency_key(headers))
            deliver = send_stream if wants_stream(headers.get("accept")) else send_whole
            async with self.exchange.asking(asked, receive) as reading:
                await deliver(reading, send, limits=self.limits)

        await self.at_edge(work, send)

    async def resume(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``GET /v1/answers/{id}/events``."""

        async def work() -> None:
            headers = Headers(scope=scope)
            identity = await self.identify(headers)
            matched = EVENTS_PATH.fullmatch(scope["path"])
            answer_id = matched[1] if matched else ""
            after = _after(headers.get("last-event-id"), answer_id)
            async with self.exchange.following(answer_id, identity, receive, after=after) as reading:
                await send_stream(reading, send, limits=self.limits)

        await self.at_edge(work, send)

    def asked(self, request: AnswerRequest, identity: Identity, *, key: str | None = None) -> Asked:
        """Return the question with the deadline that begins now."""
        tenant, clock = self.service.tenants[identity.tenant], self.service.clock
        started_s = clock.monotonic_s()
        deadline = Deadline(started_s + tenant.answering.tenant.limits.answer_deadline_s, clock)
        return Asked(identity, request, tenant, deadline, started_s, key)

    async def at_edge(
        self, work: Callable[[], Awaitable[None]], send: Send, *, send_refusal: SendRefusal = send_problem
    ) -> None:
        """Run one request; what it raises becomes a status, or the end of the connection."""
        try:
            await work()
        except ClientGoneError:
            return
        except StalledReaderError:
            # returning without an end makes the server close; the answer itself goes on to its record
            _log.warning("reader_stalled")
            self.service.metrics.stalled.inc()
        except AssistantError as error:
            await self.refuse(send, problem_of(error), send_refusal, retry_after_s=error.retry_after_s)
        except ProblemBeforeFirstEventError as error:
            await self.refuse(send, error.problem, send_refusal)
        except Exception:  # noqa: BLE001 - the edge
            _log.exception("answer_request_failed")
            # after the first event it is too late for a status: the server closes
            await self.refuse(send, internal_problem(), send_refusal)

    async def settle(self, *, within_s: float, record_within_s: float) -> None:
        """At the process's end: let answers whose readers may come back reach their end, then end the rest
        and have all of them recorded."""
        for writing in self.service.running:
            if writing.log is None:
                writing.cancel(Cause.DISCONNECTED)
        await _wait([writing.task for writing in self.service.running], within_s=within_s)
        for writing in self.service.running:
            writing.cancel(Cause.DISCONNECTED)
        await _wait([writing.task for writing in self.service.running], within_s=record_within_s)
        await self.exchange.close()
        await self.exchange.start.settle_logs(within_s=record_within_s)
        for tenant in self.service.tenants.values():
            await tenant.answer_question.settle(within_s=record_within_s)

    async def identify(self, headers: Headers) -> Identity:
        """Return the agent who calls. Raises UnauthenticatedError, ForbiddenError."""
        identity = await self.service.verifier.identify(headers.get("authorization"))
        require_role(identity, Role.AGENT)
        return identity

    async def refuse(
        self,
        send: Send,
        problem: Problem,
        send_refusal: SendRefusal = send_problem,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        """Answer with a problem, in the endpoint's own form."""
        self.service.metrics.refuse(problem.code)
        log_failure(problem)
        await send_refusal(send, problem, retry_after_s=retry_after_s)


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


def idempotency_key(headers: Headers) -> str | None:
    """Return the key that the caller gave. Raises InvalidRequestError."""
    key = headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequestError("Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return key


def _after(last_event_id: str | None, answer_id: str) -> int:
    """Return the sequence that the reader has seen last; 0 from the beginning."""
    if not last_event_id:
        return 0
    owner, _, sequence = last_event_id.rpartition(":")
    if owner != answer_id or not (sequence.isascii() and sequence.isdigit() and len(sequence) <= 9):
        raise InvalidRequestError("Last-Event-ID must be the id of an event of this very answer.")
    return int(sequence)


async def _wait(tasks: list[asyncio.Task[None]], *, within_s: float) -> None:
    if tasks and within_s > 0:
        await asyncio.wait(tasks, timeout=within_s)
