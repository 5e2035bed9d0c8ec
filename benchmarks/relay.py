"""``python -m benchmarks.relay``: passes a chat server's stream on as events, and does nothing else.

It shows what any service in front of a model costs: it has no authentication, search, prompt, checks or
records. Stdin is the chat server's address as one line of JSON (``"http://127.0.0.1:5000"``). Stdout gets the
ready line of ``tools.processes.started`` (from ``assistant.process.http.serve``).
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import orjson
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from assistant.process.http import open_socket, run, serve


async def main() -> None:
    url = orjson.loads(sys.stdin.readline())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def events(question: str) -> AsyncGenerator[bytes]:
            body = {"messages": [{"role": "user", "content": question}], "stream": True}
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                incomplete = b""
                async for data in response.content.iter_any():
                    *chunks, incomplete = (incomplete + data).split(b"\n\n")
                    if passed_on := b"".join(map(_event, chunks)):
                        yield passed_on

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            question = (await Request(scope, receive).json())["question"]
            await StreamingResponse(events(question), media_type="text/event-stream")(scope, receive, send)

        await serve(app, open_socket("127.0.0.1", 0), shutdown_timeout_s=1.0)


def _event(chunk: bytes) -> bytes:
    """Return the service's event for a chunk of the chat server; nothing for a chunk without text.

    ``data: {"choices":[{"delta":{"content":"The"}}]}`` → ``event: token`` with ``data: {"text":"The"}``.
    """
    if chunk == b"data: [DONE]":
        return b"event: done\ndata: {}\n\n"
    content: Any = orjson.loads(chunk.removeprefix(b"data: "))["choices"][0]["delta"]["content"]
    return b"event: token\ndata: %s\n\n" % orjson.dumps({"text": content}) if content else b""


if __name__ == "__main__":
    run(main())
