"""``bare``: the same calls on aiohttp, and nothing else.

    python -m tools.load.bare < plan.json

No identity, no ranking, no checks, no records, no framework, no signature: embedding, as many calls of the
index as the service makes, the model's stream from AWS's framing to server-sent events. What the service
costs is measured against it.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from tools.load.child import read_plan, run_child, say
from tools.load.stand_ins import SEARCHES

_PRELUDE = struct.Struct("!III")


class Relay:
    """Answers questions by the stand-ins' calls."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def answer(self, request: web.Request) -> web.StreamResponse:
        question = orjson.loads(await request.read())["question"]
        embedded = orjson.dumps({"inputs": [question]})
        vector = await self._call("/endpoints/embedding/invocations", embedded)
        query = _query(question, vector[1:-1])
        found: list[Any] = [orjson.loads(await self._call("/bare/_search", query)) for _ in range(SEARCHES)]
        passages = "\n\n".join(hit["_source"]["text"] for hit in found[-1]["hits"]["hits"])
        prompt = {"role": "user", "content": f"{passages}\n\nQuestion: {question}"}
        body = orjson.dumps({"messages": [prompt], "stream": True})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        frames, events = bytearray(), bytearray()
        async with self._session.post("/endpoints/llm/invocations-response-stream", data=body) as stream:
            async for data in stream.content.iter_any():
                frames += data
                events += _payloads(frames)
                if sent := _relayed(events):
                    await response.write(sent)
        await response.write_eof()
        return response

    async def _call(self, path: str, body: bytes) -> bytes:
        async with self._session.post(path, data=body) as response:
            return await response.read()


def _query(question: str, vector: bytes) -> bytes:
    lexical = orjson.dumps({"match": {"text": question}})
    knn = b'{"knn":{"vector":{"vector":%s,"k":100}}}' % vector
    return b'{"size":5,"query":{"hybrid":{"queries":[%s,%s]}}}' % (lexical, knn)


def _payloads(buffer: bytearray) -> bytes:
    """Take the whole messages out of the buffer and return their payloads, joined."""
    pieces: list[bytes] = []
    start = 0
    while len(buffer) - start >= _PRELUDE.size:
        total, headers, _ = _PRELUDE.unpack_from(buffer, start)
        if len(buffer) - start < total:
            break
        pieces.append(bytes(buffer[start + _PRELUDE.size + headers : start + total - 4]))
        start += total
    del buffer[:start]
    return b"".join(pieces)


def _relayed(events: bytearray) -> bytes:
    """Take the whole chat chunks out of the buffer and return their text as events of our own."""
    *whole, rest = bytes(events).split(b"\n\n")
    events[:] = rest
    pieces: list[bytes] = []
    for event in whole:
        if event == b"data: [DONE]":
            pieces.append(b"event: done\ndata: {}\n\n")
            continue
        chunk: Any = orjson.loads(event[6:])
        if chunk["choices"] and (text := chunk["choices"][0]["delta"].get("content")):
            pieces.append(b"event: token\ndata: %s\n\n" % orjson.dumps({"text": text}))
    return b"".join(pieces)


async def main(plan: dict[str, Any]) -> None:
    connections = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(plan["upstream"], connector=connections) as session:
        app = web.Application()
        app.router.add_post("/v1/answers", Relay(session).answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        host, port = runner.addresses[0]
        say({"ready": True, "host": host, "port": port})
        await asyncio.Event().wait()  # until the signal


if __name__ == "__main__":
    run_child(main(read_plan()))
