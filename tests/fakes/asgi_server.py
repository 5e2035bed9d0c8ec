"""An ASGI application on a free port of this machine, served as our processes serve theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from assistant.process.http import open_socket, server_config

_START_LIMIT_S = 60.0


@asynccontextmanager
async def asgi_server(application: ASGIApp) -> AsyncGenerator[str]:
    """Serve until the context is left; gives the base URL."""
    listener = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(server_config(application, shutdown_timeout_s=1))
    task = asyncio.create_task(server.serve([listener]))
    async with asyncio.timeout(_START_LIMIT_S):
        while not server.started:  # noqa: ASYNC110 : the server offers no event
            await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
