"""Reads bodies of requests and sends the events of answers, within limits of memory and time.

A streamed answer: ``RunningAnswer`` appends events, each reader's ``Cursor`` takes them, ``send_stream``
encodes and sends them, and ``watched`` ends the connection of a reader that takes none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Protocol, TypeVar

import orjson
from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.types import Message, Receive, Scope, Send

from assistant.answer.events import (
    AnswerEvent,
    Done,
    ElementChanged,
    Problem,
    RedFlags,
    SentenceEnded,
    Sources,
    Started,
    Token,
)
from assistant.domain.answers import Sentence
from assistant.domain.errors import DependencyError, OverloadedError, TooLargeError, UnreadableRequestError
from assistant.domain.live import Element
from assistant.service.errors import invalid_request
from assistant.service.wire import WholeAnswer

# Bodies of requests


BODY_LIMIT_BYTES = 64 * 1024
CHAT_LIMIT_BYTES = 256 * 1024
"""Chat clients send the whole conversation each time; only the questions are read."""
DOCUMENT_LIMIT_BYTES = 16 * 1024 * 1024
"""A canonical document: 5 million characters of content, JSON-escaped."""
BODIES_SHARE, CALLERS_SHARE = 8, 8
"""An eighth of the process's memory is for bodies: what becomes a document is there as bytes, as text and as
its parts at the same time. An eighth of that is for one caller: a document of 16 MiB in the smallest task."""
CALLER, TAKE = "assistant.caller", "assistant.take_bytes"
"""Keys of an ASGI scope: the caller as (tenant, agent), once it is identified; and the function that takes
bytes for a caller (``BytesInFlight.of_request``)."""
_READ_TIMEOUT_S = 30.0
_DISCARD_LIMIT_BYTES = 1024 * 1024
"""See ``discard_body``."""
_DISCARD_TIMEOUT_S = 2.0
"""Between two reads."""

Model = TypeVar("Model", bound=BaseModel)


class ClientGoneError(Exception):
    """The client left before its request was complete or answered."""


class BytesInFlight:
    """Bounds the bytes of bodies that this process holds at once: of all callers, and of each.

    A request takes what it announces before its body is read, and gives it back at its end.
    """

    def __init__(self, *, memory_mib: int) -> None:
        self._most_bytes = memory_mib * 1024 * 1024 // BODIES_SHARE
        self._held: Counter[tuple[str, str]] = Counter()
        """Bytes that are held, by tenant and agent; ("", "") is everybody without a token."""

    @contextmanager
    def of_request(self) -> Generator[Callable[[tuple[str, str], int], None]]:
        """Yield the function that takes bytes for a caller, and raises OverloadedError."""
        taken = Counter[tuple[str, str]]()

        def take(caller: tuple[str, str], size_bytes: int) -> None:
            if self._held[caller] + size_bytes > self._most_bytes // CALLERS_SHARE:
                raise OverloadedError(
                    "Too much of yours is being sent. Retry when less is.", retry_after_s=2.0
                )
            if self._held.total() + size_bytes > self._most_bytes:
                raise OverloadedError("Too much is being sent at once. Retry.", retry_after_s=2.0)
            self._held[caller] += size_bytes
            taken[caller] += size_bytes

        try:
            yield take
        finally:
            self._held -= taken


def take_bytes(scope: Scope, size_bytes: int) -> None:
    """Count so many bytes for the caller until the request ends. Raises OverloadedError where they would be
    too many."""
    scope[TAKE](scope.get(CALLER, ("", "")), size_bytes)


async def read_body(scope: Scope, receive: Receive, *, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """Return the body. Keeps at most ``limit_bytes`` and one network read in memory.

    Raises TooLargeError, UnreadableRequestError (not complete within 30 s), ClientGoneError, OverloadedError
    (before anything is read).
    """
    headers = dict(scope["headers"])
    size, is_chunked = headers.get(b"content-length", b""), b"transfer-encoding" in headers
    announced_bytes = int(size) if size.isdigit() else limit_bytes if is_chunked else 0
    is_too_large = announced_bytes > limit_bytes
    if not is_too_large:
        take_bytes(scope, announced_bytes)
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            body = None if is_too_large else await _collect(receive, limit_bytes=limit_bytes)
    except TimeoutError:
        raise UnreadableRequestError(f"The body did not come within {_READ_TIMEOUT_S:.0f} s.") from None
    if body is None:
        await discard_body(receive, most_bytes=_DISCARD_LIMIT_BYTES)
        raise TooLargeError(f"The body is over {limit_bytes // 1024} KiB; send less.")
    return body


async def read_parts(receive: Receive, *, part_bytes: int) -> AsyncGenerator[bytearray]:
    """Yield a body in parts of ``part_bytes``, the last one shorter. Keeps one part in memory.

    Raises UnreadableRequestError (30 s without a byte), ClientGoneError.
    """
    part = bytearray()
    while True:
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                message = await receive()
        except TimeoutError:
            raise UnreadableRequestError(f"No byte came for {_READ_TIMEOUT_S:.0f} s.") from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece = memoryview(message.get("body", b""))
        while len(part) + len(piece) >= part_bytes:
            room = part_bytes - len(part)
            part += piece[:room]
            yield part
            part, piece = bytearray(), piece[room:]
        part += piece
        if not message.get("more_body", False):
            break
    if part:
        yield part


def parse_body(body: bytes, model: type[Model]) -> Model:
    """Return the body as ``model``. Raises UnreadableRequestError (not UTF-8 JSON, nested too deep),
    TooLargeError (a text over its limit), InvalidRequestError (anything else the schema forbids)."""
    try:
        # strict, as in the API's document: no "5" for a number, no 0 for a date
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            raise UnreadableRequestError("The body is not valid JSON in UTF-8.") from None
        raise invalid_request(error) from None


def json_body(model: type[Model]) -> Any:
    """Return the dependency of a route that takes a small JSON body. Place it after the caller: the body of a
    caller without the role is not read. It raises as ``read_body`` and ``parse_body``."""

    async def read(request: Request) -> Model:
        return parse_body(await read_body(request.scope, request.receive), model)

    return Depends(read)


@asynccontextmanager
async def stores_within(seconds: float, *, stores: str) -> AsyncGenerator[None]:
    """Raises DependencyError, which names the stores, when the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DependencyError(f"{stores} took over {seconds:.0f} s. Try again.") from None


