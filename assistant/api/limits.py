"""Limits of one request: answers in progress, the size and time of a body, a reader that takes nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from assistant.api.errors import invalid_request
from assistant.domain.errors import OverloadedError, TooLargeError, UnreadableRequestError

_RETRY_AFTER_S = 2.0


class Admission:
    """Limits one tenant's answers in progress in this process, in total and per agent."""

    def __init__(self, *, streams: int, streams_per_agent: int) -> None:
        self._streams = streams
        self._streams_per_agent = streams_per_agent
        self._active = 0
        self._active_of: Counter[str] = Counter()

    @property
    def active(self) -> int:
        return self._active

    def enter(self, agent: str) -> Callable[[], None]:
        """Take a place; return a function that releases it. Calling it again does nothing.

        Raises OverloadedError.
        """
        if self._active_of[agent] >= self._streams_per_agent:
            raise OverloadedError(
                f"{self._streams_per_agent} of your answers are in progress. Wait for one of them to end.",
                retry_after_s=_RETRY_AFTER_S,
            )
        if self._active >= self._streams:
            raise OverloadedError("Too many answers are in progress. Retry.", retry_after_s=_RETRY_AFTER_S)
        self._active += 1
        self._active_of[agent] += 1
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                self._active -= 1
                self._active_of[agent] -= 1
                if not self._active_of[agent]:
                    del self._active_of[agent]

        return leave


BODY_LIMIT_BYTES = 64 * 1024
CHAT_LIMIT_BYTES = 256 * 1024
"""Chat clients send the whole conversation each time; only the questions are read."""
DOCUMENT_LIMIT_BYTES = 16 * 1024 * 1024
"""A canonical document: 5 million characters of content, JSON-escaped."""
_READ_TIMEOUT_S = 30.0
OUTBOX_LIMIT_BYTES = 64 * 1024
_DISCARD_LIMIT_BYTES = 1024 * 1024
_DISCARD_TIMEOUT_S = 2.0

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    heartbeat_s: float = 10.0
    """Send a comment when no event was sent for this long."""
    stall_s: float = 30.0
    """Close the connection of a reader that accepts no data for this long."""
    outbox_bytes: int = OUTBOX_LIMIT_BYTES
    """From this size on, tokens that wait for one reader are merged."""


class ClientGoneError(Exception):
    """The client left before its request was complete or answered."""


async def read_body(scope: Scope, receive: Receive, *, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """Return the body. Keeps at most ``limit_bytes`` and one network read in memory.

    Raises TooLargeError, UnreadableRequestError (not complete within 30 s), ClientGoneError.
    """
    announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    is_too_large = announced.isdigit() and int(announced) > limit_bytes
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            body = None if is_too_large else await _collect(receive, limit_bytes=limit_bytes)
    except TimeoutError:
        raise UnreadableRequestError(f"The body did not come within {_READ_TIMEOUT_S:.0f} s.") from None
    if body is None:
        await _discard(receive)
        raise TooLargeError(f"The body is over {limit_bytes // 1024} KiB; send less.")
    return body


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


async def _discard(receive: Receive) -> None:
    """Read and drop the rest, at most 1 MiB: a client that is disconnected while it sends may miss the
    response."""
    seen_bytes = 0
    try:
        async with asyncio.timeout(_DISCARD_TIMEOUT_S):
            while seen_bytes < _DISCARD_LIMIT_BYTES:
                message = await receive()
                seen_bytes += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


_CHECKS_PER_LIMIT = 4


class StalledReaderError(Exception):
    """The reader accepted no data for too long."""


class ReaderWatch:
    """Ends sends that wait longer than a limit, at most a quarter of the limit late.

    ``asyncio.timeout`` around each send would create and drop a timer for every token, which costs as much
    as the send's own Python. Here one timer per connection checks whether a send has waited too long::

        with ReaderWatch(limit_s=30.0) as watch:
            await watch.send(send, message)

    The ``with`` block raises StalledReaderError. Bound to the task that enters it.
    """

    def __init__(self, *, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since_s: float | None = None
        self._stalled = False

    async def send(self, send: Send, message: dict[str, object]) -> None:
        """Send one ASGI message."""
        self._since_s = self._loop.time()
        await send(message)
        self._since_s = None

    def __enter__(self) -> ReaderWatch:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A reader is watched inside a task.")
        self._loop, self._task = asyncio.get_running_loop(), task
        self._cancelling_before = task.cancelling()
        self._timer = self._loop.call_later(self._limit_s / _CHECKS_PER_LIMIT, self._check)
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if not self._stalled or self._task.uncancel() > self._cancelling_before:
            return  # a cancellation from elsewhere goes on
        if exception_type is None or issubclass(exception_type, asyncio.CancelledError):
            raise StalledReaderError from exception

    def _check(self) -> None:
        if self._since_s is not None and self._loop.time() - self._since_s >= self._limit_s:
            self._stalled = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(self._limit_s / _CHECKS_PER_LIMIT, self._check)
