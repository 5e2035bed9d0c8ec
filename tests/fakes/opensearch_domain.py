"""A search domain, as far as a function that sets it up calls it: a real node, and before it the security
plugin's API, which the node lacks. That one accepts every request, and each ``Exchange`` is kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx

from tests.fakes.scripted_http import Exchange, ScriptedServer, scripted_http


@asynccontextmanager
async def search_domain(node_url: str) -> AsyncGenerator[ScriptedServer]:
    async def script(exchange: Exchange) -> None:
        if "/_plugins/_security/" in exchange.target:
            mapping_is_gone = exchange.method == "DELETE" and "rolesmapping" in exchange.target
            await exchange.respond(404 if mapping_is_gone else 200, b"{}", Content_Type="application/json")
            return
        headers = {"Content-Type": "application/json"}
        async with httpx.AsyncClient(base_url=node_url, trust_env=False, timeout=60) as node:
            found = await node.request(
                exchange.method, exchange.target, content=exchange.body, headers=headers
            )
        await exchange.respond(found.status_code, found.content, Content_Type="application/json")

    async with scripted_http(script) as server:
        yield server