async def _collect(receive: Receive, *, limit_bytes: int) -> bytes | None:
    """Return the body; None as soon as it is over the limit."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def discard_body(receive: Receive, *, most_bytes: int) -> None:
    """Read and drop the rest of a body, ``most_bytes`` at most: a client that is disconnected while it sends
    may miss the response."""
    with suppress(TimeoutError):
        while most_bytes > 0:
            async with asyncio.timeout(_DISCARD_TIMEOUT_S):
                message = await receive()
            most_bytes -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return


# Events of answers


HEARTBEAT = b": alive\n\n"


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Times of one streamed connection."""

    heartbeat_s: float = 10.0
    """Send a comment when no event was sent for this long."""
    stall_s: float = 30.0
    """Close the connection of a reader that accepts no data for this long."""


Numbered = tuple[int, AnswerEvent]
"""An event with its sequence in the answer, from 1; 0 for an event of this connection only."""


def encode_events(numbered: Sequence[Numbered], *, answer_id: str) -> bytes:
    """Return the frames of events; empty for none. Their ids are ``<answer_id>:<sequence>``; an event of this
    connection only has none."""
    frames: list[bytes] = []
    for sequence, event in numbered:
        if sequence:
            frames.append(b"id: %s:%d\n" % (answer_id.encode(), sequence))
        if isinstance(event, Token):  # the hot path: JSON has no raw line end, so one data line is enough
            frames.append(b"event: token\ndata: %s\n\n" % orjson.dumps({"text": event.text}))
        else:
            data = event.model_dump_json().encode()
            frames.append(b"event: %s\ndata: %s\n\n" % (event.event.encode(), data))
    return b"".join(frames)


