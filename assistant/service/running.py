"""Answers in progress, which this process writes, and how many there may be.

The events of an answer are numbered, kept and counted; each reader has a place in them.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import (
    AsyncGenerator,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Literal

import structlog

from assistant.answer.check import FAILED_CHECKS
from assistant.answer.events import AnswerEvent, Cause, Done, Problem, Sources, Token
from assistant.answer.prepared import PreparedAnswer
from assistant.answer.reply import PreparedReply
from assistant.domain import errors
from assistant.domain.answers import Mode, Usage
from assistant.domain.clock import Clock
from assistant.domain.errors import AssistantError
from assistant.domain.identity import Identity
from assistant.service.errors import INTERNAL_PROBLEM, log_failure, problem_of
from assistant.service.health import ServiceMetrics
from assistant.service.opened import ServedTenant
from assistant.service.streams import Cursor, Reading
from assistant.stores.events import StoredClaims
from assistant.tenant.deployed_names import (
    ANSWER_ENDED,
    ANSWER_SECONDS,
    COMPLETION_TOKENS,
    FINISH_REASON,
    FIRST_TOKEN_MS,
    MODEL_FAILED,
    PROMPT_TOKENS,
    QUOTED_ANSWERS,
    WRITTEN_ANSWERS,
)
from assistant.tenant.tenant import LimitsSection

_CANCELLED_EVERY_S = 1.0
_CANCELLED_TIMEOUT_S = 3.0
_CANCELLED_AT_ONCE = 100
_log = structlog.get_logger(__name__)


async def watch_cancellations(tenants: Mapping[str, ServedTenant], running: RunningAnswers) -> None:
    """Read every second which running answers were cancelled on other tasks, until cancelled itself."""
    while True:
        await asyncio.sleep(_CANCELLED_EVERY_S)
        for name, tenant in tenants.items():
            ids = running.ids(name)
            for start in range(0, len(ids), _CANCELLED_AT_ONCE):
                await _read_cancelled(tenant.claims, running, name, ids[start : start + _CANCELLED_AT_ONCE])


async def _read_cancelled(
    claims: StoredClaims, running: RunningAnswers, tenant: str, ids: Sequence[str]
) -> None:
    try:
        async with asyncio.timeout(_CANCELLED_TIMEOUT_S):
            cancelled = await claims.cancelled(ids)
    except (AssistantError, TimeoutError) as error:
        _log.warning("cancellations_not_read", error=type(error).__name__)
        return
    for answer_id in cancelled:
        running.cancel(tenant, answer_id)


@dataclass(slots=True)
class AnswerObserver:
    """Counts the events of one answer."""

    metrics: ServiceMetrics
    tenant: str
    started_s: float
    clock: Clock
    finish_reason: str | None = None
    first_token_s: float | None = None
    """Time from the request to the first token; None before it."""
    fallback: str | None = None
    """Why a quote replaced written text."""

    @property
    def model_failed(self) -> bool:
        """Whether the model was unavailable, late or interrupted; a failed check of its text is not that."""
        return self.fallback is not None and self.fallback not in FAILED_CHECKS

    def see(self, event: AnswerEvent) -> None:
        if isinstance(event, Token):
            if self.first_token_s is None:
                self.first_token_s = self.elapsed_s()
                self.metrics.first_token.labels(self.tenant).observe(self.first_token_s)
        elif isinstance(event, Done):
            self._count(event.finish_reason.value)
            self.fallback = event.fallback
            if event.fallback is not None:
                self.metrics.fallbacks.labels(self.tenant, event.fallback).inc()
            self.metrics.live.count_sources(self.tenant, event.asked)
            self.metrics.live.use(self.tenant, _used(event, seconds=self.elapsed_s()))
            for step, milliseconds in event.timings_ms.items():
                self.metrics.step.labels(self.tenant, step).observe(milliseconds / 1000)
        elif isinstance(event, Problem):
            self._count(event.code)
            if event.code == AssistantError.code:
                self.metrics.count_internal_error()

    def end(self) -> None:
        """Count the answer as disconnected unless it has ended by an event."""
        if self.finish_reason is None:
            self._count("disconnected")

    def elapsed_s(self) -> float:
        return self.clock.monotonic_s() - self.started_s

    def _count(self, finish_reason: str) -> None:
        self.finish_reason = finish_reason
        self.metrics.answers.labels(self.tenant, finish_reason).inc()


def _used(done: Done, *, seconds: float) -> dict[str, float]:
    return {
        WRITTEN_ANSWERS if done.mode is Mode.WRITTEN else QUOTED_ANSWERS: 1,
        **tokens_of(done.usage),
        ANSWER_SECONDS: seconds,
    }


def tokens_of(usage: Usage) -> dict[str, float]:
    """Return the tokens of calls of the model, by metric."""
    return {PROMPT_TOKENS: usage.prompt_tokens, COMPLETION_TOKENS: usage.completion_tokens}


GRACE_S = 5.0
"""Added to the answer's deadline, for its last event."""


