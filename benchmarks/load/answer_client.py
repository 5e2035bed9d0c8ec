"""One connection of the load generator: asks, notes when the first text came, keeps the bytes for later.

While answers stream, as little as possible is done a read; events are decoded when the load is over.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from benchmarks.load.http_server import decode_chunks

_FIRST_TEXT = re.compile(rb'event: token\ndata: \{"text":"[^"]')
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_LAST_CHUNK = b"0\r\n\r\n"
_CODE = re.compile(rb'"code":"([a-z_]+)"')
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class SseEvent:
    name: str
    data: Any
    sequence: int
    """From its id, 0 when it has none."""
    answer_id: str


@dataclass(slots=True)
class Reply:
    """What came for one request, and when (seconds of ``time.perf_counter``)."""

    number: int
    """Of the question."""
    asked_s: float
    first_text_s: float | None = None
    ended_s: float | None = None
    """None when the connection broke, or was cut, before the end."""
    pieces: list[bytes] = field(default_factory=list[bytes])

    def status(self) -> int:
        """Return the HTTP status, 0 when none came."""
        found = _STATUS.match(b"".join(self.pieces[:2]))
        return int(found[1]) if found else 0

    def refusal(self) -> str:
        """Return the status, with the problem's code when it has one."""
        found = _CODE.search(b"".join(self.pieces))
        return f"status {self.status()}{f' {found[1].decode()}' if found else ''}"

    def events(self) -> list[SseEvent]:
        """Return the whole events that came, in order; an event that was cut is none."""
        raw = b"".join(self.pieces)
        head_end = raw.find(_HEAD_END)
        return parse_events(received_body(raw[head_end + 4 :])) if head_end > 0 else []


class AnswerClient(asyncio.Protocol):
    """A connection that asks one question after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._ended: asyncio.Future[Reply] | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        self._transport = None
        self._finish(ended=False)

    @property
    def connected(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def has_event(self) -> bool:
        """Whether a first whole event came of the reply in progress."""
        return self._reply is not None and bool(self._reply.events())

    def ask(self, number: int, request: bytes) -> asyncio.Future[Reply]:
        """Send a request; the future is set at the response's end, or when the connection broke."""
        assert self._transport is not None
        self._reply = Reply(number, time.perf_counter())
        self._ended = asyncio.get_running_loop().create_future()
        self._tail = b""
        self._transport.write(request)
        return self._ended

    def cut(self) -> None:
        """Break the connection off, as a network does: the peer gets a reset."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._finish(ended=False)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            return
        reply.pieces.append(data)
        if reply.first_text_s is None:
            now_s = time.perf_counter()
            if _FIRST_TEXT.search(b"".join(reply.pieces)):
                reply.first_text_s = now_s
        self._tail = data[-5:] if len(data) >= 5 else (self._tail + data)[-5:]
        if self._tail == _LAST_CHUNK or (reply.first_text_s is None and _is_whole(reply.pieces)):
            self._finish(ended=True)

    def _finish(self, *, ended: bool) -> None:
        reply, future = self._reply, self._ended
        self._reply = self._ended = None
        if reply is not None and ended:
            reply.ended_s = time.perf_counter()
        if reply is not None and future is not None and not future.done():
            future.set_result(reply)


def _is_whole(pieces: list[bytes]) -> bool:
    """Say whether a response with a length has come: a refusal is no stream."""
    raw = b"".join(pieces)
    head_end = raw.find(_HEAD_END)
    length = _LENGTH.search(raw, 0, head_end) if head_end > 0 else None
    return length is not None and len(raw) >= head_end + 4 + int(length[1])


def received_body(raw: bytes) -> bytes:
    """Return what came of a body in chunked coding, also when its end is missing."""
    whole = decode_chunks(raw, 0)
    if whole is not None:
        return whole[0]
    pieces: list[bytes] = []
    start = 0
    while (line_end := raw.find(b"\r\n", start)) >= 0:
        size = int(raw[start:line_end] or b"0", 16)
        pieces.append(raw[line_end + 2 : line_end + 2 + size])
        start = line_end + 2 + size + 2
        if start > len(raw):
            break
    return b"".join(pieces)


def parse_events(body: bytes) -> list[SseEvent]:
    """Return the whole events of a body: what follows the last empty line is not whole."""
    *blocks, _ = body.split(b"\n\n")
    return [event for block in blocks if (event := _event(block)) is not None]


def _event(block: bytes) -> SseEvent | None:
    """Return the event of a block, None when it is only a comment."""
    name, data, answer_id, sequence = "message", b"", "", 0
    for line in block.split(b"\n"):
        key, _, value = line.partition(b": ")
        if key == b"event":
            name = value.decode()
        elif key == b"data":
            data = value
        elif key == b"id":
            answer_id, _, after = value.decode().rpartition(":")
            sequence = int(after)
    return SseEvent(name, orjson.loads(data), sequence, answer_id) if data else None


def text_of(events: list[SseEvent]) -> str:
    return "".join(event.data["text"] for event in events if event.name == "token")
