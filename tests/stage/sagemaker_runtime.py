"""The SageMaker Runtime protocol: in front of real model servers (framing, errors, a caller who leaves), on a
socket that misbehaves as a test tells it to, and before the real embedding model.

Other endpoints that misbehave are those of ``scripted_http``.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from zlib import crc32

import aiohttp
import orjson
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import PassageTooLongError
from assistant.model_server.here import ModelsHere
from assistant.models.sagemaker import VARIANT_HEADER
from assistant.process.http import read_body, send_response, while_connected
from assistant.tenant.deployed_names import SERVED_VARIANT
from assistant.tenant.tenant import EmbeddingSection
from tests.stage.servers import asgi_server, socket_server

# --- before real model servers ----------------------------------------------------------------------------
_MAX_BODY_BYTES = 6 * 1024 * 1024
"""The real service's limit of a request."""
_INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"

# The framing of streamed responses. A message is: total length (4 bytes, big-endian), length of headers (4),
# CRC-32 of these 8 bytes (4), headers, payload, CRC-32 of everything before (4). A header is: length of
# name (1), name, type (1; 7 is a string), length of value (2), value.

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7
_OVERHEAD_BYTES = 16
_PAYLOAD_PART = {
    ":message-type": "event",
    ":event-type": "PayloadPart",
    ":content-type": "application/octet-stream",
}


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one framed message."""
    head = b"".join(_encode_header(name.encode(), value.encode()) for name, value in headers.items())
    prelude = struct.pack("!II", _OVERHEAD_BYTES + len(head) + len(payload), len(head))
    message = b"".join((prelude, struct.pack("!I", crc32(prelude)), head, payload))
    return message + struct.pack("!I", crc32(message))


def _encode_header(name: bytes, value: bytes) -> bytes:
    return struct.pack("!B", len(name)) + name + struct.pack("!BH", _STRING, len(value)) + value


def payload_part(payload: bytes) -> bytes:
    """Return a ``PayloadPart`` event: a piece of the container's response."""
    return encode_message(_PAYLOAD_PART, payload)


def stream_exception(kind: str, message: str, *, error_code: str | None = None) -> bytes:
    """Return an exception inside the stream: ``ModelStreamError`` or ``InternalStreamFailure``."""
    headers = {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}
    fields = {"Message": message} | ({} if error_code is None else {"ErrorCode": error_code})
    return encode_message(headers, orjson.dumps(fields))


@asynccontextmanager
async def sagemaker_gateway(endpoints: Mapping[str, str]) -> AsyncGenerator[str]:
    """Serve until the context is left; gives the base URL.

    ``endpoints``: endpoint name → base URL of its container.
    """
    connector = aiohttp.TCPConnector(limit=0, force_close=True)  # the containers limit their own load
    async with (
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as connections,
        asgi_server(Gateway(connections, endpoints)) as url,
    ):
        yield url


@dataclass(frozen=True, slots=True)
class Gateway:
    """The ASGI application."""

    _connections: aiohttp.ClientSession
    _endpoints: Mapping[str, str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive, limit_bytes=_MAX_BODY_BYTES)
        if body is not None:
            await while_connected(self._invoke(scope, body, send), receive)

    async def _invoke(self, scope: Scope, body: bytes, send: Send) -> None:
        _, _, endpoint, operation = scope["path"].split("/")
        given = Headers(scope=scope)
        passed_on = {
            name: given[name] for name in (_INFERENCE_ID, _ATTRIBUTES, "Content-Type") if name in given
        }
        url = f"{self._endpoints[endpoint].rstrip('/')}/invocations"
        # On leaving, the container's connection is closed at once: it then stops generating.
        async with self._connections.post(url, data=body, headers=passed_on) as response:
            if response.status != 200:
                await send_response(_model_error(response.status, await response.text()), send)
                return
            answer = {
                VARIANT_HEADER: SERVED_VARIANT,
                **{name: response.headers[name] for name in (_ATTRIBUTES,) if name in response.headers},
                **{name: passed_on[name] for name in (_INFERENCE_ID,) if name in passed_on},
            }
            kind = response.headers.get("Content-Type", "application/octet-stream")
            if operation == "invocations":
                answer["Content-Type"] = kind
                await send_response(Response(await response.read(), headers=answer), send)
                return
            answer |= {"X-Amzn-SageMaker-Content-Type": kind, "Content-Type": CONTENT_TYPE}
            await send_response(StreamingResponse(_frames(response), headers=answer), send)


def _model_error(status: int, original: str) -> Response:
    """Return a container's error as AWS wraps it."""
    side = "client" if 400 <= status < 500 else "server"
    fields = {
        "Message": f'Received {side} error ({status}) from primary with message "{original}".',
        "OriginalStatusCode": status,
        "OriginalMessage": original,
    }
    return Response(orjson.dumps(fields), 424, {"x-amzn-ErrorType": "ModelError"}, "application/json")


async def _frames(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """Yield the frames of a stream, and last, where it broke off, why."""
    try:
        async for piece in response.content.iter_any():
            yield payload_part(piece)
    except aiohttp.ClientError:
        message = "The container closed its stream early."
        yield stream_exception("ModelStreamError", message, error_code="StreamBroken")


# --- endpoints that misbehave -----------------------------------------------------------------------------
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

    def begin_anew(self) -> None:
        """Answer well from now on, and forget the calls: the next test has the endpoints for itself."""
        for name, value in vars(SageMakerSocket(self.url, arrived=self.arrived)).items():
            setattr(self, name, value)

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
        await _write_model_error(writer, 500)
    elif fault == "overloaded":
        await _write_model_error(writer, 429)
    raise ConnectionError


async def _write_model_error(writer: asyncio.StreamWriter, status: int) -> None:
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


# --- the real embedding model -----------------------------------------------------------------------------
BUILT_MODELS = Path(__file__).parents[2] / "build" / "test-models"
"""Derived from the weights once, and kept between runs."""


async def start_embedding(stack: AsyncExitStack, *, endpoint: str) -> str:
    """Start the model and the runtime before it; return the runtime's URL."""
    models = ModelsHere(BUILT_MODELS)
    stack.callback(models.close)
    await models.prepare(EmbeddingSection())
    embedder = await models.embedder(EmbeddingSection())

    async def invoke(scope: Scope, receive: Receive, send: Send) -> None:
        inputs = orjson.loads(await Request(scope, receive).body())["inputs"]
        texts: list[str] = [inputs] if isinstance(inputs, str) else inputs
        try:
            vectors = await embedder.embed(texts, deadline=Deadline.after(60, clock=SystemClock()))
            response = Response(orjson.dumps(vectors), media_type="application/json")
        except PassageTooLongError as error:
            refused = {"error": error.message, "error_type": "Validation"}
            response = Response(orjson.dumps(refused), 413, media_type="application/json")
        await response(scope, receive, send)

    server = await stack.enter_async_context(asgi_server(invoke))
    return await stack.enter_async_context(sagemaker_gateway({endpoint: server}))
