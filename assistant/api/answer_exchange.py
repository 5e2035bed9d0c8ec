"""One reader of one answer, over one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from starlette.types import Receive

from assistant.answering.events import Problem
from assistant.answering.ports import DocumentTexts, LogReading
from assistant.api.admission import Admission
from assistant.api.answer_starting import Asked, JoinedAnswer, StartAnswer, until_gone
from assistant.api.answer_writing import AnswerWriting
from assistant.api.delivery import Reading
from assistant.api.interrupted_answers import settle_lapsed
from assistant.api.kept_events import KeptEvents, refuse_withdrawn
from assistant.api.log_following import LogFollower
from assistant.api.outbox import Numbered
from assistant.api.problems import NOT_FOUND, problem_of
from assistant.api.wiring import Service
from assistant.domain.errors import DependencyError, NotFoundError, NotResumableError, WithdrawnError
from assistant.domain.identity import Identity
from assistant.wiring import ServedTenant

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
    writing: AnswerWriting, gone: asyncio.Task[None], *, after: int
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


async def _refusal(writing: AnswerWriting, identity: Identity, *, texts: DocumentTexts) -> _Ended | None:
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
