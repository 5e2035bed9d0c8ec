"""One HTTP exchange on raw ASGI: a body that is bounded, and work that ends when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive

from assistant.domain.errors import TooLargeError


async def read_body(receive: Receive, *, limit_bytes: int) -> bytes | None:
    """Return the whole body, None when the client left. Raises TooLargeError."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise TooLargeError(f"The body is over {limit_bytes} bytes.")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run ``work`` to its end; cancel it when the client leaves. Its errors are raised."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pending in (task, leaving):
            pending.cancel()
        await asyncio.wait({task, leaving})
    if not task.cancelled():
        task.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
