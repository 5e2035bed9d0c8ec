"""A chat server for the load: it streams lines of the documents in its prompt, at a pace that is set.

``python -m benchmarks.stand_in``: ``POST /v1/chat/completions`` as OpenAI's API streams, ``PUT /pace``, and
``GET /sent``: what it wrote under each case number, and when its first text left.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from assistant.process.http import open_socket, run, serve

DEVICES = 40
"""Documents; each is about one device."""
LINES = 40
"""Lines of a document."""
_ASKED = re.compile(r"device K(\d+) in case (\d+)\?")
_CITED = r"^\[(\d+\.\d+)\] (.*\bdevice K{device}\b.*\.)$"
_PIECE_CHARACTERS = 5
"""About a token of English."""


@dataclass(frozen=True, slots=True)
class Pace:
    first_s: float
    """From the request to the first text."""
    token_s: float
    tokens: int


@dataclass(slots=True)
class Sent:
    text: str
    at_s: float = 0.0
    """When the first text left, by the clock of this machine."""


def question(number: int) -> str:
    return f"What are the steps to send back device K{number % DEVICES} in case {number}?"


def document(device: int) -> str:
    """Return the text of one document: a title, and a list of lines that no other has."""
    parts = ("cover", "battery", "cable", "strap", "sensor", "label", "box", "form")
    acts = ("wraps", "counts", "photographs", "weighs", "dries")
    lines = [
        f"The clerk {acts[n % 5]} the {parts[n % 8]} of device K{device}, line {n + 1}." for n in range(LINES)
    ]
    return "\n".join((f"Steps to send back device K{device}", "", *lines, ""))


@dataclass(slots=True)
class StandIn:
    pace: Pace = Pace(0.0, 0.0, 20)
    sent: dict[int, Sent] = field(default_factory=dict[int, Sent])

    async def complete(self, request: Request) -> Response:
        """Stream the answer to the question at the prompt's end."""
        prompt = "\n".join(message["content"] for message in (await request.json())["messages"])
        device, number = map(int, _ASKED.findall(prompt)[-1])
        text = self._written(prompt, device, tokens=self.pace.tokens)
        self.sent[number] = Sent(text)
        return StreamingResponse(self._events(self.sent[number]), media_type="text/event-stream")

    def _written(self, prompt: str, device: int, *, tokens: int) -> str:
        """Return lines of the device's document with their numbers; a prompt of the relay has no document."""
        units = re.findall(_CITED.format(device=device), prompt, re.MULTILINE)
        units = units or [("1.1", line) for line in document(device).splitlines()[2:]]
        text = ""
        for cited, unit in units:
            if len(text) >= tokens * _PIECE_CHARACTERS:
                break
            text += f"{unit[:-1]} [{cited}]. "
        return text.rstrip()

    async def _events(self, sent: Sent) -> AsyncGenerator[bytes]:
        """Yield the first sentence and the beginning of the next as one event: the service holds text back
        until a sentence has ended, and a wait for the model is no work of its own. Then tokens."""
        pace, begins = self.pace, sent.text.find(". ") + 3
        await asyncio.sleep(pace.first_s)
        sent.at_s = time.monotonic()
        yield _chunk(sent.text[:begins])
        for at in range(begins, len(sent.text), _PIECE_CHARACTERS):
            await asyncio.sleep(pace.token_s)
            yield _chunk(sent.text[at : at + _PIECE_CHARACTERS])
        yield _chunk("", "stop") + b"data: [DONE]\n\n"

    async def set_pace(self, request: Request) -> Response:
        self.pace = Pace(**await request.json())
        self.sent.clear()
        return Response()

    async def tell(self, _: Request) -> Response:
        sent = {str(number): asdict(each) for number, each in self.sent.items()}
        return Response(orjson.dumps(sent), media_type="application/json")


def _chunk(text: str, finish_reason: str | None = None) -> bytes:
    choice: dict[str, Any] = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return b"data: %s\n\n" % orjson.dumps({"choices": [choice]})


async def main() -> None:
    stand_in = StandIn()
    routes = [
        Route("/v1/chat/completions", stand_in.complete, methods=["POST"]),
        Route("/pace", stand_in.set_pace, methods=["PUT"]),
        Route("/sent", stand_in.tell),
    ]
    await serve(Starlette(routes=routes), open_socket("127.0.0.1", 0), shutdown_timeout_s=1.0)


if __name__ == "__main__":
    run(main())
