"""From a question that was read to an answer that is being written, here or under the same key elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from starlette.types import Receive

from assistant.answering.ports import LogOpening
from assistant.answering.prepare import AnswerRequest, PreparedAnswer
from assistant.api.admission import Admission
from assistant.api.answer_logging import LoggedAnswer
from assistant.api.answer_writing import AnswerWriting, StreamLimits
from assistant.api.metrics import AnswerObserver
from assistant.api.request_body import ClientGoneError
from assistant.api.wiring import Service
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    AssistantError,
    ConflictError,
    EndpointPausedError,
    RecordsUnavailableError,
)
from assistant.domain.identity import Identity
from assistant.wiring import ServedTenant

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

    async def start(self, asked: Asked, gone: asyncio.Task[None]) -> AnswerWriting:
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
    ) -> AnswerWriting:
        name, service = asked.identity.tenant, self._service
        writing = AnswerWriting(
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
