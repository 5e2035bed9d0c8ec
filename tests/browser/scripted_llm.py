"""A chat server that answers what a test tells it to: late, endless or hostile text, which no real model
gives on demand."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_HOLD_LIMIT_S = 30.0
_LINE = re.compile(r"^\[(\d+\.\d+)\] (.+)$", re.MULTILINE)
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[^.]+(?=\.)")


@dataclass(frozen=True)
class Held:
    """A point in the answer at which the server waits for the test."""

    released: threading.Event = field(default_factory=threading.Event)


@dataclass
class ScriptedLlm:
    """Writes ``script`` word by word as OpenAI chunks.

    As its prompt asks, it ends each sentence that a line of the prompt states with the number of that line.
    """

    port: int
    script: tuple[str | Held, ...] = ("Nothing was scripted.",)
    calls: int = 0
    """Answers that were begun."""

    def says(self, *script: str | Held) -> None:
        self.script = script

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/v1/chat/completions", self._invoke, methods=["POST"])])

    async def _invoke(self, request: Request) -> Response:
        self.calls += 1
        lines = _LINE.findall(orjson.loads(await request.body())["messages"][-1]["content"])
        return StreamingResponse(self._chunks(lines), media_type="text/event-stream")

    async def _chunks(self, lines: list[tuple[str, str]]) -> AsyncIterator[bytes]:
        for part in self.script:
            if isinstance(part, Held):
                await asyncio.to_thread(part.released.wait, _HOLD_LIMIT_S)
            else:
                for word in _cited(part, lines).split(" "):
                    yield _chunk({"delta": {"content": f"{word} "}, "finish_reason": None})
                    await asyncio.sleep(0)
        yield _chunk({"delta": {}, "finish_reason": "stop"})
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        yield _event({"choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"


def _cited(text: str, lines: list[tuple[str, str]]) -> str:
    """Return the text with the number of a line at the end of each sentence whose words that line has."""

    def cite(sentence: re.Match[str]) -> str:
        words = _words(sentence[0])
        number = next((number for number, line in lines if words <= _words(line)), None)
        return sentence[0] if number is None else f"{sentence[0]} [{number}]"

    return _SENTENCE.sub(cite, text)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _chunk(choice: dict[str, object]) -> bytes:
    return _event({"id": "scripted", "object": "chat.completion.chunk", "choices": [{"index": 0, **choice}]})


def _event(data: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


@contextmanager
def scripted_llm() -> Iterator[ScriptedLlm]:
    """Serve on a free port of this machine for as long as the block runs."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        llm = ScriptedLlm(port=listening.getsockname()[1])
        with in_thread(llm.application(), listening):
            yield llm


@contextmanager
def in_thread(application: Starlette, listening: socket.socket) -> Iterator[None]:
    """Serve an application beside the test, which blocks its own thread."""
    config = uvicorn.Config(application, log_config=None, timeout_graceful_shutdown=1, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)
