"""A service whose tenants serve the tools, and clients of it: the SDK's own, and raw messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.stage.running_service import RunningService, Scene, service_of_two

PATH = "/v1/mcp"
SERVED = "[mcp]\nserved = true\n"


@asynccontextmanager
async def tool_service(folder: Path, **scene: Any) -> AsyncIterator[RunningService]:
    """Two tenants that serve the tools, each with a document; the clinic has one that the label hr opens."""
    async with service_of_two(folder, Scene(more_of_tenants=SERVED, **scene)) as service:
        await service.know("salaries", "The salaries are SECRET-5521.", labels=("hr",))
        yield service


@asynccontextmanager
async def using(service: RunningService, *, mode: str = "auto", **who: Any) -> AsyncIterator[Client]:
    """Open the SDK's client with an agent's token. ``mode`` is the SDK's: ``legacy`` shakes hands first."""
    headers = {"authorization": service.headers(**who)["authorization"]}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20, trust_env=False) as http,
        Client(streamable_http_client(service.url + PATH, http_client=http), mode=mode) as client,
    ):
        yield client


async def use(client: Client, name: str, **arguments: Any) -> str:
    """Return the text of a tool's result, after "failed: " where it failed."""
    result = await client.call_tool(name, arguments)
    (part,) = result.content
    assert part.type == "text"
    return f"failed: {part.text}" if result.is_error else part.text


def message(name: str, **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


async def post(
    service: RunningService, body: Any, *, headers: Mapping[str, str] | None = None, **who: Any
) -> httpx.Response:
    """Send one message; ``bytes`` as they are."""
    sent = service.headers(**who) | {"content-type": "application/json"} | dict(headers or {})
    given: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    return await service.client.post(PATH, headers=sent, **given)


def text_of(response: httpx.Response) -> str:
    """Return the text of a tool's result, after "failed: " where it failed."""
    assert response.status_code == 200, response.text
    result = response.json()["result"]
    return ("failed: " if result.get("isError") else "") + result["content"][0]["text"]
