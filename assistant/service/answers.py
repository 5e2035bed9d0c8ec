"""The endpoints of answers: ask, come back, read, cancel, mark and keep what was sent.

``POST /v1/answers`` and ``GET /v1/answers/{id}/events`` are raw ASGI: FastAPI's layers would cost each
token CPU. A question goes ``Answers.ask`` → ``asking`` (start or join) → ``RunningAnswer`` → ``send_stream``.

An *Idempotency-Key* belongs to the first answer that was asked for under it: its ``Claim`` is stored.
``gone`` is everywhere the task that ends when the client has disconnected (``_until_gone``).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol, TypeVar

import orjson
import structlog
from fastapi import APIRouter, Query, Response
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from assistant.answer.call import AnswerCall
from assistant.answer.events import AnswerEvent, Problem
from assistant.answer.question import AnswerIds
from assistant.answer.request import AnswerRequest
from assistant.answer.text_end import DISCONNECTED
from assistant.domain import errors
from assistant.domain.answers import (
    Act,
    StoredAct,
    StoredAnswer,
    StoredVerdict,
    Verdict,
)
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError, NotFoundError
from assistant.domain.identity import CareContext, Identity, Role
from assistant.option import installed
from assistant.service import streams
from assistant.service.errors import (
    INTERNAL_PROBLEM,
    NOT_FOUND,
    declared,
    log_failure,
    problem_of,
    send_problem,
)
from assistant.service.health import AnswerObserver
from assistant.service.identity import Caller, Service, ServiceOf, TenantOf, caller_with, require_role
from assistant.service.opened import ServedTenant
from assistant.service.running import (
    GRACE_S,
    POLL_S,
    ComingBack,
    RateKind,
    RunningAnswer,
    admissions,
    is_interrupted,
)
from assistant.service.stored import AppendToAnswer, ReadAnswers
from assistant.service.wire import Conversation
from assistant.stores.events import Claim

_CANCEL_TIMEOUT_S = 1.0
"""Longest wait for what is cancelled or undone for an answer that does not begin."""
_CLAIM_TIMEOUT_S = 3.0
"""Of one call of the store of keys."""
_HEAD_START_S = 0.001
"""Lead of the embedding call over taking the key: sending the call takes a few turns of the loop, its
response many milliseconds, in which the key is taken."""
_PAUSED_RETRY_S = 30.0
"""``Retry-After`` of a paused tenant."""
Stored = TypeVar("Stored")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
"""An Idempotency-Key: visible ASCII characters."""
_log = structlog.get_logger(__name__)


class Planned(Protocol):
    """A plan of an answer or a reply."""

    @property
    def call(self) -> AnswerCall: ...


class AnswerMaker(Protocol):
    """What makes an answer, as ``AnswerQuestion`` does: ``prepare`` plans it, ``stream`` sends the plan."""

    # Returns what ``stream`` takes. Raises AssistantError, which becomes a status.
    async def prepare(
        self,
        request: Any,
        *,
        identity: Identity,
        deadline: Deadline,
        context: CareContext | None,
        ids: AnswerIds,
    ) -> Planned: ...

    # Yields the events, the last one ``Done`` or ``Problem``. ``resumable``: readers may come back.
    def stream(self, plan: Any, *, resumable: bool) -> AsyncGenerator[AnswerEvent, None]: ...


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, by whom, and until when."""

    identity: Identity
    request: AnswerRequest
    tenant: ServedTenant
    maker: AnswerMaker
    """It takes the request."""
    deadline: Deadline
    started_s: float
    """When the request came, on the monotonic clock."""
    key: str | None = None
    """``Idempotency-Key``: a repeat under it joins the first answer."""
    context: CareContext | None = None
    """Whose live data may be read, from a verified token; None: of nobody."""

    @property
    def is_resumable(self) -> bool:
        """Whether readers may come back to the answer."""
        return self.key is not None or self.request.resume_window_s > 0

    def claim(self, ids: AnswerIds) -> Claim | None:
        """Return the claim of the key for an answer that begins; None without a key."""
        if self.key is None:
            return None
        return Claim(ids.answer_id, self.identity.agent, self.key, self._hash(), ids.asked_at)

    def _hash(self) -> str:
        """Return the hash of the request and of the customer and ids in its context. The context's token is
        left out: a repeat of the question has another one."""
        whose = None
        if self.context is not None:
            ids = {kind: sorted(values) for kind, values in self.context.ids.items()}
            whose = [self.context.customer, sorted(ids.items())]
        body = self.request.model_dump_json(exclude={"context"})
        return hashlib.sha256(orjson.dumps([body, whose])).hexdigest()


