"""Lambda beside moto: a function in a process of its own without any credential, kept for the next call."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web

_ROOT = Path(__file__).parents[2]
_RUNTIME = """
import importlib, json, sys
handle = importlib.import_module(sys.argv[1]).handle
for event in sys.stdin:
    try:
        handle(json.loads(event), None)
        answer = "null"
    except Exception as error:
        answer = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)})
    print(answer, flush=True)
handle.close()
"""
_HOP = ("host", "transfer-encoding", "content-length", "connection")


@dataclass
class LambdaService:
    """``url`` serves Lambda, and whatever else ``aws_url`` does."""

    aws_url: str
    module: str = "lambdas.parse_documents"
    """What the function ``parser`` runs."""
    url: str = ""
    orders: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    kills: bytes = b""
    """Ends a function that is to read this, as Lambda does one that takes more than its memory."""
    unsent: bool = False
    """Whether the function ends without an answer."""
    process: asyncio.subprocess.Process | None = None

    async def invoke(self, request: web.Request) -> web.Response:
        if request.match_info["name"] != "parser":
            error = {"Type": "User", "Message": "Function not found"}
            kind = {"x-amzn-ErrorType": "ResourceNotFoundException"}
            return web.json_response(error, status=404, headers=kind)
        order = await request.read()
        self.orders.append(json.loads(order))
        if self.unsent:
            return web.json_response(None)
        process = self.process = self.process or await self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        if self.kills and self.kills in await self._requests():
            os.killpg(process.pid, signal.SIGKILL)
        process.stdin.write(order + b"\n")
        out = (await process.stdout.readline()).strip()
        if not out:
            await process.wait()
            self.process = None
            out = json.dumps({"errorType": "Runtime.ExitError", "errorMessage": "signal: killed"}).encode()
        failed = {} if out == b"null" else {"X-Amz-Function-Error": "Unhandled"}
        return web.Response(body=out, headers=failed, content_type="application/json")

    async def _started(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _RUNTIME, self.module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=_ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)},
            start_new_session=True,
        )

    async def close(self) -> None:
        if self.process is not None:
            await self.process.communicate(b"")  # its input ends, and its child with it

    async def _requests(self) -> bytes:
        async with ClientSession() as session, session.get(self.orders[-1]["requests"]) as response:
            return await response.read()

    async def forward(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        headers["Host"] = request.host
        async with (
            ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                self.aws_url + request.raw_path,
                data=io.BytesIO(await request.read()),
                headers=headers,
            ) as response,
        ):
            kept = {name: value for name, value in response.headers.items() if name.lower() not in _HOP}
            return web.Response(body=await response.read(), status=response.status, headers=kept)


@asynccontextmanager
async def lambda_service(
    aws_url: str, *, module: str = "lambdas.parse_documents"
) -> AsyncGenerator[LambdaService]:
    service = LambdaService(aws_url, module)
    application = web.Application(client_max_size=1 << 30)
    application.router.add_post("/2015-03-31/functions/{name}/invocations", service.invoke)
    application.router.add_route("*", "/{path:.*}", service.forward)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await service.close()
        await runner.cleanup()
