"""The endpoints of answers: ask, resume, read, cancel, mark and keep what was sent.

``POST /v1/answers`` and ``GET /v1/answers/{id}/events`` are raw ASGI: FastAPI's layers would cost each
token CPU.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Protocol, TypeVar

import structlog
from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from assistant.answering.events import Cause, Problem
from assistant.answering.ports import DocumentTexts, LogOpening, LogReading
from assistant.answering.prepare import AnswerRequest, PreparedAnswer
from assistant.answering.reading import AnswerReading
from assistant.api.auth import Caller, Service, ServiceOf, require_role
from assistant.api.delivery import Numbered, ProblemBeforeFirstEventError, Reading, send_stream, send_whole
from assistant.api.errors import (
    NOT_FOUND,
    body_of,
    internal_problem,
    log_failure,
    problem_of,
    problems,
    send_problem,
)
from assistant.api.health import AnswerObserver
from assistant.api.limits import (
    Admission,
    ClientGoneError,
    StalledReaderError,
    StreamLimits,
    parse_body,
    read_body,
)
from assistant.api.resume import KeptEvents, LogFollower, refuse_withdrawn, settle_lapsed
from assistant.api.running import LoggedAnswer, RunningAnswer
from assistant.api.wire import Conversation, StoredAnswer
from assistant.domain.answers import Sent, StoredSent, StoredVerdict, Verdict
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    AssistantError,
    ConflictError,
    DependencyError,
    EndpointPausedError,
    InvalidRequestError,
    NotFoundError,
    NotResumableError,
    RecordsUnavailableError,
    WithdrawnError,
)
from assistant.domain.identity import Identity, Role
from assistant.wiring.services import ServedTenant

Result = TypeVar("Result")
_CANCEL_TIMEOUT_S = 1.0
_OPEN_TIMEOUT_S = 3.0
_HEAD_START_S = 0.001
"""For the call of the embedding endpoint, which takes a few turns of the loop and then many milliseconds."""
_PAUSED_RETRY_S = 30.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, who asks it, and how."""

    identity: Identity
    request: AnswerRequest
    tenant: ServedTenant
    deadline: Deadline
    started_s: float
    key: str | None = None
    """``Idempotency-Key``: a repeat under it joins the first answer."""

    @property
    def is_logged(self) -> bool:
        return self.key is not None or self.request.resume_window_s > 0

    def opening(self, answer_id: str, conversation_id: str) -> LogOpening:
        unfinished = self.tenant.answer_question.unfinished_record(
            self.request, identity=self.identity, answer_id=answer_id, conversation_id=conversation_id
        )
        return LogOpening(
            answer_id=answer_id,
            agent=self.identity.agent,
            request_hash=hashlib.sha256(self.request.model_dump_json().encode()).hexdigest(),
            key=self.key,
            context=unfinished.model_dump_json(),
        )


class JoinedAnswer(Exception):
    """The key stands for an answer that was begun before."""

    def __init__(self, answer_id: str) -> None:
        super().__init__(answer_id)
        self.answer_id = answer_id