class JoinedAnswer(Exception):
    """The key belongs to an answer that was begun before."""

    def __init__(self, answer_id: str) -> None:
        super().__init__(answer_id)
        self.answer_id = answer_id


class SendRefusal(Protocol):
    """How an endpoint sends a problem as its response, before the first event."""

    async def __call__(self, send: Send, problem: Problem, *, retry_after_s: float | None = None) -> None: ...


class Answers:
    """Starts answers and delivers them. ``ask`` and ``resume`` are ASGI applications."""

    def __init__(self, service: Service, limits: streams.StreamLimits) -> None:
        self.service = service
        self.limits = limits
        self._coming_back = ComingBack(
            service.tenants, service.running, service.awaited, admissions(service.tenants), service.clock
        )

    async def ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a question: as a stream when Accept prefers text/event-stream or ranks it equal to JSON,
        otherwise as one body. When the client disconnects, the answer ends after resume_window_s seconds.
        """

        async def work() -> None:
            headers = Headers(scope=scope)
            identity = await self.identify(scope, "questions")
            request = streams.parse_body(await streams.read_body(scope, receive), AnswerRequest)
            question = await self.question(request, identity, key=idempotency_key(headers))
            await self.deliver(question, headers, receive, send)

        await self.at_edge(work, send)

    async def deliver(self, question: Question, headers: Headers, receive: Receive, send: Send) -> None:
        """Ask the question, and send its answer as a stream or as one body, as Accept says. Raises as
        ``asking``."""
        deliver = streams.send_stream if wants_stream(headers.get("accept")) else streams.send_whole
        async with self.asking(question, receive) as reading:
            await deliver(reading, send, limits=self.limits)

    async def resume(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The events of the caller's own answer. The task that writes it sends those after Last-Event-ID, and
        then the new ones. Any other task waits for the record, until the answer's deadline at most, and sends
        the whole answer again from it: started, sources, the text as one token, done. These events have no
        ids; a client drops what it had of the answer when started comes again. Where no record comes, the
        task that wrote has ended: the only event is the error interrupted. If a document in the answer was
        withdrawn, or the caller may no longer read it, the only event is the error withdrawn.
        """

        async def work() -> None:
            headers = Headers(scope=scope)
            identity = await self.identify(scope, "reads")
            answer_id = scope["path"].split("/")[3]
            after = _after(headers.get("last-event-id"), answer_id)
            async with (
                _until_gone(receive) as gone,
                self._coming_back.follow(answer_id, identity, gone, after=after) as reading,
            ):
                await streams.send_stream(replace(reading, is_resumed=True), send, limits=self.limits)

        await self.at_edge(work, send)

    async def identify(self, scope: Scope, kind: RateKind) -> Identity:
        """Return the agent who calls. Raises UnauthenticatedError, OverloadedError, ForbiddenError."""
        identity = await self.service.identify(scope, kind)
        require_role(identity, Role.AGENT)
        return identity

    async def question(
        self, request: AnswerRequest, identity: Identity, *, key: str | None = None
    ) -> Question:
        """Return the question, with a deadline that begins now.

        Raises ContextRefusedError, DependencyError (the keys of contexts are unavailable).
        """
        tenant, clock = self.service.tenants[identity.tenant], self.service.clock
        started_s = clock.monotonic_s()
        deadline = Deadline(started_s + tenant.answering.tenant.limits.answer_deadline_s, clock)
        context = await self.service.context_of(request.context, identity=identity)
        return Question(identity, request, tenant, tenant.answer_question, deadline, started_s, key, context)

    @asynccontextmanager
    async def asking(self, question: Question, receive: Receive) -> AsyncGenerator[streams.Reading]:
        """Start the answer, or join the one that its key belongs to. When the client leaves, its answer ends,
        at once or after its resume window.

        Raises ClientGoneError (the client left before the first event), EndpointPausedError, OverloadedError,
        ConflictError (the key was used for another question), AnswerInterruptedError (the first request under
        it ended before its answer began), ContextUsedError, what
        ``AnswerQuestion.prepare`` raises, and for a joined answer what ``ComingBack.follow`` raises.
        """
        async with _until_gone(receive) as gone:
            try:
                running = await self._start(question, gone)
            except JoinedAnswer as joined:
                joining = self._coming_back.follow(joined.answer_id, question.identity, gone, after=0)
                async with joining as reading:
                    yield reading
                return
            with running.reading(gone) as reading:
                yield reading

    async def at_edge(
        self, work: Callable[[], Awaitable[None]], send: Send, *, send_refusal: SendRefusal = send_problem
    ) -> None:
        """Run one request. An error becomes a status, or ends the connection after the first event."""
        try:
            await work()
        except streams.ClientGoneError:
            return
        except streams.StalledReaderError:
            # returning without an end makes the server close; the answer itself goes on to its record
            _log.warning("reader_stalled")
            self.service.metrics.stalled.inc()
        except AssistantError as error:
            await self.refuse(send, problem_of(error), send_refusal, retry_after_s=error.retry_after_s)
        except streams.ProblemBeforeFirstEventError as error:
            await self.refuse(send, error.problem, send_refusal)
        except Exception:  # noqa: BLE001 - the edge
            _log.exception("answer_request_failed")
            # after the first event a status is too late: the server closes the connection
            await self.refuse(send, INTERNAL_PROBLEM, send_refusal)

    async def refuse(
        self,
        send: Send,
        problem: Problem,
        send_refusal: SendRefusal = send_problem,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        """Send a problem, in the endpoint's own form."""
        self.service.metrics.refuse(problem.code)
        log_failure(problem)
        await send_refusal(send, problem, retry_after_s=retry_after_s)

    async def settle(self, *, within_s: float, record_within_s: float) -> None:
        """At the end of the process, cancel answers that may not go on without a reader, and wait
        ``within_s`` for the others, which readers get from their records later. Then cancel the rest, and
        wait for all records."""
        running = self.service.running
        for answer in running:
            if not answer.is_resumable:
                answer.cancel(DISCONNECTED)
        await _wait([answer.task for answer in running], within_s=within_s)
        for answer in running:
            answer.cancel(DISCONNECTED)
        await _wait([answer.task for answer in running], within_s=record_within_s)
        for tenant in self.service.tenants.every():
            await tenant.answer_question.records.settle(within_s=record_within_s)

    async def _start(self, question: Question, gone: asyncio.Task[None]) -> RunningAnswer:
        """Return the running answer after it was prepared. Its place in the admission is free at ``done``.

        Raises JoinedAnswer, and as ``asking``.
        """
        if await question.tenant.power.is_paused():
            raise errors.EndpointPausedError(
                "The model endpoints are paused. Ask the platform team to wake them, then ask again.",
                retry_after_s=_PAUSED_RETRY_S,
            )
        leave = self.service.admissions[question.identity.tenant].enter(question.identity.agent)
        try:
            ids = AnswerIds.of(question.request, question.tenant.answering)
            async with _context_counted(question, ids.answer_id):
                plan = await self._prepare(question, ids, gone)
        except BaseException:
            leave()
            raise
        return self._run(question, ids, plan, leave=leave)

    async def _prepare(self, question: Question, ids: AnswerIds, gone: asyncio.Task[None]) -> Planned:
        """Prepare the answer, and meanwhile take its key."""

        async def in_turn() -> Planned:
            async with self.service.admissions[question.identity.tenant].turn(question.deadline):
                return await question.maker.prepare(
                    question.request,
                    identity=question.identity,
                    deadline=question.deadline,
                    context=question.context,
                    ids=ids,
                )

        preparing = asyncio.create_task(in_turn())

        def cancel_work(_gone: asyncio.Task[None]) -> None:
            preparing.cancel()  # the client disconnected

        gone.add_done_callback(cancel_work)
        claim = question.claim(ids)
        try:
            if claim is None:
                return await _unless_gone(preparing, gone)
            await asyncio.sleep(_HEAD_START_S)
            if preparing.done():
                await _unless_gone(preparing, gone)  # where it failed already, no key is taken
            try:
                await self._take_key(question, claim, gone)
                return await _unless_gone(preparing, gone)
            except (JoinedAnswer, errors.ConflictError):  # the key belongs to another answer
                _drop_prepared(preparing)
                raise
            except BaseException:  # this answer has the key, and will never begin
                _drop_prepared(preparing)
                releasing = question.tenant.claims.release(claim)
                await _undo(releasing, claim.answer_id, failure="key_not_released")
                raise
        finally:
            gone.remove_done_callback(cancel_work)
            await _end_task(preparing)

    async def _take_key(self, question: Question, claim: Claim, gone: asyncio.Task[None]) -> None:
        """Take the key of the question. Where another answer has it: join that one if it is written or on
        record, wait while it is prepared on another task, and take the key over if it was interrupted.

        Raises JoinedAnswer, ConflictError, RecordsUnavailableError, ClientGoneError, AnswerInterruptedError
        (it waited for a first answer that never began; the key is free).
        """
        waited = False
        while not gone.done():
            holder = await _from_store(question.tenant.claims.claim(claim))
            if holder.answer_id == claim.answer_id:
                return
            if holder.request_hash != claim.request_hash:
                raise errors.ConflictError(
                    "This Idempotency-Key was used for another request; choose a new one."
                )
            if not await self._has_failed(holder, question):
                waited = True
                await asyncio.sleep(POLL_S)
                continue
            await _from_store(question.tenant.claims.release(holder))
            if waited:  # for as long as a whole answer takes, so this question's deadline has passed, too
                raise errors.AnswerInterruptedError(
                    "The first request under this key ended before its answer began. Send the request again."
                )
        raise streams.ClientGoneError

    async def _has_failed(self, holder: Claim, question: Question) -> bool:
        """Return True where the answer that has the key was interrupted, False while it is prepared. Raises
        JoinedAnswer where it is written, or on record, RecordsUnavailableError."""
        if self.service.running.find(holder.answer_id, identity=question.identity):
            raise JoinedAnswer(holder.answer_id)
        stored = await _from_store(question.tenant.answering.records.find_answer(holder.answer_id))
        if stored is None:
            since_claim = self.service.clock.now() - holder.claimed_at
            limits = question.tenant.answering.tenant.limits
            return since_claim.total_seconds() > limits.answer_deadline_s + GRACE_S
        if stored.written_until is not None or not is_interrupted(stored.record):
            raise JoinedAnswer(holder.answer_id)
        return True

    def _run(
        self, question: Question, ids: AnswerIds, plan: Planned, *, leave: Callable[[], None]
    ) -> RunningAnswer:
        """Start writing the answer, and count it among those in progress until it ends."""
        tenant, service, place = question.identity.tenant, self.service, ExitStack()
        place.callback(leave)
        answer = RunningAnswer(
            ids.answer_id,
            plan.call,
            question.maker.stream(plan, resumable=question.is_resumable),
            identity=question.identity,
            resume_window_s=question.request.resume_window_s,
            observer=AnswerObserver(
                service.metrics, tenant=tenant, started_s=question.started_s, clock=service.clock
            ),
            leave=place.close,
            is_resumable=question.is_resumable,
        )
        in_progress = service.metrics.active_streams.labels(tenant)

        def on_end(_task: asyncio.Task[None]) -> None:
            service.running.remove(answer)
            in_progress.dec()

        service.running.add(answer)
        in_progress.inc()
        answer.task.add_done_callback(on_end)
        return answer


@asynccontextmanager
async def _context_counted(question: Question, answer_id: str) -> AsyncGenerator[None]:
    """Count the context's token for this answer, before its customer's data are read; not when the block
    fails: then the answer never began.

    Raises ContextUsedError, RecordsUnavailableError.
    """
    token_id = None if question.context is None else question.context.token_id
    if token_id is None:
        yield
        return
    claims = question.tenant.claims
    counting = claims.count_context(token_id, answer_id=answer_id, key=question.key)
    if not await _from_store(counting, "Cannot look up now whether the context was used before"):
        raise errors.ContextUsedError(
            "The context of the question was used for another answer. Ask again from the customer's "
            "conversation: each question needs a context of its own."
        )
    try:
        yield
    except JoinedAnswer:  # a repeat belongs to the answer for which the token was counted
        raise
    except BaseException:
        undoing = claims.uncount_context(token_id, answer_id=answer_id)
        await _undo(undoing, answer_id, failure="context_stays_used")
        raise


async def _unless_gone(work: asyncio.Task[Planned], gone: asyncio.Task[None]) -> Planned:
    """Return the result of ``work``. Raises ClientGoneError when the client leaves before."""
    await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done() or work.cancelled():
        raise streams.ClientGoneError
    return work.result()


def _drop_prepared(work: asyncio.Task[Planned]) -> None:
    """End the live reads of an answer that is prepared and not streamed."""
    if work.done() and not work.cancelled() and work.exception() is None:
        work.result().call.cancel(DISCONNECTED)


async def _end_task(task: asyncio.Task[Planned]) -> None:
    """Cancel the task unless it is done, and wait for its end within a limit."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_TIMEOUT_S)
    if task.done() and not task.cancelled():
        task.exception()  # retrieved: another error was raised first


async def _from_store(
    call: Awaitable[Stored], failure: str = "The Idempotency-Key cannot be looked up just now"
) -> Stored:
    """Return the result of a call of the store of keys and contexts. Raises RecordsUnavailableError, with
    ``failure`` as its text."""
    try:
        async with asyncio.timeout(_CLAIM_TIMEOUT_S):
            return await call
    except (errors.RecordsUnavailableError, TimeoutError):
        raise errors.RecordsUnavailableError(f"{failure}; send the same request again.") from None


async def _undo(call: Awaitable[None], answer_id: str, *, failure: str) -> None:
    """Undo what was stored for an answer that never began. ``failure``: event of the log where that fails."""
    try:
        async with asyncio.timeout(_CANCEL_TIMEOUT_S):
            await call
    except (AssistantError, TimeoutError) as error:
        _log.warning(failure, answer_id=answer_id, error=type(error).__name__)


@asynccontextmanager
async def _until_gone(receive: Receive) -> AsyncGenerator[asyncio.Task[None]]:
    """Yield a task that ends when the client has disconnected; it is cancelled at the end of the block."""

    async def wait_for_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.create_task(wait_for_disconnect())
    try:
        yield gone
    finally:
        gone.cancel()


async def _wait(tasks: Collection[asyncio.Task[None]], *, within_s: float) -> None:
    """Wait until all tasks have ended, ``within_s`` at most."""
    if tasks and within_s > 0:
        await asyncio.wait(tasks, timeout=within_s)


def wants_stream(accept: str | None) -> bool:
    """Return whether ``text/event-stream`` is accepted, with at least the weight of JSON: True for
    "text/event-stream" and for "text/event-stream;q=0.9, application/json;q=0.9", False for "*/*"."""
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
    """Return the ``Idempotency-Key``. Raises InvalidRequestError."""
    key = headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise errors.InvalidRequestError("Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return key


def _after(last_event_id: str | None, answer_id: str) -> int:
    """Return the sequence in a Last-Event-ID: 7 for "a1:7" of the answer "a1"; 0 without one. Raises
    InvalidRequestError."""
    if not last_event_id:
        return 0
    owner, _, sequence = last_event_id.rpartition(":")
    if owner != answer_id or not (sequence.isascii() and sequence.isdigit() and len(sequence) <= 9):
        raise errors.InvalidRequestError("Last-Event-ID must be the id of an event of this very answer.")
    return int(sequence)


router = APIRouter(tags=["answers"])
_Agent = Annotated[Identity, caller_with(Role.AGENT)]


@router.get("/v1/answers", **declared(404))
async def read_conversation(
    tenant: TenantOf,
    caller: Caller,
    conversation_id: Annotated[str, Query(min_length=1, max_length=64)],
) -> Conversation:
    """The newest 50 answers of a conversation, oldest first: an agent's own; any to an auditor."""
    require_role(caller, Role.AGENT, Role.AUDITOR)
    readings = await ReadAnswers(tenant.answering).conversation(conversation_id, identity=caller)
    return Conversation(conversation_id=conversation_id, answers=tuple(readings))


@router.get("/v1/answers/{answer_id}", **declared(404))
async def read_answer(tenant: TenantOf, caller: Caller, answer_id: str) -> StoredAnswer:
    """One answer with all that was said of it: an agent's own; any to an auditor, whose read is recorded."""
    require_role(caller, Role.AGENT, Role.AUDITOR)
    return await ReadAnswers(tenant.answering).one(answer_id, identity=caller)


@router.delete("/v1/answers/{answer_id}", status_code=204, **declared(404))
async def cancel_answer(service: ServiceOf, tenant: TenantOf, caller: _Agent, answer_id: str) -> Response:
    """Cancel the caller's own answer: at once, or within a second where another task writes it; one that has
    ended stays as it is."""
    if writing := service.running.find(answer_id, identity=caller):
        writing.cancel()
    else:
        await _cancel_elsewhere(tenant, answer_id, caller)
    return Response(status_code=204)


async def _cancel_elsewhere(tenant: ServedTenant, answer_id: str, caller: Identity) -> None:
    """Store the cancellation for the task that writes the answer: it reads them every second
    (``watch_cancellations``). Raises NotFoundError."""
    stored = await tenant.answering.records.find_answer(answer_id)
    if stored is None or stored.record.agent != caller.agent:
        raise NotFoundError(NOT_FOUND)
    if stored.written_until is not None:
        await tenant.claims.cancel(answer_id)


@router.post("/v1/answers/{answer_id}/verdict", **declared(404, 409, body=Verdict))
async def give_verdict(
    tenant: TenantOf, caller: _Agent, answer_id: str, verdict: Annotated[Verdict, streams.json_body(Verdict)]
) -> StoredVerdict:
    """Mark the caller's own answer. The same verdict_id with the same content is kept once. An answer takes
    50 verdicts; another one is refused (409).

    A verdict `bad` opens a case for reviewers. It is refused with 409 `open_cases_reached` while as many
    cases of the caller wait as the tenant allows.
    """
    for option in installed():
        await option.admit_verdict(tenant, answer_id, verdict, caller)
    return await AppendToAnswer(tenant.answering).verdict(answer_id, verdict, identity=caller)


@router.post("/v1/answers/{answer_id}/acts", **declared(404, 409, body=Act))
async def keep_act(
    tenant: TenantOf, caller: _Agent, answer_id: str, act: Annotated[Act, streams.json_body(Act)]
) -> StoredAct:
    """Keep what the agent did with an answer, such as opening a source. The same act_id with the same content
    is kept once. An answer takes 500 acts; another one is refused (409)."""
    return await AppendToAnswer(tenant.answering).act(answer_id, act, identity=caller)
