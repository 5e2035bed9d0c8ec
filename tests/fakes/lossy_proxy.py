"""A way to a server on which answers are lost: the request is done, and the client does not learn it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.fakes.scripted_http import Exchange, scripted_http


@dataclass
class LossyProxy:
    url: str = ""
    lost: list[str] = field(default_factory=list[str])
    """Operations whose next answer gets lost, one entry an answer."""

    def lose(self, *operations: str) -> None:
        self.lost += operations


@asynccontextmanager
async def lossy_proxy(target_url: str) -> AsyncGenerator[LossyProxy]:
    """Stand before an AWS service with JSON protocol (its operation is in the header ``X-Amz-Target``)."""
    proxy = LossyProxy()

    async with aiohttp.ClientSession() as session:

        async def forward(exchange: Exchange) -> None:
            operation = exchange.headers["x-amz-target"].rpartition(".")[2]
            headers = {name: value for name, value in exchange.headers.items() if name != "content-length"}
            async with session.post(target_url, data=exchange.body, headers=headers) as response:
                content = await response.read()
            if operation in proxy.lost:
                proxy.lost.remove(operation)
                exchange.reset()
            else:
                await exchange.respond(response.status, content)

        async with scripted_http(forward) as server:
            proxy.url = server.url
            yield proxy