class EventReader(Protocol):
    """The source of one reader's events. ``send_stream`` calls ``take`` until it returns None."""

    async def take(self, *, beat_s: float) -> list[Numbered] | None:
        """Return all waiting events; an empty list when none came for ``beat_s``; None after the last."""
        ...


class Cursor:
    """One reader's place in the events that an answer keeps, so that a slow reader delays nobody and needs no
    memory.

    The writer calls ``wake`` after each event and ``close`` after the last; the reader calls ``take``.
    """

    def __init__(self, events: Sequence[AnswerEvent], *, after: int = 0) -> None:
        self._events = events
        """Grows while the answer is written; the event at index n has the sequence n + 1."""
        self._taken = after
        """Events that the reader has."""
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        """What a waiting ``take`` waits for."""
        self._due_s = 0.0
        """When that wait ends without an event, on the loop's clock."""
        self._beat: asyncio.TimerHandle | None = None
        """The timer of waits: it may fire for an earlier one, and is then set again."""

    def wake(self) -> None:
        """Wake the reader: an event was added."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """End the reading: ``take`` returns None after the events that wait."""
        self._closed = True
        self._stop_beat()
        self.wake()

    async def take(self, *, beat_s: float) -> list[Numbered] | None:
        if len(self._events) <= self._taken and not self._closed:
            await self._wait(beat_s)
        taken = list(enumerate(self._events[self._taken :], start=self._taken + 1))
        self._taken += len(taken)
        return taken if taken or not self._closed else None

    async def _wait(self, beat_s: float) -> None:
        """Wait for an event, or for ``beat_s``. The timer outlives the wait: tokens are far more frequent
        than beats, and one timer per token would cost more than the wait."""
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + beat_s
        if self._beat is None or self._beat.when() > self._due_s:
            self._stop_beat()
            self._beat = loop.call_at(self._due_s, self._on_beat)
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _on_beat(self) -> None:
        """Wake the reader if its wait is over, else set the timer to the end of its wait."""
        self._beat = None
        if self._waiter is None:
            return  # the next wait sets a new timer
        loop = asyncio.get_running_loop()
        if loop.time() >= self._due_s:
            self.wake()
        else:
            self._beat = loop.call_at(self._due_s, self._on_beat)

    def _stop_beat(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None


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
    """The answer failed before its first event was sent, so the problem becomes a status."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Reading:
    """What one connection delivers: the events of one answer."""

    answer_id: str
    events: EventReader
    within_s: float
    """Most seconds until the answer ends; used as the time limit of waits."""
    is_resumed: bool = False
    """The reader resumes: its status is sent at once, and even a first problem is an event."""


async def send_stream(
    reading: Reading,
    send: Send,
    *,
    limits: StreamLimits,
    encode: Callable[[Sequence[Numbered]], bytes] | None = None,
    headers: Headers = (),
    until_done: bool = False,
) -> None:
    """Send server-sent events until the last one. ``encode`` makes their bytes, by default the events of
    answers. ``until_done``: without a check that follows the answer.

    Raises ProblemBeforeFirstEventError, StalledReaderError, TimeoutError (no event in time).
    """
    take, encode = reading.events.take, encode or partial(encode_events, answer_id=reading.answer_id)
    # A new request waits for its status; a resumed one gets headers immediately.
    numbered = [] if reading.is_resumed else await first_events(reading)
    all_headers = [*STREAM_HEADERS, *headers]
    async with watched(send, limit_s=limits.stall_s) as send:
        await send({"type": "http.response.start", "status": 200, "headers": all_headers})
        while numbered is not None:
            part = encode(numbered) or HEARTBEAT
            await send({"type": "http.response.body", "body": part, "more_body": True})
            if until_done and any(isinstance(event, Done) for _, event in numbered):
                break
            numbered = await take(beat_s=limits.heartbeat_s)
        await send({"type": "http.response.body", "body": b""})


async def send_whole(reading: Reading, send: Send, *, limits: StreamLimits) -> None:
    """Send the answer as one JSON body after its end. Raises as ``send_stream``."""
    if events := await whole_events(reading):
        await send_json(send, whole_answer(events).model_dump_json().encode(), limits=limits)


