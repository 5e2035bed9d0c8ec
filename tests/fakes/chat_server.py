"""An OpenAI-compatible chat server on a real socket, with the faults that such servers have."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

import orjson
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.fakes.scripted_http import Exchange, Script, scripted_http

EVENTS = "text/event-stream; charset=utf-8"
JSON = "application/json"
TEXT = "A refill is due after 14 days [1.2]."


def chunk(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return b"data: " + orjson.dumps({"object": "chat.completion.chunk", "choices": [choice]}) + b"\n\n"


def end(*, prompt_tokens: int = 20) -> bytes:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 9}
    last = b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\n"
    return chunk("", "stop") + last + b"data: [DONE]\n\n"


def answers(
    reply: Callable[[dict[str, object]], str] = lambda _: TEXT,
    *,
    listed: Mapping[str, object] | None = None,
    beside: Mapping[str, object] | None = None,
) -> Script:
    """Answer each request by ``reply``, which gets its body; ``listed`` are facts of the model ``tall``,
    ``beside`` are objects by their paths."""

    async def script(exchange: Exchange) -> None:
        if exchange.target in (beside or {}):
            await exchange.respond(200, orjson.dumps((beside or {})[exchange.target]), Content_Type=JSON)
            return
        if exchange.method == "GET":
            models = {"data": [{"id": "tall", **(listed or {})}]}
            found = exchange.target == "/v1/models"
            await exchange.respond(200 if found else 404, orjson.dumps(models), Content_Type=JSON)
            return
        text = reply(orjson.loads(exchange.body))
        await exchange.respond_in_chunks(chunk(text[:5]), chunk(text[5:]) + end(), Content_Type=EVENTS)

    return script


def renders(
    template: str, prompts: list[str], reply: Callable[[dict[str, object]], str] = lambda _: TEXT
) -> Script:
    """Answer as ``answers`` does, after the model's own chat template rendered the messages into ``prompts``.

    What the template refuses is a status 400 with its words, as from vLLM.
    """

    def refuse(words: str) -> None:
        raise TemplateError(words)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    compiled, answering = environment.from_string(template), answers(reply)

    async def script(exchange: Exchange) -> None:
        if exchange.method == "POST":
            messages = orjson.loads(exchange.body)["messages"]
            try:
                prompts.append(compiled.render(messages=messages, add_generation_prompt=True, bos_token=""))
            except TemplateError as error:
                await exchange.respond(400, orjson.dumps({"message": str(error)}), Content_Type=JSON)
                return
        await answering(exchange)

    return script


def refuses(
    status: int, body: bytes = b'{"error": {"message": "no", "type": "t"}}', **headers: str
) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(status, body, **{"Content_Type": JSON, **headers})

    return script


def streams(pieces: Sequence[bytes], *, breaks: bool = False) -> Script:
    """Send the pieces as one stream; ``breaks``: close the connection after them, before the end."""

    async def script(exchange: Exchange) -> None:
        await exchange.respond_in_chunks(*pieces, end=not breaks, Content_Type=EVENTS)
        if breaks:
            exchange.cut()

    return script


async def never_starts(exchange: Exchange) -> None:
    await exchange.peer_left()


async def serves_pages(exchange: Exchange) -> None:
    """A web site: every path is a page."""
    await exchange.respond(200, b"<html>Welcome</html>", Content_Type="text/html")


@contextmanager
def serving(script: Script) -> Generator[str]:
    """Serve beside a command, which has a loop of its own; give the base URL."""
    started, stop = threading.Event(), asyncio.Event()
    urls: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        async with scripted_http(script) as server:
            urls.append(server.url)
            loops.append(asyncio.get_running_loop())
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(30)
    try:
        yield f"{urls[0]}/v1"
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()
