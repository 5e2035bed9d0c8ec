"""Connections of the load generator and the limits on them."""

from __future__ import annotations

import asyncio

from benchmarks.load.answer_client import AnswerClient, Reply


async def connect(url: str) -> AnswerClient:
    """Open a connection to ``http://host:port``."""
    host, port = url.removeprefix("http://").split(":")
    _, client = await asyncio.get_running_loop().create_connection(AnswerClient, host, int(port))
    return client


async def limited(client: AnswerClient, ending: asyncio.Future[Reply], *, timeout_s: float) -> Reply:
    """Wait for the end of a reply; after the time-out the connection is cut, and the reply has no end."""
    timer = asyncio.get_running_loop().call_later(timeout_s, client.cut)
    try:
        return await ending
    finally:
        timer.cancel()