class StartAnswer:
    """Admits a question, prepares its answer beside opening its log, and has it written."""

    def __init__(self, service: Service, admissions: Mapping[str, Admission], limits: StreamLimits) -> None:
        self._service = service
        self._admissions = admissions
        self._limits = limits
        self._logging: set[asyncio.Task[None]] = set()

    async def settle_logs(self, *, within_s: float) -> None:
        """Wait for the last batches of answers that have ended: without them their followers would be told
        that they were interrupted."""
        if self._logging:
            await asyncio.wait(self._logging, timeout=within_s)

    async def start(self, asked: Asked, gone: asyncio.Task[None]) -> RunningAnswer:
        """Return the answer once its first event is due. What it holds is given back when it ends.

        Raises JoinedAnswer, ClientGoneError (``gone`` ended before), EndpointPausedError, OverloadedError,
        ConflictError (the key was used for another question), and what ``AnswerQuestion.prepare`` raises.
        """
        if await asked.tenant.power.is_paused():
            raise EndpointPausedError(
                "The model endpoints are paused. Ask the platform team to wake them, then ask again.",
                retry_after_s=_PAUSED_RETRY_S,
            )
        leave = self._admissions[asked.identity.tenant].enter(asked.identity.agent)
        try:
            prepared, log = await self._prepare(asked, gone)
        except BaseException:
            leave()
            raise
        return self._write(asked, prepared, log, leave)

    async def _prepare(
        self, asked: Asked, gone: asyncio.Task[None]
    ) -> tuple[PreparedAnswer, LoggedAnswer | None]:
        answering = asked.tenant.answering
        answer_id = answering.new_id()
        conversation_id = asked.request.conversation_id or answering.new_id()
        preparing = asked.tenant.answer_question.prepare(
            asked.request,
            identity=asked.identity,
            deadline=asked.deadline,
            answer_id=answer_id,
            conversation_id=conversation_id,
        )
        if not asked.is_logged:
            return await _unless_gone(preparing, gone), None
        work = asyncio.create_task(_unless_gone(preparing, gone))
        try:
            # What the opening holds and its writing are made while the embedding is waited for.
            await asyncio.sleep(_HEAD_START_S)
            if work.done():
                work.result()
            return await self._prepare_logged(asked, asked.opening(answer_id, conversation_id), work)
        finally:
            await _ended(work)

    async def _prepare_logged(
        self, asked: Asked, opening: LogOpening, work: asyncio.Task[PreparedAnswer]
    ) -> tuple[PreparedAnswer, LoggedAnswer | None]:
        try:
            is_open = await self._open(asked, opening)
            prepared = await work
        except (JoinedAnswer, ConflictError):
            raise
        except BaseException:
            await self._release(asked, opening)
            raise
        log = LoggedAnswer(asked.tenant.log, opening, excerpts=prepared.excerpts) if is_open else None
        return prepared, log

    async def _open(self, asked: Asked, opening: LogOpening) -> bool:
        """Open the log; say whether there is one. Without a key an answer is worth more than its log."""
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                first = await asked.tenant.log.open(opening)
        except (RecordsUnavailableError, TimeoutError):
            if asked.key is not None:
                raise RecordsUnavailableError(
                    "The Idempotency-Key cannot be looked up just now; send the same request again."
                ) from None
            _log.warning("answer_not_logged", answer_id=opening.answer_id)
            return False
        if first.answer_id == opening.answer_id:
            return True
        if first.request_hash != opening.request_hash:
            raise ConflictError("This Idempotency-Key was used for another request; choose a new one.")
        raise JoinedAnswer(first.answer_id)

    async def _release(self, asked: Asked, opening: LogOpening) -> None:
        """Forget a log whose answer never began, so that the same key may try again."""
        try:
            async with asyncio.timeout(_CANCEL_TIMEOUT_S):
                await asked.tenant.log.release(opening)
        except (AssistantError, TimeoutError) as error:
            _log.warning("log_not_released", answer_id=opening.answer_id, error=type(error).__name__)

    def _write(
        self, asked: Asked, prepared: PreparedAnswer, log: LoggedAnswer | None, leave: Callable[[], None]
    ) -> RunningAnswer:
        name, service = asked.identity.tenant, self._service
        writing = RunningAnswer(
            prepared,
            asked.tenant.answer_question.stream(prepared, resumable=log is not None),
            observer=AnswerObserver(
                service.metrics, tenant=name, started_s=asked.started_s, clock=service.clock
            ),
            limits=self._limits,
            log=log,
        )
        active = service.metrics.active_streams.labels(name)

        def end(_task: asyncio.Task[None]) -> None:
            service.running.remove(writing)
            active.dec()
            leave()

        if log is not None:
            self._logging.add(log.task)
            log.task.add_done_callback(self._logging.discard)
        service.running.add(writing)
        active.inc()
        writing.task.add_done_callback(end)
        return writing


async def until_gone(receive: Receive) -> None:
    """Return when the client has left."""
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
        await _ended(task)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel the task unless it is done, and wait for its end within a bound."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_TIMEOUT_S)
    if task.done() and not task.cancelled():
        task.exception()  # seen: another error came first


# One reader of one answer, over one connection.


_FOLLOW_GRACE_S = 30.0
"""Beyond the answer's deadline: an owner that is gone is found out within its lease."""


