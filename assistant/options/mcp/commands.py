"""``assistant mcp``: stdin and stdout of a client of this machine, passed on to ``POST /v1/mcp``.

A line is a message, either way. The service does the work, so a laptop needs no SDK. Messages go without
the headers of the protocol's newest version, so the service answers them by an older one, which clients take.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import orjson
import typer
from typer import Option

from assistant.client import AssistantClient
from assistant.domain.errors import AssistantError
from assistant.laptop.tokens import Grant
from assistant.terminal.local import local_runtime
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal

app = typer.Typer(add_completion=False)
SERVICE = "Ask this service, with an agent's token in ASSISTANT_LOCAL_SERVICE_TOKEN."
_PARSE_ERROR, _INTERNAL_ERROR = -32700, -32603
"""Codes of JSON-RPC 2.0."""


@app.command()
def mcp(
    context: typer.Context,
    tenant: Tenant,
    agent: Annotated[str, Option("--agent", metavar="NAME", help="Name of the agent who asks.")] = "agent",
    service: Annotated[str | None, Option(metavar="URL", help=SERVICE)] = None,
) -> None:
    """Speak the Model Context Protocol on stdin and stdout, for a client that starts this command."""
    options, terminal = GlobalOptions.of(context), Terminal()
    relay = partial(pass_on, read=sys.stdin.buffer.readline, write=terminal.json)
    if service is not None:
        asyncio.run(relay(partial(options.service_client, service, of="an agent's")))
        return
    runtime = local_runtime(options, terminal)
    with runtime.site(command="assistant mcp"):
        asyncio.run(relay(partial(runtime.client, Grant(tenant, agent))))


async def pass_on(
    open_client: Callable[[], AssistantClient], *, read: Callable[[], bytes], write: Callable[[Any], None]
) -> None:
    """Pass requests on until the input ends, each with a client of its own, whose token is new; then end
    those without a response. Notifications need no service: it keeps no session.

    ``read`` returns the next line, empty at the end.
    """
    asked: dict[str | int, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as tasks:
        while line := await asyncio.to_thread(read):
            message: Any = None
            with suppress(orjson.JSONDecodeError):
                message = orjson.loads(line)
            match message:
                case {"method": str(), "id": str() | int() as request}:
                    asked[request] = tasks.create_task(_ask(open_client, message, write))
                case {"method": "notifications/cancelled", "params": {"requestId": str() | int() as request}}:
                    if request in asked:
                        asked.pop(request).cancel()
                case {"method": str()}:
                    pass
                case _:
                    write(_error(None, _PARSE_ERROR, "The line is no message of JSON-RPC 2.0."))
            asked = {request: task for request, task in asked.items() if not task.done()}
        for task in asked.values():
            task.cancel()


async def _ask(
    open_client: Callable[[], AssistantClient], message: dict[str, Any], write: Callable[[Any], None]
) -> None:
    try:
        async with open_client() as client:
            write(await client.send_message(message))
    except AssistantError as error:
        write(_error(message["id"], _INTERNAL_ERROR, error.message))


def _error(request: str | int | None, code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request, "error": {"code": code, "message": text}}