class RunningAnswer:
    """One answer while it is written. Its own task reads the events, so no reader can slow it down.

    It keeps its events, bounded by its own text, for readers who come back. When its last reader leaves, it
    goes on for ``resume_window_s``.
    """

    def __init__(
        self,
        prepared: PreparedAnswer | PreparedReply,
        events: AsyncGenerator[AnswerEvent, None],
        *,
        observer: AnswerObserver,
        is_resumable: bool = False,
    ) -> None:
        self.question, self._run = prepared.question, prepared.run
        self.is_resumable = is_resumable
        """Whether it may go on to its end when the process stops."""
        self._stream = events
        self._observer = observer
        self._events: list[AnswerEvent] = []
        """All events so far; the one at index n has the sequence n + 1."""
        self._readers: list[Cursor] = []
        self._leaving: asyncio.TimerHandle | None = None
        self.task = asyncio.create_task(self._write())

    @property
    def answer_id(self) -> str:
        return self.question.begun.answer_id

    @property
    def documents(self) -> frozenset[str]:
        """The documents that its readers were shown."""
        shown = (event for event in self._events if isinstance(event, Sources))
        return frozenset(source.document_id for event in shown for source in event.sources)

    @contextmanager
    def reading(self, gone: asyncio.Task[None], *, after: int = 0) -> Generator[Reading]:
        """Give one reader the events after a sequence. It counts as having left when ``gone`` ends."""
        cursor = self._attach(after=after)

        def leave(task: asyncio.Task[None]) -> None:
            if task.cancelled():
                return
            self._detach(cursor)
            if not self._readers:
                self._end_after(self.question.request.resume_window_s)

        gone.add_done_callback(leave)
        try:
            yield Reading(self.answer_id, cursor, self.remaining_s())
        finally:
            self._detach(cursor)

    def cancel(self, cause: Literal[Cause.CANCELLED, Cause.DISCONNECTED] = Cause.CANCELLED) -> None:
        self._run.cancel(cause)

    def remaining_s(self) -> float:
        """Return the most seconds that the answer may still take."""
        return self._run.scope.deadline.remaining_s() + GRACE_S

    def _attach(self, *, after: int) -> Cursor:
        cursor = Cursor(self._events, after=after)
        if self.task.done():
            cursor.close()
        self._readers.append(cursor)
        self._stay()
        return cursor

    def _detach(self, cursor: Cursor) -> None:
        if cursor in self._readers:
            self._readers.remove(cursor)
        cursor.close()

    def _end_after(self, seconds: float) -> None:
        if seconds <= 0:
            self.cancel(Cause.DISCONNECTED)
        elif self._leaving is None:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(seconds, self.cancel, Cause.DISCONNECTED)

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    async def _write(self) -> None:
        try:
            async with asyncio.timeout(self.remaining_s()), aclosing(self._stream) as events:
                async for event in events:
                    self._hand_out(event)
        except AssistantError as error:
            problem = problem_of(error)
            log_failure(problem)
            self._hand_out(problem)
        except Exception:  # noqa: BLE001 - an edge: the reader gets an error event, the log the exception
            _log.exception("answer_failed", answer_id=self.answer_id)
            self._hand_out(INTERNAL_PROBLEM)
        finally:
            self._finish()

    def _hand_out(self, event: AnswerEvent) -> None:
        self._events.append(event)
        self._observer.see(event)
        for cursor in self._readers:
            cursor.wake()

    def _finish(self) -> None:
        self._stay()
        self._observer.end()
        for cursor in self._readers:
            cursor.close()
        first_token_s = self._observer.first_token_s
        _log.info(
            ANSWER_ENDED,
            answer_id=self.answer_id,
            tenant=self.question.identity.tenant,
            took_ms=round(self._observer.elapsed_s() * 1000),
            fallback=self._observer.fallback,
            **{
                FINISH_REASON: self._observer.finish_reason,
                MODEL_FAILED: self._observer.model_failed,
                FIRST_TOKEN_MS: None if first_token_s is None else round(first_token_s * 1000),
            },
        )