@dataclass(slots=True)
class AnswerExchange:
    """Opens readings: of an answer that is asked for, and of one that a reader comes back to."""

    service: Service
    start: StartAnswer
    follow_admissions: Mapping[str, Admission]
    _judging: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, asyncio.Task[None]])
    """By answer: what looks on for an owner whose reader left before it was heard of."""

    async def close(self) -> None:
        for task in self._judging.values():
            task.cancel()
        await asyncio.gather(*self._judging.values(), return_exceptions=True)

    @asynccontextmanager
    async def asking(self, asked: Asked, receive: Receive) -> AsyncGenerator[Reading]:
        """Begin the answer, or join the one that its key stands for. When the client leaves, its answer ends,
        at once or after its window. Raises what ``StartAnswer.start`` raises."""
        gone = asyncio.create_task(until_gone(receive))
        try:
            try:
                writing = await self.start.start(asked, gone)
            except JoinedAnswer as joined:
                async with self._joined(joined.answer_id, asked, gone) as reading:
                    yield reading
                return
            async with _attached(writing, gone, after=0) as reading:
                yield reading
        finally:
            gone.cancel()

    @asynccontextmanager
    async def following(
        self, answer_id: str, identity: Identity, receive: Receive, *, after: int
    ) -> AsyncGenerator[Reading]:
        """Come back to an answer of the caller's own, after an event.

        Raises NotFoundError, NotResumableError (its events were not kept, or have expired), OverloadedError,
        RecordsUnavailableError.
        """
        gone = asyncio.create_task(until_gone(receive))
        try:
            async with self._following(answer_id, identity, gone, after=after) as reading:
                yield replace(reading, is_resumed=True)
        finally:
            gone.cancel()

    @asynccontextmanager
    async def _joined(
        self, answer_id: str, asked: Asked, gone: asyncio.Task[None]
    ) -> AsyncGenerator[Reading]:
        try:
            async with self._following(answer_id, asked.identity, gone, after=0) as reading:
                yield reading
        except NotFoundError:
            # between the claim and now the first one failed before its first event
            raise DependencyError("The first request under this key failed; send it again.") from None

    @asynccontextmanager
    async def _following(
        self, answer_id: str, identity: Identity, gone: asyncio.Task[None], *, after: int
    ) -> AsyncGenerator[Reading]:
        tenant = self.service.tenants[identity.tenant]
        writing = self.service.running.find(answer_id, identity=identity)
        if writing is not None:
            if writing.log is None:
                raise NotResumableError(_NOT_KEPT)
            refusal = await _refusal(writing, identity, texts=tenant.answering.texts)
            if refusal is not None:
                yield Reading(answer_id, refusal, writing.remaining_s())
                return
            async with _attached(writing, gone, after=after) as reading:
                yield reading
            return
        log_reading = await _own_log(tenant, answer_id, identity)
        leave = self.follow_admissions[identity.tenant].enter(identity.agent)
        follower = LogFollower(
            tenant.log,
            log_reading,
            after=after,
            clock=self.service.clock,
            on_lapse=partial(
                settle_lapsed,
                answer_id,
                log=tenant.log,
                records=tenant.answering.records,
                clock=self.service.clock,
            ),
            kept=KeptEvents(tenant.answering.texts, labels=identity.labels),
        )
        gone.add_done_callback(lambda _: follower.stop())
        self.service.followers.add(follower)
        try:
            limit_s = tenant.answering.tenant.limits.answer_deadline_s + _FOLLOW_GRACE_S
            yield Reading(answer_id, follower, limit_s)
        finally:
            self.service.followers.discard(follower)
            leave()
            self._judge_owner(answer_id, follower)

    def _judge_owner(self, answer_id: str, follower: LogFollower) -> None:
        if follower.is_judged or answer_id in self._judging:
            return
        task = asyncio.create_task(follower.judge_owner())
        self._judging[answer_id] = task
        task.add_done_callback(lambda _: self._judging.pop(answer_id))


_NOT_KEPT = "The events of this answer were not kept, or have expired; read the answer itself."


