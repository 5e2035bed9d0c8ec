"""The two ways to hand an answer to its reader: as a stream, or whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Send

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
from assistant.service.answer_writing import StreamLimits
from assistant.service.event_encoding import HEARTBEAT, EncodedEvent, EventEncoder, decode_event
from assistant.service.outbox import EventReader, Numbered
from assistant.service.wire import WholeAnswer

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
JSON_HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


class StalledReaderError(Exception):
    """The reader took nothing for too long."""


class ProblemBeforeFirstEventError(Exception):
    """The answer failed before anything was sent: it becomes a status."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Reading:
    """What one connection delivers."""

    answer_id: str
    events: EventReader
    within_s: float
    """An answer has ended, or its owner was found gone, after so long at most."""


async def send_stream(reading: Reading, send: Send, *, limits: StreamLimits) -> None:
    """Send server-sent events until the answer ends.

    Raises ProblemBeforeFirstEventError, StalledReaderError, TimeoutError (no event in time).
    """
    reader, encoder = reading.events, EventEncoder(reading.answer_id)
    numbered = await reader.take(timeout_s=reading.within_s)
    if numbered is not None:
        raise_first_problem(numbered)
    await send_part(send, {"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS}, limits)
    while numbered is not None:
        part = b"".join([encoder.encode(*item) for item in numbered]) if numbered else HEARTBEAT
        await send_part(send, {"type": "http.response.body", "body": part, "more_body": True}, limits)
        try:
            numbered = await reader.take(timeout_s=limits.heartbeat_s)
        except TimeoutError:
            numbered = []
    await send_part(send, {"type": "http.response.body", "body": b""}, limits)


async def send_whole(reading: Reading, send: Send, *, limits: StreamLimits) -> None:
    """Send the answer as one JSON body once it has ended. Raises as ``send_stream``."""
    seen: list[AnswerEvent] = []
    while (numbered := await reading.events.take(timeout_s=reading.within_s)) is not None:
        seen += [event for _, item in numbered if (event := event_of(item)) is not None]
    if not seen:
        return
    if isinstance(seen[-1], Problem):
        raise ProblemBeforeFirstEventError(seen[-1])
    if not isinstance(seen[-1], Done):
        return  # the reader left: the answer ended without an end, and nobody waits for a body
    body = whole_answer(seen).model_dump_json().encode()
    headers = [*JSON_HEADERS, (b"content-length", str(len(body)).encode())]
    await send_part(send, {"type": "http.response.start", "status": 200, "headers": headers}, limits)
    await send_part(send, {"type": "http.response.body", "body": body}, limits)


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
        **{name: getattr(done, name) for name in Done.model_fields},
    )


def raise_first_problem(numbered: Sequence[Numbered]) -> None:
    """Raises ProblemBeforeFirstEventError when the first thing that comes is a problem."""
    if numbered and isinstance(problem := event_of(numbered[0][1]), Problem):
        raise ProblemBeforeFirstEventError(problem)


async def send_part(send: Send, message: dict[str, object], limits: StreamLimits) -> None:
    """Send one ASGI message. Raises StalledReaderError."""
    try:
        async with asyncio.timeout(limits.stall_s):
            await send(message)
    except TimeoutError:
        raise StalledReaderError from None


def event_of(item: AnswerEvent | EncodedEvent) -> AnswerEvent | None:
    """Return the event, decoded if a log kept it; None for one that is not known here."""
    return decode_event(item.frame) if isinstance(item, EncodedEvent) else item
