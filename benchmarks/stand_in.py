"""A chat server for the load: it streams lines of the documents in its prompt, at a pace that is set.

``python -m benchmarks.stand_in`` serves ``POST /v1/chat/completions`` as OpenAI's API streams, ``PUT /pace``,
and ``GET /sent``: for each case number what it wrote, and when its first text left: ``{"7": {"text": "The
clerk wraps the cover of device K7, line 1 [1.1].", "at_s": 81.5}}``.

``benchmarks.load`` asks ``question(number)``; the case number in it tells the answers apart.
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
_QUESTION = re.compile(r"device K(\d+) in case (\d+)\?")
_PROMPT_LINE = r"^\[(\d+\.\d+)\] (.*\bdevice K{device}\b.*\.)$"
"""A line of the service's prompt: ``[1.12] The clerk counts the strap of device K7, line 12.``"""
_PIECE_CHARACTERS = 5
"""About a token of English."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How an answer is streamed."""

    first_s: float
    """From the request to the first text."""
    token_s: float
    """Between two tokens."""
    tokens: int
    """About how many an answer has: whole lines are written until it has so many."""


@dataclass(slots=True)
class Sent:
    """What was written for one question."""

    text: str
    at_s: float = 0.0
    """When the first text left, by ``time.monotonic``; 0: not yet."""


def question(number: int) -> str:
    """Return the question of a case; ``_QUESTION`` reads its device and its number again."""
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
    """Handlers of the server. ``sent`` is by case number; a new pace clears it."""

    pace: Pace = Pace(0.0, 0.0, 20)
    sent: dict[int, Sent] = field(default_factory=dict[int, Sent])

    async def complete(self, request: Request) -> Response:
        """Stream the answer to the question at the prompt's end."""
        prompt = "\n".join(message["content"] for message in (await request.json())["messages"])
        device, number = map(int, _QUESTION.findall(prompt)[-1])
        text = self._written(prompt, device, tokens=self.pace.tokens)
        self.sent[number] = Sent(text)
        return StreamingResponse(self._events(self.sent[number]), media_type="text/event-stream")

    def _written(self, prompt: str, device: int, *, tokens: int) -> str:
        """Return the prompt's lines about the device, each with its number: ``The clerk … line 12 [1.12].``

        A prompt without such lines (the relay's has no documents; the frameworks number none) gets the
        document's own lines, all as 1.1.
        """
        lines = re.findall(_PROMPT_LINE.format(device=device), prompt, re.MULTILINE)
        lines = lines or [("1.1", line) for line in document(device).splitlines()[2:]]
        text = ""
        for line_number, line in lines:
            if len(text) >= tokens * _PIECE_CHARACTERS:
                break
            text += f"{line[:-1]} [{line_number}]. "
        return text.rstrip()

    async def _events(self, sent: Sent) -> AsyncGenerator[bytes]:
        """Yield the first sentence and one character of the next as one event, then tokens.

        The service sends a sentence only when the next one begins. With both in one event the measured delay
        is the service's work alone, without a wait for further tokens.
        """
        pace, first_end = self.pace, sent.text.find(". ") + 3
        await asyncio.sleep(pace.first_s)
        sent.at_s = time.monotonic()
        yield _chunk(sent.text[:first_end])
        for start in range(first_end, len(sent.text), _PIECE_CHARACTERS):
            await asyncio.sleep(pace.token_s)
            yield _chunk(sent.text[start : start + _PIECE_CHARACTERS])
        yield _chunk("", "stop") + b"data: [DONE]\n\n"

    async def set_pace(self, request: Request) -> Response:
        self.pace = Pace(**await request.json())
        self.sent.clear()
        return Response()

    async def tell(self, _: Request) -> Response:
        sent = {str(number): asdict(answer) for number, answer in self.sent.items()}
        return Response(orjson.dumps(sent), media_type="application/json")


def _chunk(text: str, finish_reason: str | None = None) -> bytes:
    """Return a server-sent event of OpenAI's chat completions."""
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