@asynccontextmanager
async def _attached(
    writing: RunningAnswer, gone: asyncio.Task[None], *, after: int
) -> AsyncGenerator[Reading]:
    outbox = writing.attach(after=after)

    def leave(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            writing.leave(outbox)

    gone.add_done_callback(leave)
    try:
        prepared = writing.prepared
        yield Reading(prepared.answer_id, outbox, writing.remaining_s(), certainty=prepared.certainty)
    finally:
        writing.detach(outbox)


class _Ended:
    """An ``EventReader`` of an answer that is not sent again."""

    def __init__(self, problem: Problem) -> None:
        self._left: list[Numbered] = [(0, problem)]

    async def take(self, *, beat_s: float) -> list[Numbered] | None:  # noqa: ARG002 - of the protocol
        taken, self._left = self._left, []
        return taken or None


async def _refusal(writing: RunningAnswer, identity: Identity, *, texts: DocumentTexts) -> _Ended | None:
    """Return the end for a reader who may not read a source any more of an answer that is written here."""
    shown = {ranked.passage.document_id for ranked in writing.prepared.shown}
    try:
        await refuse_withdrawn(shown, texts, labels=identity.labels)
    except WithdrawnError as error:
        return _Ended(problem_of(error))
    return None


async def _own_log(tenant: ServedTenant, answer_id: str, identity: Identity) -> LogReading:
    reading = await tenant.log.read(answer_id)
    if reading is not None and reading.opening.agent == identity.agent:
        return reading
    record = await tenant.answering.records.get_answer(answer_id)
    if reading is None and record is not None and record.agent == identity.agent:
        raise NotResumableError(_NOT_KEPT)
    raise NotFoundError(NOT_FOUND)


# ``POST /v1/answers`` and ``GET /v1/answers/{id}/events``, on raw ASGI: a token goes right to the socket.


EVENTS_PATH = re.compile(r"/v1/answers/([A-Za-z0-9_-]{1,64})/events")


_KEY = re.compile(r"[\x21-\x7e]{1,255}")


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


# Answers read back, marked, sent and cancelled. Asking itself stands in ``answer_requests``.


router = APIRouter(tags=["answers"])


@router.get("/v1/answers", responses=problems(401, 403, 404, 422, 503))
async def read_conversation(
    service: ServiceOf, caller: Caller, conversation_id: Annotated[str, Query(min_length=1, max_length=64)]
) -> Conversation:
    """The newest 50 answers of a conversation, oldest first: an agent's own; any to an auditor."""
    require_role(caller, Role.AGENT, Role.AUDITOR)
    readings = await service.tenants[caller.tenant].read_answers.conversation(
        conversation_id, identity=caller
    )
    return Conversation(conversation_id=conversation_id, answers=tuple(map(_stored, readings)))


@router.get("/v1/answers/{answer_id}", responses=problems(401, 403, 404, 422, 503))
async def read_answer(service: ServiceOf, caller: Caller, answer_id: str) -> StoredAnswer:
    """One answer with all that was said of it: an agent's own; any to an auditor, whose read is recorded."""
    require_role(caller, Role.AGENT, Role.AUDITOR)
    return _stored(await service.tenants[caller.tenant].read_answers.one(answer_id, identity=caller))


@router.delete("/v1/answers/{answer_id}", status_code=204, responses=problems(401, 403, 404, 422, 503))
async def cancel_answer(service: ServiceOf, caller: Caller, answer_id: str) -> Response:
    """Cancel the caller's own answer at once; one that has ended stays as it is."""
    require_role(caller, Role.AGENT)
    if writing := service.running.find(answer_id, identity=caller):
        writing.cancel()
    else:
        await _cancel_elsewhere(service.tenants[caller.tenant], answer_id, caller)
    return Response(status_code=204)


async def _cancel_elsewhere(tenant: ServedTenant, answer_id: str, caller: Identity) -> None:
    """Tell the task that writes the answer, if it has a log; one that has ended stays as it is."""
    reading = await tenant.log.read(answer_id)
    if reading is not None and reading.opening.agent == caller.agent:
        if not (reading.batches and reading.batches[-1].ended):
            await tenant.log.signal_cancel(answer_id)
        return
    record = await tenant.answering.records.get_answer(answer_id)
    if record is None or record.agent != caller.agent:
        raise NotFoundError(NOT_FOUND)


@router.post(
    "/v1/answers/{answer_id}/verdict",
    responses=problems(400, 401, 403, 404, 409, 413, 422, 503),
    openapi_extra=body_of(Verdict),
)
async def give_verdict(request: Request, service: ServiceOf, caller: Caller, answer_id: str) -> StoredVerdict:
    """Mark the caller's own answer. The same verdict_id with the same content is kept once."""
    require_role(caller, Role.AGENT)
    verdict = parse_body(await read_body(request.scope, request.receive), Verdict)
    tenant = service.tenants[caller.tenant]
    return await tenant.append_to_answer.verdict(answer_id, verdict, identity=caller)


@router.post(
    "/v1/answers/{answer_id}/sent",
    responses=problems(400, 401, 403, 404, 409, 413, 422, 503),
    openapi_extra=body_of(Sent),
)
async def keep_sent(request: Request, service: ServiceOf, caller: Caller, answer_id: str) -> StoredSent:
    """Keep what the agent sent to the patient. The same send_id with the same content is kept once."""
    require_role(caller, Role.AGENT)
    sent = parse_body(await read_body(request.scope, request.receive), Sent)
    return await service.tenants[caller.tenant].append_to_answer.sent(answer_id, sent, identity=caller)


def _stored(reading: AnswerReading) -> StoredAnswer:
    return StoredAnswer(
        record=reading.record, sources=reading.sources, verdicts=reading.verdicts, sent=reading.sent
    )
