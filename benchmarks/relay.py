"""``python -m benchmarks.relay``: passes a chat server's stream on as events, and does nothing else.

No identity, no search, no prompt, no check, no record: what any service in front of a model costs. The chat
server's address is a line of JSON on stdin.
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
                rest = b""
                async for data in response.content.iter_any():
                    *whole, rest = (rest + data).split(b"\n\n")
                    if sent := b"".join(map(_event, whole)):
                        yield sent

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            question = (await Request(scope, receive).json())["question"]
            await StreamingResponse(events(question), media_type="text/event-stream")(scope, receive, send)

        await serve(app, open_socket("127.0.0.1", 0), shutdown_timeout_s=1.0)


def _event(chunk: bytes) -> bytes:
    """Return an event of the service for one of the chat server; nothing for one without text."""
    if chunk == b"data: [DONE]":
        return b"event: done\ndata: {}\n\n"
    content: Any = orjson.loads(chunk.removeprefix(b"data: "))["choices"][0]["delta"]["content"]
    return b"event: token\ndata: %s\n\n" % orjson.dumps({"text": content}) if content else b""


if __name__ == "__main__":
    run(main())
