"""The two ways to hand an answer to its reader: as a stream, or whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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
from assistant.api.answer_writing import StreamLimits
from assistant.api.event_encoding import HEARTBEAT, EncodedEvent, EventEncoder, decode_event
from assistant.api.outbox import EventReader, Numbered
from assistant.api.reader_watch import ReaderWatch
from assistant.api.wire import WholeAnswer
from assistant.domain.answers import Certainty, Sentence

Headers = Sequence[tuple[bytes, bytes]]
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
    is_resumed: bool = False
    """The reader has begun to read before: even the first thing that comes is an event, never a status."""
    certainty: Certainty | None = None
    """What ``done`` will say unless the model refuses; None where another task writes the answer."""


async def send_stream(
    reading: Reading,
    send: Send,
    *,
    limits: StreamLimits,
    encode: Callable[[Sequence[Numbered]], bytes] | None = None,
    headers: Headers = (),
) -> None:
    """Send server-sent events until the answer ends, as ``encode`` writes them (by default the events
    of answers).

    Raises ProblemBeforeFirstEventError, StalledReaderError, TimeoutError (no event in time).
    """
    take, encode = reading.events.take, encode or EventEncoder(reading.answer_id).encode_all
    # A new request waits for its status; a resumed one gets headers immediately.
    numbered = [] if reading.is_resumed else await first_events(reading)
    start: dict[str, object] = {
        "type": "http.response.start",
        "status": 200,
        "headers": [*STREAM_HEADERS, *headers],
    }
    with ReaderWatch(limit_s=limits.stall_s) as watch:
        await watch.send(send, start)
        while numbered is not None:
            part = encode(numbered) or HEARTBEAT
            await watch.send(send, {"type": "http.response.body", "body": part, "more_body": True})
            numbered = await take(beat_s=limits.heartbeat_s)
        await watch.send(send, {"type": "http.response.body", "body": b""})


async def send_whole(reading: Reading, send: Send, *, limits: StreamLimits) -> None:
    """Send the answer as one JSON body once it has ended. Raises as ``send_stream``."""
    if events := await whole_events(reading):
        await send_json(send, whole_answer(events).model_dump_json().encode(), limits=limits)


async def whole_events(reading: Reading) -> list[AnswerEvent]:
    """Return all events of an answer that ends with ``done``; none when its reader left before.

    Raises ProblemBeforeFirstEventError (it ends with an error), TimeoutError.
    """
    seen: list[AnswerEvent] = []
    async with asyncio.timeout(reading.within_s):
        while (numbered := await reading.events.take(beat_s=reading.within_s)) is not None:
            seen += [event for _, item in numbered if (event := event_of(item)) is not None]
    if seen and isinstance(seen[-1], Problem):
        raise ProblemBeforeFirstEventError(seen[-1])
    return seen if seen and isinstance(seen[-1], Done) else []


async def send_json(send: Send, body: bytes, *, limits: StreamLimits, headers: Headers = ()) -> None:
    """Send a body with status 200. Raises StalledReaderError."""
    all_headers = [*JSON_HEADERS, *headers, (b"content-length", str(len(body)).encode())]
    with ReaderWatch(limit_s=limits.stall_s) as watch:
        await watch.send(send, {"type": "http.response.start", "status": 200, "headers": all_headers})
        await watch.send(send, {"type": "http.response.body", "body": body})


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


async def first_events(reading: Reading) -> list[Numbered] | None:
    """Return what comes first. Raises ProblemBeforeFirstEventError when it is a problem, TimeoutError."""
    async with asyncio.timeout(reading.within_s):
        numbered = await reading.events.take(beat_s=reading.within_s)
    if numbered and isinstance(problem := event_of(numbered[0][1]), Problem):
        raise ProblemBeforeFirstEventError(problem)
    return numbered


def event_of(item: AnswerEvent | EncodedEvent) -> AnswerEvent | None:
    """Return the event, decoded if a log kept it; None for one that is not known here."""
    return decode_event(item.frame) if isinstance(item, EncodedEvent) else item
