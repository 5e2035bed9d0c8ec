"""A SageMaker Runtime on a real socket that misbehaves as a test tells it to."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import orjson

from tests.fakes.sagemaker_gateway import payload_part
from tests.fakes.socket_server import socket_server

Fault = Literal["none", "silent", "garbage", "error", "closed", "overloaded"]
DIMENSIONS = 8


@dataclass
class Call:
    """One request to an endpoint; ``left`` is set when the caller closed its connection."""

    endpoint: str
    body: dict[str, object]
    left: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class SageMakerSocket:
    """What the endpoints do next. Tests change the fields, and read the calls."""

    url: str = ""
    embedding_fault: Fault = "none"
    generation_fault: Fault = "none"
    texts: Sequence[str] = ("Wait ", "two ", "days [1.1].")
    variant: str = "AllTraffic"
    """Production variant that the responses name."""
    stall_after: int | None = None
    """Silent for ever after so many texts of a generation."""
    cut_after: int | None = None
    """The connection breaks after so many texts."""
    garbage_after: int | None = None
    """Bytes that are no frames come after so many texts."""
    hold: tuple[int, asyncio.Event] | None = None
    part_bytes: int | None = None
    """Parts of a generation's stream have so many bytes, wherever that cuts an event or a character."""
    pace_s: float = 0.0
    """What each text of a generation takes, and each call for vectors."""
    finish_reason: str = "stop"
    of_check: SageMakerSocket | None = None
    """What a generation for the check of a reply does, in place of this."""
    embeddings: list[Call] = field(default_factory=list[Call])
    generations: list[Call] = field(default_factory=list[Call])
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def hold_after(self, texts: int) -> asyncio.Event:
        """Let generations wait after so many texts until the returned event is set."""
        self.hold = (texts, asyncio.Event())
        return self.hold[1]

    async def generation(self, number: int = 1) -> Call:
        """Return the ``number``-th generation, waiting for it at most 60 s."""
        return await self._nth(self.generations, number)

    async def embedding(self, number: int = 1) -> Call:
        return await self._nth(self.embeddings, number)

    async def _nth(self, calls: list[Call], number: int) -> Call:
        async with asyncio.timeout(60), self.arrived:
            await self.arrived.wait_for(lambda: len(calls) >= number)
        return calls[number - 1]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await self._answer_one(head, reader, writer)

    async def _answer_one(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
        path = lines[0].split(" ")[1]
        call = Call(endpoint=path.split("/")[2], body=orjson.loads(body))
        streamed = path.endswith("/invocations-response-stream")
        async with self.arrived:
            (self.generations if streamed else self.embeddings).append(call)
            self.arrived.notify_all()
        script = self.of_check if self.of_check and b"<sentences>" in body else self
        fault = script.generation_fault if streamed else self.embedding_fault
        if fault != "none":
            await _misbehave(fault, call, reader, writer)
        elif streamed:
            await script._generate(call, reader, writer)
        else:
            texts = call.body["inputs"]
            assert isinstance(texts, list)
            await asyncio.sleep(self.pace_s)
            await _respond(writer, orjson.dumps([vector_of(text) for text in texts]))

    async def _generate(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\n"
            b"x-amzn-invoked-production-variant: " + self.variant.encode() + b"\r\nconnection: close\r\n\r\n"
        )
        for number, text in enumerate((*self.texts, None)):
            if number == self.stall_after:
                await writer.drain()
                await _until_left(call, reader)
            if self.hold is not None and number == self.hold[0]:
                await self.hold[1].wait()
            if number == self.cut_after:
                raise ConnectionError
            if number == self.garbage_after:
                writer.write(b"\x00garbage" * 50)
                await writer.drain()
                await _until_left(call, reader)
            await asyncio.sleep(self.pace_s)
            chunk = _chunk(text, self.finish_reason)
            size = self.part_bytes or len(chunk)
            for at in range(0, len(chunk), size):
                writer.write(payload_part(chunk[at : at + size]))
        await writer.drain()
        raise ConnectionError  # the answer is whole: close


def vector_of(text: str) -> list[float]:
    """Return a unit vector of eight numbers that depends on the words of the text only."""
    sums = [0.001] * DIMENSIONS
    for word in text.lower().split():
        sums[hashlib.sha256(word.strip("?.,").encode()).digest()[0] % DIMENSIONS] += 1.0
    length = sum(number * number for number in sums) ** 0.5
    return [number / length for number in sums]


@asynccontextmanager
async def sagemaker_socket() -> AsyncGenerator[SageMakerSocket]:
    socket = SageMakerSocket()
    async with socket_server(socket.answer) as socket.url:
        yield socket


def _chunk(text: str | None, finish_reason: str) -> bytes:
    if text is not None:
        chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
        return b"data: " + orjson.dumps(chunk) + b"\n\n"
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}}
    return b"data: " + orjson.dumps(last) + b"\n\ndata: " + orjson.dumps(usage) + b"\n\ndata: [DONE]\n\n"


async def _misbehave(
    fault: Fault, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if fault == "silent":
        await _until_left(call, reader)
    elif fault == "garbage":
        await _respond(writer, b"\x00\xffgarbage")
    elif fault == "error":
        await _model_error(writer, 500)
    elif fault == "overloaded":
        await _model_error(writer, 429)
    raise ConnectionError


async def _model_error(writer: asyncio.StreamWriter, status: int) -> None:
    body = {"Message": "failed", "OriginalStatusCode": status, "OriginalMessage": "{}"}
    await _respond(writer, orjson.dumps(body), status=424, error="ModelError")


async def _respond(
    writer: asyncio.StreamWriter, body: bytes, *, status: int = 200, error: str | None = None
) -> None:
    kind = f"x-amzn-errortype: {error}\r\n" if error else ""
    head = (
        f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{kind}content-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()


async def _until_left(call: Call, reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(1024):
            pass
    except ConnectionError:
        pass
    call.left.set()
    raise ConnectionError