async def whole_events(reading: Reading) -> list[AnswerEvent]:
    """Return the events of an answer until ``done``, without a check that follows; empty when its reader left
    before.

    Raises ProblemBeforeFirstEventError (it ends with an error), TimeoutError.
    """
    seen: list[AnswerEvent] = []
    async with asyncio.timeout(reading.within_s):
        while (numbered := await reading.events.take(beat_s=reading.within_s)) is not None:
            seen += [event for _, event in numbered]
            ends = [at for at, event in enumerate(seen, start=1) if isinstance(event, Done)]
            if ends:
                return seen[: ends[0]]
    if seen and isinstance(seen[-1], Problem):
        raise ProblemBeforeFirstEventError(seen[-1])
    return []


async def send_json(send: Send, body: bytes, *, limits: StreamLimits, headers: Headers = ()) -> None:
    """Send a body with status 200. Raises StalledReaderError."""
    all_headers = [*JSON_HEADERS, *headers, (b"content-length", str(len(body)).encode())]
    async with watched(send, limit_s=limits.stall_s) as send:
        await send({"type": "http.response.start", "status": 200, "headers": all_headers})
        await send({"type": "http.response.body", "body": body})


def whole_answer(events: Sequence[AnswerEvent]) -> WholeAnswer:
    """Return one body from the events of an answer that ended with ``done``."""
    started, sources, done = (
        next(vars(event) for event in events if isinstance(event, kind)) for kind in (Started, Sources, Done)
    )
    later = [event.red_flags for event in events if isinstance(event, RedFlags)]
    read: dict[str, Any] = {"red_flags": tuple(chain(started["red_flags"], *later))}
    if later:  # a model has read the message
        read["unchecked_language"] = None
    parts: dict[str, Any] = started | sources | done | written_part(events) | read
    return WholeAnswer(**parts)


def written_part(events: Sequence[AnswerEvent]) -> dict[str, Any]:
    """Return an answer's text, its sentences, and its elements, each in its last state and by their ids."""
    last = {event.id: event for event in events if isinstance(event, ElementChanged)}
    elements = sorted(last.values(), key=lambda element: int(element.id[1:]))
    sentences = [event for event in events if isinstance(event, SentenceEnded)]
    return {
        "text": "".join(event.text for event in events if isinstance(event, Token)),
        "sentences": tuple(Sentence(**vars(event)) for event in sentences),
        "elements": tuple(Element(**vars(event)) for event in elements),
    }


async def first_events(reading: Reading) -> list[Numbered] | None:
    """Return the first events. Raises ProblemBeforeFirstEventError for a problem, TimeoutError."""
    async with asyncio.timeout(reading.within_s):
        numbered = await reading.events.take(beat_s=reading.within_s)
    if numbered and isinstance(problem := numbered[0][1], Problem):
        raise ProblemBeforeFirstEventError(problem)
    return numbered


# Readers that take nothing


_CHECKS_PER_LIMIT = 4


class StalledReaderError(Exception):
    """The reader accepted no data for too long."""


@asynccontextmanager
async def watched(send: Send, *, limit_s: float) -> AsyncGenerator[Send]:
    """Yield a ``send`` for this task. When one of its messages waits longer than the limit (noticed at most a
    quarter of it late), the block is cancelled and raises StalledReaderError.

    A limit around each send would create and drop a timer for every token, which costs as much as the send's
    own Python. Here one timer of the connection checks whether a send has waited too long.
    """
    loop, stall, since_s = asyncio.get_running_loop(), asyncio.timeout(None), float("inf")

    async def send_on_time(message: Message) -> None:
        nonlocal since_s
        since_s = loop.time()
        await send(message)
        since_s = float("inf")

    def check() -> None:
        nonlocal timer
        if loop.time() - since_s >= limit_s:
            stall.reschedule(loop.time())
        else:
            timer = loop.call_later(limit_s / _CHECKS_PER_LIMIT, check)

    timer = loop.call_later(limit_s / _CHECKS_PER_LIMIT, check)
    try:
        async with stall:
            yield send_on_time
    except TimeoutError:
        if stall.expired():
            raise StalledReaderError from None
        raise
    finally:
        timer.cancel()
