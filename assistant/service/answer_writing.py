"""One answer while it is written, and the two ways to hand it to its reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import structlog
from starlette.types import Send

from assistant.answering.asking import PreparedAnswer
from assistant.answering.events import (
    AnswerEvent,
    Done,
    Problem,
    SentenceEnded,
    Sources,
    Started,
    Token,
)
from assistant.domain.answers import Sentence
from assistant.service.event_encoding import HEARTBEAT, EventEncoder
from assistant.service.metrics import AnswerObserver
from assistant.service.outbox import OUTBOX_LIMIT_BYTES, Outbox
from assistant.service.problems import internal_problem
from assistant.service.wire import WholeAnswer

_GRACE_S = 5.0
"""Beyond the answer's own deadline, for its last event."""
_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
_JSON_HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    heartbeat_s: float = 10.0
    """A comment is sent when nothing flowed for so long."""
    stall_s: float = 30.0
    """A reader who takes nothing for so long loses the connection."""
    outbox_bytes: int = OUTBOX_LIMIT_BYTES


class StalledReaderError(Exception):
    """The reader took nothing for too long."""


class ProblemBeforeFirstEventError(Exception):
    """The answer failed before anything was sent: it becomes a status."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


class AnswerWriting:
    """Reads an answer's events into an outbox in a task of its own, so that no reader can slow it down."""

    def __init__(
        self,
        prepared: PreparedAnswer,
        events: AsyncGenerator[AnswerEvent, None],
        *,
        observer: AnswerObserver,
        outbox: Outbox,
    ) -> None:
        self.prepared = prepared
        self.outbox = outbox
        self._events = events
        self._observer = observer
        self.task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            async with asyncio.timeout(self.remaining_s()), aclosing(self._events) as events:
                async for event in events:
                    self._observer.see(event)
                    self.outbox.put(event)
        except Exception:  # noqa: BLE001 - an edge: the reader gets an end, the log the reason
            _log.exception("answer_failed", answer_id=self.prepared.answer_id)
            self._observer.see(internal_problem())
            self.outbox.put(internal_problem())
        finally:
            self._observer.end()
            self.outbox.close()
            _log.info(
                "answer_ended",
                answer_id=self.prepared.answer_id,
                tenant=self.prepared.identity.tenant,
                finish_reason=self._observer.finish_reason,
                took_ms=round(self._observer.elapsed_s() * 1000),
            )

    def remaining_s(self) -> float:
        """Return how long at most the answer may still take."""
        return self.prepared.deadline.remaining_s() + _GRACE_S


async def send_stream(writing: AnswerWriting, send: Send, *, limits: StreamLimits) -> None:
    """Send server-sent events until the answer ends.

    Raises ProblemBeforeFirstEventError, StalledReaderError, TimeoutError (no event within the deadline).
    """
    encoder = EventEncoder(writing.prepared.answer_id)
    events = await writing.outbox.take(timeout_s=writing.remaining_s())
    if events is None:
        return  # the reader left before the first event
    if isinstance(events[0], Problem):
        raise ProblemBeforeFirstEventError(events[0])
    await _send(send, {"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS}, limits)
    while events is not None:
        part = b"".join(map(encoder.encode, events)) if events else HEARTBEAT
        await _send(send, {"type": "http.response.body", "body": part, "more_body": True}, limits)
        try:
            events = await writing.outbox.take(timeout_s=limits.heartbeat_s)
        except TimeoutError:
            events = []
    await _send(send, {"type": "http.response.body", "body": b""}, limits)


async def send_whole(writing: AnswerWriting, send: Send, *, limits: StreamLimits) -> None:
    """Send the answer as one JSON body once it has ended. Raises as ``send_stream``."""
    seen: list[AnswerEvent] = []
    while (events := await writing.outbox.take(timeout_s=writing.remaining_s())) is not None:
        seen += events
    if not seen:
        return
    if isinstance(seen[-1], Problem):
        raise ProblemBeforeFirstEventError(seen[-1])
    if not isinstance(seen[-1], Done):
        return  # the reader left: the answer ended without an end, and nobody waits for a body
    body = whole_answer(seen).model_dump_json().encode()
    headers = [*_JSON_HEADERS, (b"content-length", str(len(body)).encode())]
    await _send(send, {"type": "http.response.start", "status": 200, "headers": headers}, limits)
    await _send(send, {"type": "http.response.body", "body": body}, limits)


def whole_answer(events: list[AnswerEvent]) -> WholeAnswer:
    """Return the events of an answer that ended with ``done`` as one."""
    started = next(event for event in events if isinstance(event, Started))
    done = next(event for event in events if isinstance(event, Done))
    sources = next((event.sources for event in events if isinstance(event, Sources)), ())
    sentences = [event for event in events if isinstance(event, SentenceEnded)]
    return WholeAnswer(
        **started.model_dump(),
        sources=sources,
        text="".join(event.text for event in events if isinstance(event, Token)),
        sentences=tuple(Sentence(**sentence.model_dump()) for sentence in sentences),
        finish_reason=done.finish_reason,
        citations=done.citations,
        usage=done.usage,
        timings_ms=done.timings_ms,
        reason=done.reason,
    )


async def _send(send: Send, message: dict[str, object], limits: StreamLimits) -> None:
    try:
        async with asyncio.timeout(limits.stall_s):
            await send(message)
    except TimeoutError:
        raise StalledReaderError from None