_ROUNDING_S = 1e-6
_RETRY_AFTER_S = 2.0
"""``Retry-After`` for an agent who asks too much at once."""


class Admission:
    """Limits one tenant's answers in progress in this process, in total and per agent."""

    def __init__(self, limits: LimitsSection) -> None:
        self._limits = limits
        self._active: Counter[str] = Counter()

    def enter(self, agent: str) -> Callable[[], None]:
        """Take a place; return a function that releases it, to be called once. Raises OverloadedError."""
        if self._active[agent] >= (most := self._limits.streams_per_agent):
            raise errors.OverloadedError(
                f"{most} of your answers are in progress. Wait for one of them to end.",
                retry_after_s=_RETRY_AFTER_S,
            )
        if self._active.total() >= self._limits.streams:
            raise errors.OverloadedError(
                "Too many answers are in progress. Retry.", retry_after_s=_RETRY_AFTER_S
            )
        self._active[agent] += 1

        def leave() -> None:
            self._active -= Counter([agent])  # keeps the agents that have a place

        return leave


def admissions(tenants: Mapping[str, ServedTenant]) -> dict[str, Admission]:
    return {name: Admission(tenant.answering.tenant.limits) for name, tenant in tenants.items()}


RateKind = Literal["questions", "turns", "writes", "reads"]
"""``turns`` of a chat are read unasked: as many as questions, and counted apart."""
_MINUTE_S = 60.0
_MOST_COUNTED = 20_000
"""Agents and kinds of requests: about 6 MB."""


class AgentRates:
    """Limits how often each agent calls this process: a minute's requests at once, then one after another.

    The memory is bounded: above ``most_counted`` agents and kinds, those that called longest ago are
    forgotten, and may call a minute's worth again.
    """

    def __init__(self, *, clock: Clock, most_counted: int = _MOST_COUNTED) -> None:
        self._clock = clock
        self._most_counted = most_counted
        self._paid_until_s: OrderedDict[tuple[str, str, RateKind], float] = OrderedDict()
        """Time up to which a caller's requests have used the rate, as if they came evenly. The latest
        caller is last."""

    def count(self, identity: Identity, kind: RateKind, limits: LimitsSection) -> None:
        """Count one request. Raises OverloadedError for one over the rate, which is not counted."""
        now_s = self._clock.monotonic_s()
        caller: tuple[str, str, RateKind] = (identity.tenant, identity.agent, kind)
        counted = "questions" if kind == "turns" else kind
        per_minute: int = getattr(limits, f"{counted}_per_minute")
        until_s = max(self._paid_until_s.pop(caller, now_s), now_s)
        over_s = until_s + _MINUTE_S / per_minute - now_s - _MINUTE_S
        is_over = over_s > _ROUNDING_S
        self._paid_until_s[caller] = until_s if is_over else until_s + _MINUTE_S / per_minute
        if len(self._paid_until_s) > self._most_counted:
            self._paid_until_s.popitem(last=False)
        if is_over:
            raise errors.OverloadedError(
                f"You sent {per_minute} {kind} within a minute, the most of one agent. Retry in "
                f"{math.ceil(over_s)} s.",
                retry_after_s=over_s,
            )


class RunningAnswers:
    """The answers that this process writes, by tenant and id."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], RunningAnswer] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[RunningAnswer]:
        return iter(tuple(self._answers.values()))

    def add(self, answer: RunningAnswer) -> None:
        self._answers[answer.question.identity.tenant, answer.answer_id] = answer

    def remove(self, answer: RunningAnswer) -> None:
        del self._answers[answer.question.identity.tenant, answer.answer_id]

    def find(self, answer_id: str, *, identity: Identity) -> RunningAnswer | None:
        """Return the answer if this process writes it and it is the caller's own."""
        answer = self._answers.get((identity.tenant, answer_id))
        return answer if answer and answer.question.identity.agent == identity.agent else None

    def ids(self, tenant: str) -> list[str]:
        return [answer_id for name, answer_id in self._answers if name == tenant]

    def cancel(self, tenant: str, answer_id: str) -> None:
        """Cancel an answer if this process still writes it."""
        if answer := self._answers.get((tenant, answer_id)):
            answer.cancel()
